//go:build !race

package knowledge

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"agento.host/agento/internal/database"
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

// TestSearchTellsWritingsApart: a query finds what is written as it is before what differs in a
// mark, and finds other writings of the same word.
func TestSearchTellsWritingsApart(t *testing.T) {
	env := newTestEnv(t)
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("faq",
		"ハスは池に咲く花です。", "バスは八時に出発します。", "फूल बगीचे में हैं।", "फल टोकरी में हैं।", "ข้าวราคายี่สิบบาท", "ขาวเป็นสีของผนัง",
		"Cái bàn ở trong phòng.", "Người bạn ở trong phòng.", "Er ist schon da.", "Er ist schön.", "الكِتابُ على الطاولة", "Die Straße ist gesperrt.",
		"ﾎﾃﾙは駅前です。", "Ο δρόμος είναι κλειστός.", "Цена ёлки растёт.", "السعر ٢٥ دينار", "水を飲む", "מחיר הַסֵּפֶר עשרים", "Giá 500 đồng", "İstanbul'da ofisimiz var.")})
	for query, want := range map[string]string{
		"ハス": "ハスは", "バス": "バスは", "फूल": "फूल", "फल": "फल", "ข้าว": "ข้าว", "ขาว": "ขาว",
		"bàn": "Cái bàn", "bạn": "Người bạn", "schon": "Er ist schon", "schön": "Er ist schön", "ban": "",
		"كتاب": "الكِتاب", "الكتاب": "الكِتاب", "strasse": "Die Straße", "STRASSE": "Die Straße", "ホテル": "ﾎﾃﾙ", "ΔΡΟΜΟΣ": "Ο δρόμος", "елки": "Цена",
		"25": "السعر", "水": "水を", "הספר": "מחיר", "dong": "Giá", "istanbul": "İstanbul", "İSTANBUL": "İstanbul",
	} {
		found, err := env.Search(t.Context(), account, SearchRequest{Target: agent("ann"), Query: query, Limit: 5})
		if err != nil || len(found) == 0 || !strings.HasPrefix(found[0].Text, want) {
			t.Errorf("%s: %+v, %v", query, found, err)
		}
	}
}

// TestTextIsIndexedByMigration: entries from before the index of package fulltext.
func TestTextIsIndexedByMigration(t *testing.T) {
	env := newTestEnv(t)
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("faq", "東京駅の店は日曜も営業しています。", "Die Kündigungsfrist beträgt drei Monate.")})
	err := env.db.Tx(t.Context(), "test", func(ctx context.Context, tx *database.Tx) error {
		for _, statement := range []string{
			`DROP TABLE knowledge_parts`, `DROP TABLE knowledge_text`, `DROP TRIGGER knowledge_text_insert`, `DROP TRIGGER knowledge_text_delete`, `DROP TRIGGER knowledge_text_move`,
			// As 0010 created them.
			`CREATE VIRTUAL TABLE knowledge_text USING fts5 (scope, text, content = '', contentless_delete = 1, tokenize = 'porter unicode61 remove_diacritics 2')`,
			`INSERT INTO knowledge_text (rowid, scope, text) SELECT number, 's' || scope || 'x', text FROM knowledge_entries`,
			`CREATE TRIGGER knowledge_text_insert AFTER INSERT ON knowledge_entries BEGIN SELECT 1; END`,
			`CREATE TRIGGER knowledge_text_delete AFTER DELETE ON knowledge_entries BEGIN SELECT 1; END`,
			`CREATE TRIGGER knowledge_text_move AFTER UPDATE OF scope ON knowledge_entries BEGIN SELECT 1; END`,
			migrationText(t),
		} {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("%.60s: %w", statement, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks("new", "Der Haustürschlüssel liegt am Empfang.")})
	for query, want := range map[string]string{"東京": "東京", "Frist": "Die Künd", "Schlüssel": "Der Haus"} {
		found, err := env.Search(t.Context(), account, SearchRequest{Target: agent("ann"), Query: query})
		if err != nil || len(found) == 0 || !strings.HasPrefix(found[0].Text, want) || found[0].Reason == ByVector {
			t.Errorf("%s: %+v, %v", query, found, err)
		}
	}
	if _, err := env.Delete(t.Context(), actor, DeleteRequest{Target: agent("ann"), Source: "new"}); err != nil {
		t.Fatal(err)
	}
	if n, err := database.One(t.Context(), env.db, database.Scalar[int], `SELECT count(*) FROM knowledge_parts WHERE knowledge_parts MATCH 'schl'`); err != nil || n != 0 {
		t.Errorf("the parts of a deleted entry are found %d times, %v", n, err)
	}
}

func migrationText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../database/migrations/0083_fulltext.sql")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
