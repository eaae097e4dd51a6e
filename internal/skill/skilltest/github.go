package skilltest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha1" //nolint:gosec // names a commit; not used for security
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// GitHub serves repositories on loopback through the routes of GitHub's REST API that
// are needed. It was compared with the reference of the REST API, version 2022-11-28 ("Get a
// commit", "List matching references", "Download a repository archive (tar)", "Rate limits"),
// not with the service:
//
//   - The archive is behind a 302 to another host, which is not sent the token.
//   - The media type sha answers with the plain SHA. An unknown reference of a repository is 422, an
//     unknown repository 404, one without commits 409, and a token that is not valid 401.
//   - Matching references are those that begin with a text: of feature/a also those of feature/ab.
//   - Beyond the limit, which is 60 requests an hour without a token, the status is 403, with
//     X-RateLimit-Remaining: 0 and the time of the reset in X-RateLimit-Reset, without Retry-After.
//   - An archive begins with a global header of pax, which has the commit.
type GitHub struct {
	URL     string
	Token   string    // if set, requests with another one get 401
	Limited time.Time // until then, every request without the token is over the limit

	archiveURL string

	mu       sync.Mutex
	refs     map[string]string // guarded by mu; owner/repo@ref → commit
	archives map[string][]byte // guarded by mu; owner/repo@commit → tar.gz
}

// NewGitHub starts a GitHub API, which stops when the test ends.
func NewGitHub(t testing.TB) *GitHub {
	t.Helper()
	g := &GitHub{refs: map[string]string{}, archives: map[string][]byte{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /repos/{owner}/{repo}/commits/{ref...}", g.commit)
	mux.HandleFunc("GET /repos/{owner}/{repo}/git/matching-refs/{ref...}", g.matching)
	mux.HandleFunc("GET /repos/{owner}/{repo}/tarball/{commit}", g.redirect)
	s := httptest.NewServer(g.limit(mux))
	t.Cleanup(s.Close)
	g.URL = s.URL
	codeload := http.NewServeMux()
	codeload.HandleFunc("GET /{owner}/{repo}/legacy.tar.gz/{commit}", g.archive)
	a := httptest.NewServer(codeload)
	t.Cleanup(a.Close)
	g.archiveURL = a.URL
	return g
}

// limit refuses requests with a wrong token, and those over the limit.
func (g *GitHub) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		switch {
		case g.Token != "" && sent != "" && sent != g.Token:
			http.Error(w, `{"message":"Bad credentials","status":"401"}`, http.StatusUnauthorized)
		case time.Now().Before(g.Limited) && (g.Token == "" || sent != g.Token):
			w.Header().Set("X-RateLimit-Limit", "60")
			w.Header().Set("X-RateLimit-Remaining", "0")
			w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(g.Limited.Unix(), 10))
			http.Error(w, `{"message":"API rate limit exceeded for 192.0.2.1."}`, http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// Push creates a commit of files, points the refs and HEAD to it and returns it.
func (g *GitHub) Push(t testing.TB, repo string, files map[string][]byte, refs ...string) string {
	t.Helper()
	name := strings.ReplaceAll(repo, "/", "-")
	return g.PushArchive(t, repo, TarGz(t, name+"-0000000/", files), refs...)
}

// PushArchive is Push for the content of a tar.gz archive, valid or not.
func (g *GitHub) PushArchive(t testing.TB, repo string, archive []byte, refs ...string) string {
	t.Helper()
	sum := sha1.Sum(archive) //nolint:gosec // as above
	commit := hex.EncodeToString(sum[:])
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, ref := range append(refs, "HEAD") {
		g.refs[repo+"@"+ref] = commit
	}
	g.archives[repo+"@"+commit] = archive
	return commit
}

func (g *GitHub) commit(w http.ResponseWriter, r *http.Request) {
	repo := r.PathValue("owner") + "/" + r.PathValue("repo")
	g.mu.Lock()
	commit, ok := g.refs[repo+"@"+r.PathValue("ref")]
	_, known := g.refs[repo+"@HEAD"]
	g.mu.Unlock()
	if !known {
		http.Error(w, `{"message":"Not Found","status":"404"}`, http.StatusNotFound)
		return
	}
	if !ok {
		http.Error(w, `{"message":"No commit found"}`, http.StatusUnprocessableEntity)
		return
	}
	_, _ = io.WriteString(w, commit)
}

// matching lists references as branches, except those that begin with "v", which are tags.
func (g *GitHub) matching(w http.ResponseWriter, r *http.Request) {
	prefix := r.PathValue("owner") + "/" + r.PathValue("repo") + "@"
	kind, begin, _ := strings.Cut(r.PathValue("ref"), "/")
	list := []map[string]any{}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, ref := range slices.Sorted(maps.Keys(g.refs)) {
		name, ok := strings.CutPrefix(ref, prefix)
		isTag := strings.HasPrefix(name, "v")
		if ok && name != "HEAD" && isTag == (kind == "tags") && strings.HasPrefix(name, begin) {
			list = append(list, map[string]any{"ref": "refs/" + kind + "/" + name, "object": map[string]string{"type": "commit", "sha": g.refs[ref]}})
		}
	}
	_ = json.NewEncoder(w).Encode(list)
}

func (g *GitHub) redirect(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Location", fmt.Sprintf("%s/%s/%s/legacy.tar.gz/%s", g.archiveURL, r.PathValue("owner"), r.PathValue("repo"), r.PathValue("commit")))
	w.WriteHeader(http.StatusFound)
}

func (g *GitHub) archive(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "" {
		http.Error(w, "codeload does not take the token", http.StatusBadRequest)
		return
	}
	g.mu.Lock()
	data, ok := g.archives[r.PathValue("owner")+"/"+r.PathValue("repo")+"@"+r.PathValue("commit")]
	g.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write(data)
}

// TarGz returns a tar.gz archive of files below a folder, after the extra entries.
func TarGz(t testing.TB, folder string, files map[string][]byte, extra ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	w := tar.NewWriter(gz)
	header := tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": strings.Repeat("0", 40)}}
	extra = append([]tar.Header{header}, extra...)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		extra = append(extra, tar.Header{Name: folder + name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(files[name]))})
	}
	for _, h := range extra {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if _, err := w.Write(files[strings.TrimPrefix(h.Name, folder)]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
