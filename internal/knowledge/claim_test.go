package knowledge

import "testing"

// sameClaim reports whether two texts differ only in form.
func sameClaim(a, b string) bool { return normalizedClaim(a) == normalizedClaim(b) }

func TestNormalizedClaim(t *testing.T) {
	for _, c := range duplicatePairs(t) {
		if got := sameClaim(c.A, c.B); got != (c.Kind == "format") {
			t.Errorf("%s: sameClaim is %v for %q and %q: %q, %q", c.Kind, got, c.A, c.B, extractFacts(c.A), extractFacts(c.B))
		}
	}
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"", "", true},
		{"x = 5", "x != 5", false},
		{"x < 5", "x > 5", false},
		{"50%", "50", false},
		{"50", "-50", false},
		{"See https://a.example/x", "See https://b.example/x", false},
		{`Read <a href="/one">this</a>.`, `Read <a href="/two">this</a>.`, false},
		{"✅ supported", "❌ supported", false},
		{"max_size", "max_site", false},
		{"10:30", "10.30", false},
		{"1/2 cup", "1.2 cup", false},
		{"3 to 5 days", "3-5 days", true},
		{"Don’t restart", "do not restart", true},
		{"Restart", "Don't restart", false},
		{"1. Restart\n2. Wait", "1) Restart 2) Wait", true},
		{"* one\n* two", "one, two", true},
		{"東京は晴れ", "東京は雨", false},
		{"Привет, мир!", "привет мир", true},
		{"Please restart the agent.", "Restart agent", true},
		{"A pays B", "B pays A", false},
		{"user@a.example", "user a.example", false},
		{"𝟓 days", "5 days", true},
	} {
		if got := sameClaim(c.a, c.b); got != c.same || sameClaim(c.b, c.a) != c.same {
			t.Errorf("sameClaim(%q, %q) is %v: %q, %q", c.a, c.b, got, extractFacts(c.a), extractFacts(c.b))
		}
	}
}

func FuzzNormalizedClaim(f *testing.F) {
	f.Add("Refunds within 14 days", "<p>C++ -5%")
	f.Fuzz(func(t *testing.T, a, b string) {
		if !sameClaim(a, a) || sameClaim(a, b) != sameClaim(b, a) {
			t.Errorf("%q and %q", a, b)
		}
	})
}

// TestOnlyTextsThatDifferInFormAreMerged ingests both texts of every pair of the
// evaluation set and prints how many were merged.
func TestOnlyTextsThatDifferInFormAreMerged(t *testing.T) {
	env := newTestEnv(t)
	merged, all := map[string]int{}, map[string]int{}
	for _, c := range duplicatePairs(t) {
		done := env.ingest(t, IngestRequest{Target: agent("ann"), DryRun: true, Chunks: chunks("a", c.A, c.B)})
		all[c.Kind]++
		if done.Stored == 1 {
			merged[c.Kind]++
		}
		if (done.Stored == 1) != (c.Kind == "format") {
			t.Errorf("%s: %d stored of %q and %q", c.Kind, done.Stored, c.A, c.B)
		}
	}
	for _, kind := range []string{"format", "fact", "paraphrase", "unrelated"} {
		t.Logf("%-11s %2d of %2d merged", kind, merged[kind], all[kind])
	}
}
