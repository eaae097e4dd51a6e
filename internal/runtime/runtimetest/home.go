package runtimetest

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/internal/runtime"
)

func testHome(t *testing.T, e Env) {
	g := Start(t, e.Driver, Spec(NewID()))
	h := g.Home()
	if err := h.WriteFile("w/x/note.md", []byte("from the server")); err != nil {
		t.Fatal(err)
	}
	if got := g.Ask("/read", "name", "w/x/note.md"); got != "from the server" {
		t.Errorf("the agent reads %q", got)
	}
	// The agent owns the files that the server writes: it can change them and add
	// others.
	g.Ask("/write", "name", "w/x/note.md", "data", "from the agent")
	g.Ask("/write", "name", "w/x/more.md", "data", "more")
	if got, err := h.ReadFile("w/x/note.md", 14); err != nil || string(got) != "from the agent" {
		t.Errorf("the server reads %q, %v", got, err)
	}
	if _, err := h.ReadFile("w/x/note.md", 13); !errors.Is(err, runtime.ErrTooLarge) {
		t.Errorf("a file over the limit: %v", err)
	}
	if _, err := h.ReadFile("none", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := h.WriteFile("w/x/note.md", nil); err != nil {
		t.Fatal(err)
	}
	if got, err := h.ReadFile("w/x/note.md", 0); err != nil || len(got) != 0 {
		t.Errorf("an empty file: %q, %v", got, err)
	}
	entries, err := h.ReadDir("w/x")
	if err != nil || len(entries) != 2 || entries[0].Name != "more.md" || entries[0].Size != 4 || entries[0].Dir || entries[0].ModTime.IsZero() {
		t.Errorf("entries: %+v, %v", entries, err)
	}
	if entries, err := h.ReadDir("w"); err != nil || len(entries) != 1 || !entries[0].Dir {
		t.Errorf("entries: %+v, %v", entries, err)
	}
	if entries, err := h.ReadDir("none"); err != nil || len(entries) != 0 {
		t.Errorf("a missing directory: %+v, %v", entries, err)
	}
	for range 2 {
		if err := h.RemoveAll("w"); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
	if _, err := g.Try("/read", "name", "w/x/more.md"); err == nil {
		t.Error("a removed file still exists")
	}
}

// testHomeStaysInside has the agent create files that could make the server read or
// write outside of the home.
func testHomeStaysInside(t *testing.T, e Env) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "victim"), []byte("outside"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := Start(t, e.Driver, Spec(NewID()))
	h := g.Home()
	g.Ask("/link", "to", outside, "name", "out")
	g.Ask("/link", "to", filepath.Join(outside, "victim"), "name", "file")
	g.Ask("/link", "to", strings.Repeat("../", 20)+outside, "name", "relative")
	g.Ask("/link", "to", "loop", "name", "loop")
	g.Ask("/link", "to", "/dev/zero", "name", "zero")
	g.Ask("/pipe", "name", "pipe")
	g.Ask("/mkdir", "name", "dir")

	for _, path := range []string{
		"out/victim", "file", "relative/victim", "loop", "zero", "pipe", "dir", "../../victim", "..", "/etc/passwd", outside + "/victim",
		"conf/../../x", "out/../out/victim", "",
	} {
		if data, err := h.ReadFile(path, 100); err == nil {
			t.Errorf("read %q: %q", path, data)
		}
	}
	for _, path := range []string{"../new", "/new", outside + "/new", "conf/../../new", "..", ""} {
		if err := h.WriteFile(path, []byte("x")); err == nil {
			t.Errorf("wrote %q", path)
		}
	}
	for _, path := range []string{"out", "relative", "..", "/", outside, "loop", "pipe"} {
		if entries, err := h.ReadDir(path); err == nil && len(entries) > 0 {
			t.Errorf("listed %q: %v", path, entries)
		}
	}
	for _, path := range []string{"out/victim", "relative/victim", "..", "../x", ".", "", "/", outside} {
		_ = h.RemoveAll(path) // it may fail or do nothing, but must not change anything outside
	}
	// The links themselves can be replaced and removed.
	if err := h.WriteFile("file", []byte("inside")); err != nil {
		t.Errorf("replace a link: %v", err)
	}
	if err := h.WriteFile("pipe", []byte("inside")); err != nil {
		t.Errorf("replace a pipe: %v", err)
	}
	if err := h.RemoveAll("out"); err != nil {
		t.Errorf("remove a link: %v", err)
	}
	// What is in the way of a file is moved aside, so that the agent can be started.
	g.Ask("/link", "to", outside, "name", "out")
	g.Ask("/mkdir", "name", "dir/full")
	g.Ask("/pipe", "name", "pipe2")
	for _, path := range []string{"out/new", "relative/new", "loop/new", "pipe2/new", "dir"} {
		if err := h.WriteFile(path, []byte("inside")); err != nil {
			t.Errorf("write %q: %v", path, err)
		}
		if data, err := h.ReadFile(path, 100); err != nil || string(data) != "inside" {
			t.Errorf("%q has %q: %v", path, data, err)
		}
	}
	data, err := os.ReadFile(filepath.Join(outside, "victim"))
	entries, _ := os.ReadDir(outside)
	if err != nil || !bytes.Equal(data, []byte("outside")) || len(entries) != 1 {
		t.Errorf("something outside was changed: %q, %v, %v", data, err, entries)
	}
	if data, err := h.ReadFile("conf/deep/app.json", 100); err != nil {
		t.Errorf("a file of the home has %q: %v", data, err)
	}
}
