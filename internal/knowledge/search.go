package knowledge

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
)

// Search is a question to the knowledge of an agent or a swarm. A Limit of 0 is 10.
type Search struct {
	Target
	Query string
	Limit int
}

// Reason says what found an entry.
type Reason string

// An entry is found by its words, by its meaning, or by both.
const (
	ByText   Reason = "text"
	ByVector Reason = "vector"
	ByBoth   Reason = "both"
)

// Found is an entry that answers a search.
type Found struct {
	Entry
	Score      float64 // from 0 to 1: 1 is first by meaning and by words, and has all of these
	Reason     Reason
	Similarity float64 // cosine to the query; 0 if meaning did not find it
}

// The two searches are fused by reciprocal rank: an entry scores 1/(10+rank) in
// each of which it is among the first 50. The usual 60 did a little worse on every
// evaluation set (embed/eval): it hardly tells the first from the fifth. What has all
// words of the question counts half as much again as what is as near in meaning; what
// has only some of them counts so much less: an entry that shares one
// word by chance would otherwise stand beside the one that answers.
const (
	fuseRank  = 10
	fuseDepth = 50
	fuseText  = 1.5
)

// leastShare of the best similarity is what else must have to count as found: the
// nearest of all entries are always some, also where only one is about the query.
const leastShare = 0.4

// Search returns the entries that answer best, by their words (full text) and by
// their meaning (vectors), best first. An agent in a swarm searches what it stored
// by itself before it joined as well. Faults: Invalid, NotFound; Upstream and
// UpstreamTimeout if the embedder fails and no word matches either.
func (s *Service) Search(ctx context.Context, accountID string, in Search) ([]Found, error) {
	fields := fault.Fields{}
	if in.Limit == 0 {
		in.Limit = DefaultSearch
	}
	if in.Limit < 1 || in.Limit > MaxSearch {
		fields.Add("limit", "must be from 1 to %d", MaxSearch)
	}
	in.Query = strings.TrimSpace(in.Query)
	if n := utf8.RuneCountInString(in.Query); n < 1 || n > MaxQuery {
		fields.Add("q", "must have 1 to %d characters", MaxQuery)
	}
	if err := fields.Err(); err != nil {
		return nil, err
	}
	spaces, err := s.searched(ctx, accountID, in.Target)
	if err != nil {
		return nil, err
	}
	byText, err := matchText(ctx, s.DB, accountID, spaces, in.Query, fuseDepth)
	if err != nil {
		return nil, fmt.Errorf("search the text: %w", err)
	}
	byVector, err := s.nearest(ctx, spaces, in.Query)
	if err != nil {
		if len(byText) == 0 || ctx.Err() != nil {
			return nil, err
		}
		// Half an answer is better than none while an embedding service is down.
		s.Log.WarnContext(ctx, "search by words alone", "error", err)
	}
	return fuse(byText, byVector, in.Limit), nil
}

// searched returns the spaces that a target's search covers.
func (s *Service) searched(ctx context.Context, accountID string, t Target) ([]space, error) {
	scope, sp, err := s.resolve(ctx, accountID, t, true)
	if err != nil {
		return nil, err
	}
	all := []space{sp}
	if own := (Scope{Agent, t.AgentID}); t.AgentID != "" && scope != own {
		ownSpace, err := s.space(ctx, accountID, own)
		if err != nil {
			return nil, err
		}
		all = append(all, ownSpace)
	}
	return slices.DeleteFunc(all, func(sp space) bool { return sp.number == 0 }), nil
}

// nearest returns the entries nearest in meaning, best first.
func (s *Service) nearest(ctx context.Context, spaces []space, query string) ([]Found, error) {
	if len(spaces) == 0 {
		return nil, nil
	}
	vectors, err := s.embed(ctx, []string{query})
	if err != nil {
		return nil, err
	}
	var all []Found
	for _, sp := range spaces {
		matches, err := s.index.Nearest(ctx, s.DB, sp, vectors[0], fuseDepth)
		if err != nil {
			return nil, fmt.Errorf("search the vectors: %w", err)
		}
		found, err := withEntries(ctx, s.DB, sp, matches)
		if err != nil {
			return nil, fmt.Errorf("read what was found: %w", err)
		}
		all = append(all, found...)
	}
	slices.SortStableFunc(all, func(a, b Found) int { return cmp.Compare(b.Similarity, a.Similarity) })
	end := slices.IndexFunc(all, func(f Found) bool { return f.Similarity < leastShare*all[0].Similarity })
	if end < 0 {
		end = len(all)
	}
	return all[:min(fuseDepth, end)], nil
}

// withEntries reads the entries of matches with a similarity above 0. Those that
// were deleted meanwhile are left out.
func withEntries(ctx context.Context, q database.Querier, sp space, matches []match) ([]Found, error) {
	seqs := make([]int64, 0, len(matches))
	cosines := make(map[int64]float64, len(matches))
	for _, m := range matches {
		if m.cosine > 0 {
			seqs = append(seqs, m.seq)
			cosines[m.seq] = m.cosine
		}
	}
	entries, err := entriesBy(ctx, q, sp, "seq", seqs)
	all := make([]Found, len(entries))
	for i, e := range entries {
		all[i] = Found{Entry: e, Similarity: cosines[e.seq]}
	}
	return all, err
}

// fuse joins two rankings.
func fuse(byText []textMatch, byVector []Found, limit int) []Found {
	const best = (1 + fuseText) / (fuseRank + 1)
	merged := make(map[string]*Found)
	for i, f := range byVector {
		f.Reason, f.Score = ByVector, 1/float64(fuseRank+i+1)/best
		merged[f.ID] = &f
	}
	for i, m := range byText {
		f := merged[m.ID]
		if f == nil {
			f = &Found{Entry: m.Entry, Reason: ByText}
			merged[m.ID] = f
		} else {
			f.Reason = ByBoth
		}
		f.Score += fuseText * m.share / float64(fuseRank+i+1) / best
	}
	all := make([]Found, 0, len(merged))
	for _, f := range merged {
		all = append(all, *f)
	}
	slices.SortFunc(all, func(a, b Found) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(b.Similarity, a.Similarity), cmp.Compare(a.ID, b.ID))
	})
	return all[:min(limit, len(all))]
}
