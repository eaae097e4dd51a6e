package knowledge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// Chunk is a text to ingest.
type Chunk struct {
	Text     string
	Source   string
	Metadata map[string]any
}

// IngestRequest holds the chunks of one call of Ingest.
type IngestRequest struct {
	Target
	Chunks []Chunk
	// ReplaceSource makes the chunks the whole content of each source that they
	// name: entries of these sources whose text is not among the chunks are deleted, or
	// left to their other sources.
	ReplaceSource bool
	// Explain gives the reason of each chunk that is skipped.
	Explain bool
	// DryRun returns what would change and changes nothing.
	DryRun bool
}

// IngestResult is what an ingest did. Outcomes has one outcome for each chunk, in
// order.
type IngestResult struct {
	Stored, Skipped, Deleted int
	Outcomes                 []Outcome
}

// Outcome is the result of one chunk. It was stored under ID, or skipped because it
// duplicates the entry MatchedID. MatchedIndex is the index of the earlier chunk of
// the same call that became that entry, or -1. A dry run assigns no ids to new chunks.
type Outcome struct {
	Stored       bool
	ID           string
	MatchedID    string
	MatchedIndex int
	Similarity   float64 // cosine; 1 for an identical text
	Reason       string  // why it was skipped, if the request asks

	// MatchedText and MatchedSource are those of what the chunk duplicates.
	MatchedText, MatchedSource string
}

// maxIngestAttempts is how often Ingest starts again because the scope changed
// between reading and writing.
const maxIngestAttempts = 10

// Ingest embeds chunks and stores those that the scope does not have yet. A chunk is
// skipped if an entry of the scope, or an earlier chunk that is stored, has a cosine
// similarity of at least 0.95 to it and the same normalized claim (see normalizedClaim).
// The entry then belongs to the chunk's source, too.
// The write lock is held for a few entries at a time: an ingest that fails half-way has
// stored some, which the next one skips.
// Faults: Invalid; NotFound; PlanLimit, if the account stores too much; Conflict, if the scope keeps changing; RateLimited and
// Unavailable, if too many ingests wait; Upstream and UpstreamTimeout, if the embedder
// fails.
func (s *Service) Ingest(ctx context.Context, actor identity.Actor, in IngestRequest) (IngestResult, error) {
	if err := in.validate(); err != nil {
		return IngestResult{}, err
	}
	if _, err := s.scopes.Resolve(ctx, actor.AccountID, in.Target); err != nil {
		return IngestResult{}, err // before the work of embedding
	}
	vectors, err := s.embedInTurn(ctx, actor.AccountID, in.texts())
	if err != nil {
		return IngestResult{}, err
	}
	stored := map[string]int{}
	for range maxIngestAttempts {
		result, err := s.tryIngest(ctx, actor, in, vectors, stored)
		if !errors.Is(err, errScopeChanged) {
			return result, err
		}
	}
	return IngestResult{}, fault.New(fault.Conflict, "This knowledge base keeps changing. Try again.")
}

func (s *Service) embedInTurn(ctx context.Context, account identity.AccountID, texts []string) ([][]float32, error) {
	release, err := s.embeds.Acquire(ctx, string(account), 1)
	if err != nil {
		return nil, err
	}
	defer release()
	return embedTexts(ctx, s.embedder, texts)
}

// errScopeChanged reports that, since the scope was read, entries were added or deleted
// or the target moved to another scope.
var errScopeChanged = errors.New("the scope has changed")

// tryIngest plans on what is committed and writes the plan, if nothing has changed since.
// stored has the ids of the entries that earlier tries have stored, with their chunks.
// Errors: errScopeChanged.
func (s *Service) tryIngest(ctx context.Context, actor identity.Actor, in IngestRequest, vectors [][]float32, stored map[string]int) (IngestResult, error) {
	scope, space, err := s.resolve(ctx, actor.AccountID, in.Target)
	if err != nil {
		return IngestResult{}, err
	}
	leave, err := s.enter(ctx, actor.AccountID, scope)
	if err != nil {
		return IngestResult{}, err
	}
	defer leave()
	if err := s.embedMissing(ctx, s.embedder, space, nil); err != nil {
		return IngestResult{}, err
	}
	p, err := s.planIngest(ctx, space, in, vectors)
	if err != nil {
		return IngestResult{}, err
	}
	p.recognize(stored)
	if in.DryRun {
		p.result.clearNewIDs()
		return p.result, nil
	}
	if err := s.write(ctx, actor, scope, in, p, stored); err != nil {
		return IngestResult{}, err
	}
	return p.result, nil
}

// enter waits until it is the caller's turn to compare texts with a knowledge base and to
// change it: one at a time for each base and a few for all, in which accounts take turns.
// So no account keeps the others from the processor or from the write lock.
// Faults: RateLimited; Unavailable.
func (s *Service) enter(ctx context.Context, account identity.AccountID, scope Scope) (leave func(), err error) {
	base, err := s.bases.Acquire(ctx, fmt.Sprintf("%s, %s %s", account, scope.kind, scope.id), 1)
	if err != nil {
		return nil, err
	}
	turn, err := s.turns.Acquire(ctx, string(account), 1)
	if err != nil {
		base()
		return nil, err
	}
	return func() { turn(); base() }, nil
}

// lockCurrent locks a scope and checks that it is still the target's and that all of
// its entries are embedded. It returns the last seq assigned in it.
// Errors: errScopeChanged.
func (s *Service) lockCurrent(ctx context.Context, tx *database.Tx, account identity.AccountID, scope Scope, t Target) (vectorSpace, int64, error) {
	number, last, err := lockScope(ctx, tx, account, scope)
	if err != nil {
		return vectorSpace{}, 0, fmt.Errorf("lock the scope: %w", err)
	}
	space := vectorSpace{account, number, s.embedder.Name(), s.embedder.Dimension()}
	if covered, err := coverage(ctx, tx, space); err != nil || covered != last {
		return vectorSpace{}, 0, cmp.Or(err, errScopeChanged)
	}
	// This transaction holds the write lock, so the agent cannot leave its swarm and
	// the swarm cannot be deleted before the ingest is committed.
	if current, err := s.scopes.Resolve(ctx, account, t); err != nil || current != scope {
		return vectorSpace{}, 0, cmp.Or(err, errScopeChanged)
	}
	return space, last, nil
}

// clearNewIDs removes the ids of entries that a dry run did not store.
func (r *IngestResult) clearNewIDs() {
	for i := range r.Outcomes {
		if o := &r.Outcomes[i]; o.Stored {
			o.ID = ""
		} else if o.MatchedIndex >= 0 {
			o.MatchedID = ""
		}
	}
}

func (in IngestRequest) texts() []string {
	texts := make([]string, len(in.Chunks))
	for i, c := range in.Chunks {
		texts[i] = c.Text
	}
	return texts
}

// sources returns the sources that the chunks name, each once, in order.
func (in IngestRequest) sources() []string {
	var all []string
	for _, c := range in.Chunks {
		if !slices.Contains(all, c.Source) {
			all = append(all, c.Source)
		}
	}
	return all
}

func (in IngestRequest) validate() error {
	fields := fault.Fields{}
	if n := len(in.Chunks); n < 1 || n > MaxChunks {
		fields.Add("chunks", "must hold 1 to %d chunks; this call has %d", MaxChunks, n)
		return fields.Err()
	}
	for i, c := range in.Chunks {
		prefix := fmt.Sprintf("chunks[%d].", i)
		checkText(fields, prefix+"text", c.Text, MaxText)
		checkText(fields, prefix+"source", c.Source, MaxSource)
		checkMetadata(fields, prefix+"metadata", c.Metadata)
	}
	return fields.Err()
}

func checkMetadata(fields fault.Fields, name string, m map[string]any) {
	if text, err := encodeMetadata(m); err != nil {
		fields.Add(name, "must be a JSON object")
	} else if len(text) > MaxMetadata {
		fields.Add(name, "must take at most %d bytes as JSON", MaxMetadata)
	} else if strings.Contains(text, `\u0000`) {
		fields.Add(name, "must not contain the character U+0000")
	}
}

func checkText(fields fault.Fields, name, text string, limit int) {
	switch n := utf8.RuneCountInString(text); {
	case fault.IsBlank(text):
		fields.Add(name, "must not be empty")
	case n > limit:
		fields.Add(name, "must have at most %d characters; this one has %d", limit, n)
	case strings.ContainsRune(text, 0) || !utf8.ValidString(text):
		fields.Add(name, "must be UTF-8 text without the character U+0000")
	}
}

func (s *Service) appendEvent(ctx context.Context, tx *database.Tx, actor identity.Actor, scope Scope, kind string, data map[string]any) error {
	return s.events.Append(ctx, tx, actor, event.Event{Topic: scope.topic(), Kind: kind, Data: data})
}
