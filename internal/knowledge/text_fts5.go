package knowledge

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

// textTable is a full-text index of SQLite's FTS5; PostgreSQL has tsvector. Package
// fulltext makes its terms.
type textTable string

const (
	wordTable textTable = "knowledge_text"
	partTable textTable = "knowledge_parts"
)

// maxCounted is up to how many entries with a term are counted. A term that more have says
// little anyway.
const maxCounted = 2000

// searchText returns the entries that share words, or parts of words, with a query, best
// first. All parts of a word count partCredit, where the word counts 1.
func searchText(ctx context.Context, q database.Reader, account identity.AccountID, spaces []vectorSpace, query string, partCredit float64, limit int) ([]textMatch, error) {
	units := queryUnits(query)
	if len(units) == 0 || len(spaces) == 0 {
		return nil, nil
	}
	if err := countTerms(ctx, q, spaces, units); err != nil {
		return nil, fmt.Errorf("count the terms: %w", err)
	}
	words, parts := termsOf(units, limit)
	var candidates []Entry
	for table, terms := range map[textTable][]string{wordTable: words, partTable: parts} {
		found, err := candidatesWith(ctx, q, account, spaces, table, terms, limit)
		if err != nil {
			return nil, err
		}
		candidates = append(candidates, found...)
	}
	ranked := rankByText(units, candidates, partCredit)
	return ranked[:min(limit, len(ranked))], nil
}

// candidatesWith returns the entries with any of the terms, the best by BM25.
func candidatesWith(ctx context.Context, q database.Reader, account identity.AccountID, spaces []vectorSpace, table textTable, terms []string, limit int) ([]Entry, error) {
	if len(terms) == 0 {
		return nil, nil
	}
	// The scope column has weight 0, so that only the terms of the text rank.
	return database.AllReadable(ctx, q, scanEntry, damaged,
		`SELECT e.number, e.id, e.seq, e.text, e.source, e.metadata, e.created_at, e.updated_at
		 FROM (SELECT rowid, bm25(`+string(table)+`, 0.0, 1.0) AS rank FROM `+string(table)+` WHERE `+string(table)+` MATCH $2 ORDER BY rank LIMIT $3) t
		 JOIN knowledge_entries e ON e.number = t.rowid WHERE e.account_id = $1 ORDER BY t.rank, e.number`,
		account, matchAny(spaces, terms), limit)
}

// matchAny returns the FTS5 query for entries of the spaces with any of the terms.
func matchAny(spaces []vectorSpace, terms []string) string {
	scopes := make([]string, len(spaces))
	for i, space := range spaces {
		scopes[i] = fmt.Sprintf(`scope : s%dx`, space.scope)
	}
	return fmt.Sprintf(`(%s) AND text : ("%s")`, strings.Join(scopes, " OR "), strings.Join(terms, `" OR "`))
}

// countTerms sets how many entries the spaces have, and how many of them each unit occurs in.
func countTerms(ctx context.Context, q database.Reader, spaces []vectorSpace, units []textUnit) error {
	total := 0
	for _, space := range spaces {
		// A count would read every entry. A damaged number is 0: the rank is then less exact.
		last, err := database.One(ctx, q, database.Scalar[int],
			`SELECT coalesce(sum(CAST(last_seq AS INTEGER)), 0) FROM knowledge_scopes WHERE account_id = $1 AND number = $2`, space.account, space.scope)
		if err != nil {
			return err
		}
		total += max(0, last)
	}
	for _, table := range []textTable{wordTable, partTable} {
		var at []int
		var queries []string
		for i, u := range units {
			if u.table() == table {
				at, queries = append(at, i), append(queries, matchAny(spaces, []string{u.term()}))
			}
		}
		if len(queries) == 0 {
			continue
		}
		terms, err := json.Marshal(queries)
		if err != nil {
			return err
		}
		counts, err := database.All(ctx, q, database.Scalar[int],
			`SELECT (SELECT count(*) FROM (SELECT 1 FROM `+string(table)+` WHERE `+string(table)+` MATCH w.value LIMIT $2)) FROM json_each($1) w ORDER BY w.key`,
			string(terms), maxCounted)
		if err != nil {
			return err
		}
		for i, n := range counts {
			units[at[i]].setRarity(n, max(total, n))
		}
	}
	return nil
}
