package embed

import (
	"slices"
	"strings"
	"testing"
)

func TestSplitIdentifier(t *testing.T) {
	for word, want := range map[string]string{"maxAgents": "max Agents", "HTTPServer": "HTTP Server", "word": "word", "ipv6only": "ipv 6 only", "A": "A"} {
		if got := strings.Join(splitIdentifier(word), " "); got != want {
			t.Errorf("%s: got %q, want %q", word, got, want)
		}
	}
}

func TestUnknownWordsHavePiecesAndBuckets(t *testing.T) {
	v := NewVocabulary([]string{"known", "agents"}, []string{"a", "b", "ab"}, 7)
	if len(v.words) != 2 || len(v.pieces) != 3 || v.buckets != 7 {
		t.Error(v)
	}
	if got := v.Append(nil, "known"); !slices.Equal(got, []int32{0}) {
		t.Error(got)
	}
	rows := v.Append(nil, "abba")
	if len(rows) != 4 || rows[0] != 4 || rows[1] != 3 || rows[2] != 2 || rows[3] < 5 {
		t.Error("abba has four rows, its pieces and its bucket:", rows)
	}
	if a, b := v.Append(nil, "жжж"), v.Append(nil, "ЖЖЖ"); !slices.Equal(a, b) || len(a) != 1 {
		t.Error("a word in another script has only its bucket:", a, b)
	}
	if rows := v.Append(nil, "👍 ✅"); len(rows) != 2 {
		t.Error("each symbol has a bucket:", rows)
	}
	if rows := v.Append(nil, "knownAgents"); !slices.Contains(rows, 0) || !slices.Contains(rows, 1) {
		t.Error("an identifier has the rows of its parts:", rows)
	}
}

func TestInflectedFormsAndPhrases(t *testing.T) {
	list := []string{"speed", "refund", "cancel", "close", "study", "spe", "stop", "refunds", "sign", "up", "sign up"}
	v := NewVocabulary(list, []string{"a", "b"}, 7)
	names := func(rows []int32) string {
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
		"refunds":         "refunds,refund", // it has its own row and that of its base
		"refunded":        "refund,*",
		"cancelled":       "cancel,*",
		"closing":         "close,*",
		"studies":         "study,*",
		"stopped":         "stop,*",
		"speed":           "speed", // more common than "spe", so not a form of it
		"Sign up!":        "sign,up,sign up",
		"up sign up":      "up,sign,up,sign up",
		"sign  <b>up</b>": "sign,up,sign up",
	} {
		if got := names(v.Append(nil, text)); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	if got := names(v.AppendWithout(nil, "sign refunds", func(w string) bool { return w == "refunds" })); got != "sign,refund,*" {
		t.Error(got)
	}
}
