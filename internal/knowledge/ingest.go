package knowledge

import (
	"agento.host/agento/internal/identity"

	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/knowledge/index"
)

// Chunk is a text to ingest.
type Chunk struct {
	Text     string
	Source   string
	Metadata map[string]any
}

// Ingest says what to store and how.
type Ingest struct {
	Target
	Chunks []Chunk
	// ReplaceSource makes the chunks all there is of each source they name: entries
	// of such a source whose text is not among the chunks are deleted.
	ReplaceSource bool
	// DryRun only says what would happen.
	DryRun bool
}

// Ingested says what became of the chunks; Outcomes are in their order.
type Ingested struct {
	Stored, Skipped, Deleted int
	Outcomes                 []Outcome
}

// Outcome says what became of one chunk. It was stored under ID, or it was skipped
// because of MatchedID, which is an entry or, if MatchedIndex is not -1, came from
// that earlier chunk of the call. A dry run gives new chunks no ids.
type Outcome struct {
	Stored       bool
	ID           string
	MatchedID    string
	MatchedIndex int
	Similarity   float64 // cosine; 1 for the same text
}

// Ingest embeds chunks and stores those that the scope does not have, all in one
// transaction. A chunk is skipped if its cosine to an entry of the scope, or to an
// earlier chunk that is stored, is at least 0.95 and both say the same (see said).
// Faults: Invalid, NotFound; Upstream and UpstreamTimeout if the
// embedder fails.
func (s *Service) Ingest(ctx context.Context, accountID, actor string, in Ingest) (Ingested, error) {
	if err := in.validate(); err != nil {
		return Ingested{}, err
	}
	scope, sp, err := s.resolve(ctx, accountID, in.Target, false)
	if err != nil {
		return Ingested{}, err
	}
	texts := make([]string, len(in.Chunks))
	for i, c := range in.Chunks {
		texts[i] = c.Text
	}
	vectors, err := s.embed(ctx, texts)
	if err != nil {
		return Ingested{}, err
	}
	for range 10 {
		// What the scope lacks is embedded and loaded before the write lock is taken.
		if err := s.fill(ctx, s.Embedder, sp.accountID, sp.number, nil); err != nil {
			return Ingested{}, err
		}
		if err := s.index.Warm(ctx, s.DB, sp); err != nil {
			return Ingested{}, err
		}
		done, err := s.ingestOnce(ctx, accountID, actor, scope, in, vectors)
		if !errors.Is(err, errLookAgain) {
			return done, err
		}
		if scope, sp, err = s.resolve(ctx, accountID, in.Target, false); err != nil {
			return Ingested{}, err
		}
	}
	return Ingested{}, fault.New(fault.Conflict, "This knowledge base keeps changing. Try again.")
}

// errLookAgain: since the last look, entries came in without a vector of this model,
// or the target changed its scope.
var errLookAgain = errors.New("the scope has changed")

// errDryRun undoes the transaction of a dry run.
var errDryRun = errors.New("dry run")

func (s *Service) ingestOnce(ctx context.Context, accountID, actor string, scope Scope, in Ingest, vectors [][]float32) (Ingested, error) {
	var done Ingested
	err := s.DB.Tx(ctx, func(tx *database.Tx) error {
		number, lastSeq, err := openScope(ctx, tx, accountID, scope)
		if err != nil {
			return fmt.Errorf("open the scope: %w", err)
		}
		sp := space{accountID, number, s.Embedder.Name(), s.Embedder.Dimension()}
		if covered, err := coverage(ctx, tx, sp); err != nil || covered != lastSeq {
			return cmp.Or(err, errLookAgain)
		}
		// Nobody writes now, so an agent cannot leave, nor a swarm go, under this ingest.
		if still, err := s.Scopes.Resolve(ctx, accountID, in.AgentID, in.SwarmID); err != nil || still != scope {
			return cmp.Or(err, errLookAgain)
		}
		p, err := s.plan(ctx, tx, sp, in, vectors)
		if err != nil {
			return err
		}
		if done = p.done; in.DryRun {
			return errDryRun
		}
		if err := p.carryOut(ctx, tx, sp, lastSeq); err != nil {
			return err
		}
		return s.tell(ctx, tx, accountID, actor, scope, "knowledge.ingested", map[string]any{
			"stored": done.Stored, "skipped": done.Skipped, "deleted": done.Deleted, "sources": in.sources()})
	})
	if errors.Is(err, errDryRun) {
		for i := range done.Outcomes {
			if o := &done.Outcomes[i]; o.Stored {
				o.ID = ""
			} else if o.MatchedIndex >= 0 {
				o.MatchedID = ""
			}
		}
		err = nil
	}
	if err != nil {
		return Ingested{}, err
	}
	return done, nil
}

// plan is what an ingest will change.
type plan struct {
	done    Ingested
	add     []Entry
	vectors [][]float32 // of add
	chunks  []int       // that add comes from
	update  []Entry     // whose metadata changes
	remove  []Entry
}

// plan compares the chunks with the scope and with each other. It only reads: the
// index must see no changes that may yet be undone.
func (s *Service) plan(ctx context.Context, tx *database.Tx, sp space, in Ingest, vectors [][]float32) (*plan, error) {
	p := &plan{}
	now := time.Now().UTC().Truncate(time.Millisecond)
	kept := map[string]Entry{} // by chunk's source and text
	if in.ReplaceSource {
		old, err := entriesBy(ctx, tx, sp, "source", in.sources())
		if err != nil {
			return nil, fmt.Errorf("read the sources: %w", err)
		}
		wanted := map[string]bool{}
		for _, c := range in.Chunks {
			wanted[c.key()] = true
		}
		for _, e := range old {
			key := Chunk{Text: e.Text, Source: e.Source}.key()
			if _, twice := kept[key]; wanted[key] && !twice {
				kept[key] = e
			} else {
				p.remove = append(p.remove, e)
			}
		}
	}
	says := make([]string, len(in.Chunks))
	for i, c := range in.Chunks {
		says[i] = said(c.Text)
	}
	rivals, err := s.rivals(ctx, tx, sp, vectors, says, p.remove)
	if err != nil {
		return nil, err
	}
	for i, c := range in.Chunks {
		o := Outcome{MatchedIndex: -1}
		if e, ok := kept[c.key()]; ok {
			o.MatchedID, o.Similarity = e.ID, 1
			if !reflect.DeepEqual(normalise(c.Metadata), e.Metadata) {
				e.Metadata, e.UpdatedAt = c.Metadata, now
				p.update = append(p.update, e)
			}
		} else if rival := rivals[i]; rival.id != "" {
			o.MatchedID, o.Similarity = rival.id, rival.cosine
		} else if j, cosine := p.sameAdded(says, vectors, i); j >= 0 {
			o.MatchedID, o.MatchedIndex, o.Similarity = p.add[j].ID, p.chunks[j], cosine
		} else {
			id, err := uuid.NewV7()
			if err != nil {
				return nil, err
			}
			o.Stored, o.ID = true, id.String()
			p.add = append(p.add, Entry{ID: o.ID, Text: c.Text, Source: c.Source, Metadata: c.Metadata, CreatedAt: now, UpdatedAt: now})
			p.vectors = append(p.vectors, vectors[i])
			p.chunks = append(p.chunks, i)
		}
		p.done.Outcomes = append(p.done.Outcomes, o)
	}
	p.done.Stored, p.done.Deleted = len(p.add), len(p.remove)
	p.done.Skipped = len(in.Chunks) - len(p.add)
	return p, nil
}

// rival is an entry that a chunk duplicates; the zero rival is none.
type rival struct {
	id     string
	cosine float64
}

// rivals returns, for each chunk, the nearest entry above the threshold that says
// the same, if there is one, leaving out those that are about to be removed. Of a
// scope whose texts all follow one template every entry is above the threshold, so
// each is read once and what it says is kept only if a chunk says that too.
func (s *Service) rivals(ctx context.Context, tx *database.Tx, sp space, vectors [][]float32, says []string, without []Entry) ([]rival, error) {
	found, err := s.index.Above(ctx, tx, sp, vectors, duplicateCosine)
	if err != nil {
		return nil, fmt.Errorf("look for duplicates: %w", err)
	}
	var seqs []int64
	for _, matches := range found {
		for _, m := range matches {
			seqs = append(seqs, m.seq)
		}
	}
	slices.Sort(seqs)
	ids, saying := map[int64]string{}, map[int64]string{}
	for part := range slices.Chunk(slices.Compact(seqs), 500) {
		some, err := entriesBy(ctx, tx, sp, "seq", part)
		if err != nil {
			return nil, fmt.Errorf("read the duplicates: %w", err)
		}
		for _, e := range some {
			if what := said(e.Text); slices.Contains(says, what) {
				ids[e.seq], saying[e.seq] = e.ID, what
			}
		}
	}
	for _, e := range without {
		delete(ids, e.seq)
	}
	all := make([]rival, len(vectors))
	for i, matches := range found {
		for _, m := range matches {
			if id, ok := ids[m.seq]; ok && saying[m.seq] == says[i] {
				all[i] = rival{id, m.cosine}
				break
			}
		}
	}
	return all, nil
}

// sameAdded returns the added entry that chunk i duplicates, or -1.
func (p *plan) sameAdded(says []string, vectors [][]float32, i int) (int, float64) {
	for j, chunk := range p.chunks {
		if says[i] != says[chunk] {
			continue
		}
		if cosine := float64(index.Dot(vectors[i], vectors[chunk])); cosine >= duplicateCosine {
			return j, cosine
		}
	}
	return -1, 0
}

func (p *plan) carryOut(ctx context.Context, tx *database.Tx, sp space, lastSeq int64) error {
	for part := range slices.Chunk(p.remove, 500) {
		ids := make([]string, len(part))
		for i, e := range part {
			ids[i] = e.ID
		}
		if _, err := removeEntries(ctx, tx, sp, "id", ids); err != nil {
			return err
		}
	}
	for _, e := range p.update {
		if err := setMetadata(ctx, tx, sp.accountID, e.ID, e.Metadata, e.UpdatedAt); err != nil {
			return fmt.Errorf("update entry %s: %w", e.ID, err)
		}
	}
	if len(p.add) == 0 {
		return nil
	}
	for i := range p.add {
		lastSeq++
		p.add[i].seq = lastSeq
	}
	if err := insertEntries(ctx, tx, sp, p.add); err != nil {
		return fmt.Errorf("store entries: %w", err)
	}
	if err := insertVectors(ctx, tx, sp, p.add, p.vectors); err != nil {
		return err
	}
	if err := setLastSeq(ctx, tx, sp.accountID, sp.number, lastSeq); err != nil {
		return fmt.Errorf("number the entries: %w", err)
	}
	return setCoverage(ctx, tx, sp, lastSeq)
}

func (c Chunk) key() string { return c.Source + "\x00" + c.Text }

// sources lists the sources that the chunks name, each once, in order.
func (in Ingest) sources() []string {
	var all []string
	for _, c := range in.Chunks {
		if !slices.Contains(all, c.Source) {
			all = append(all, c.Source)
		}
	}
	return all
}

// normalise gives metadata the form in which it is read back.
func normalise(m map[string]any) map[string]any {
	if len(m) == 0 {
		return nil
	}
	var back map[string]any
	if b, err := json.Marshal(m); err != nil || json.Unmarshal(b, &back) != nil {
		return m
	}
	return back
}

func (in Ingest) validate() error {
	fields := fault.Fields{}
	if n := len(in.Chunks); n < 1 || n > MaxChunks {
		fields.Add("chunks", "must hold 1 to %d chunks; this call has %d", MaxChunks, n)
		return fields.Err()
	}
	for i, c := range in.Chunks {
		at := fmt.Sprintf("chunks[%d].", i)
		checkText(fields, at+"text", c.Text, MaxText)
		checkText(fields, at+"source", c.Source, MaxSource)
		if text, err := metadataText(c.Metadata); err != nil {
			fields.Add(at+"metadata", "must be a JSON object")
		} else if len(text) > MaxMetadata {
			fields.Add(at+"metadata", "must take at most %d bytes as JSON", MaxMetadata)
		} else if strings.Contains(text, `\u0000`) {
			fields.Add(at+"metadata", "must not contain the character U+0000")
		}
	}
	return fields.Err()
}

func checkText(fields fault.Fields, name, text string, longest int) {
	switch n := utf8.RuneCountInString(text); {
	case strings.TrimSpace(text) == "":
		fields.Add(name, "must not be empty")
	case n > longest:
		fields.Add(name, "must have at most %d characters; this one has %d", longest, n)
	case strings.ContainsRune(text, 0) || !utf8.ValidString(text):
		fields.Add(name, "must be UTF-8 text without the character U+0000")
	}
}

// embed returns a vector of length 1 for each text.
func (s *Service) embed(ctx context.Context, texts []string) ([][]float32, error) {
	return embedWith(ctx, s.Embedder, texts)
}

func (s *Service) tell(ctx context.Context, tx *database.Tx, accountID, actor string, scope Scope, kind string, data map[string]any) error {
	return s.Events.Append(ctx, tx, identity.ParseActor(identity.AccountID(accountID), actor), event.Event{Topic: event.Topic(string(scope.Kind) + "/" + scope.ID), Kind: kind, Data: data})
}
