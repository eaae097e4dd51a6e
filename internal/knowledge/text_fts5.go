package knowledge

import (
	"context"
	"fmt"
	"strings"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/knowledge/embed"
)

// queryWords bounds the words of a query that are looked up.
const queryWords = 48

// matchText returns the entries that share words with the query, best first by
// BM25. This is SQLite's FTS5; PostgreSQL has tsvector.
func matchText(ctx context.Context, q database.Querier, accountID string, spaces []space, query string, limit int) ([]Entry, error) {
	words := textQuery(query)
	if words == "" || len(spaces) == 0 {
		return nil, nil
	}
	scopes := make([]string, len(spaces))
	for i, sp := range spaces {
		scopes[i] = fmt.Sprintf(`scope : s%dx`, sp.number)
	}
	match := fmt.Sprintf(`(%s) AND text : (%s)`, strings.Join(scopes, " OR "), words)
	// The scope's word weighs nothing, so that only the text's words rank.
	return database.All(ctx, q, scanEntry,
		`SELECT e.number, e.id, e.seq, e.text, e.source, e.metadata, e.created_at, e.updated_at
		 FROM (SELECT rowid, bm25(knowledge_text, 0.0, 1.0) AS rank FROM knowledge_text WHERE knowledge_text MATCH $2 ORDER BY rank LIMIT $3) t
		 JOIN knowledge_entries e ON e.number = t.rowid WHERE e.account_id = $1 ORDER BY t.rank, e.number`,
		accountID, match, limit)
}

// textQuery writes a query in FTS5's language: any of its words, without those
// that say nothing, unless it has no others.
func textQuery(query string) string {
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
		if !embed.Stopword(folded) {
			telling = append(telling, quoted)
		}
	}
	if len(telling) > 0 {
		all = telling
	}
	return strings.Join(all, " OR ")
}
