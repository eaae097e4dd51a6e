package github_test

import (
	"archive/tar"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/skill/fetch"
	"agento.host/agento/internal/skill/github"
	"agento.host/agento/internal/skill/skilltest"
	"agento.host/agento/internal/vault"
)

func TestParseAcceptsFoldersOfGitHubOnly(t *testing.T) {
	for in, want := range map[string]string{
		"https://github.com/ann/skills":                      "https://github.com/ann/skills",
		"https://github.com/ann/skills.git/":                 "https://github.com/ann/skills",
		"https://GitHub.com/ann/skills/tree/v1/a%20b/c":      "https://github.com/ann/skills/tree/v1/a%20b/c",
		"https://github.com/ann/skills/tree/feature/x/skill": "https://github.com/ann/skills/tree/feature/x/skill",
	} {
		s, err := github.Parse(in)
		if err != nil || s.String() != want {
			t.Errorf("%s: %s, %v", in, s, err)
		}
	}
	for _, in := range []string{
		"", "http://github.com/a/b", "https://gitlab.com/a/b", "https://github.com/a", "https://github.com/a/b/blob/main/x", "https://github.com/a/b/tree",
		"https://github.com/a/b/tree/../..", "https://github.com/a/b?x=1", "https://u:p@github.com/a/b", "https://github.com.evil.example/a/b",
		"https://github.com/a/..", "https://github.com/-a/b", "https://github.com/a/b/tree/main/%2e%2e/x", "https://github.com/a/b/tree/main/x%2f..%2fy",
	} {
		if s, err := github.Parse(in); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %s, %v", in, s, err)
		}
	}
}

func fetchFrom(t *testing.T, g *skilltest.GitHub, address string) (github.Folder, error) {
	t.Helper()
	c, err := github.New(fetch.Settings{BaseURL: g.URL})
	if err != nil {
		t.Fatal(err)
	}
	s, err := github.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return c.Fetch(t.Context(), s)
}

func TestFetchReturnsFilesOfTheFolder(t *testing.T) {
	g := skilltest.NewGitHub(t)
	commit := g.Push(t, "ann/skills", map[string][]byte{
		"README.md": []byte("top"), "s/one/SKILL.md": []byte("1"), "s/one/lib/x.js": []byte("x"), "s/one/.git/y": []byte("y"), "s/two/SKILL.md": []byte("2"),
	}, "main", "feature/x")
	for address, want := range map[string]int{
		"https://github.com/ann/skills":                           4,
		"https://github.com/ann/skills/tree/main/s/one":           2,
		"https://github.com/ann/skills/tree/feature/x/s/one":      2,
		"https://github.com/ann/skills/tree/" + commit + "/s/one": 2,
	} {
		f, err := fetchFrom(t, g, address)
		if err != nil || len(f.Files) != want || f.Commit != commit {
			t.Errorf("%s: %d files at %s, %v", address, len(f.Files), f.Commit, err)
		}
	}
	for _, address := range []string{"https://github.com/ann/none", "https://github.com/ann/skills/tree/nope/s", "https://github.com/ann/skills/tree/main/nope"} {
		if _, err := fetchFrom(t, g, address); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestFetchFindsReferencesWithSlashes(t *testing.T) {
	g := skilltest.NewGitHub(t)
	commit := g.Push(t, "ann/skills", map[string][]byte{"s/SKILL.md": []byte("1")},
		"a/b", "a/b-c/d", "long/b/c/d/e/f/g", "v1/x", "v2/pkg@1.0.0", "fix/#12", "größe/ü")
	for _, ref := range []string{"a/b", "a/b-c/d", "long/b/c/d/e/f/g", "v1/x", "v2/pkg@1.0.0", "fix/%2312", "gr%C3%B6%C3%9Fe/%C3%BC"} {
		f, err := fetchFrom(t, g, "https://github.com/ann/skills/tree/"+ref+"/s")
		if err != nil || len(f.Files) != 1 || f.Commit != commit {
			t.Errorf("%s: %d files, %v", ref, len(f.Files), err)
		}
	}
	for address, want := range map[string]string{
		"https://github.com/ann/skills/tree/a/x/s": `no branch, tag or commit with which "a/x/s" begins`,
		"https://github.com/ann/none/tree/a/x/s":   "Check the spelling",
	} {
		if _, err := fetchFrom(t, g, address); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestFetchWithoutAListOfReferences: some servers with GitHub's API have no such list, or
// answer with something else.
func TestFetchWithoutAListOfReferences(t *testing.T) {
	g := skilltest.NewGitHub(t)
	g.Push(t, "ann/skills", map[string][]byte{"s/SKILL.md": []byte("1")}, "a/b/c/d/e")
	for _, answer := range []string{"", "{}", "<html>"} {
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case !strings.Contains(r.URL.Path, "/matching-refs/"):
				http.Redirect(w, r, g.URL+r.URL.Path, http.StatusTemporaryRedirect)
			case answer == "":
				http.NotFound(w, r)
			default:
				_, _ = io.WriteString(w, answer)
			}
		}))
		c, err := github.New(fetch.Settings{BaseURL: proxy.URL})
		if err != nil {
			t.Fatal(err)
		}
		s, err := github.Parse("https://github.com/ann/skills/tree/a/b/c/d/e/s")
		if err != nil {
			t.Fatal(err)
		}
		if f, err := c.Fetch(t.Context(), s); err != nil || len(f.Files) != 1 {
			t.Errorf("%q: %d files, %v", answer, len(f.Files), err)
		}
		proxy.Close()
	}
}

func TestTokenRaisesTheLimit(t *testing.T) {
	g := skilltest.NewGitHub(t)
	g.Push(t, "ann/skills", map[string][]byte{"SKILL.md": []byte("1")})
	g.Token, g.Limited = "good-token", time.Now().Add(30*time.Minute)
	sent := ""
	c, err := github.New(fetch.Settings{BaseURL: g.URL, Token: func(context.Context) (vault.Secret, error) { return vault.NewSecret(sent), nil }})
	if err != nil {
		t.Fatal(err)
	}
	s, err := github.Parse("https://github.com/ann/skills")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Fetch(t.Context(), s)
	if f := fault.From(err); f.Code != fault.Upstream || f.RetryAfter < 29*time.Minute {
		t.Errorf("without a token: %v, after %s", err, f.RetryAfter)
	}
	sent = "bad-token"
	if _, err := c.Fetch(t.Context(), s); !fault.Is(err, fault.Upstream) || !strings.Contains(err.Error(), "GITHUB_TOKEN") || strings.Contains(err.Error(), sent) {
		t.Errorf("with a bad token: %v", err)
	}
	sent = g.Token
	if f, err := c.Fetch(t.Context(), s); err != nil || len(f.Files) != 1 {
		t.Errorf("with the token: %v", err)
	}
}

// TestFetchChecksOnlyTheFolder: what lies beside the skill's folder is not installed, whatever
// it is called.
func TestFetchChecksOnlyTheFolder(t *testing.T) {
	g := skilltest.NewGitHub(t)
	files := map[string][]byte{"skill/SKILL.md": []byte("x"), "skill/lib/a.js": []byte("y")}
	for _, name := range []string{
		strings.Repeat("src/", 12) + "A.java", "src/aux.rs", "data/a:b.json", "docs/what?.md", "docs/" + strings.Repeat("n", 240), "docs/dot.", "docs/tab\t",
		"docs/ blank", `win\path`, "docs/not\xffutf8", "SKILL.md", "skill.md", "skills/x?", "skill-2/nul", "zeros/" + strings.Repeat("z", 20),
	} {
		files[name] = []byte(strings.Repeat("\x00", 300<<10))
	}
	g.Push(t, "ann/mono", files, "main")
	f, err := fetchFrom(t, g, "https://github.com/ann/mono/tree/main/skill")
	if err != nil || len(f.Files) != 2 {
		t.Errorf("%d files, %v", len(f.Files), err)
	}
	g.Push(t, "ann/bad", map[string][]byte{"skill/SKILL.md": []byte("x"), "skill/src/aux.rs": nil, "other/x": nil}, "main")
	if _, err := fetchFrom(t, g, "https://github.com/ann/bad/tree/main/skill"); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "aux.rs") {
		t.Errorf("a bad name in the folder: %v", err)
	}
}

func TestFetchRefusesUnsafeArchives(t *testing.T) {
	g := skilltest.NewGitHub(t)
	good := map[string][]byte{"SKILL.md": []byte("x")}
	g.PushArchive(t, "a/link", skilltest.TarGz(t, "r/", good, tar.Header{Name: "r/x", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}))
	g.PushArchive(t, "a/up", skilltest.TarGz(t, "r/", good, tar.Header{Name: "r/../../x", Typeflag: tar.TypeReg}))
	g.PushArchive(t, "a/big", skilltest.TarGz(t, "r/", map[string][]byte{"SKILL.md": []byte(strings.Repeat("x", 3<<20))}))
	whole := skilltest.TarGz(t, "r/", good)
	g.PushArchive(t, "a/cut", whole[:len(whole)-12])
	g.PushArchive(t, "a/junk", []byte("junk"))
	for repo, want := range map[string]fault.Code{"link": fault.Invalid, "up": fault.Invalid, "big": fault.Invalid, "cut": fault.Upstream, "junk": fault.Upstream} {
		f, err := fetchFrom(t, g, "https://github.com/a/"+repo)
		if !fault.Is(err, want) || f.Files != nil {
			t.Errorf("%s: %d files, %v", repo, len(f.Files), err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("https://github.com/a/b/tree/c/d")
	f.Fuzz(func(t *testing.T, in string) {
		s, err := github.Parse(in)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatal(err)
			}
			return
		}
		if again, err := github.Parse(s.String()); err != nil || again.String() != s.String() {
			t.Fatalf("%q is written as %q, which is read as: %v", in, s, err)
		}
	})
}
