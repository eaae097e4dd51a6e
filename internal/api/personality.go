package api

import (
	"context"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/workspace"
)

func (s *Server) getPersonality(ctx context.Context, who access.Principal, in *AgentID) (*reply[client.Personality], error) {
	p, err := s.workspace.Personality(ctx, who.AccountID, in.ID)
	if err != nil {
		return nil, err
	}
	return one(client.Personality{SoulMD: p.SoulMD, IdentityMD: p.IdentityMD, SoulMDHash: p.SoulHash, SoulMDUpdatedAt: client.Time{Time: p.SoulUpdatedAt}}), nil
}

type setPersonalityInput struct {
	AgentID
	Body client.SetPersonalityRequest
}

func (s *Server) setPersonality(ctx context.Context, who access.Principal, in *setPersonalityInput) (*reply[client.PersonalityUpdated], error) {
	v, needsRestart, err := s.workspace.SetSoul(ctx, who.Actor(), in.ID, in.Body.SoulMD, in.Body.ExpectedHash)
	if err != nil {
		return nil, err
	}
	return one(soulJSON(v, needsRestart)), nil
}

func (s *Server) personalityVersions(ctx context.Context, who access.Principal, in *VersionsPage) (*cursorReply[client.DocumentVersion], error) {
	return s.documentVersions(ctx, who, *in, workspace.Soul)
}

func (s *Server) personalityVersion(ctx context.Context, who access.Principal, in *VersionID) (*reply[client.DocumentVersion], error) {
	return s.documentVersion(ctx, who, *in, workspace.Soul)
}

func (s *Server) restorePersonality(ctx context.Context, who access.Principal, in *VersionID) (*reply[client.PersonalityUpdated], error) {
	v, needsRestart, err := s.workspace.Restore(ctx, who.Actor(), in.ID, workspace.Soul, in.Number)
	if err != nil {
		return nil, err
	}
	return one(soulJSON(v, needsRestart)), nil
}

func (s *Server) approvePersonality(ctx context.Context, who access.Principal, in *VersionID) (*reply[client.PersonalityUpdated], error) {
	v, needsRestart, err := s.workspace.Approve(ctx, who.Actor(), in.ID, workspace.Soul, in.Number)
	if err != nil {
		return nil, err
	}
	return one(soulJSON(v, needsRestart)), nil
}

func (s *Server) rejectPersonality(ctx context.Context, who access.Principal, in *VersionID) (*reply[client.DocumentVersion], error) {
	return s.rejectVersion(ctx, who, *in, workspace.Soul)
}

func soulJSON(v workspace.Version, needsRestart bool) client.PersonalityUpdated {
	return client.PersonalityUpdated{SoulMD: v.Content, SoulMDHash: v.Hash, SoulMDUpdatedAt: client.Time{Time: v.At}, NeedsRestart: needsRestart}
}

func (s *Server) identityVersions(ctx context.Context, who access.Principal, in *VersionsPage) (*cursorReply[client.DocumentVersion], error) {
	return s.documentVersions(ctx, who, *in, workspace.Identity)
}

func (s *Server) identityVersion(ctx context.Context, who access.Principal, in *VersionID) (*reply[client.DocumentVersion], error) {
	return s.documentVersion(ctx, who, *in, workspace.Identity)
}

func (s *Server) restoreIdentity(ctx context.Context, who access.Principal, in *VersionID) (*reply[client.IdentityUpdated], error) {
	v, needsRestart, err := s.workspace.Restore(ctx, who.Actor(), in.ID, workspace.Identity, in.Number)
	if err != nil {
		return nil, err
	}
	return one(client.IdentityUpdated{IdentityMD: v.Content, NeedsRestart: needsRestart}), nil
}

func (s *Server) approveIdentity(ctx context.Context, who access.Principal, in *VersionID) (*reply[client.IdentityUpdated], error) {
	v, needsRestart, err := s.workspace.Approve(ctx, who.Actor(), in.ID, workspace.Identity, in.Number)
	if err != nil {
		return nil, err
	}
	return one(client.IdentityUpdated{IdentityMD: v.Content, NeedsRestart: needsRestart}), nil
}

func (s *Server) rejectIdentity(ctx context.Context, who access.Principal, in *VersionID) (*reply[client.DocumentVersion], error) {
	return s.rejectVersion(ctx, who, *in, workspace.Identity)
}
