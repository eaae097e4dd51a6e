package fault

import (
	"testing"
)

func TestIsBlank(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, " ": true, "\t\r\n\v\f": true, "\u00a0\u1680\u2003\u202f\u205f\u3000": true, "\u2028\u2029\u0085": true, "\x00\x1b\x7f": true,
		"\u200b\u200c\u200d\u2060\ufeff\u00ad": true, "\u115f\u1160\u3164\uffa0\u034f\u180e": true, "\u2800": true, "\ufe0f\U000e0100": true, "\u202e": true,
		"a": false, " a ": false, "\u200ba": false, ".": false, "-": false, "0": false, "ハ": false, "👩\u200d💻": false, "\u0301": false, "\ufffd": false,
	} {
		if got := IsBlank(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
