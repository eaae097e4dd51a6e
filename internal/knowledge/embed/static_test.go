package embed

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

func words(text string) []string {
	var all []string
	EachWord(text, func(_, word string) { all = append(all, word) })
	return all
}

func TestEachWord(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "",
		"Hello, World!":                     "hello world",
		"Don’t can't cannot won't I'm it's": "do not can not can not will not i am it",
		"the agents' list, 'quoted'":        "the agents list quoted",
		"1,000 and 1000, but 1,00":          "1000 and 1000 but 1 00",
		"five to TWELVE":                    "5 to 12",
		"<p class=\"x\">Bold<br/></p> a<b":  "bold a b",
		"Zoë's café, ﬁne":                   "zoe cafe fine",
		"cats & dogs AT&T":                  "cats and dogs at t",
		"max_connections v2.10":             "max connections v2 10",
		"東京へ":                               "東 京 東京 へ 京へ",
		"Привет, мир":                       "привет мир",
		"bad \xff byte":                     "bad byte",
	} {
		if got := strings.Join(words(text), " "); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func FuzzEachWord(f *testing.F) {
	f.Add("It's 1,000 <b>東京</b> \xff’")
	f.Fuzz(func(_ *testing.T, text string) { words(text) })
}

func TestCamel(t *testing.T) {
	for word, want := range map[string]string{"maxAgents": "max Agents", "HTTPServer": "HTTP Server", "word": "word", "ipv6only": "ipv 6 only", "A": "A"} {
		if got := strings.Join(camel(word), " "); got != want {
			t.Errorf("%s: got %q, want %q", word, got, want)
		}
	}
}

func TestUnknownWords(t *testing.T) {
	v := NewVocabulary([]string{"known", "agents"}, []string{"a", "b", "ab"}, 7)
	if v.Size() != 12 || !v.Known("known") || v.Known("ab") {
		t.Error(v.Size())
	}
	if got := v.Append(nil, "known"); !slices.Equal(got, []int32{0}) {
		t.Error(got)
	}
	rows := v.Append(nil, "abba")
	if len(rows) != 4 || rows[0] != 4 || rows[1] != 3 || rows[2] != 2 || rows[3] < 5 {
		t.Error("pieces and bucket:", rows)
	}
	if a, b := v.Append(nil, "жжж"), v.Append(nil, "ЖЖЖ"); !slices.Equal(a, b) || len(a) != 1 {
		t.Error("another script has the bucket alone:", a, b)
	}
	if rows := v.Append(nil, "👍 ✅"); len(rows) != 2 {
		t.Error("symbols alone have buckets:", rows)
	}
	if rows := v.Append(nil, "knownAgents"); !slices.Contains(rows, 0) || !slices.Contains(rows, 1) {
		t.Error("an identifier has its parts:", rows)
	}
}

func TestFormsAndPhrases(t *testing.T) {
	list := []string{"speed", "refund", "cancel", "close", "study", "spe", "stop", "refunds", "sign", "up", "sign up"}
	v := NewVocabulary(list, []string{"a", "b"}, 7)
	named := func(rows []int32) string {
		var all []string
		for _, r := range rows {
			if int(r) < len(list) {
				all = append(all, list[r])
			} else {
				all = append(all, "*")
			}
		}
		return strings.Join(all, ",")
	}
	for text, want := range map[string]string{
		"refunds":         "refunds,refund", // it has a row of its own, and shares that of its base
		"refunded":        "refund,*",
		"cancelled":       "cancel,*",
		"closing":         "close,*",
		"studies":         "study,*",
		"stopped":         "stop,*",
		"speed":           "speed", // more common than spe, so no form of it
		"Sign up!":        "sign,up,sign up",
		"up sign up":      "up,sign,up,sign up",
		"sign  <b>up</b>": "sign,up,sign up",
	} {
		if got := named(v.Append(nil, text)); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	if got := named(v.AppendWithout(nil, "sign refunds", func(w string) bool { return w == "refunds" })); got != "sign,refund,*" {
		t.Error(got)
	}
}

func TestModelFile(t *testing.T) {
	rows := make([]float32, 6*4)
	for i := range rows {
		rows[i] = float32(i%5) - 2
	}
	file, err := WriteModel(Header{Name: "tiny", Dimension: 4}, []string{"one", "sun"}, []string{"x"}, 3, rows)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ReadModel(file)
	if err != nil || m.Name() != "tiny" || m.Dimension() != 4 || m.Header().Words != 2 {
		t.Fatal(m, err)
	}
	for n := range len(file) {
		if _, err := ReadModel(file[:n]); err == nil {
			t.Fatalf("cut to %d bytes, it is still read", n)
		}
	}
	if _, err := WriteModel(Header{Dimension: 4}, []string{"one"}, []string{"x"}, 3, rows); err == nil {
		t.Error("too many rows are written")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Embed(ctx, []string{"sun"}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestBuiltin(t *testing.T) {
	m, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	if len(builtinModel) > 16<<20 {
		t.Errorf("the model has %d bytes", len(builtinModel))
	}
	texts := []string{"Refunds are paid within 14 days.", "How do I get my money back?", "The engine oil is changed once a year.", "👍", "東京は晴れ", strings.Repeat("word ", 2000)}
	vectors, err := m.Embed(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range vectors {
		var square float64
		for _, x := range v {
			square += float64(x) * float64(x)
		}
		if len(v) != m.Dimension() || math.Abs(square-1) > 1e-5 {
			t.Errorf("%q: %d dimensions, length %g", texts[i], len(v), math.Sqrt(square))
		}
	}
}

func BenchmarkBuiltin(b *testing.B) {
	m, err := Builtin()
	if err != nil {
		b.Fatal(err)
	}
	text := strings.Repeat("Refunds are paid within 14 days of the return of the product to our shop. ", 7)[:500]
	for b.Loop() {
		if _, err := m.Embed(b.Context(), []string{text}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "texts/s")
}
