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
	lastSeq int64    // of the scope, when it was read
	matched []string // the ids of the entries that result relies on
	add     []Entry
	vectors [][]float32 // of add
	chunks  []int       // the index of the chunk that each entry of add comes from
	update  []Entry     // entries whose metadata changes
	shares  []Entry     // entries as further sources have them, which are new or whose metadata changes
	remove  []Entry     // entries that their source loses
}

// planIngest compares the chunks with the committed entries of the scope and with each
// other. It needs no lock: the writer checks that the scope has not changed meanwhile.
func (s *Service) planIngest(ctx context.Context, space vectorSpace, in IngestRequest, vectors [][]float32) (*ingestPlan, error) {
	p := &ingestPlan{}
	if space.scope != 0 {
		last, err := lastSeq(ctx, s.db, space.account, space.scope)
		if err != nil {
			return nil, fmt.Errorf("read the last seq: %w", err)
		}
		p.lastSeq = last
	}
	kept := map[string]Entry{} // by source and text
	if in.ReplaceSource {
		var err error
		if kept, err = p.replaceSources(ctx, s.db, space, in); err != nil {
			return nil, fmt.Errorf("read the sources: %w", err)
		}
	}
	claims := make([]string, len(in.Chunks))
	for i, c := range in.Chunks {
		claims[i] = normalizedClaim(c.Text)
	}
	duplicates, err := s.findDuplicates(ctx, space, vectors, claims, p.remove)
	if err != nil {
		return nil, err
	}
	owners, err := ownersOf(ctx, s.db, space, duplicates)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	for i, c := range in.Chunks {
		o := Outcome{MatchedIndex: -1}
		if e, ok := kept[sourceKey(c.Source, c.Text)]; ok {
			o.MatchedID, o.Similarity, o.MatchedText, o.MatchedSource = e.ID, 1, e.Text, e.Source
			p.matched = append(p.matched, e.ID)
			p.changeMetadata(e, c.Metadata, now)
		} else if d, ok := owners.choose(duplicates[i], c.Source); ok {
			o.MatchedID, o.Similarity, o.MatchedText, o.MatchedSource = d.id, d.cosine, d.text, d.source
			p.matched = append(p.matched, d.id)
			p.share(owners, d.id, c, now)
		} else if j, cosine := p.findAdded(owners, claims, vectors, in.Chunks, i); j >= 0 {
			o.MatchedID, o.MatchedIndex, o.Similarity, o.MatchedText, o.MatchedSource = p.add[j].ID, p.chunks[j], cosine, p.add[j].Text, p.add[j].Source
			p.share(owners, p.add[j].ID, c, now)
		} else {
			id, err := uuid.NewV7()
			if err != nil {
				return nil, err
			}
			o.Stored, o.ID = true, id.String()
			p.add = append(p.add, Entry{ID: o.ID, Text: c.Text, Source: c.Source, Metadata: c.Metadata, CreatedAt: now, UpdatedAt: now})
			p.vectors = append(p.vectors, vectors[i])
			p.chunks = append(p.chunks, i)
			owners[o.ID] = []string{c.Source}
		}
		if in.Explain && !o.Stored {
			o.Reason = skipReason(c.Text, o.MatchedText)
		}
		p.result.Outcomes = append(p.result.Outcomes, o)
	}
	p.result.Stored, p.result.Deleted = len(p.add), len(p.remove)
	p.result.Skipped = len(in.Chunks) - len(p.add)
	return p, nil
}

// recognize corrects the result for chunks that an earlier try of the same ingest has
// stored: they are in the scope now.
func (p *ingestPlan) recognize(stored map[string]int) {
	for i := range p.result.Outcomes {
		o := &p.result.Outcomes[i]
		chunk, ours := stored[o.MatchedID]
		switch {
		case !ours || o.Stored:
		case chunk == i:
			*o = Outcome{Stored: true, ID: o.MatchedID, MatchedIndex: -1}
			p.result.Stored, p.result.Skipped = p.result.Stored+1, p.result.Skipped-1
		default:
			o.MatchedIndex = chunk
		}
	}
}

// sourcePage is how many entries of the replaced sources are read at once.
const sourcePage = 200

// replaceSources plans to remove the old entries of the request's sources whose source and
// text no chunk has, and those that occur twice. It returns the entries that stay, by
// source and text.
func (p *ingestPlan) replaceSources(ctx context.Context, q database.Reader, space vectorSpace, in IngestRequest) (map[string]Entry, error) {
	replacing := map[string]bool{}
	for _, c := range in.Chunks {
		replacing[sourceKey(c.Source, c.Text)] = true
	}
	kept := map[string]Entry{}
	for after := (Entry{}); ; {
		page, err := entriesOfSources(ctx, q, space, in.sources(), after, sourcePage)
		if err != nil {
			return nil, err
		}
		further, err := furtherSources(ctx, q, space, ids(page))
		if err != nil {
			return nil, err
		}
		for _, e := range page {
			e.shared, e.further = len(further[e.ID]) > 0, slices.Contains(further[e.ID], e.Source)
			key := sourceKey(e.Source, e.Text)
			if _, twice := kept[key]; replacing[key] && !twice {
				kept[key] = e
			} else {
				p.remove = append(p.remove, e)
			}
		}
		if len(page) < sourcePage {
			return kept, nil
		}
		after = page[len(page)-1]
	}
}

// roundTrip returns metadata as it is read back after it was stored.
func roundTrip(m map[string]any) map[string]any {
	if len(m) == 0 {
		return nil
	}
	var back map[string]any
	if b, err := json.Marshal(m); err != nil || database.DecodeJSON(string(b), &back) != nil {
		return m
	}
	return back
}

// changeMetadata plans that an entry gets other metadata, if it is other.
func (p *ingestPlan) changeMetadata(e Entry, metadata map[string]any, now time.Time) {
	if reflect.DeepEqual(roundTrip(metadata), e.Metadata) {
		return
	}
	e.Metadata, e.UpdatedAt = metadata, now
	if e.further {
		p.shares = append(p.shares, e)
	} else {
		p.update = append(p.update, e)
	}
}

// duplicate is an entry that a chunk duplicates.
type duplicate struct {
	candidate
	cosine float64
}

// findDuplicates returns, for each chunk, the entries above the threshold that have the
// same normalized claim, nearest first. Entries in except that only one source has, and
// which are therefore about to be deleted, do not count.
func (s *Service) findDuplicates(ctx context.Context, space vectorSpace, vectors [][]float32, claims []string, except []Entry) ([][]duplicate, error) {
	found, err := s.index.Above(ctx, s.db, space, vectors, duplicateCosine)
	if err != nil {
		return nil, fmt.Errorf("find duplicates: %w", err)
	}
	candidates, err := duplicateCandidates(ctx, s.db, space, found, claims)
	if err != nil {
		return nil, err
	}
	for _, e := range except {
		if !e.shared {
			delete(candidates, e.seq)
		}
	}
	all := make([][]duplicate, len(vectors))
	for i, matches := range found {
		for _, m := range matches {
			if c, ok := candidates[m.seq]; ok && c.claim == claims[i] { //nolint:gosec // there is one of found for each vector
				all[i] = append(all[i], duplicate{c, m.cosine})
			}
		}
	}
	return all, nil
}

// candidate is an entry that may be a duplicate of a chunk.
type candidate struct{ id, source, text, claim string }

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
				candidates[e.seq] = candidate{e.ID, e.Source, e.Text, claim}
			}
		}
	}
	return candidates, nil
}

// findAdded returns the index in p.add of the entry that chunk i duplicates, or -1.
func (p *ingestPlan) findAdded(owners belongings, claims []string, vectors [][]float32, in []Chunk, i int) (int, float64) {
	for j, chunk := range p.chunks {
		if claims[i] != claims[chunk] || !owners.accepts(p.add[j].ID, in[i].Source) {
			continue
		}
		if cosine := float64(index.Dot(vectors[i], vectors[chunk])); cosine >= duplicateCosine {
			return j, cosine
		}
	}
	return -1, 0
}
