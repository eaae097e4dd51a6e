package knowledge

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/knowledge/embed"
)

// maxQueryWords is how many words of a query are looked up.
const maxQueryWords = 48

// textMatch is an entry that shares words with a query.
type textMatch struct {
	Entry
	share float64 // of the query's content words that the entry has, from 0 to 1
}

// searchText returns the entries that share words with the query, best first by BM25.
// It uses SQLite's FTS5; PostgreSQL has tsvector.
func searchText(ctx context.Context, q database.Reader, account identity.AccountID, spaces []vectorSpace, query string, limit int) ([]textMatch, error) {
	words := contentWords(query)
	if len(words) == 0 || len(spaces) == 0 {
		return nil, nil
	}
	scopes := make([]string, len(spaces))
	for i, space := range spaces {
		scopes[i] = fmt.Sprintf(`scope : s%dx`, space.scope)
	}
	match := fmt.Sprintf(`(%s) AND text : (%s)`, strings.Join(scopes, " OR "), strings.Join(words, " OR "))
	// The scope column has weight 0, so that only the words of the text rank.
	entries, err := database.AllReadable(ctx, q, scanEntry, damaged,
		`SELECT e.number, e.id, e.seq, e.text, e.source, e.metadata, e.created_at, e.updated_at
		 FROM (SELECT rowid, bm25(knowledge_text, 0.0, 1.0) AS rank FROM knowledge_text WHERE knowledge_text MATCH $2 ORDER BY rank LIMIT $3) t
		 JOIN knowledge_entries e ON e.number = t.rowid WHERE e.account_id = $1 ORDER BY t.rank, e.number`,
		account, match, limit)
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

// countWords returns how many of the words each entry has, by its number. It queries
// the full-text index, because only the index knows which forms it treats as one word.
func countWords(ctx context.Context, q database.Reader, entries []Entry, words []string) (map[int64]int, error) {
	numbers := make([]int64, len(entries))
	for i, e := range entries {
		numbers[i] = e.number
	}
	rows, err := json.Marshal(numbers)
	if err != nil {
		return nil, err
	}
	queries := make([]string, len(words))
	for i, w := range words {
		queries[i] = "text : " + w
	}
	terms, err := json.Marshal(queries)
	if err != nil {
		return nil, err
	}
	found, err := database.All(ctx, q, database.Scalar[int64],
		`SELECT t.rowid FROM json_each($1) w JOIN knowledge_text t ON t.knowledge_text MATCH w.value AND t.rowid IN (SELECT value FROM json_each($2))`,
		string(terms), string(rows))
	counts := make(map[int64]int, len(entries))
	for _, number := range found {
		counts[number]++
	}
	return counts, err
}

// isWord reports whether r is part of a word.
func isWord(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.Is(unicode.M, r)
}

// contentWords returns the words of a query, quoted for FTS5, without stop words. If
// the query has only stop words, it returns those.
func contentWords(query string) []string {
	var all, content []string
	seen := make(map[string]bool)
	for _, word := range strings.FieldsFunc(query, func(r rune) bool { return !isWord(r) }) {
		folded := embed.Fold(word)
		if seen[folded] || len(seen) == maxQueryWords {
			continue
		}
		seen[folded] = true
		quoted := `"` + word + `"`
		all = append(all, quoted)
		if !embed.IsStopword(folded) {
			content = append(content, quoted)
		}
	}
	if len(content) > 0 {
		return content
	}
	return all
}
