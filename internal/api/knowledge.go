package api

import (
	"context"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/knowledge"
)

// maxIngest has room for 100 chunks of 4,000 characters and their metadata, however
// they are escaped.
const maxIngest = 8 << 20

type ingestInput struct {
	Explain bool `query:"explain" doc:"Return the result of each chunk in details."`
	DryRun  bool `query:"dryRun" doc:"Change nothing, and return what the request would do."`
	Body    client.KnowledgeIngest
}

func (s *Server) ingestKnowledge(ctx context.Context, who access.Principal, in *ingestInput) (*reply[client.KnowledgeIngested], error) {
	request := knowledge.IngestRequest{
		Target:        knowledge.Target{AgentID: identity.AgentID(in.Body.AgentID), SwarmID: identity.SwarmID(in.Body.SwarmID)},
		ReplaceSource: in.Body.ReplaceSource, Explain: in.Explain, DryRun: in.DryRun,
	}
	for _, c := range in.Body.Chunks {
		request.Chunks = append(request.Chunks, knowledge.Chunk(c))
	}
	done, err := s.knowledge.Ingest(ctx, who.Actor(), request)
	if err != nil {
		return nil, err
	}
	out := client.KnowledgeIngested{Stored: done.Stored, Skipped: done.Skipped, Total: done.Stored + done.Skipped, DryRun: in.DryRun}
	if in.Body.ReplaceSource {
		out.Deleted = &done.Deleted
	}
	if in.Explain {
		out.Details = outcomesJSON(done.Outcomes)
	}
	return one(out), nil
}

func outcomesJSON(outcomes []knowledge.Outcome) []client.KnowledgeOutcome {
	rows := make([]client.KnowledgeOutcome, len(outcomes))
	for i, o := range outcomes {
		rows[i] = client.KnowledgeOutcome{Index: i, Status: "stored", ID: orNull(o.ID)}
		if o.Stored {
			continue
		}
		rows[i] = client.KnowledgeOutcome{Index: i, Status: "skipped", MatchedID: orNull(o.MatchedID), Similarity: &o.Similarity, Reason: orNull(o.Reason)}
		if o.MatchedIndex >= 0 {
			rows[i].MatchedIndex = &o.MatchedIndex
		}
	}
	return rows
}

// KnowledgeTarget is the part of a query that names the owner of the knowledge.
type KnowledgeTarget struct {
	AgentID identity.AgentID `query:"agentId" absent:"name a swarm instead" doc:"Target agent. If the agent belongs to a swarm, the request applies to the swarm's knowledge."`
	SwarmID identity.SwarmID `query:"swarmId" absent:"name an agent instead" doc:"Target swarm. Provide either swarmId or agentId."`
}

func (t KnowledgeTarget) target() knowledge.Target {
	return knowledge.Target{AgentID: t.AgentID, SwarmID: t.SwarmID}
}

type listKnowledgeInput struct {
	KnowledgeTarget
	Source string `query:"source" absent:"list the entries of every source" doc:"Only entries of this source, with the metadata that it gave them."`
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"100" doc:"Maximum number of entries."`
	Offset string `query:"offset" absent:"begin with the first page" doc:"Pagination cursor: nextOffset of the previous page."`
}

func (s *Server) listKnowledge(ctx context.Context, who access.Principal, in *listKnowledgeInput) (*cursorReply[client.KnowledgeEntry], error) {
	p, err := s.knowledge.List(ctx, who.AccountID, knowledge.ListRequest{Target: in.target(), Source: in.Source, Limit: in.Limit, Offset: in.Offset})
	if err != nil {
		return nil, err
	}
	rows := make([]client.KnowledgeEntry, len(p.Entries))
	for i, e := range p.Entries {
		rows[i] = entryJSON(e)
	}
	return cursorPage(rows, p.Next), nil
}

type deleteKnowledgeInput struct {
	KnowledgeTarget
	Source  string `query:"source" doc:"Delete all entries of this source. Texts that other sources have too stay theirs."`
	EntryID string `query:"id" doc:"Delete one entry."`
	All     string `query:"all" enum:"true,false" doc:"Delete all entries; needs confirm=true."`
	Confirm string `query:"confirm" enum:"true,false" doc:"Must be true to delete all entries."`
}

func (s *Server) deleteKnowledge(ctx context.Context, who access.Principal, in *deleteKnowledgeInput) (*reply[client.KnowledgeDeleted], error) {
	n, err := s.knowledge.Delete(ctx, who.Actor(), knowledge.DeleteRequest{
		Target: in.target(), Source: in.Source, ID: in.EntryID, All: in.All == "true", Confirm: in.Confirm == "true",
	})
	if err != nil {
		return nil, err
	}
	return one(client.KnowledgeDeleted{Deleted: true, Count: n}), nil
}

type searchKnowledgeInput struct {
	KnowledgeTarget
	Question string `query:"q" required:"true" bounds:"1..2000" doc:"The question."`
	Limit    int    `query:"limit" default:"10" minimum:"1" maximum:"50" doc:"Maximum number of entries."`
}

func (s *Server) searchKnowledge(ctx context.Context, who access.Principal, in *searchKnowledgeInput) (*reply[[]client.KnowledgeFound], error) {
	found, err := s.knowledge.Search(ctx, who.AccountID, knowledge.SearchRequest{Target: in.target(), Query: in.Question, Limit: in.Limit})
	if err != nil {
		return nil, err
	}
	rows := make([]client.KnowledgeFound, len(found))
	for i, f := range found {
		rows[i] = client.KnowledgeFound{KnowledgeEntry: entryJSON(f.Entry), Score: f.Score, Reason: string(f.Reason)}
		if f.Reason != knowledge.ByText {
			rows[i].Similarity = &f.Similarity
		}
	}
	return one(rows), nil
}

func entryJSON(e knowledge.Entry) client.KnowledgeEntry {
	return client.KnowledgeEntry{
		ID: e.ID, Text: e.Text, Source: e.Source, Type: orNull(e.Type()), Metadata: e.Metadata,
		CreatedAt: client.Time{Time: e.CreatedAt}, UpdatedAt: client.Time{Time: e.UpdatedAt},
	}
}

// EntryID is the part of a path that names an entry.
type EntryID struct {
	EntryID string `path:"entryId" doc:"Id of the entry, a UUID." example:"0198c3b2-5d7e-7a10-9c4f-2b1d3e5f7a90"`
}

type getKnowledgeEntryInput struct {
	EntryID
	KnowledgeTarget
}

func (s *Server) getKnowledgeEntry(ctx context.Context, who access.Principal, in *getKnowledgeEntryInput) (*reply[client.KnowledgeDetails], error) {
	d, err := s.knowledge.Get(ctx, who.AccountID, in.target(), in.EntryID.EntryID)
	if err != nil {
		return nil, err
	}
	return one(entryDetailsJSON(d)), nil
}

type editKnowledgeInput struct {
	EntryID
	KnowledgeTarget
	Body client.KnowledgeChange
}

func (s *Server) editKnowledge(ctx context.Context, who access.Principal, in *editKnowledgeInput) (*reply[client.KnowledgeDetails], error) {
	d, err := s.knowledge.Edit(ctx, who.Actor(), knowledge.EditRequest{Target: in.target(), ID: in.EntryID.EntryID, Text: in.Body.Text, Source: in.Body.Source, Metadata: in.Body.Metadata})
	if err != nil {
		return nil, err
	}
	return one(entryDetailsJSON(d)), nil
}

func entryDetailsJSON(d knowledge.Details) client.KnowledgeDetails {
	out := client.KnowledgeDetails{KnowledgeEntry: entryJSON(d.Entry), Sources: []client.KnowledgeSourceOf{{Source: d.Source, Metadata: d.Metadata}}}
	for _, f := range d.Further {
		out.Sources = append(out.Sources, client.KnowledgeSourceOf{Source: f.Source, Metadata: f.Metadata})
	}
	return out
}

func (s *Server) knowledgeBases(ctx context.Context, who access.Principal, _ *struct{}) (*reply[[]client.KnowledgeBase], error) {
	all, err := s.knowledge.Bases(ctx, who.AccountID)
	if err != nil {
		return nil, err
	}
	rows := make([]client.KnowledgeBase, len(all))
	for i, b := range all {
		rows[i] = client.KnowledgeBase{AgentID: orNull(string(b.AgentID)), SwarmID: orNull(string(b.SwarmID)), Entries: b.Entries, Bytes: b.Bytes}
	}
	return one(rows), nil
}

type knowledgeSourcesInput struct {
	KnowledgeTarget
	Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"100" doc:"Maximum number of sources."`
	Offset string `query:"offset" absent:"begin with the first page" doc:"Pagination cursor: nextOffset of the previous page."`
}

func (s *Server) knowledgeSources(ctx context.Context, who access.Principal, in *knowledgeSourcesInput) (*cursorReply[client.KnowledgeSource], error) {
	all, more, err := s.knowledge.Sources(ctx, who.AccountID, knowledge.SourceRequest{Target: in.target(), Limit: in.Limit, After: in.Offset})
	if err != nil {
		return nil, err
	}
	rows := make([]client.KnowledgeSource, len(all))
	next := ""
	for i, v := range all {
		rows[i] = client.KnowledgeSource{Source: v.Name, Entries: v.Entries}
	}
	if more {
		next = all[len(all)-1].Name
	}
	return cursorPage(rows, next), nil
}
