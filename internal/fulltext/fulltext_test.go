package fulltext

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func terms(text string) (words, parts []string) {
	t := Analyze(text)
	for _, w := range t.Words {
		words = append(words, w.Term)
	}
	for _, p := range t.Parts {
		parts = append(parts, p.Term)
	}
	return words, parts
}

func TestAnalyze(t *testing.T) {
	for text, want := range map[string]struct{ words, parts string }{
		"The trains, cancelled: v2.10 max_connections don't": {"the train cancel v2 10 max connect don t", ""},
		"Straße STRASSE ΟΔΟΣ οδός İstanbul ﬁsh m² １０":        {"strass strass οδοσ οδοσ istanbul fish m2 10", ""},
		"bàn bạn años Ёлка й":                                {"ban ban ano елка и", ""},
		"والكتاب كتاب الكِتَاب مقعدًا ٣٫٥":                   {"كتاب كتاب كتاب مقعد 3 5", ""},
		"हिन्दी ज़रूर":                                       {"हिन्दी जरूर", ""},
		"東京都 iPhoneの修理":                                      {"iphon", "東 京 東京 都 京都 の修 修 の修 理 修理"},
		"バス ハス ｶﾞｽ スーパー":                                     {"", "バス ハス ガス スー ーパ パー"},
		"학교에서 집을":                                            {"", "학 교 학교 에 교에 서 에서 집 을 집을"},
		"น้ำ ยา":                                             {"", "น้\u0e4d น้\u0e4dา ยา"},
		"က္ကျ":                                               {"", "က္ကျ"},
		"می\u200cخواهم soft\u00adhyphen":                     {"ميخواهم softhyphen", ""},
		"鍵":                                                  {"", "鍵"},
		"か":                                                  {"", "か"},
		"!? 🙂 — …":                                           {"", ""},
	} {
		words, parts := terms(text)
		got := strings.Join(words, " ")
		if got != want.words {
			t.Errorf("%s: words %q, want %q", text, got, want.words)
		}
		wanted := strings.Fields(want.parts)
		slices.Sort(wanted)
		slices.Sort(parts)
		if !slices.Equal(slices.Compact(parts), slices.Compact(wanted)) {
			t.Errorf("%s: parts %q, want %q", text, parts, wanted)
		}
	}
}

// TestDifferentWordsStayDifferent: marks are parts of letters in most scripts.
func TestDifferentWordsStayDifferent(t *testing.T) {
	for _, pair := range [][2]string{{"ハス", "バス"}, {"かき", "かぎ"}, {"फूल", "फल"}, {"मेल", "मैल"}, {"ข้าว", "ขาว"}, {"ไม้", "ไม่"}, {"한", "하"}, {"မ", "မာ"}} {
		a, b := Analyze(pair[0]), Analyze(pair[1])
		if slices.Equal(indexWords(a), indexWords(b)) && slices.Equal(indexParts(a), indexParts(b)) {
			t.Errorf("%s and %s have the same terms", pair[0], pair[1])
		}
	}
	for _, pair := range [][2]string{{"bàn", "bạn"}, {"schon", "schön"}, {"año", "ano"}} {
		a, b := Analyze(pair[0]).Words[0], Analyze(pair[1]).Words[0]
		if a.Term != b.Term || a.Text == b.Text {
			t.Errorf("%s and %s: %+v, %+v", pair[0], pair[1], a, b)
		}
	}
}

func TestPartsOfWords(t *testing.T) {
	for text, want := range map[string]string{
		"Haustür":      "haus aust ustu stur \ue000hau tur\ue001",
		"Rathaus":      "rath atha thau haus \ue000rat aus\ue001",
		"haus":         "haus",
		"tür":          "",
		"with":         "", // a stop word
		"2024":         "",
		"كتابها":       "كتا تاب ابه بها \ue000كت ها\ue001",
		"किताब":        "कित िता ताब \ue000कि ाब\ue001",
		"haus haus":    "haus",
		"Καλημέρα":     "καλη αλημ λημε ημερ μερα \ue000καλ ερα\ue001",
		"\xffabcd\xff": "abcd",
	} {
		if got := strings.Join(indexParts(Analyze(text)), " "); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	short := Analyze("Tür").Words[0]
	if !short.Short() || !slices.Equal(short.Lookups(), []string{"\ue000tur", "tur\ue001"}) || !Analyze("Haustür").Words[0].IsCompoundOf("tur") || Analyze("Natur ist").Words[1].IsCompoundOf("tur") {
		t.Errorf("%+v", short)
	}
	long := Analyze(strings.Repeat("abcdefgh", 100)).Words[0]
	if n := len(slices.Collect(long.Runs())); n != maxPartLetters-3 {
		t.Errorf("%d parts of a long word", n)
	}
}

func FuzzAnalyze(f *testing.F) {
	for _, s := range []string{"Größe 東京ﾊﾞｽ ไม้ किताब كتاب", "a\u0301\u0301b", "\xff\xfe", "က္ကျ\u1039", "ー々〆ヶ", "\ue000abc\ue001"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a := Analyze(text)
		for _, term := range slices.Concat(indexWords(a), indexParts(a)) {
			if term == "" || strings.ContainsAny(term, " \"'*()\x00") || !utf8.ValidString(term) {
				t.Fatalf("%q has the term %q", text, term)
			}
		}
	})
}
