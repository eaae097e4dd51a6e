package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

// Skill is a skill of the marketplace, as the list shows it.
type Skill struct {
	ID            string  `json:"id" example:"web-search" doc:"Id of the skill."`
	Name          string  `json:"name" example:"Web Search" doc:"Display name."`
	Description   string  `json:"description" doc:"What the skill is for."`
	Author        string  `json:"author" example:"agento" doc:"Who made it."`
	Category      string  `json:"category" example:"productivity" doc:"Category of the marketplace."`
	InstallCount  int     `json:"installCount" doc:"Number of agents that have the skill now."`
	LatestVersion string  `json:"latestVersion" example:"1.2.0" doc:"Latest version."`
	SecurityScore *int    `json:"securityScore" minimum:"0" maximum:"100" doc:"From 0 to 100, at most 60 unless nothing in the skill can make an agent run, read or send anything. Null for a community skill that has not been downloaded yet."`
	Verdict       *string `json:"verdict" example:"runs code: read it" doc:"What the skill can make an agent do. Null if it has no score."`
	TrustLevel    string  `json:"trustLevel" enum:"verified,clawhub,custom" doc:"verified: curated by the operator; clawhub: of the community registry; custom: of your account."`
}

// SkillDetails is one skill with its findings.
type SkillDetails struct {
	ID                  string         `json:"id" doc:"Id of the skill."`
	Name                string         `json:"name" doc:"Display name."`
	Description         string         `json:"description" doc:"What the skill is for."`
	EnhancedDescription string         `json:"enhancedDescription" doc:"Longer description."`
	Author              string         `json:"author" doc:"Who made it."`
	Category            string         `json:"category" doc:"Category of the marketplace."`
	Tags                []string       `json:"tags" doc:"Words to find the skill by."`
	InstallCount        int            `json:"installCount" doc:"Number of agents that have the skill now."`
	LatestVersion       string         `json:"latestVersion" doc:"Latest version."`
	SecurityScore       int            `json:"securityScore" minimum:"0" maximum:"100" doc:"At most 60 unless nothing in the skill can make an agent run, read or send anything."`
	Verdict             string         `json:"verdict" example:"runs code: read it" doc:"What the skill can make an agent do."`
	UseCases            []string       `json:"useCases" doc:"Examples of what it is for."`
	ToolCount           int            `json:"toolCount" doc:"Number of the agent's tools that the skill uses."`
	Tools               []string       `json:"tools" doc:"Tools of the agent that the skill uses."`
	Hosts               []string       `json:"hosts" doc:"Hosts that the skill says it connects to."`
	TrustLevel          string         `json:"trustLevel" enum:"verified,clawhub,custom" doc:"verified: curated by the operator; clawhub: of the community registry; custom: of your account."`
	Versions            []string       `json:"versions,omitempty" doc:"Versions of a custom skill, highest first."`
	Findings            []SkillFinding `json:"findings" doc:"Findings of the security scan, most severe first."`
}

// SkillFinding is one finding of the security scan.
type SkillFinding struct {
	Rule     string `json:"rule" example:"net-pipe-shell" doc:"Name of the rule."`
	Severity string `json:"severity" enum:"critical,high,medium,low,info" doc:"How severe it is."`
	File     string `json:"file" doc:"File in the skill."`
	Line     int    `json:"line" doc:"Line number, starting at 1. 0 means the whole file."`
	Message  string `json:"message" doc:"What the rule has found, as a sentence."`
	Excerpt  string `json:"excerpt,omitempty" doc:"The text that the rule matched. Invisible characters are shown as escapes."`
}

// UploadSkillRequest adds a version of a skill to the account's own catalog.
type UploadSkillRequest struct {
	ID                  string      `json:"id" minLength:"1" maxLength:"64" pattern:"^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$" doc:"Id of the skill: lower-case letters, digits and hyphens."`
	Name                string      `json:"name" minLength:"1" maxLength:"100" doc:"Display name."`
	Version             string      `json:"version" minLength:"5" maxLength:"64" doc:"Semantic version, higher than all earlier versions." example:"1.0.0"`
	SkillMD             string      `json:"skillMd" minLength:"1" maxLength:"256000" doc:"SKILL.md in OpenClaw's format: frontmatter with name and description, then instructions."`
	Files               []SkillFile `json:"files,omitempty" maxItems:"255" doc:"Helper files; 2 MiB together with SKILL.md."`
	Author              string      `json:"author,omitempty" maxLength:"100" doc:"Who made the skill."`
	Category            string      `json:"category,omitempty" maxLength:"50" doc:"Category of the skill."`
	Tags                []string    `json:"tags,omitempty" maxItems:"50" doc:"Words to find the skill by."`
	Description         string      `json:"description,omitempty" maxLength:"1024" doc:"Taken from SKILL.md if absent."`
	EnhancedDescription string      `json:"enhancedDescription,omitempty" maxLength:"8000" doc:"Longer description."`
	UseCases            []string    `json:"useCases,omitempty" maxItems:"50" doc:"Examples of what the skill is for."`
	Tools               []string    `json:"tools,omitempty" maxItems:"50" doc:"Tools of the agent that the skill uses."`
	Hosts               []string    `json:"hosts,omitempty" maxItems:"50" doc:"Hosts that the skill connects to. Taken from SKILL.md if absent." example:"[\"api.example.com\"]"`
}

// SkillFile is a helper file of a skill.
type SkillFile struct {
	Path     string `json:"path" minLength:"1" maxLength:"240" doc:"Path relative to the skill's folder, with slashes." example:"scripts/report.mjs"`
	Content  string `json:"content" empty:"true" doc:"Content of the file."`
	Encoding string `json:"encoding,omitempty" enum:"utf8,base64" doc:"Encoding of content: utf8 (default) or base64."`
}

// AgentSkill is a skill that is installed on an agent.
type AgentSkill struct {
	ID               string `json:"id" example:"as_abc123" doc:"Id of the installation."`
	SkillID          string `json:"skillId" example:"web-search" doc:"Id of the skill."`
	Name             string `json:"name" example:"Web Search" doc:"Display name."`
	InstalledVersion string `json:"installedVersion" example:"1.2.0" doc:"Version that is installed."`
	TrustLevel       string `json:"trustLevel" enum:"verified,clawhub,custom" doc:"verified: curated by the operator; clawhub: of the community registry; custom: of your account."`
	IsEnabled        bool   `json:"isEnabled" doc:"True if the agent can use the skill."`
	InstalledAt      Time   `json:"installedAt" doc:"When it was installed."`
	SecurityScore    int    `json:"securityScore" doc:"Score when the skill was installed."`
	Source           string `json:"source" doc:"Source of upgrades."`
	// LatestVersion is nil if only another service knows it.
	LatestVersion *string `json:"latestVersion" doc:"Latest version of a curated or uploaded skill. Null for others: an upgrade to latest asks their source."`
}

// InstallSkillRequest installs a skill on an agent.
type InstallSkillRequest struct {
	SkillID    string `json:"skillId" minLength:"1" maxLength:"500" doc:"Skill identifier (e.g. \"web-search\"); @owner/slug of the community registry; or https://github.com/OWNER/REPO[/tree/REF[/PATH]]."`
	TrustLevel string `json:"trustLevel" enum:"verified,clawhub,custom" doc:"\"verified\" for curated skills, \"clawhub\" for community skills, \"custom\" for the account's own and for GitHub addresses."`
	Version    string `json:"version,omitempty" maxLength:"64" absent:"install the latest version" doc:"Default: the latest version."`
}

// UpdateAgentSkillRequest changes a skill of an agent; absent fields stay as they are.
type UpdateAgentSkillRequest struct {
	IsEnabled *bool  `json:"isEnabled,omitempty" doc:"True if the agent can use the skill."`
	Version   string `json:"version,omitempty" maxLength:"64" absent:"keep the version" doc:"A version to bring it to, or \"latest\"."`
}

// ChangedSkill is the result of InstallSkill and UpdateAgentSkill.
type ChangedSkill struct {
	ID               string `json:"id" doc:"Id of the installation."`
	SkillID          string `json:"skillId" doc:"Id of the skill."`
	Name             string `json:"name" doc:"Display name."`
	InstalledVersion string `json:"installedVersion" doc:"Version that is installed."`
	TrustLevel       string `json:"trustLevel" enum:"verified,clawhub,custom" doc:"verified: curated by the operator; clawhub: of the community registry; custom: of your account."`
	IsEnabled        bool   `json:"isEnabled" doc:"True if the agent can use the skill."`
	NeedsRestart     bool   `json:"needsRestart" doc:"True if a running agent must be restarted to use the change. Otherwise its next turn uses it."`
	// HostsToAdd is absent if the agent may connect to every host that the skill declares.
	HostsToAdd []string `json:"hostsToAdd,omitempty" doc:"Hosts that the skill declares and the agent may not connect to: add them to config.egress."`
}

// UninstalledSkill is the result of UninstallSkill.
type UninstalledSkill struct {
	SkillID      string `json:"skillId" doc:"Id of the skill."`
	Uninstalled  bool   `json:"uninstalled" doc:"True."`
	NeedsRestart bool   `json:"needsRestart" doc:"True if a running agent must be restarted to lose the skill. Otherwise its next turn is without it."`
}

// SkillQuery filters the marketplace; an empty field does not filter.
type SkillQuery struct {
	Search     string
	Category   string
	TrustLevel string // verified by default
	Page       int    // from 1
	PageSize   int    // 20 by default, at most 100
}

func (q SkillQuery) values() url.Values {
	v := url.Values{}
	for name, value := range map[string]string{"search": q.Search, "category": q.Category, "trustLevel": q.TrustLevel} {
		if value != "" {
			v.Set(name, value)
		}
	}
	for name, n := range map[string]int{"page": q.Page, "pageSize": q.PageSize} {
		if n != 0 {
			v.Set(name, strconv.Itoa(n))
		}
	}
	return v
}

// ListSkills returns one page of the marketplace.
func (c *Client) ListSkills(ctx context.Context, q SkillQuery) (List[Skill], error) {
	return call[List[Skill]](ctx, c, http.MethodGet, withQuery("/v1/skills", q.values()), nil)
}

// Skill returns one skill. Without a trust level the server searches the catalog,
// then the account's own skills.
func (c *Client) Skill(ctx context.Context, id, trustLevel string) (SkillDetails, error) {
	return data[SkillDetails](ctx, c, http.MethodGet, withQuery(skillPath(id), SkillQuery{TrustLevel: trustLevel}.values()), nil)
}

// UploadSkill adds a version of a skill to the account's own catalog.
func (c *Client) UploadSkill(ctx context.Context, in UploadSkillRequest) (SkillDetails, error) {
	return data[SkillDetails](ctx, c, http.MethodPost, "/v1/skills", in)
}

// DeleteSkill removes every version of a skill from the account's own catalog.
// It stays on the agents that have it installed.
func (c *Client) DeleteSkill(ctx context.Context, id string) (Deleted, error) {
	return data[Deleted](ctx, c, http.MethodDelete, skillPath(id), nil)
}

// AgentSkills returns the skills of an agent, oldest first.
func (c *Client) AgentSkills(ctx context.Context, agentID string) ([]AgentSkill, error) {
	list, err := call[List[AgentSkill]](ctx, c, http.MethodGet, agentPath(agentID)+"/skills", nil)
	return list.Data, err
}

// InstallSkill installs a skill on an agent.
func (c *Client) InstallSkill(ctx context.Context, agentID string, in InstallSkillRequest) (ChangedSkill, error) {
	return data[ChangedSkill](ctx, c, http.MethodPost, agentPath(agentID)+"/skills", in)
}

// UpdateAgentSkill enables, disables or upgrades a skill of an agent.
func (c *Client) UpdateAgentSkill(ctx context.Context, agentID, skillID string, in UpdateAgentSkillRequest) (ChangedSkill, error) {
	return data[ChangedSkill](ctx, c, http.MethodPatch, agentSkillPath(agentID, skillID), in)
}

// UninstallSkill uninstalls a skill from an agent. skillID is its id, the
// installation's id, or the address it came from.
func (c *Client) UninstallSkill(ctx context.Context, agentID, skillID string) (UninstalledSkill, error) {
	return data[UninstalledSkill](ctx, c, http.MethodDelete, agentSkillPath(agentID, skillID), nil)
}

func skillPath(id string) string { return "/v1/skills/" + url.PathEscape(id) }

func agentSkillPath(agentID, skillID string) string {
	return agentPath(agentID) + "/skills/" + url.PathEscape(skillID)
}

func withQuery(path string, q url.Values) string {
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}
