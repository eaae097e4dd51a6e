// Package knowledge stores the texts that agents search. It embeds, deduplicates,
// lists, deletes and searches them. A knowledge base belongs to one agent or to a
// swarm.
package knowledge

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/knowledge/embed"
)

// The limits of the API contract, in chunks, characters and entries.
const (
	MaxChunks     = 100
	MaxText       = 4000
	MaxSource     = 1000
	MaxMetadata   = 16 << 10 // bytes of JSON
	MaxQuery      = 2000
	MaxList       = 100
	DefaultList   = 50
	MaxSearch     = 50
	DefaultSearch = 10
)

// duplicateCosine is the cosine similarity from which the API contract counts two
// texts as duplicates.
const duplicateCosine = 0.95

// Entry is one stored text.
type Entry struct {
	ID        string
	Text      string
	Source    string         // the first, unless the entry was listed by another
	Metadata  map[string]any // nil: none
	CreatedAt time.Time
	UpdatedAt time.Time

	number int64 // row number, which the full-text index uses
	seq    int64 // position in its scope

	shared  bool // it has further sources; set by replaceSources
	further bool // Source is one of them; set by replaceSources
}

// Type returns the entry's metadata.type, or "" if it is not a string.
func (e Entry) Type() string {
	s, _ := e.Metadata["type"].(string)
	return s
}

// Settings of a Service. IndexMemory and IndexIdle are optional. A service that
// only re-embeds needs no Scopes.
type Settings struct {
	DB       *database.DB
	Events   *event.Log
	Scopes   Scopes
	Embedder embed.Embedder
	Quota    Quota // nil: no limit
	Log      *slog.Logger

	// IndexMemory is the most memory, in bytes, that cached vectors may use.
	// 0 means 512 MiB, which is enough for two million entries of the built-in model.
	IndexMemory int64
	// IndexIdle is how long the vectors of an unused scope stay in memory.
	// 0 means ten minutes.
	IndexIdle time.Duration
}

// Quota limits what accounts store.
type Quota interface {
	// CheckStorage returns nil if the account may store so many bytes more.
	// Faults: PlanLimit.
	CheckStorage(ctx context.Context, q database.Reader, account identity.AccountID, more int64) error
}

// Service ingests, lists, deletes and searches knowledge.
type Service struct {
	db       *database.DB
	events   *event.Log
	scopes   Scopes
	embedder embed.Embedder
	quota    Quota
	log      *slog.Logger
	index    Index

	embeds *budget.Budget // calls of the embedder for ingests; holders are accounts
	bases  *budget.Budget // changes of a knowledge base; holders are the bases
	turns  *budget.Budget // changes of any; holders are accounts
}

const (
	// turnWait is how long a request waits for its turn to change a knowledge base.
	turnWait = time.Minute
	// maxTurns is how many knowledge bases are changed at the same time. Their comparisons
	// use the processor, their writes take turns anyway.
	maxTurns = 2
	// maxEmbeds is how many ingests are embedded at the same time, half of them of one
	// account.
	maxEmbeds = 4
)

// New returns a service. Run does its background work.
func New(s Settings) *Service {
	if s.IndexMemory == 0 {
		s.IndexMemory = 512 << 20
	}
	if s.IndexIdle == 0 {
		s.IndexIdle = 10 * time.Minute
	}
	return &Service{
		db: s.DB, events: s.Events, scopes: s.Scopes, embedder: s.Embedder, quota: s.Quota, log: s.Log,
		index: newExactIndex(s.IndexMemory, s.IndexIdle),
		embeds: budget.New(budget.Settings{
			Resource: "embedding", Total: maxEmbeds, Each: maxEmbeds / 2, Wait: turnWait, Log: s.Log, Refusal: "This account ingests too much at once. Send one request after the other.",
		}),
		bases: budget.New(budget.Settings{
			Resource: "a knowledge base", Each: 1, Wait: turnWait, Log: s.Log, Refusal: "Too many requests change this knowledge base. Send one after the other.",
		}),
		turns: budget.New(budget.Settings{
			Resource: "turns to change knowledge", Total: maxTurns, Wait: turnWait, Log: s.Log,
		}),
	}
}

// Run embeds the entries that have no vector of the service's embedder yet, such as
// those stored before it was configured, and frees the memory of unused vectors. It
// returns when ctx ends. Searches work meanwhile: entries without a vector are found
// by their words.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		if _, err := s.Reembed(ctx, s.embedder, nil); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "embedding knowledge failed; retrying in a minute", "model", s.embedder.Name(), "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			s.index.EvictIdle(now)
		}
	}
}

// resolve returns the scope of a target and the vector space to search in it.
// Faults: Invalid, NotFound.
func (s *Service) resolve(ctx context.Context, account identity.AccountID, t Target) (Scope, vectorSpace, error) {
	scope, err := s.scopes.Resolve(ctx, account, t)
	if err != nil {
		return Scope{}, vectorSpace{}, err
	}
	space, err := s.vectorSpace(ctx, account, scope)
	return scope, space, err
}

// resolveStored is resolve for calls that read or delete. It also finds the
// knowledge of a swarm that was deleted when no agent was in it: such knowledge
// can be read and deleted under the swarm's id, but not added to.
func (s *Service) resolveStored(ctx context.Context, account identity.AccountID, t Target) (Scope, vectorSpace, error) {
	scope, space, err := s.resolve(ctx, account, t)
	if t.SwarmID == "" || !fault.Is(err, fault.NotFound) {
		return scope, space, err
	}
	scope = SwarmScope(t.SwarmID)
	space, spaceErr := s.vectorSpace(ctx, account, scope)
	if spaceErr != nil {
		return Scope{}, vectorSpace{}, spaceErr
	}
	if has, hasErr := hasEntries(ctx, s.db, space); hasErr != nil {
		return Scope{}, vectorSpace{}, hasErr
	} else if !has {
		return Scope{}, vectorSpace{}, err
	}
	return scope, space, nil
}

// vectorSpace identifies the vectors that one model made of the entries of one
// scope. Only vectors of one space are compared.
type vectorSpace struct {
	account   identity.AccountID
	scope     int64 // number of the scope; 0 if nothing was ever stored in it
	model     string
	dimension int
}

func (s *Service) vectorSpace(ctx context.Context, account identity.AccountID, scope Scope) (vectorSpace, error) {
	number, err := scopeNumber(ctx, s.db, account, scope)
	if err != nil {
		return vectorSpace{}, fmt.Errorf("find the knowledge of %s %s: %w", scope.kind, scope.id, err)
	}
	return vectorSpace{account, number, s.embedder.Name(), s.embedder.Dimension()}, nil
}
