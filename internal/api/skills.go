package api

import (
	"context"
	"encoding/base64"
	"fmt"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/skill"
	"agento.host/agento/internal/skill/scan"
)

// maxUpload has room for 2 MiB of files, however they are escaped.
const maxUpload = 8 << 20

type browseSkillsInput struct {
	Search     string `query:"search" doc:"Words that must occur in the name or description."`
	Category   string `query:"category" doc:"Only skills of this category."`
	TrustLevel string `query:"trustLevel" enum:"verified,clawhub,custom" doc:"Source of the skills: the catalog (default), the community registry, or the account."`
	Page       int    `query:"page" default:"1" minimum:"1" maximum:"10000" doc:"Page number."`
	PageSize   int    `query:"pageSize" default:"20" minimum:"1" maximum:"100" doc:"Results per page."`
}

func (s *Server) browseSkills(ctx context.Context, who access.Principal, in *browseSkillsInput) (*listReply[client.Skill], error) {
	p, err := s.skills.Browse(ctx, who.AccountID, skill.Query{
		Search: in.Search, Category: in.Category, Trust: skill.Trust(in.TrustLevel), Page: in.Page, PageSize: in.PageSize,
	})
	if err != nil {
		return nil, err
	}
	rows := make([]client.Skill, len(p.Items))
	for i, v := range p.Items {
		rows[i] = client.Skill{
			ID: v.SkillID, Name: v.Name, Description: v.Description, Author: v.Author, Category: v.Category,
			InstallCount: v.Installs, LatestVersion: v.Version, SecurityScore: v.Score, TrustLevel: string(v.Trust),
		}
		if v.Score != nil {
			rows[i].Verdict = &v.Verdict
		}
	}
	return page(rows, p.Total, p.Limit, p.Offset), nil
}

// SkillID is the part of a path that names a skill.
type SkillID struct {
	ID string `path:"id" doc:"Id of the skill." example:"csv-analysis"`
}

type getSkillInput struct {
	SkillID
	TrustLevel string `query:"trustLevel" enum:"verified,clawhub,custom" doc:"Where to search. Default: the catalog, then the skills of the account."`
}

func (s *Server) getSkill(ctx context.Context, who access.Principal, in *getSkillInput) (*reply[client.SkillDetails], error) {
	v, err := s.skills.Get(ctx, who.AccountID, in.ID, skill.Trust(in.TrustLevel))
	if err != nil {
		return nil, err
	}
	return one(skillJSON(v)), nil
}

type uploadSkillInput struct{ Body client.UploadSkillRequest }

func (s *Server) uploadSkill(ctx context.Context, who access.Principal, in *uploadSkillInput) (*reply[client.SkillDetails], error) {
	files, err := filesOf(in.Body)
	if err != nil {
		return nil, err
	}
	b := in.Body
	v, err := s.skills.Upload(ctx, who.Actor(), skill.Manifest{
		ID: b.ID, Name: b.Name, Version: b.Version, Author: b.Author, Category: b.Category, Tags: b.Tags,
		Description: b.Description, EnhancedDescription: b.EnhancedDescription, UseCases: b.UseCases, Tools: b.Tools, Hosts: b.Hosts,
	}, files)
	if err != nil {
		return nil, err
	}
	return one(skillJSON(v)), nil
}

// filesOf decodes the files of an upload, by path.
// Faults: Invalid.
func filesOf(in client.UploadSkillRequest) (map[string][]byte, error) {
	files := map[string][]byte{"SKILL.md": []byte(in.SkillMD)}
	problems := fault.Fields{}
	for i, f := range in.Files {
		content := []byte(f.Content)
		if f.Encoding == "base64" {
			var err error
			if content, err = base64.StdEncoding.DecodeString(f.Content); err != nil {
				problems.Add(fmt.Sprintf("files[%d].content", i), "is not base64")
			}
		}
		if _, twice := files[f.Path]; twice {
			problems.Add(fmt.Sprintf("files[%d].path", i), "is given twice")
		}
		files[f.Path] = content
	}
	return files, problems.Err()
}

// UploadedSkillID is the part of a path that names a skill of the account's own catalog.
type UploadedSkillID struct {
	ID string `path:"id" doc:"Id of the skill." example:"order-status"`
}

func (s *Server) deleteSkill(ctx context.Context, who access.Principal, in *UploadedSkillID) (*reply[client.Deleted], error) {
	if err := s.skills.Delete(ctx, who.Actor(), in.ID); err != nil {
		return nil, err
	}
	return one(client.Deleted{ID: in.ID, Deleted: true}), nil
}

func (s *Server) listAgentSkills(ctx context.Context, who access.Principal, in *AgentID) (*listReply[client.AgentSkill], error) {
	all, err := s.skills.List(ctx, who.AccountID, in.ID)
	if err != nil {
		return nil, err
	}
	latest, err := s.skills.Latest(ctx, who.AccountID, all)
	if err != nil {
		return nil, err
	}
	rows := make([]client.AgentSkill, len(all))
	for i, v := range all {
		rows[i] = client.AgentSkill{
			ID: v.ID, SkillID: v.SkillID, Name: v.Name, InstalledVersion: v.Version, TrustLevel: string(v.Trust), IsEnabled: v.Enabled,
			InstalledAt: client.Time{Time: v.InstalledAt}, SecurityScore: v.Score, Source: v.Source, LatestVersion: orNull(latest[v.ID]),
		}
	}
	return whole(rows), nil
}

type installSkillInput struct {
	AgentID
	Body client.InstallSkillRequest
}

func (s *Server) installSkill(ctx context.Context, who access.Principal, in *installSkillInput) (*reply[client.ChangedSkill], error) {
	done, err := s.skills.Install(ctx, who.Actor(), in.ID, skill.Order{SkillID: in.Body.SkillID, Trust: skill.Trust(in.Body.TrustLevel), Version: in.Body.Version})
	if err != nil {
		return nil, err
	}
	return one(changedJSON(done)), nil
}

// AgentSkillID is the part of a path that names a skill of an agent.
type AgentSkillID struct {
	AgentID
	SkillID string `path:"skillId" doc:"Id of the skill, or of the installation." example:"csv-analysis"`
}

type updateAgentSkillInput struct {
	AgentSkillID
	Body client.UpdateAgentSkillRequest
}

func (s *Server) updateAgentSkill(ctx context.Context, who access.Principal, in *updateAgentSkillInput) (*reply[client.ChangedSkill], error) {
	done, err := s.skills.Update(ctx, who.Actor(), in.ID, in.SkillID, skill.Changes{Version: in.Body.Version, Enabled: in.Body.IsEnabled})
	if err != nil {
		return nil, err
	}
	return one(changedJSON(done)), nil
}

func (s *Server) uninstallSkill(ctx context.Context, who access.Principal, in *AgentSkillID) (*reply[client.UninstalledSkill], error) {
	done, err := s.skills.Uninstall(ctx, who.Actor(), in.ID, in.SkillID)
	if err != nil {
		return nil, err
	}
	return one(client.UninstalledSkill{SkillID: done.SkillID, Uninstalled: true, NeedsRestart: done.NeedsRestart}), nil
}

func changedJSON(c skill.Change) client.ChangedSkill {
	return client.ChangedSkill{
		ID: c.ID, SkillID: c.SkillID, Name: c.Name, InstalledVersion: c.Version, TrustLevel: string(c.Trust),
		IsEnabled: c.Enabled, NeedsRestart: c.NeedsRestart, HostsToAdd: c.MissingHosts,
	}
}

func skillJSON(v skill.Item) client.SkillDetails {
	d := client.SkillDetails{
		ID: v.SkillID, Name: v.Name, Description: v.Description, EnhancedDescription: v.EnhancedDescription, Author: v.Author, Category: v.Category,
		Tags: orEmpty(v.Tags), InstallCount: v.Installs, LatestVersion: v.Version, UseCases: orEmpty(v.UseCases),
		ToolCount: len(v.Tools), Tools: orEmpty(v.Tools), Hosts: orEmpty(v.Declared().Hosts), TrustLevel: string(v.Trust), Versions: v.Versions, Findings: findingsJSON(v.Findings),
	}
	if v.Score != nil {
		d.SecurityScore, d.Verdict = *v.Score, v.Verdict
	}
	return d
}

func findingsJSON(all []scan.Finding) []client.SkillFinding {
	rows := make([]client.SkillFinding, len(all))
	for i, f := range all {
		rows[i] = client.SkillFinding{Rule: f.Rule, Severity: string(f.Severity), File: f.File, Line: f.Line, Message: f.Message, Excerpt: f.Excerpt}
	}
	return rows
}
