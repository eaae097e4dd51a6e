package embed

import (
	"strings"
	"testing"
)

func wordsOf(text string) []string {
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
		"ｶﾞか\u3099":                         "ガ が ガが",
		"Привет, мир":                       "привет мир",
		"bad \xff byte":                     "bad byte",
	} {
		if got := strings.Join(wordsOf(text), " "); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func FuzzEachWord(f *testing.F) {
	f.Add("It's 1,000 <b>東京</b> \xff’")
	f.Fuzz(func(_ *testing.T, text string) { wordsOf(text) })
}
