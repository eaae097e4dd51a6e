package api

import (
	"context"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/workspace"
)

func (s *Server) listRules(ctx context.Context, who access.Principal, in *AgentID) (*reply[client.Rules], error) {
	rules, err := s.workspace.Rules(ctx, who.AccountID, in.ID)
	if err != nil {
		return nil, err
	}
	rows := make([]client.RuleSummary, len(rules))
	for i, r := range rules {
		rows[i] = client.RuleSummary{Name: r.Document.Rule(), Size: r.Size}
	}
	return one(client.Rules{Rules: rows}), nil
}

// RuleName is the part of a path that names a rule.
type RuleName struct {
	Name string `path:"name" doc:"Rule name, with or without .md: 1 to 64 letters, digits, hyphens and underscores." example:"new-request"`
}

type ruleInput struct {
	AgentID
	RuleName
}

func (s *Server) getRule(ctx context.Context, who access.Principal, in *ruleInput) (*reply[client.Rule], error) {
	r, err := s.workspace.Rule(ctx, who.AccountID, in.ID, in.Name)
	if err != nil {
		return nil, err
	}
	return one(client.Rule{Name: r.Document.Rule(), Content: r.Content, Hash: r.Hash}), nil
}

type putRuleInput struct {
	AgentID
	RuleName
	Body client.PutRuleRequest
}

func (s *Server) putRule(ctx context.Context, who access.Principal, in *putRuleInput) (*reply[client.RulePut], error) {
	r, needsRestart, err := s.workspace.PutRule(ctx, who.Actor(), in.ID, in.Name, in.Body.Content, in.Body.ExpectedHash)
	if err != nil {
		return nil, err
	}
	return one(client.RulePut{Name: r.Document.Rule(), NeedsRestart: needsRestart}), nil
}

func (s *Server) deleteRule(ctx context.Context, who access.Principal, in *ruleInput) (*reply[client.RuleDeleted], error) {
	r, needsRestart, err := s.workspace.DeleteRule(ctx, who.Actor(), in.ID, in.Name)
	if err != nil {
		return nil, err
	}
	return one(client.RuleDeleted{Name: r.Document.Rule(), Deleted: true, NeedsRestart: needsRestart}), nil
}

type ruleVersionsInput struct {
	VersionsPage
	RuleName
}

func (s *Server) ruleVersions(ctx context.Context, who access.Principal, in *ruleVersionsInput) (*cursorReply[client.DocumentVersion], error) {
	d, err := workspace.RuleDocument(in.Name)
	if err != nil {
		return nil, err
	}
	return s.documentVersions(ctx, who, in.VersionsPage, d)
}

type ruleVersionInput struct {
	VersionID
	RuleName
}

func (s *Server) ruleVersion(ctx context.Context, who access.Principal, in *ruleVersionInput) (*reply[client.DocumentVersion], error) {
	d, err := workspace.RuleDocument(in.Name)
	if err != nil {
		return nil, err
	}
	return s.documentVersion(ctx, who, in.VersionID, d)
}

func (s *Server) restoreRule(ctx context.Context, who access.Principal, in *ruleVersionInput) (*reply[client.RulePut], error) {
	d, err := workspace.RuleDocument(in.Name)
	if err != nil {
		return nil, err
	}
	r, needsRestart, err := s.workspace.Restore(ctx, who.Actor(), in.ID, d, in.Number)
	if err != nil {
		return nil, err
	}
	return one(client.RulePut{Name: r.Document.Rule(), NeedsRestart: needsRestart}), nil
}

func (s *Server) approveRule(ctx context.Context, who access.Principal, in *ruleVersionInput) (*reply[client.RulePut], error) {
	d, err := workspace.RuleDocument(in.Name)
	if err != nil {
		return nil, err
	}
	r, needsRestart, err := s.workspace.Approve(ctx, who.Actor(), in.ID, d, in.Number)
	if err != nil {
		return nil, err
	}
	return one(client.RulePut{Name: r.Document.Rule(), NeedsRestart: needsRestart}), nil
}

func (s *Server) rejectRule(ctx context.Context, who access.Principal, in *ruleVersionInput) (*reply[client.DocumentVersion], error) {
	d, err := workspace.RuleDocument(in.Name)
	if err != nil {
		return nil, err
	}
	return s.rejectVersion(ctx, who, in.VersionID, d)
}
