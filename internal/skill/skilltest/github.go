package skilltest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha1" //nolint:gosec // a commit's name, no security
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

// GitHub serves repositories on loopback as GitHub's REST API does, with the
// tarball behind a redirect.
type GitHub struct {
	URL string

	mu    sync.Mutex
	refs  map[string]string // guarded by mu; owner/repo@ref → commit
	trees map[string][]byte // guarded by mu; owner/repo@commit → tar.gz
}

// NewGitHub starts a GitHub that stops with the test.
func NewGitHub(t testing.TB) *GitHub {
	t.Helper()
	g := &GitHub{refs: map[string]string{}, trees: map[string][]byte{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /repos/{owner}/{repo}/commits/{ref...}", g.commit)
	mux.HandleFunc("GET /repos/{owner}/{repo}/tarball/{commit}", g.redirect)
	mux.HandleFunc("GET /archive/{owner}/{repo}/{commit}", g.archive)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	g.URL = s.URL
	return g
}

// Push makes a commit of files, to which the refs point from now on, and returns it.
func (g *GitHub) Push(t testing.TB, repo string, files map[string][]byte, refs ...string) string {
	t.Helper()
	name := strings.ReplaceAll(repo, "/", "-")
	return g.PushArchive(t, repo, TarGz(t, name+"-0000000/", files), refs...)
}

// PushArchive makes a commit of any tar.gz.
func (g *GitHub) PushArchive(t testing.TB, repo string, archive []byte, refs ...string) string {
	t.Helper()
	sum := sha1.Sum(archive) //nolint:gosec // as above
	commit := hex.EncodeToString(sum[:])
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, ref := range append(refs, "HEAD") {
		g.refs[repo+"@"+ref] = commit
	}
	g.trees[repo+"@"+commit] = archive
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
	data, ok := g.trees[r.PathValue("owner")+"/"+r.PathValue("repo")+"@"+r.PathValue("commit")]
	g.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write(data)
}

// TarGz packs files below a folder.
func TarGz(t testing.TB, folder string, files map[string][]byte, more ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	w := tar.NewWriter(gz)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		more = append(more, tar.Header{Name: folder + name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(files[name]))})
	}
	for _, h := range more {
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
