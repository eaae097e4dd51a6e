package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"agento.host/agento/internal/skiptest"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"agento.host/agento/internal/runtime/image"
)

// unpack returns the files of an image's first layer, each described in a few words.
func unpack(t *testing.T, made *image.Image) map[string]string {
	t.Helper()
	members, manifest := saved(t, made)
	plain, err := gzip.NewReader(bytes.NewReader(members[manifest.Layers[0]]))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	var names []string
	eachEntry(t, plain, func(h *tar.Header, content []byte) {
		names = append(names, strings.TrimSuffix(h.Name, "/"))
		if h.ModTime.Unix() != 1_790_000_000 || h.Uname != "" || h.Gname != "" || len(h.PAXRecords) > 0 {
			t.Errorf("%s has the time %v, the owner %q and the records %v", h.Name, h.ModTime, h.Uname, h.PAXRecords)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			files[h.Name] = fmt.Sprintf("directory %o %d", h.Mode, h.Uid)
		case tar.TypeSymlink:
			files[h.Name] = "link to " + h.Linkname
		case tar.TypeLink:
			files[h.Name] = "hard link to " + h.Linkname
		default:
			files[h.Name] = fmt.Sprintf("file %o %d %s", h.Mode, h.Uid, content)
		}
	})
	if !slices.IsSorted(names) {
		t.Errorf("the layer is not sorted: %v", names)
	}
	return files
}

type manifest struct {
	Config string
	Layers []string
}

// saved returns what an image is written as.
func saved(t *testing.T, made *image.Image) (map[string][]byte, manifest) {
	t.Helper()
	var out bytes.Buffer
	if _, err := made.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	members := map[string][]byte{}
	eachEntry(t, &out, func(h *tar.Header, content []byte) { members[h.Name] = content })
	var manifests []manifest
	if err := json.Unmarshal(members["manifest.json"], &manifests); err != nil {
		t.Fatal(err)
	}
	return members, manifests[0]
}

// configOf returns the configuration of an image.
func configOf(t *testing.T, made *image.Image) (config v1.ConfigFile) {
	t.Helper()
	members, manifest := saved(t, made)
	if err := json.Unmarshal(members[manifest.Config], &config); err != nil {
		t.Fatal(err)
	}
	return config
}

func eachEntry(t *testing.T, r io.Reader, do func(*tar.Header, []byte)) {
	t.Helper()
	for entries := tar.NewReader(r); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		content, readErr := io.ReadAll(entries)
		if err := errors.Join(err, readErr); err != nil {
			t.Fatal(err)
		}
		do(h, content)
	}
}

// base builds the base of this machine's architecture with files, from the real packages and
// the cache of whoever runs the test.
func base(t *testing.T, s image.Settings) *image.Image {
	t.Helper()
	s.WithoutRuntime = true
	made, err := image.Build(t.Context(), s)
	skipOffline(t, err)
	return made
}

func skipOffline(t *testing.T, err error) {
	t.Helper()
	if offline := (*net.OpError)(nil); errors.As(err, &offline) {
		t.Skipf("skipped: the packages cannot be fetched here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestImagesAreTheSameEverywhere: of some real packages, in two directories, with two umasks and
// two orders of the lock file.
func TestImagesAreTheSameEverywhere(t *testing.T) {
	skiptest.UnlessChaos(t, "image")
	lock, err := image.EmbeddedLock()
	if err != nil {
		t.Fatal(err)
	}
	some := strings.Fields("base-files dash sed ca-certificates tzdata hostname mawk netbase")
	lock.Packages = slices.DeleteFunc(lock.Packages, func(p image.Package) bool { return !slices.Contains(some, p.Name) })
	for _, architecture := range image.Architectures {
		var images []*image.Image
		for _, umask := range []int{0o022, 0o077} {
			defer syscall.Umask(syscall.Umask(umask))
			made, err := image.BuildWith(t.Context(), image.Settings{Architecture: architecture, WithoutRuntime: true, Cache: t.TempDir()}, lock)
			skipOffline(t, err)
			images = append(images, made)
			slices.Reverse(lock.Packages)
		}
		if images[0].ID != images[1].ID || images[0].Layers[0] != images[1].Layers[0] {
			t.Errorf("the images for %s are %s %+v and %s %+v", architecture, images[0].ID, images[0].Layers, images[1].ID, images[1].Layers)
		}
	}
}

func TestABrokenRelayIsRefused(t *testing.T) {
	dynamic := program(t, "1", `package main; import "C"; func main() {}`)
	text := filepath.Join(t.TempDir(), "relay")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	content := deb(t)
	for file, want := range map[string]string{dynamic: "CGO_ENABLED=0", text: "no program for Linux", filepath.Join(t.TempDir(), "none"): "no such file"} {
		s := settings(t, serve(content))
		s.Relay, s.Architecture = file, "amd64"
		if runtime.GOARCH != "amd64" && file == dynamic {
			continue
		}
		if _, err := image.BuildWith(t.Context(), s, lockOf(content)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", file, err, want)
		}
	}
}

func TestDamagedCacheIsMadeAnew(t *testing.T) {
	content := deb(t, "./usr/bin/some", "some")
	s := settings(t, serve(content))
	first, err := image.BuildWith(t.Context(), s, lockOf(content))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range filesBelow(t, s.Cache) {
		if err := os.Truncate(file, 10); err != nil {
			t.Fatal(err)
		}
	}
	second, err := image.BuildWith(t.Context(), s, lockOf(content))
	if err != nil || second.ID != first.ID {
		t.Errorf("the image is %+v, want %s: %v", second, first.ID, err)
	}
}

// program builds a Go program and returns its file.
func program(t *testing.T, cgo, source string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", "program", "main.go")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build a program: %v: %s", err, out)
	}
	return filepath.Join(dir, "program")
}
