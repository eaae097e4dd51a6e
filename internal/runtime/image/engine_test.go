package image_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"agento.host/agento/internal/runtime/image"
)

// scripted is an engine that answers as it is told.
type scripted struct {
	inspect map[string]any                       // nil: there is no image
	load    func(http.ResponseWriter, io.Reader) // nil: it must not be called
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Api-Version", "1.41")
	w.Header().Set("Content-Type", "application/json")
	switch {
	case strings.HasSuffix(r.URL.Path, "/_ping"):
	case strings.HasSuffix(r.URL.Path, "/images/load") && s.load != nil:
		s.load(w, r.Body)
	case strings.HasSuffix(r.URL.Path, "/json") && s.inspect != nil:
		_ = json.NewEncoder(w).Encode(s.inspect)
	default:
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"message":"no such image"}`)
	}
}

func loadInto(t *testing.T, made *image.Image, engine *scripted) (image.Loaded, error) {
	t.Helper()
	server := httptest.NewServer(engine)
	defer server.Close()
	c, err := client.New(client.WithHost("tcp://" + strings.TrimPrefix(server.URL, "http://")))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return image.Load(t.Context(), c, made)
}

// TestEnginesThatNameImagesOtherwise: one with containerd's store has the image under a digest of
// its own. The layers and the configuration tell that it is the same.
func TestEnginesThatNameImagesOtherwise(t *testing.T) {
	content := deb(t, "./usr/bin/some", "some")
	made, err := image.BuildWith(t.Context(), settings(t, serve(content)), lockOf(content))
	if err != nil {
		t.Fatal(err)
	}
	config := func(lock string) map[string]any {
		return map[string]any{
			"User": "10001:10001", "WorkingDir": image.Home, "Entrypoint": []string{image.RelayPath}, "Cmd": []string{"run"},
			"Env": []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"}, "Labels": map[string]string{image.LabelLock: lock},
		}
	}
	saved := configOf(t, made)
	engine := &scripted{inspect: map[string]any{
		"Id": "sha256:another", "Architecture": "amd64", "RootFS": map[string]any{"Type": "layers", "Layers": []string{made.Layers[0].DiffID}}, "Config": config(saved.Config.Labels[image.LabelLock]),
	}}
	if loaded, err := loadInto(t, made, engine); err != nil || !loaded.Existed || loaded.ID != "sha256:another" {
		t.Errorf("the same image: %+v, %v", loaded, err)
	}
	engine.inspect["Config"] = config("of another lock file")
	engine.load = func(w http.ResponseWriter, r io.Reader) { _, _ = io.Copy(io.Discard, r) }
	if _, err := loadInto(t, made, engine); err == nil || !strings.Contains(err.Error(), "has another one under that name") {
		t.Errorf("another image: %v", err)
	}
}

// TestALoadThatFails: what the engine says is the error, and nothing goes on.
func TestALoadThatFails(t *testing.T) {
	content := deb(t, "./usr/bin/some", strings.Repeat("some", 1<<20))
	made, err := image.BuildWith(t.Context(), settings(t, serve(content)), lockOf(content))
	if err != nil {
		t.Fatal(err)
	}
	for want, load := range map[string]func(http.ResponseWriter, io.Reader){
		"no space left": func(w http.ResponseWriter, r io.Reader) {
			_, _ = io.Copy(io.Discard, r)
			_, _ = io.WriteString(w, `{"stream":"x"}{"errorDetail":{"message":"no space left"},"error":"no space left"}`)
		},
		"bad archive": func(w http.ResponseWriter, r io.Reader) { // before it has read all
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, `{"message":"bad archive"}`)
		},
		"load the image": func(http.ResponseWriter, io.Reader) { panic(http.ErrAbortHandler) },
	} {
		if _, err := loadInto(t, made, &scripted{load: load}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}
