package api

import (
	"context"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/workspace"
)

func (s *Server) listRules(ctx context.Context, who access.Principal, in *AgentID) (*reply[client.Rules], error) {
	if err := s.absorbed(ctx, who, in.ID); err != nil {
		return nil, err
	}
	rules, err := s.Documents.Rules(ctx, who.AccountID, in.ID)
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
	Name string `path:"name" doc:"Rule name, with or without .md: 1 to 64 letters, digits, hyphens and underscores."`
}

type ruleInput struct {
	AgentID
	RuleName
}

func (s *Server) getRule(ctx context.Context, who access.Principal, in *ruleInput) (*reply[client.Rule], error) {
	if err := s.absorbed(ctx, who, in.ID); err != nil {
		return nil, err
	}
	r, err := s.Documents.Rule(ctx, who.AccountID, in.ID, in.Name)
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
	if err := s.absorbed(ctx, who, in.ID); err != nil {
		return nil, err
	}
	r, err := s.Documents.PutRule(ctx, who.AccountID, in.ID, who.KeyID, in.Name, in.Body.Content, in.Body.ExpectedHash)
	if err != nil {
		return nil, err
	}
	restart, err := s.needsRestart(ctx, who, in.ID)
	if err != nil {
		return nil, err
	}
	return one(client.RulePut{Name: r.Document.Rule(), NeedsRestart: restart}), nil
}

func (s *Server) deleteRule(ctx context.Context, who access.Principal, in *ruleInput) (*reply[client.RuleDeleted], error) {
	if err := s.absorbed(ctx, who, in.ID); err != nil {
		return nil, err
	}
	name, err := s.Documents.DeleteRule(ctx, who.AccountID, in.ID, who.KeyID, in.Name)
	if err != nil {
		return nil, err
	}
	restart, err := s.needsRestart(ctx, who, in.ID)
	if err != nil {
		return nil, err
	}
	return one(client.RuleDeleted{Name: name, Deleted: true, NeedsRestart: restart}), nil
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
	return s.versions(ctx, who, in.VersionsPage, d)
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
	return s.version(ctx, who, in.VersionID, d)
}

func (s *Server) restoreRule(ctx context.Context, who access.Principal, in *ruleVersionInput) (*reply[client.RulePut], error) {
	d, err := workspace.RuleDocument(in.Name)
	if err != nil {
		return nil, err
	}
	r, restart, err := s.restore(ctx, who, in.VersionID, d)
	if err != nil {
		return nil, err
	}
	return one(client.RulePut{Name: r.Document.Rule(), NeedsRestart: restart}), nil
}
