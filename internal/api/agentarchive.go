package api

import (
	"context"
	"io"
	"strings"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agentarchive"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/rest"
)

// ArchiveParts are the parameters that leave parts out of an archive.
type ArchiveParts struct {
	Without string `query:"without" absent:"include everything" doc:"Parts to leave out: skills, knowledge or sessions, separated by commas."`
}

func (p ArchiveParts) parse() (agentarchive.Parts, error) {
	if p.Without == "" {
		return agentarchive.AllParts(), nil
	}
	return agentarchive.AllParts().Without(strings.Split(p.Without, ",")...)
}

// requirePart returns nil if the caller's key has the scope of a part of an archive.
// Faults: Forbidden, naming the scope and how to do without the part.
func requirePart(who access.Principal, part string, scope access.Scope) error {
	if who.Has(scope) {
		return nil
	}
	return fault.New(fault.Forbidden, "This API key lacks the scope %s, which the %s of the agent need. Use a key that has it, or leave them out with without=%s.", scope, part, part).With("scope", string(scope))
}

type exportAgentInput struct {
	AgentID
	ArchiveParts
}

func (s *Server) exportAgent(ctx context.Context, who access.Principal, in *exportAgentInput) (*rest.Download, error) {
	parts, err := in.parse()
	if err != nil {
		return nil, err
	}
	if err := checkArchiveScopes(who, parts, access.KnowledgeRead); err != nil {
		return nil, err
	}
	export, err := s.archives.Export(ctx, chatCaller(who), in.ID, parts)
	if err != nil {
		return nil, err
	}
	return &rest.Download{FileName: "agent-" + string(in.ID) + ".tar.gz", Write: func(ctx context.Context, w io.Writer) error {
		_, err := export.Write(ctx, w)
		return err
	}}, nil
}

// checkArchiveScopes returns nil if the caller's key has the scopes of all parts.
// Faults: Forbidden.
func checkArchiveScopes(who access.Principal, parts agentarchive.Parts, knowledge access.Scope) error {
	for _, p := range []struct {
		included bool
		name     string
		scope    access.Scope
	}{{parts.Skills, "skills", access.Skills}, {parts.Knowledge, "knowledge", knowledge}, {parts.Sessions, "sessions", access.Chat}} {
		if p.included {
			if err := requirePart(who, p.name, p.scope); err != nil {
				return err
			}
		}
	}
	return nil
}

type importAgentInput struct {
	Name string `query:"name" absent:"use the one in the archive" maxLength:"100" doc:"Name of the new agent."`
	ArchiveParts
	RawBody []byte `contentType:"application/gzip"`
}

func (s *Server) importAgent(ctx context.Context, who access.Principal, in *importAgentInput) (*reply[client.ImportedAgent], error) {
	parts, err := in.parse()
	if err != nil {
		return nil, err
	}
	if err := checkArchiveScopes(who, parts, access.KnowledgeWrite); err != nil {
		return nil, err
	}
	ctx, cancel := s.untilDrain(ctx)
	defer cancel()
	allowsKnowledge := func() error { return s.access.Allows(ctx, who, access.FeatureKnowledge) }
	v, err := s.archives.Import(ctx, who.Actor(), agentarchive.ImportRequest{Archive: in.RawBody, Name: in.Name, Parts: parts, AllowsKnowledge: allowsKnowledge})
	if err != nil {
		return nil, err
	}
	a, c := v.Agent, v.Contents
	return one(client.ImportedAgent{
		ID: string(a.ID), Name: a.Name, Status: a.Status, Region: a.Region, CreatedAt: client.Time{Time: a.CreatedAt}, NeedsKey: true, BaseURL: orNull(a.Config.BaseURL()), Secrets: v.Secrets,
		Imported: client.ArchiveContents{Documents: c.Documents, Skills: c.Skills, Knowledge: c.Knowledge, Sessions: c.Sessions, Messages: c.Messages},
	}), nil
}
