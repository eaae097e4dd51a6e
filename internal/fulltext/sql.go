package fulltext

import (
	"database/sql/driver"
	"strings"

	"modernc.org/sqlite"
)

// The triggers of the full-text index call fulltext_words(text) and fulltext_parts(text).
// Both return terms with blanks between them, for the tokenizer ascii of FTS5, to which
// every character beyond ASCII is part of a word.
func init() {
	sqlite.MustRegisterDeterministicScalarFunction("fulltext_words", 1, sqlFunction(indexWords))
	sqlite.MustRegisterDeterministicScalarFunction("fulltext_parts", 1, sqlFunction(indexParts))
}

func sqlFunction(terms func(Terms) []string) func(*sqlite.FunctionContext, []driver.Value) (driver.Value, error) {
	return func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		switch text := args[0].(type) {
		case string:
			return strings.Join(terms(Analyze(text)), " "), nil
		case []byte:
			return strings.Join(terms(Analyze(string(text))), " "), nil
		}
		return "", nil
	}
}

func indexWords(t Terms) []string {
	all := make([]string, len(t.Words))
	for i, w := range t.Words {
		all[i] = w.Term
	}
	return all
}

// indexParts returns each part once: how often it occurs does not matter.
func indexParts(t Terms) []string {
	var all []string
	seen := map[string]bool{}
	add := func(part string) {
		if !seen[part] {
			seen[part] = true
			all = append(all, part)
		}
	}
	for _, w := range t.Words {
		for run := range w.Runs() {
			add(run)
		}
		for _, edge := range w.edges() {
			add(edge)
		}
	}
	for _, p := range t.Parts {
		add(p.Term)
	}
	return all
}
