package skilltest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha1" //nolint:gosec // names a commit; not used for security
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// GitHub serves repositories on loopback through the routes of GitHub's REST API that
// are needed. As on GitHub, the archive is behind a redirect.
type GitHub struct {
	URL string

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
	mux.HandleFunc("GET /repos/{owner}/{repo}/tarball/{commit}", g.redirect)
	mux.HandleFunc("GET /archive/{owner}/{repo}/{commit}", g.archive)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	g.URL = s.URL
	return g
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
	g.mu.Lock()
	commit, ok := g.refs[r.PathValue("owner")+"/"+r.PathValue("repo")+"@"+r.PathValue("ref")]
	g.mu.Unlock()
	if !ok {
		http.Error(w, `{"message":"No commit found"}`, http.StatusUnprocessableEntity)
		return
	}
	_, _ = io.WriteString(w, commit)
}

func (g *GitHub) redirect(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Location", fmt.Sprintf("/archive/%s/%s/%s", r.PathValue("owner"), r.PathValue("repo"), r.PathValue("commit")))
	w.WriteHeader(http.StatusFound)
}

func (g *GitHub) archive(w http.ResponseWriter, r *http.Request) {
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
	for _, name := range slices.Sorted(maps.Keys(files)) {
		extra = append(extra, tar.Header{Name: folder + name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(files[name]))})
	}
	for _, h := range extra {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
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
