package knowledge

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/knowledge/embed"
)

// queryWords bounds the words of a query that are looked up.
const queryWords = 48

// textMatch is an entry that shares words with a query.
type textMatch struct {
	Entry
	share float64 // of the query's telling words that the entry has, from 0 to 1
}

// matchText returns the entries that share words with the query, best first by
// BM25. This is SQLite's FTS5; PostgreSQL has tsvector.
func matchText(ctx context.Context, q database.Querier, accountID string, spaces []space, query string, limit int) ([]textMatch, error) {
	words := tellingWords(query)
	if len(words) == 0 || len(spaces) == 0 {
		return nil, nil
	}
	scopes := make([]string, len(spaces))
	for i, sp := range spaces {
		scopes[i] = fmt.Sprintf(`scope : s%dx`, sp.number)
	}
	match := fmt.Sprintf(`(%s) AND text : (%s)`, strings.Join(scopes, " OR "), strings.Join(words, " OR "))
	// The scope's word weighs nothing, so that only the text's words rank.
	entries, err := database.All(ctx, q, scanEntry,
		`SELECT e.number, e.id, e.seq, e.text, e.source, e.metadata, e.created_at, e.updated_at
		 FROM (SELECT rowid, bm25(knowledge_text, 0.0, 1.0) AS rank FROM knowledge_text WHERE knowledge_text MATCH $2 ORDER BY rank LIMIT $3) t
		 JOIN knowledge_entries e ON e.number = t.rowid WHERE e.account_id = $1 ORDER BY t.rank, e.number`,
		accountID, match, limit)
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	counts, err := countWords(ctx, q, entries, words)
	if err != nil {
		return nil, err
	}
	all := make([]textMatch, len(entries))
	for i, e := range entries {
		all[i] = textMatch{e, float64(counts[e.number]) / float64(len(words))}
	}
	return all, nil
}

// countWords returns how many of the words each entry has, by its number. The index
// is asked, since it alone knows which forms of a word it takes for the same.
func countWords(ctx context.Context, q database.Querier, entries []Entry, words []string) (map[int64]int, error) {
	numbers := make([]int64, len(entries))
	for i, e := range entries {
		numbers[i] = e.number
	}
	rows, err := json.Marshal(numbers)
	if err != nil {
		return nil, err
	}
	terms := make([]string, len(words))
	for i, w := range words {
		terms[i] = "text : " + w
	}
	asked, err := json.Marshal(terms)
	if err != nil {
		return nil, err
	}
	found, err := database.All(ctx, q, database.Scalar[int64],
		`SELECT t.rowid FROM json_each($1) w JOIN knowledge_text t ON t.knowledge_text MATCH w.value AND t.rowid IN (SELECT value FROM json_each($2))`,
		string(asked), string(rows))
	counts := make(map[int64]int, len(entries))
	for _, number := range found {
		counts[number]++
	}
	return counts, err
}

// tellingWords returns the words of a query, quoted for FTS5, without those that
// say nothing, unless it has no others.
func tellingWords(query string) []string {
	var all, telling []string
	seen := make(map[string]bool)
	for _, word := range strings.FieldsFunc(query, func(r rune) bool { return !isWord(r) }) {
		folded := embed.Fold(word)
		if seen[folded] || len(seen) == queryWords {
			continue
		}
		seen[folded] = true
		quoted := `"` + word + `"`
		all = append(all, quoted)
		if !embed.IsStopword(folded) {
			telling = append(telling, quoted)
		}
	}
	if len(telling) > 0 {
		return telling
	}
	return all
}
