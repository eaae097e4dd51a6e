//go:build !race

package knowledge

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// TestCodePointsStayApart compares "price a kg" with "price b kg" for all pairs of assigned
// code points: they make the same claim only if both characters are on the list, or are
// canonically equivalent.
func TestCodePointsStayApart(t *testing.T) {
	listed := listedAs(t)
	for _, format := range []string{"price %s kg", "price%skg", "5 %s 6", "%s kg", "price %s"} {
		claims := map[string]rune{} // the first code point of each claim
		for _, r := range assigned() {
			claim := normalizedClaim(fmt.Sprintf(format, string(r)))
			first, taken := claims[claim]
			if !taken {
				claims[claim] = r
				continue
			}
			if !equivalent(listed, format, first, r) {
				t.Errorf("%q: %U and %U make the claim %q", format, first, r, claim)
			}
		}
	}
	// Texts of 100,000 random pairs, in case two rules are wrong for two characters together.
	all := assigned()
	rng := rand.New(rand.NewPCG(1, 13))
	for range 100_000 {
		a, b := all[rng.IntN(len(all))], all[rng.IntN(len(all))]
		x, y := fmt.Sprintf("price %c kg, %c", a, b), fmt.Sprintf("price %c kg, %c", b, b)
		if sameClaim(x, y) && !equivalent(listed, "price %s kg", a, b) {
			t.Errorf("%q and %q make the same claim", x, y)
		}
	}
}

// equivalent reports whether two characters may count as one in a text.
func equivalent(listed map[rune]string, format string, a, b rune) bool {
	form := func(r rune) string {
		text, ok := listed[r]
		if !ok {
			text = string(r)
		}
		start, end := strings.HasPrefix(format, "%s"), strings.HasSuffix(format, "%s")
		switch {
		case start && (text == " " || len(text) > 0 && strings.Contains("-*+•#", text)), end && (text == " " || text != "." && variants.stop[[]rune(text)[0]]):
			text = ""
		}
		return norm.NFC.String(fmt.Sprintf(format, text))
	}
	return form(a) == form(b)
}

// TestCodePointsAreTwoEntries ingests texts that differ in one character which compatibility
// decomposition, case or the letters' marks would make equal.
func TestCodePointsAreTwoEntries(t *testing.T) {
	listed := listedAs(t)
	groups := map[string][]rune{}
	for _, r := range assigned() {
		if unicode.Is(unicode.Han, r) || unicode.Is(unicode.Hangul, r) {
			continue
		}
		folded := strings.Map(func(r rune) rune {
			if unicode.Is(unicode.Mn, r) {
				return -1
			}
			return unicode.ToLower(r)
		}, norm.NFKD.String(string(r)))
		groups[folded] = append(groups[folded], r)
	}
	delete(groups, "")
	env := newTestEnv(t)
	ingested := 0
	for i, folded := range slices.Sorted(maps.Keys(groups)) {
		group := groups[folded][:min(len(groups[folded]), MaxChunks)]
		if len(group) < 2 || i%4 > 0 { // a fourth of them, for the time it takes
			continue
		}
		distinct := map[string]bool{}
		texts := make([]string, len(group))
		for i, r := range group {
			texts[i] = fmt.Sprintf("The price %c kg is what the shop in the old town asks for a sack of rice.", r)
			form, ok := listed[r]
			if !ok {
				form = string(r)
			}
			distinct[norm.NFC.String(form)] = true
		}
		done := env.ingest(t, IngestRequest{Target: agent("ann"), DryRun: true, Chunks: chunks("a", texts...)})
		if done.Stored != len(distinct) {
			t.Errorf("%q: %d stored, want %d", string(group), done.Stored, len(distinct))
		}
		ingested += len(group)
	}
	if ingested < 500 {
		t.Errorf("only %d texts", ingested)
	}
}
