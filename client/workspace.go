package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Personality is the personality of an agent.
type Personality struct {
	SoulMD          string `json:"soulMd" doc:"SOUL.md: how the agent thinks and speaks."`
	IdentityMD      string `json:"identityMd" doc:"IDENTITY.md: the agent's name and other facts."`
	SoulMDHash      string `json:"soulMdHash" doc:"SHA-256 of SOUL.md in hex. Pass it as expectedHash to replace exactly this content."`
	SoulMDUpdatedAt Time   `json:"soulMdUpdatedAt" doc:"When SOUL.md was last changed."`
}

// SetPersonalityRequest replaces SOUL.md.
type SetPersonalityRequest struct {
	SoulMD       string `json:"soulMd" doc:"New SOUL.md." bounds:"1..20000"`
	ExpectedHash string `json:"expectedHash,omitempty" absent:"replace the content whatever it is" doc:"SHA-256 of the current content in hex. A mismatch returns 409 with currentHash in details."`
}

// PersonalityUpdated is the result of SetPersonality and RestorePersonality.
type PersonalityUpdated struct {
	SoulMD          string `json:"soulMd" doc:"Content of SOUL.md."`
	SoulMDHash      string `json:"soulMdHash" doc:"SHA-256 of SOUL.md in hex."`
	SoulMDUpdatedAt Time   `json:"soulMdUpdatedAt" doc:"When SOUL.md was changed."`
	NeedsRestart    bool   `json:"needsRestart" doc:"True if the running gateway needs a restart to get the change. Its next turn usually has it without one."`
}

// Workflow is the role and the procedures of an agent.
type Workflow struct {
	WorkflowMD string   `json:"workflowMd" doc:"WORKFLOW.md: the agent's role and procedures."`
	Rules      []string `json:"rules" doc:"File names in rules/, with .md." example:"example-new-request.md"`
	Hash       string   `json:"workflowMdHash" doc:"SHA-256 of WORKFLOW.md in hex."`
	UpdatedAt  Time     `json:"workflowMdUpdatedAt" doc:"When WORKFLOW.md was last changed."`
}

// SetWorkflowRequest replaces WORKFLOW.md.
type SetWorkflowRequest struct {
	WorkflowMD   string `json:"workflowMd" empty:"true" doc:"New WORKFLOW.md, at most 128 KiB; may be empty."`
	ExpectedHash string `json:"expectedHash,omitempty" absent:"replace the content whatever it is" doc:"SHA-256 of the current content. A mismatch returns 409 with currentHash in details."`
}

// WorkflowUpdated is the result of SetWorkflow and RestoreWorkflow.
type WorkflowUpdated struct {
	WorkflowMD   string `json:"workflowMd" doc:"Content of WORKFLOW.md."`
	NeedsRestart bool   `json:"needsRestart" doc:"True if the running gateway needs a restart to get the change."`
}

// Rules lists an agent's rules.
type Rules struct {
	Rules []RuleSummary `json:"rules" doc:"The rules of the agent, by name."`
}

// RuleSummary is one row of the list of rules.
type RuleSummary struct {
	Name string `json:"name" doc:"Rule name without .md." example:"example-new-request"`
	Size int64  `json:"size" doc:"Size in bytes."`
}

// Rule is a procedure that the agent reads when it needs it.
type Rule struct {
	Name    string `json:"name" doc:"Rule name without .md."`
	Content string `json:"content" doc:"Markdown of the rule."`
	Hash    string `json:"hash" doc:"SHA-256 of the content in hex."`
}

// PutRuleRequest creates or replaces a rule.
type PutRuleRequest struct {
	Content      string `json:"content" doc:"Markdown, at most 64 KiB."`
	ExpectedHash string `json:"expectedHash,omitempty" absent:"replace the content whatever it is" doc:"SHA-256 of the current content. A mismatch, or a missing rule, returns 409 with currentHash in details."`
}

// RulePut is the result of PutRule and RestoreRule.
type RulePut struct {
	Name         string `json:"name" doc:"Rule name without .md."`
	NeedsRestart bool   `json:"needsRestart" doc:"True if the running gateway needs a restart to get the change."`
}

// RuleDeleted is the result of DeleteRule.
type RuleDeleted struct {
	Name         string `json:"name" doc:"Rule name without .md."`
	Deleted      bool   `json:"deleted" doc:"True."`
	NeedsRestart bool   `json:"needsRestart" doc:"True if the running gateway needs a restart to get the change."`
}

// DocumentVersion is one version of SOUL.md, WORKFLOW.md or a rule.
type DocumentVersion struct {
	Version      int64   `json:"version" doc:"Version number, starting at 1."`
	Current      bool    `json:"current" doc:"True for the version that the agent has."`
	Deleted      bool    `json:"deleted" doc:"True if this version marks the deletion of the rule."`
	SetAside     bool    `json:"setAside" doc:"True for an edit of the agent that did not become current: the API wrote a newer version meanwhile, or config.selfEdit is review. It becomes current only if it is approved or restored."`
	Review       *string `json:"review" enum:"pending,approved,rejected" doc:"State of an edit that needs approval; null for other versions."`
	RestoredFrom *int64  `json:"restoredFrom" doc:"The version whose content was restored."`
	Actor        string  `json:"actor" doc:"Who wrote the version: the id of an API key, or agent."`
	CreatedAt    Time    `json:"createdAt" doc:"When the version was written."`
	Size         int64   `json:"size" doc:"Size in bytes."`
	Hash         string  `json:"hash" doc:"SHA-256 of the content in hex."`
	Content      *string `json:"content,omitempty" doc:"Content of the version. Not included in lists."`
}

// PendingEdit is an edit of an agent that waits for approval.
type PendingEdit struct {
	Document  string `json:"document" doc:"Path in the workspace." example:"SOUL.md"`
	Version   int64  `json:"version" doc:"Version number of the edit: approve or reject it by this number."`
	CreatedAt Time   `json:"createdAt" doc:"When the agent made the edit."`
	Size      int64  `json:"size" doc:"Size in bytes."`
	Hash      string `json:"hash" doc:"SHA-256 of the content in hex."`
}

// IdentityUpdated is the result of changing IDENTITY.md.
type IdentityUpdated struct {
	IdentityMD   string `json:"identityMd" doc:"Content of IDENTITY.md."`
	NeedsRestart bool   `json:"needsRestart" doc:"True if the running gateway needs a restart to get the change."`
}

// VersionsQuery selects a page of versions. The zero value is the first page.
type VersionsQuery struct {
	Limit  int    // 0: the server's default
	Offset string // NextOffset of the page before
}

// Personality returns the personality of an agent.
func (c *Client) Personality(ctx context.Context, agentID string) (Personality, error) {
	return data[Personality](ctx, c, http.MethodGet, agentPath(agentID)+"/personality", nil)
}

// SetPersonality replaces an agent's SOUL.md.
func (c *Client) SetPersonality(ctx context.Context, agentID string, in SetPersonalityRequest) (PersonalityUpdated, error) {
	return data[PersonalityUpdated](ctx, c, http.MethodPut, agentPath(agentID)+"/personality", in)
}

// PersonalityVersions lists the versions of an agent's SOUL.md, newest first.
func (c *Client) PersonalityVersions(ctx context.Context, agentID string, q VersionsQuery) (CursorList[DocumentVersion], error) {
	return versions(ctx, c, agentPath(agentID)+"/personality", q)
}

// PersonalityVersion returns one version of SOUL.md with its content.
func (c *Client) PersonalityVersion(ctx context.Context, agentID string, version int64) (DocumentVersion, error) {
	return data[DocumentVersion](ctx, c, http.MethodGet, versionPath(agentPath(agentID)+"/personality", version), nil)
}

// RestorePersonality makes the content of a version of SOUL.md current again.
func (c *Client) RestorePersonality(ctx context.Context, agentID string, version int64) (PersonalityUpdated, error) {
	return data[PersonalityUpdated](ctx, c, http.MethodPost, versionPath(agentPath(agentID)+"/personality", version)+"/restore", nil)
}

// Workflow returns the workflow of an agent.
func (c *Client) Workflow(ctx context.Context, agentID string) (Workflow, error) {
	return data[Workflow](ctx, c, http.MethodGet, agentPath(agentID)+"/workflow", nil)
}

// SetWorkflow replaces an agent's WORKFLOW.md.
func (c *Client) SetWorkflow(ctx context.Context, agentID string, in SetWorkflowRequest) (WorkflowUpdated, error) {
	return data[WorkflowUpdated](ctx, c, http.MethodPut, agentPath(agentID)+"/workflow", in)
}

// WorkflowVersions lists the versions of an agent's WORKFLOW.md, newest first.
func (c *Client) WorkflowVersions(ctx context.Context, agentID string, q VersionsQuery) (CursorList[DocumentVersion], error) {
	return versions(ctx, c, agentPath(agentID)+"/workflow", q)
}

// WorkflowVersion returns one version of WORKFLOW.md with its content.
func (c *Client) WorkflowVersion(ctx context.Context, agentID string, version int64) (DocumentVersion, error) {
	return data[DocumentVersion](ctx, c, http.MethodGet, versionPath(agentPath(agentID)+"/workflow", version), nil)
}

// RestoreWorkflow makes the content of a version of WORKFLOW.md current again.
func (c *Client) RestoreWorkflow(ctx context.Context, agentID string, version int64) (WorkflowUpdated, error) {
	return data[WorkflowUpdated](ctx, c, http.MethodPost, versionPath(agentPath(agentID)+"/workflow", version)+"/restore", nil)
}

// Rules lists an agent's rules by name.
func (c *Client) Rules(ctx context.Context, agentID string) ([]RuleSummary, error) {
	rules, err := data[Rules](ctx, c, http.MethodGet, agentPath(agentID)+"/rules", nil)
	return rules.Rules, err
}

// Rule returns a rule.
func (c *Client) Rule(ctx context.Context, agentID, name string) (Rule, error) {
	return data[Rule](ctx, c, http.MethodGet, rulePath(agentID, name), nil)
}

// PutRule creates or replaces a rule.
func (c *Client) PutRule(ctx context.Context, agentID, name string, in PutRuleRequest) (RulePut, error) {
	return data[RulePut](ctx, c, http.MethodPut, rulePath(agentID, name), in)
}

// DeleteRule deletes a rule. RestoreRule restores it.
func (c *Client) DeleteRule(ctx context.Context, agentID, name string) (RuleDeleted, error) {
	return data[RuleDeleted](ctx, c, http.MethodDelete, rulePath(agentID, name), nil)
}

// RuleVersions lists the versions of a rule, newest first.
func (c *Client) RuleVersions(ctx context.Context, agentID, name string, q VersionsQuery) (CursorList[DocumentVersion], error) {
	return versions(ctx, c, rulePath(agentID, name), q)
}

// RuleVersion returns one version of a rule with its content.
func (c *Client) RuleVersion(ctx context.Context, agentID, name string, version int64) (DocumentVersion, error) {
	return data[DocumentVersion](ctx, c, http.MethodGet, versionPath(rulePath(agentID, name), version), nil)
}

// RestoreRule makes the content of a version of a rule current again.
func (c *Client) RestoreRule(ctx context.Context, agentID, name string, version int64) (RulePut, error) {
	return data[RulePut](ctx, c, http.MethodPost, versionPath(rulePath(agentID, name), version)+"/restore", nil)
}

// PendingEdits lists the edits of an agent that wait for approval, oldest first.
func (c *Client) PendingEdits(ctx context.Context, agentID string) ([]PendingEdit, error) {
	list, err := call[List[PendingEdit]](ctx, c, http.MethodGet, agentPath(agentID)+"/edits", nil)
	return list.Data, err
}

// ApproveEdit makes an edit that waits for approval current. document is a path such as
// SOUL.md or rules/NAME.md.
func (c *Client) ApproveEdit(ctx context.Context, agentID, document string, version int64) error {
	_, err := data[struct{}](ctx, c, http.MethodPost, versionPath(documentPath(agentID, document), version)+"/approve", nil)
	return err
}

// RejectEdit ends the review of an edit that waits for approval.
func (c *Client) RejectEdit(ctx context.Context, agentID, document string, version int64) (DocumentVersion, error) {
	return data[DocumentVersion](ctx, c, http.MethodPost, versionPath(documentPath(agentID, document), version)+"/reject", nil)
}

// IdentityVersions lists the versions of an agent's IDENTITY.md, newest first.
func (c *Client) IdentityVersions(ctx context.Context, agentID string, q VersionsQuery) (CursorList[DocumentVersion], error) {
	return versions(ctx, c, agentPath(agentID)+"/identity", q)
}

// IdentityVersion returns one version of IDENTITY.md with its content.
func (c *Client) IdentityVersion(ctx context.Context, agentID string, version int64) (DocumentVersion, error) {
	return data[DocumentVersion](ctx, c, http.MethodGet, versionPath(agentPath(agentID)+"/identity", version), nil)
}

// RestoreIdentity makes the content of a version of IDENTITY.md current again.
func (c *Client) RestoreIdentity(ctx context.Context, agentID string, version int64) (IdentityUpdated, error) {
	return data[IdentityUpdated](ctx, c, http.MethodPost, versionPath(agentPath(agentID)+"/identity", version)+"/restore", nil)
}

// documentPath returns the path of the routes of a document.
func documentPath(agentID, document string) string {
	switch document {
	case "SOUL.md":
		return agentPath(agentID) + "/personality"
	case "IDENTITY.md":
		return agentPath(agentID) + "/identity"
	case "WORKFLOW.md":
		return agentPath(agentID) + "/workflow"
	}
	return rulePath(agentID, strings.TrimPrefix(document, "rules/"))
}

func rulePath(agentID, name string) string {
	return agentPath(agentID) + "/rules/" + url.PathEscape(name)
}

func versionPath(document string, version int64) string {
	return fmt.Sprintf("%s/versions/%d", document, version)
}

func versions(ctx context.Context, c *Client, document string, q VersionsQuery) (CursorList[DocumentVersion], error) {
	v := url.Values{}
	if q.Limit > 0 {
		v.Set("limit", fmt.Sprint(q.Limit))
	}
	if q.Offset != "" {
		v.Set("offset", q.Offset)
	}
	return call[CursorList[DocumentVersion]](ctx, c, http.MethodGet, document+"/versions?"+v.Encode(), nil)
}
