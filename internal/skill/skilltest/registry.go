// Package skilltest runs a ClawHub registry and a GitHub API on loopback for tests.
package skilltest

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// SkillMD returns the main file of a harmless skill.
func SkillMD(name, body string) []byte {
	return []byte("---\nname: " + name + "\ndescription: A skill called " + name + ".\n---\n\n" + body + "\n")
}

// Version is one version of a community skill. The fields after the first line are
// optional; their zero values mean a correct and harmless skill.
type Version struct {
	Owner, Slug, Name, Version string

	Archive    []byte // a zip archive; see Zip
	Checksum   string // sent with the archive; empty: the correct one; "none": not sent
	Verdict    string // decision of the scanners; empty: "pass"
	Suspicious bool
	Malware    bool
	GitHub     map[string]string // if set, the skill is on GitHub: repo, path, commit
}

// Registry is a ClawHub registry on loopback. Its responses have the fields that package
// clawhub reads. It was compared with that client alone, not with the service, which has limits and
// fields of its own.
type Registry struct {
	URL string

	mu        sync.Mutex
	versions  []Version                                     // guarded by mu; the last one of a slug is its latest
	intercept func(http.ResponseWriter, *http.Request) bool // guarded by mu
}

// NewRegistry starts a registry, which stops when the test ends.
func NewRegistry(t testing.TB) *Registry {
	t.Helper()
	r := &Registry{}
	s := httptest.NewServer(r.routes())
	t.Cleanup(s.Close)
	r.URL = s.URL
	return r
}

// Publish adds a version, or replaces the same version of the same skill.
func (r *Registry) Publish(v Version) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.versions = slices.DeleteFunc(r.versions, func(o Version) bool {
		return o.Slug == v.Slug && o.Owner == v.Owner && o.Version == v.Version
	})
	r.versions = append(r.versions, v)
}

// Intercept sets a function that sees every request first and reports whether it has
// answered it. nil removes it.
func (r *Registry) Intercept(f func(http.ResponseWriter, *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.intercept = f
}

func (r *Registry) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/search", r.search)
	mux.HandleFunc("GET /api/v1/skills/{slug}", r.detail)
	mux.HandleFunc("GET /api/v1/skills/{slug}/install", r.install)
	mux.HandleFunc("POST /api/v1/skills/-/security-verdicts", r.verdicts)
	mux.HandleFunc("GET /api/v1/download", r.download)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		intercept := r.intercept
		r.mu.Unlock()
		if intercept == nil || !intercept(w, req) {
			mux.ServeHTTP(w, req)
		}
	})
}

func (r *Registry) find(owner, slug, version string) (Version, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range slices.Backward(r.versions) {
		if v.Slug == slug && (owner == "" || v.Owner == owner) && (version == "" || v.Version == version) {
			return v, true
		}
	}
	return Version{}, false
}

func (r *Registry) search(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	results := []any{}
	for _, v := range r.versions {
		if strings.Contains(v.Slug+v.Name, req.FormValue("q")) {
			results = append(results, map[string]any{"score": 1, "slug": v.Slug, "displayName": v.Name, "summary": "About " + v.Slug, "version": v.Version, "ownerHandle": v.Owner, "source": "clawhub"})
		}
	}
	writeJSON(w, map[string]any{"results": results})
}

func (r *Registry) detail(w http.ResponseWriter, req *http.Request) {
	v, ok := r.find(req.FormValue("ownerHandle"), req.PathValue("slug"), "")
	if !ok {
		http.Error(w, "Skill not found", http.StatusNotFound)
		return
	}
	body := map[string]any{
		"skill":         map[string]any{"slug": v.Slug, "displayName": v.Name, "summary": "About " + v.Slug, "tags": map[string]string{"latest": v.Version}},
		"latestVersion": map[string]any{"version": v.Version},
		"owner":         map[string]any{"handle": v.Owner},
	}
	if v.Suspicious || v.Malware {
		body["moderation"] = map[string]any{"isSuspicious": v.Suspicious, "isMalwareBlocked": v.Malware}
	}
	writeJSON(w, body)
}

func (r *Registry) install(w http.ResponseWriter, req *http.Request) {
	owner := req.FormValue("ownerHandle")
	v, ok := r.find(owner, req.PathValue("slug"), "")
	switch {
	case !ok:
		http.Error(w, "Skill not found", http.StatusNotFound)
	case v.GitHub != nil:
		writeJSON(w, map[string]any{"ok": true, "slug": v.Slug, "installKind": "github", "github": v.GitHub})
	default:
		u := "/api/v1/download?slug=" + v.Slug + "&version=" + v.Version
		if owner != "" {
			u += "&ownerHandle=" + owner
		}
		writeJSON(w, map[string]any{"ok": true, "slug": v.Slug, "installKind": "archive", "archive": map[string]any{"version": v.Version, "downloadUrl": r.URL + u}})
	}
}

func (r *Registry) verdicts(w http.ResponseWriter, req *http.Request) {
	var in struct {
		Items []struct{ Slug, OwnerHandle, Version string }
	}
	if json.NewDecoder(req.Body).Decode(&in) != nil || len(in.Items) != 1 {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	item := in.Items[0]
	v, _ := r.find(item.OwnerHandle, item.Slug, item.Version)
	decision := v.Verdict
	if decision == "" {
		decision = "pass"
	}
	writeJSON(w, map[string]any{"items": []any{map[string]any{
		"ok": decision == "pass", "decision": decision, "reasons": []string{}, "requestedSlug": item.Slug, "requestedVersion": item.Version,
		"slug": v.Slug, "version": v.Version, "publisherHandle": v.Owner, "security": map[string]any{"status": "clean", "passed": decision == "pass"},
	}}})
}

func (r *Registry) download(w http.ResponseWriter, req *http.Request) {
	v, ok := r.find(req.FormValue("ownerHandle"), req.FormValue("slug"), req.FormValue("version"))
	if !ok {
		http.Error(w, "Version not found", http.StatusNotFound)
		return
	}
	sum := sha256.Sum256(v.Archive)
	checksum := v.Checksum
	if checksum == "" {
		checksum = hex.EncodeToString(sum[:])
	}
	if checksum != "none" {
		w.Header().Set("X-ClawHub-Artifact-Sha256", checksum)
	}
	w.Header().Set("Content-Type", "application/zip")
	_, _ = w.Write(v.Archive) // fails only if the client has closed the connection
}

func writeJSON(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body) // as above
}

// Zip returns a zip archive of files, in the order of their names.
func Zip(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		addFile(t, z, name, files[name], 0o644)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// ZipWithLink returns a zip archive of a skill that contains a symbolic link.
func ZipWithLink(t testing.TB, target string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	addFile(t, z, "SKILL.md", SkillMD("link", "x"), 0o644)
	addFile(t, z, "link", []byte(target), fs.ModeSymlink|0o777)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func addFile(t testing.TB, z *zip.Writer, name string, data []byte, mode fs.FileMode) {
	t.Helper()
	h := &zip.FileHeader{Name: name, Method: zip.Deflate}
	h.SetMode(mode)
	w, err := z.CreateHeader(h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
}
