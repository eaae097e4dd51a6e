package api

import (
	"context"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/workspace"
)

// VersionsPage is the input of a route that lists the versions of a document.
type VersionsPage struct {
	AgentID
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"100" doc:"Maximum number of versions."`
	Offset string `query:"offset" absent:"begin with the first page" doc:"Pagination cursor from a previous response."`
}

// VersionID is the input of a route of one version of a document.
type VersionID struct {
	AgentID
	Number int64 `path:"n" minimum:"1" doc:"Version number." example:"1"`
}

func (s *Server) documentVersions(ctx context.Context, who access.Principal, in VersionsPage, d workspace.Document) (*cursorReply[client.DocumentVersion], error) {
	before, err := parseCursor(in.Offset)
	if err != nil {
		return nil, err
	}
	found, err := s.workspace.Versions(ctx, who.AccountID, in.ID, d, before, in.Limit)
	if err != nil {
		return nil, err
	}
	rows := make([]client.DocumentVersion, len(found.Versions))
	for i, v := range found.Versions {
		rows[i] = versionJSON(v)
	}
	return cursorPage(rows, cursor(found.Next)), nil
}

func (s *Server) documentVersion(ctx context.Context, who access.Principal, in VersionID, d workspace.Document) (*reply[client.DocumentVersion], error) {
	v, err := s.workspace.Version(ctx, who.AccountID, in.ID, d, in.Number)
	if err != nil {
		return nil, err
	}
	row := versionJSON(v)
	row.Content = &v.Content
	return one(row), nil
}

func versionJSON(v workspace.Version) client.DocumentVersion {
	row := client.DocumentVersion{
		Version: v.Number, Current: v.Current, Deleted: v.Deleted, SetAside: v.SetAside,
		Actor: v.Actor.String(), CreatedAt: client.Time{Time: v.At}, Size: v.Size, Hash: v.Hash,
	}
	if v.RestoredFrom > 0 {
		row.RestoredFrom = &v.RestoredFrom
	}
	if v.Review != workspace.NoReview {
		row.Review = (*string)(&v.Review)
	}
	return row
}

func (s *Server) rejectVersion(ctx context.Context, who access.Principal, in VersionID, d workspace.Document) (*reply[client.DocumentVersion], error) {
	v, err := s.workspace.Reject(ctx, who.Actor(), in.ID, d, in.Number)
	if err != nil {
		return nil, err
	}
	return one(versionJSON(v)), nil
}

func (s *Server) pendingEdits(ctx context.Context, who access.Principal, in *AgentID) (*listReply[client.PendingEdit], error) {
	found, err := s.workspace.PendingEdits(ctx, who.AccountID, in.ID)
	if err != nil {
		return nil, err
	}
	rows := make([]client.PendingEdit, len(found))
	for i, v := range found {
		rows[i] = client.PendingEdit{Document: string(v.Document), Version: v.Number, CreatedAt: client.Time{Time: v.At}, Size: v.Size, Hash: v.Hash}
	}
	return whole(rows), nil
}
