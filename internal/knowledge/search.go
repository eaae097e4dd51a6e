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
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/knowledge/embed"
)

// SearchRequest is a search in the knowledge of an agent or a swarm. A Limit of 0
// means DefaultSearch.
type SearchRequest struct {
	Target
	Query string
	Limit int
}

// Reason is how a search found an entry.
type Reason string

// The reasons.
const (
	ByText   Reason = "text"   // by its words
	ByVector Reason = "vector" // by its meaning
	ByBoth   Reason = "both"
)

// SearchResult is an entry that a search found.
type SearchResult struct {
	Entry
	Score      float64 // from 0 to 1; 1: first by words and by meaning, with all words of the query
	Reason     Reason
	Similarity float64 // cosine to the query; 0 if the entry was not found by meaning
}

// The two rankings are combined by reciprocal rank fusion: an entry scores 1/(10+rank)
// in each ranking whose first 50 it is in. The usual constant of 60 did a little worse
// on every evaluation set (embed/eval), because it hardly distinguishes the first rank
// from the fifth. An entry with all words of the query counts half as much again as
// one of the same rank by meaning. An entry with only some of the words counts
// proportionally less; otherwise one that shares one word by chance would rank beside
// the one that answers the query.
const (
	fusionRank       = 10
	fusionDepth      = 50
	fusionTextWeight = 1.5
)

// The weight of the ranking by meaning is 1 if the model knows at least the share mostKnown of the
// words of a query, and leastTrust up to the share fewKnown: a few words of other languages
// look like words of English.
const (
	mostKnown  = 0.8
	fewKnown   = 0.5
	leastTrust = 0.2
)

// minSimilarityShare is the least similarity of a result found by meaning, as a share
// of the best similarity. Without it a search would always return the nearest entries,
// even if only one of them is about the query.
const minSimilarityShare = 0.4

// Search returns the entries that answer the query best, by their words (full text)
// and by their meaning (vectors), best first. An agent in a swarm searches also its
// own entries from before it joined.
// Faults: Invalid, NotFound; Upstream and UpstreamTimeout, if the embedder fails and
// no entry was found by its words either.
func (s *Service) Search(ctx context.Context, account identity.AccountID, in SearchRequest) ([]SearchResult, error) {
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
	spaces, err := s.searchSpaces(ctx, account, in.Target)
	if err != nil {
		return nil, err
	}
	byText, err := searchText(ctx, s.db, account, spaces, in.Query, s.partCredit(in.Query), fusionDepth)
	if err != nil {
		return nil, fmt.Errorf("search the text: %w", err)
	}
	byVector, err := s.searchVectors(ctx, spaces, in.Query)
	if err != nil {
		if len(byText) == 0 || ctx.Err() != nil {
			return nil, err
		}
		// While an embedding service is down, results by words are better than none.
		s.log.WarnContext(ctx, "searching vectors failed; returning the results by words", "error", err)
	}
	return fuse(byText, byVector, s.trust(in.Query), in.Limit), nil
}

// familiarity returns how far the model has learned the language of a query, from 0 to 1. A
// model that does not say knows every language.
func (s *Service) familiarity(query string) (f float64, told bool) {
	model, ok := s.embedder.(embed.Judge)
	if !ok {
		return 1, false
	}
	return max(0, min(1, (model.Knows(query)-fewKnown)/(mostKnown-fewKnown))), true
}

// trust returns the weight of the ranking by meaning. Of a query in a language that the model
// has not learned, the ranking is little better than chance.
func (s *Service) trust(query string) float64 {
	f, _ := s.familiarity(query)
	return leastTrust + (1-leastTrust)*f
}

// partCredit returns what the parts of a word count. In a language that the model has
// learned, the words that belong together are found by their meaning, and parts are more often
// chance.
func (s *Service) partCredit(query string) float64 {
	if f, told := s.familiarity(query); told {
		return onlyParts * (1 - f/2)
	}
	return onlyParts
}

// searchSpaces returns the non-empty spaces that a search of the target covers.
func (s *Service) searchSpaces(ctx context.Context, account identity.AccountID, t Target) ([]vectorSpace, error) {
	scope, space, err := s.resolveStored(ctx, account, t)
	if err != nil {
		return nil, err
	}
	all := []vectorSpace{space}
	if own := AgentScope(t.AgentID); t.AgentID != "" && scope != own {
		ownSpace, err := s.vectorSpace(ctx, account, own)
		if err != nil {
			return nil, err
		}
		all = append(all, ownSpace)
	}
	return slices.DeleteFunc(all, func(space vectorSpace) bool { return space.scope == 0 }), nil
}

// searchVectors returns the entries nearest to the query in meaning, best first.
func (s *Service) searchVectors(ctx context.Context, spaces []vectorSpace, query string) ([]SearchResult, error) {
	if len(spaces) == 0 {
		return nil, nil
	}
	vectors, err := embedTexts(ctx, s.embedder, []string{query})
	if err != nil {
		return nil, err
	}
	var all []SearchResult
	for _, space := range spaces {
		matches, err := s.index.Nearest(ctx, s.db, space, vectors[0], fusionDepth)
		if err != nil {
			return nil, fmt.Errorf("search the vectors: %w", err)
		}
		results, err := readMatches(ctx, s.db, space, matches)
		if err != nil {
			return nil, fmt.Errorf("read the entries found: %w", err)
		}
		all = append(all, results...)
	}
	slices.SortStableFunc(all, func(a, b SearchResult) int { return cmp.Compare(b.Similarity, a.Similarity) })
	end := slices.IndexFunc(all, func(r SearchResult) bool { return r.Similarity < minSimilarityShare*all[0].Similarity })
	if end < 0 {
		end = len(all)
	}
	return all[:min(fusionDepth, end)], nil
}

// readMatches reads the entries of the matches with a similarity above 0. It skips
// entries that were deleted meanwhile.
func readMatches(ctx context.Context, q database.Reader, space vectorSpace, matches []match) ([]SearchResult, error) {
	seqs := make([]int64, 0, len(matches))
	cosines := make(map[int64]float64, len(matches))
	for _, m := range matches {
		if m.cosine > 0 {
			seqs = append(seqs, m.seq)
			cosines[m.seq] = m.cosine
		}
	}
	entries, err := entriesBy(ctx, q, space, "seq", seqs)
	all := make([]SearchResult, len(entries))
	for i, e := range entries {
		all[i] = SearchResult{Entry: e, Similarity: cosines[e.seq]}
	}
	return all, err
}

// fuse merges the two rankings into one and returns its first limit results. The ranking by
// meaning has the weight trust.
func fuse(byText []textMatch, byVector []SearchResult, trust float64, limit int) []SearchResult {
	const best = (1 + fusionTextWeight) / (fusionRank + 1)
	merged := make(map[string]*SearchResult)
	for i, r := range byVector {
		r.Reason, r.Score = ByVector, trust/float64(fusionRank+i+1)/best
		merged[r.ID] = &r
	}
	for i, m := range byText {
		r := merged[m.ID]
		if r == nil {
			r = &SearchResult{Entry: m.Entry, Reason: ByText}
			merged[m.ID] = r
		} else {
			r.Reason = ByBoth
		}
		r.Score += fusionTextWeight * m.share / float64(fusionRank+i+1) / best
	}
	all := make([]SearchResult, 0, len(merged))
	for _, r := range merged {
		all = append(all, *r)
	}
	slices.SortFunc(all, func(a, b SearchResult) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(b.Similarity, a.Similarity), cmp.Compare(a.ID, b.ID))
	})
	return all[:min(limit, len(all))]
}
