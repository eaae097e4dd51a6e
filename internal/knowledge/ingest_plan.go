package knowledge

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/google/uuid"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/knowledge/index"
)

// ingestPlan is the set of changes that an ingest will make.
type ingestPlan struct {
	result  IngestResult
	add     []Entry
	vectors [][]float32 // of add
	chunks  []int       // the index of the chunk that each entry of add comes from
	update  []Entry     // entries whose metadata changes
	remove  []Entry
}

// planIngest compares the chunks with the scope and with each other. It only reads,
// because the index must not see changes that may still be rolled back.
func (s *Service) planIngest(ctx context.Context, tx *database.Tx, space vectorSpace, in IngestRequest, vectors [][]float32) (*ingestPlan, error) {
	p := &ingestPlan{}
	kept := map[string]Entry{} // by source and text
	if in.ReplaceSource {
		old, err := entriesBy(ctx, tx, space, "source", in.sources())
		if err != nil {
			return nil, fmt.Errorf("read the sources: %w", err)
		}
		kept = p.replaceSources(old, in.Chunks)
	}
	claims := make([]string, len(in.Chunks))
	for i, c := range in.Chunks {
		claims[i] = normalizedClaim(c.Text)
	}
	duplicates, err := s.findDuplicates(ctx, tx, space, vectors, claims, p.remove)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	for i, c := range in.Chunks {
		o := Outcome{MatchedIndex: -1}
		if e, ok := kept[c.key()]; ok {
			o.MatchedID, o.Similarity = e.ID, 1
			if !reflect.DeepEqual(roundTrip(c.Metadata), e.Metadata) {
				e.Metadata, e.UpdatedAt = c.Metadata, now
				p.update = append(p.update, e)
			}
		} else if d := duplicates[i]; d.entryID != "" {
			o.MatchedID, o.Similarity = d.entryID, d.cosine
		} else if j, cosine := p.findAdded(claims, vectors, i); j >= 0 {
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
		p.result.Outcomes = append(p.result.Outcomes, o)
	}
	p.result.Stored, p.result.Deleted = len(p.add), len(p.remove)
	p.result.Skipped = len(in.Chunks) - len(p.add)
	return p, nil
}

// replaceSources removes the old entries whose source and text no chunk has, and
// those that occur twice. It returns the entries that stay, by source and text.
func (p *ingestPlan) replaceSources(old []Entry, chunks []Chunk) map[string]Entry {
	replacing := map[string]bool{}
	for _, c := range chunks {
		replacing[c.key()] = true
	}
	kept := map[string]Entry{}
	for _, e := range old {
		key := Chunk{Text: e.Text, Source: e.Source}.key()
		if _, twice := kept[key]; replacing[key] && !twice {
			kept[key] = e
		} else {
			p.remove = append(p.remove, e)
		}
	}
	return kept
}

// key identifies a chunk's source and text.
func (c Chunk) key() string { return c.Source + "\x00" + c.Text }

// roundTrip returns metadata as it is read back after it was stored.
func roundTrip(m map[string]any) map[string]any {
	if len(m) == 0 {
		return nil
	}
	var back map[string]any
	if b, err := json.Marshal(m); err != nil || json.Unmarshal(b, &back) != nil {
		return m
	}
	return back
}

// duplicate is an entry that a chunk duplicates. The zero duplicate means none.
type duplicate struct {
	entryID string
	cosine  float64
}

// findDuplicates returns, for each chunk, the nearest entry above the threshold that
// has the same normalized claim. Entries in except, which are about to be removed,
// do not count.
func (s *Service) findDuplicates(ctx context.Context, tx *database.Tx, space vectorSpace, vectors [][]float32, claims []string, except []Entry) ([]duplicate, error) {
	found, err := s.index.Above(ctx, tx, space, vectors, duplicateCosine)
	if err != nil {
		return nil, fmt.Errorf("find duplicates: %w", err)
	}
	candidates, err := duplicateCandidates(ctx, tx, space, found, claims)
	if err != nil {
		return nil, err
	}
	for _, e := range except {
		delete(candidates, e.seq)
	}
	all := make([]duplicate, len(vectors))
	for i, matches := range found {
		for _, m := range matches {
			if c, ok := candidates[m.seq]; ok && c.claim == claims[i] {
				all[i] = duplicate{c.id, m.cosine}
				break
			}
		}
	}
	return all, nil
}

// candidate is an entry that may be a duplicate of a chunk.
type candidate struct{ id, claim string }

// duplicateCandidates reads the matched entries and returns, by seq, those whose
// normalized claim is one of the claims. If all texts of a scope follow one template,
// every entry of the scope is a match: each is therefore read once, and its claim is
// kept only if a chunk has it too.
func duplicateCandidates(ctx context.Context, q database.Reader, space vectorSpace, found [][]match, claims []string) (map[int64]candidate, error) {
	var seqs []int64
	for _, matches := range found {
		for _, m := range matches {
			seqs = append(seqs, m.seq)
		}
	}
	slices.Sort(seqs)
	candidates := map[int64]candidate{}
	for part := range slices.Chunk(slices.Compact(seqs), maxInList) {
		entries, err := entriesBy(ctx, q, space, "seq", part)
		if err != nil {
			return nil, fmt.Errorf("read duplicate candidates: %w", err)
		}
		for _, e := range entries {
			if claim := normalizedClaim(e.Text); slices.Contains(claims, claim) {
				candidates[e.seq] = candidate{e.ID, claim}
			}
		}
	}
	return candidates, nil
}

// findAdded returns the index in p.add of the entry that chunk i duplicates, or -1.
func (p *ingestPlan) findAdded(claims []string, vectors [][]float32, i int) (int, float64) {
	for j, chunk := range p.chunks {
		if claims[i] != claims[chunk] {
			continue
		}
		if cosine := float64(index.Dot(vectors[i], vectors[chunk])); cosine >= duplicateCosine {
			return j, cosine
		}
	}
	return -1, 0
}

// write makes the planned changes. New entries get the seqs after lastSeq.
func (p *ingestPlan) write(ctx context.Context, tx *database.Tx, space vectorSpace, lastSeq int64) error {
	for part := range slices.Chunk(p.remove, maxInList) {
		ids := make([]string, len(part))
		for i, e := range part {
			ids[i] = e.ID
		}
		if _, err := deleteEntries(ctx, tx, space, "id", ids); err != nil {
			return err
		}
	}
	for _, e := range p.update {
		if err := setMetadata(ctx, tx, space.account, e.ID, e.Metadata, e.UpdatedAt); err != nil {
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
	if err := insertEntries(ctx, tx, space, p.add); err != nil {
		return fmt.Errorf("insert entries: %w", err)
	}
	if err := insertVectors(ctx, tx, space, p.add, p.vectors); err != nil {
		return err
	}
	if err := setLastSeq(ctx, tx, space.account, space.scope, lastSeq); err != nil {
		return fmt.Errorf("set the last seq: %w", err)
	}
	return setCoverage(ctx, tx, space, lastSeq)
}
