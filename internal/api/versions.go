package api

import (
	"context"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/workspace"
)

// VersionsPage is the input of every route that lists the versions of a document.
type VersionsPage struct {
	AgentID
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"100" doc:"How many versions at most."`
	Offset string `query:"offset" doc:"Pagination cursor from a previous response."`
}

// VersionID is the input of every route of one version of a document.
type VersionID struct {
	AgentID
	Number int64 `path:"n" minimum:"1" doc:"Version number."`
}

// needsRestart gives a running agent what has just changed and says whether it
// waits for a restart all the same. When it says no, the agent's next turn
// knows the change.
func (s *Server) needsRestart(ctx context.Context, who access.Principal, agentID string) (bool, error) {
	return s.Agents.Sync(ctx, accountOf(who), identity.AgentID(agentID))
}

// absorbed takes over what the agent wrote into its documents itself, so that
// nobody reads or replaces what is no longer so.
func (s *Server) absorbed(ctx context.Context, who access.Principal, agentID string) error {
	return s.Agents.Absorb(ctx, accountOf(who), identity.AgentID(agentID))
}

func (s *Server) versions(ctx context.Context, who access.Principal, in VersionsPage, d workspace.Document) (*cursorReply[client.DocumentVersion], error) {
	before, err := parseCursor(in.Offset)
	if err != nil {
		return nil, err
	}
	if err := s.absorbed(ctx, who, in.ID); err != nil {
		return nil, err
	}
	found, err := s.Documents.Versions(ctx, who.AccountID, in.ID, d, before, in.Limit)
	if err != nil {
		return nil, err
	}
	rows := make([]client.DocumentVersion, len(found.Versions))
	for i, v := range found.Versions {
		rows[i] = versionJSON(v)
	}
	return cursorPage(rows, found.Next), nil
}

func (s *Server) version(ctx context.Context, who access.Principal, in VersionID, d workspace.Document) (*reply[client.DocumentVersion], error) {
	if err := s.absorbed(ctx, who, in.ID); err != nil {
		return nil, err
	}
	v, err := s.Documents.Version(ctx, who.AccountID, in.ID, d, in.Number)
	if err != nil {
		return nil, err
	}
	shown := versionJSON(v)
	shown.Content = &v.Content
	return one(shown), nil
}

// restore makes a version current again and gives it to the agent.
func (s *Server) restore(ctx context.Context, who access.Principal, in VersionID, d workspace.Document) (v workspace.Version, needsRestart bool, err error) {
	if err = s.absorbed(ctx, who, in.ID); err != nil {
		return v, false, err
	}
	if v, err = s.Documents.Restore(ctx, who.AccountID, in.ID, who.KeyID, d, in.Number); err != nil {
		return v, false, err
	}
	needsRestart, err = s.needsRestart(ctx, who, in.ID)
	return v, needsRestart, err
}

func versionJSON(v workspace.Version) client.DocumentVersion {
	shown := client.DocumentVersion{
		Version: v.Number, Current: v.Live, Deleted: v.Deleted, SetAside: v.Aside,
		Actor: v.Actor, CreatedAt: client.Time{Time: v.At}, Size: v.Size, Hash: v.Hash,
	}
	if v.RestoredFrom > 0 {
		shown.RestoredFrom = &v.RestoredFrom
	}
	return shown
}
