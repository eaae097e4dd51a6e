package quality

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/knowledge"
	"agento.host/agento/internal/knowledge/embed"
)

const account identity.AccountID = "acct_quality"

var target = knowledge.Target{AgentID: "agent"}

// oneAgent implements knowledge.Agents with a single agent, which is in no swarm.
type oneAgent struct{}

// SwarmOf implements knowledge.Agents.
func (oneAgent) SwarmOf(context.Context, database.Reader, identity.AccountID, identity.AgentID) (identity.SwarmID, error) {
	return "", nil
}

// CheckStaged implements knowledge.Agents.
func (oneAgent) CheckStaged(context.Context, database.Reader, identity.AccountID, identity.AgentID) error {
	return nil
}

// base is a knowledge base of agento that contains the texts of a set.
type base struct {
	service *knowledge.Service
	ids     []string // of the entries, by text
}

func newBase(t *testing.T, e embed.Embedder, texts []string) *base {
	t.Helper()
	db := databasetest.New(t)
	b := &base{service: knowledge.New(knowledge.Settings{
		DB: db, Events: event.NewLog(db), Scopes: knowledge.NewScopes(db, oneAgent{}, nil), Embedder: e, Log: slog.New(slog.DiscardHandler),
	})}
	for batch := range slices.Chunk(texts, knowledge.MaxChunks) {
		in := knowledge.IngestRequest{Target: target}
		for _, text := range batch {
			in.Chunks = append(in.Chunks, knowledge.Chunk{Text: text, Source: "set"})
		}
		done, err := b.service.Ingest(t.Context(), identity.BySystem(account), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range done.Outcomes {
			b.ids = append(b.ids, cmp.Or(o.ID, o.MatchedID))
		}
	}
	return b
}

// search returns the answer of the search to a question, and the part of it that was
// found by meaning, most similar first.
func (b *base) search(ctx context.Context, query string) (fused, byVector []knowledge.SearchResult, err error) {
	fused, err = b.service.Search(ctx, account, knowledge.SearchRequest{Target: target, Query: query, Limit: knowledge.MaxSearch})
	byVector = slices.DeleteFunc(slices.Clone(fused), func(f knowledge.SearchResult) bool { return f.Reason == knowledge.ByText })
	slices.SortStableFunc(byVector, func(x, y knowledge.SearchResult) int { return cmp.Compare(y.Similarity, x.Similarity) })
	return fused, byVector, err
}

// rank returns the position of a text in a list of entries, or -1.
func (b *base) rank(found []knowledge.SearchResult, text int) int {
	return slices.IndexFunc(found, func(f knowledge.SearchResult) bool { return f.ID == b.ids[text] })
}
