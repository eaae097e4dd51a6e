package api

import (
	"context"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/workspace"
)

func (s *Server) getWorkflow(ctx context.Context, who access.Principal, in *AgentID) (*reply[client.Workflow], error) {
	p, err := s.workspace.Procedures(ctx, who.AccountID, in.ID)
	if err != nil {
		return nil, err
	}
	return one(client.Workflow{WorkflowMD: p.WorkflowMD, Rules: p.RuleFiles, Hash: p.Hash, UpdatedAt: client.Time{Time: p.UpdatedAt}}), nil
}

type setWorkflowInput struct {
	AgentID
	Body client.SetWorkflowRequest
}

func (s *Server) setWorkflow(ctx context.Context, who access.Principal, in *setWorkflowInput) (*reply[client.WorkflowUpdated], error) {
	v, needsRestart, err := s.workspace.SetWorkflow(ctx, who.Actor(), in.ID, in.Body.WorkflowMD, in.Body.ExpectedHash)
	if err != nil {
		return nil, err
	}
	return one(client.WorkflowUpdated{WorkflowMD: v.Content, NeedsRestart: needsRestart}), nil
}

func (s *Server) workflowVersions(ctx context.Context, who access.Principal, in *VersionsPage) (*cursorReply[client.DocumentVersion], error) {
	return s.documentVersions(ctx, who, *in, workspace.Workflow)
}

func (s *Server) workflowVersion(ctx context.Context, who access.Principal, in *VersionID) (*reply[client.DocumentVersion], error) {
	return s.documentVersion(ctx, who, *in, workspace.Workflow)
}

func (s *Server) restoreWorkflow(ctx context.Context, who access.Principal, in *VersionID) (*reply[client.WorkflowUpdated], error) {
	v, needsRestart, err := s.workspace.Restore(ctx, who.Actor(), in.ID, workspace.Workflow, in.Number)
	if err != nil {
		return nil, err
	}
	return one(client.WorkflowUpdated{WorkflowMD: v.Content, NeedsRestart: needsRestart}), nil
}

func (s *Server) approveWorkflow(ctx context.Context, who access.Principal, in *VersionID) (*reply[client.WorkflowUpdated], error) {
	v, needsRestart, err := s.workspace.Approve(ctx, who.Actor(), in.ID, workspace.Workflow, in.Number)
	if err != nil {
		return nil, err
	}
	return one(client.WorkflowUpdated{WorkflowMD: v.Content, NeedsRestart: needsRestart}), nil
}

func (s *Server) rejectWorkflow(ctx context.Context, who access.Principal, in *VersionID) (*reply[client.DocumentVersion], error) {
	return s.rejectVersion(ctx, who, *in, workspace.Workflow)
}
