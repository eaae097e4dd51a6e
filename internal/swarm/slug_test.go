package swarm

import (
	"regexp"
	"strings"
	"testing"
)

func TestSlugOf(t *testing.T) {
	for name, want := range map[string]string{
		"Growth":                  "growth",
		"  Growth   Team!! ":      "growth-team",
		"Bob's R&D (EU)":          "bobs-r-d-eu",
		"Müller & Söhne Straße":   "mueller-soehne-strasse",
		"Mu\u0308ller":            "mueller",
		"Café São Łódź":           "cafe-sao-lodz",
		"İstanbul Işık":           "istanbul-isik",
		"Đà Nẵng":                 "da-nang",
		"Отдел продаж":            "otdel-prodazh",
		"Служба підтримки Їжак":   "sluzhba-pidtrimki-yizhak",
		"Ομάδα Ανάπτυξης":         "omada-anaptyxis",
		"서울 팀":                    "seoul-tim",
		"Ｆｕｌｌ ｗｉｄｔｈ ①":            "full-width-1",
		"東京 Growth":               "growth",
		"2024":                    "2024",
		strings.Repeat("ab ", 40): strings.TrimSuffix(strings.Repeat("ab-", 20), "-"),
	} {
		if got := slugOf(name); got != want {
			t.Errorf("%q gives %q, want %q", name, got, want)
		}
	}
}

func TestSlugOfANameWithoutKnownLettersIsAHash(t *testing.T) {
	pattern := regexp.MustCompile(`^swarm-[0-9a-f]{4}$`)
	for _, name := range []string{"東京", "מכירות", "🦀🦀", "---"} {
		if got := slugOf(name); !pattern.MatchString(got) || got != slugOf(name) {
			t.Errorf("%q gives %q", name, got)
		}
	}
	if slugOf("東京") == slugOf("大阪") {
		t.Error("two names have the same hash")
	}
}

func FuzzSlugOf(f *testing.F) {
	for _, name := range []string{"Growth", "Отдел", "ﬁ™㎏", "서울", "\xff", "a\u0308", "İ", "\u0345"} {
		f.Add(name)
	}
	pattern := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	f.Fuzz(func(t *testing.T, name string) {
		slug := slugOf(name)
		if !pattern.MatchString(slug) || len(slug) > maxSlug {
			t.Fatalf("%q gives %q", name, slug)
		}
		if again := slugOf(slug); again != slug {
			t.Fatalf("%q gives %q, which gives %q", name, slug, again)
		}
	})
}
