package scan

import "testing"

// TestPatternsCompile: they are compiled when they are used, so nothing else finds a mistake in one
// that is used seldom.
func TestPatternsCompile(t *testing.T) {
	all := []*pattern{blobPattern, commentPattern, downloadPattern, chmodPattern, sendPattern, codeText, codeSpan, networkText}
	for _, set := range [][]rule{codeRules, promptRules} {
		for _, r := range set {
			if all = append(all, r.re); r.unless != nil {
				all = append(all, r.unless)
			}
		}
	}
	for _, p := range all {
		if p.get() == nil { // panics if it is wrong
			t.Error("a pattern is empty")
		}
	}
}
