package knowledge

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// question is a question with the entry that answers it.
type question struct{ entry, text string }

// languageQuestions returns the questions in testdata/languages by language: words in
// another form, parts of compounds, words of two characters, whole questions.
func languageQuestions(t *testing.T) map[string][]question {
	t.Helper()
	files, err := filepath.Glob("testdata/languages/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]question{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		language := strings.TrimSuffix(filepath.Base(file), ".txt")
		for line := range strings.Lines(string(text)) {
			entry, asked, ok := strings.Cut(strings.TrimSpace(line), "\t")
			if !ok {
				t.Fatalf("%s: %q has no question", file, line)
			}
			all[language] = append(all[language], question{entry, asked})
		}
	}
	return all
}

// TestSearchInEveryLanguage: of 50 questions in each language, at least 45 find their entry
// among the first five, in a knowledge base with the entries of all languages.
func TestSearchInEveryLanguage(t *testing.T) {
	const wanted, among = 45, 5
	env := newTestEnv(t)
	languages := languageQuestions(t)
	if len(languages) != 8 {
		t.Fatalf("%d languages", len(languages))
	}
	for language, questions := range languages {
		if len(questions) != 50 {
			t.Errorf("%s has %d questions", language, len(questions))
		}
		texts := make([]string, len(questions))
		for i, q := range questions {
			texts[i] = q.entry
		}
		env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks(language, texts...)})
	}
	for language, questions := range languages {
		found, first := 0, 0
		for _, q := range questions {
			results, err := env.Search(t.Context(), account, SearchRequest{Target: agent("ann"), Query: q.text, Limit: among})
			if err != nil {
				t.Fatal(err)
			}
			at := slices.IndexFunc(results, func(r SearchResult) bool { return r.Text == q.entry })
			if at < 0 {
				t.Logf("%s: %q does not find %q", language, q.text, q.entry)
				continue
			}
			found++
			if at == 0 {
				first++
			}
		}
		t.Logf("%s: %d of %d among the first %d, %d first", language, found, len(questions), among, first)
		if found < wanted {
			t.Errorf("%s: %d of %d questions find their entry", language, found, len(questions))
		}
	}
}
