package api

import (
	"context"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/workspace"
)

func (s *Server) getPersonality(ctx context.Context, who access.Principal, in *AgentID) (*reply[client.Personality], error) {
	if err := s.absorbed(ctx, who, in.ID); err != nil {
		return nil, err
	}
	p, err := s.Documents.Personality(ctx, who.AccountID, in.ID)
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
	if err := s.absorbed(ctx, who, in.ID); err != nil {
		return nil, err
	}
	v, err := s.Documents.SetSoul(ctx, who.AccountID, in.ID, who.KeyID, in.Body.SoulMD, in.Body.ExpectedHash)
	if err != nil {
		return nil, err
	}
	restart, err := s.needsRestart(ctx, who, in.ID)
	if err != nil {
		return nil, err
	}
	return one(soulJSON(v, restart)), nil
}

func (s *Server) personalityVersions(ctx context.Context, who access.Principal, in *VersionsPage) (*cursorReply[client.DocumentVersion], error) {
	return s.versions(ctx, who, *in, workspace.Soul)
}

func (s *Server) personalityVersion(ctx context.Context, who access.Principal, in *VersionID) (*reply[client.DocumentVersion], error) {
	return s.version(ctx, who, *in, workspace.Soul)
}

func (s *Server) restorePersonality(ctx context.Context, who access.Principal, in *VersionID) (*reply[client.PersonalityUpdated], error) {
	v, restart, err := s.restore(ctx, who, *in, workspace.Soul)
	if err != nil {
		return nil, err
	}
	return one(soulJSON(v, restart)), nil
}

func soulJSON(v workspace.Version, needsRestart bool) client.PersonalityUpdated {
	return client.PersonalityUpdated{SoulMD: v.Content, SoulMDHash: v.Hash, SoulMDUpdatedAt: client.Time{Time: v.At}, NeedsRestart: needsRestart}
}
