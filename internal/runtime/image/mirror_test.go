package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"agento.host/agento/internal/runtime/image"
)

// deb makes a package of files. A name that ends with a slash is a directory; the content of a
// link is where it leads, after "->" or, of a hard link, "=>".
func deb(t *testing.T, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	out.WriteString("!<arch>\n")
	member := func(name string, content []byte) {
		fmt.Fprintf(&out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", len(content))
		out.Write(content)
		if len(content)%2 == 1 {
			out.WriteByte('\n')
		}
	}
	member("debian-binary", []byte("2.0\n"))
	member("control.tar.gz", archive(t, "./control", "Package: some\nVersion: 1\n"))
	member("data.tar.gz", archive(t, files...))
	return out.Bytes()
}

func archive(t *testing.T, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	packed := gzip.NewWriter(&out)
	entries := tar.NewWriter(packed)
	for i := 0; i+1 < len(files); i += 2 {
		name, content := files[i], files[i+1]
		h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o4755, Size: int64(len(content)), Uid: 7, Uname: "somebody", ModTime: time.Now()}
		if to, ok := strings.CutPrefix(content, "->"); ok {
			h.Typeflag, h.Linkname, h.Size, content = tar.TypeSymlink, to, 0, ""
		} else if to, ok := strings.CutPrefix(content, "=>"); ok {
			h.Typeflag, h.Linkname, h.Size, content = tar.TypeLink, to, 0, ""
		} else if strings.HasSuffix(name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := entries.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := entries.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(entries.Close(), packed.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// lockOf pins one package, whose path is debian/some.deb.
func lockOf(content []byte) image.Lock {
	sum := sha256.Sum256(content)
	return image.Lock{Epoch: time.Unix(1_790_000_000, 0), Packages: []image.Package{{
		Architecture: "amd64", Name: "some", Version: "1", Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:]), Path: "debian/some.deb",
	}}}
}

// settings build the base alone, in a cache of its own.
func settings(t *testing.T, mirror http.HandlerFunc) image.Settings {
	t.Helper()
	server := httptest.NewServer(mirror)
	t.Cleanup(server.Close)
	return image.Settings{Architecture: "amd64", WithoutRuntime: true, Mirror: server.URL + "/", Cache: t.TempDir(), HTTP: server.Client()}
}

func serve(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/debian/some.deb" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(content)
	}
}

func TestAPackageWithAnotherContentIsRefused(t *testing.T) {
	content := deb(t, "./usr/bin/some", "some")
	for name, served := range map[string][]byte{
		"SHA-256":   append(bytes.Clone(content[:len(content)-1]), content[len(content)-1]^1),
		"more than": append(bytes.Clone(content), 0),
	} {
		s := settings(t, serve(served))
		_, err := image.BuildWith(t.Context(), s, lockOf(content))
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "lock file pins") {
			t.Errorf("%s: error %v", name, err)
		}
		if left := filesBelow(t, s.Cache); len(left) > 0 {
			t.Errorf("%s: it left %v", name, left)
		}
	}
}

func TestAMissingPackageIsNamed(t *testing.T) {
	lock := lockOf(deb(t))
	_, err := image.BuildWith(t.Context(), settings(t, http.NotFound), lock)
	var missing *image.MissingPackageError
	if !errors.As(err, &missing) || missing.Package != lock.Packages[0] {
		t.Fatalf("error %v, want that the package is missing", err)
	}
	for _, want := range []string{"some 1", "/debian/some.deb", "make image-lock"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
}

func TestAnInterruptedDownloadLeavesNothingAndIsRepeated(t *testing.T) {
	content := deb(t, "./usr/bin/some", strings.Repeat("some", 1000))
	var calls, wholeFrom atomic.Int64
	wholeFrom.Store(100)
	s := settings(t, func(w http.ResponseWriter, r *http.Request) {
		n := calls.Add(1)
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		if n >= wholeFrom.Load() {
			_, _ = w.Write(content)
			return
		}
		_, _ = w.Write(content[:len(content)/2])
		panic(http.ErrAbortHandler)
	})
	_, err := image.BuildWith(t.Context(), s, lockOf(content))
	if err == nil || !strings.Contains(err.Error(), "fetch the package some") {
		t.Errorf("error %v", err)
	}
	if left := filesBelow(t, s.Cache); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
	if n := calls.Load(); n < 2 {
		t.Errorf("%d attempts", n)
	}
	wholeFrom.Store(calls.Load() + 2) // the next one is cut once more
	if _, err := image.BuildWith(t.Context(), s, lockOf(content)); err != nil {
		t.Errorf("once the mirror works: %v", err)
	}
}

// TestWhatIsMadeOfAPackage: merged directories, links, no rights of owners, no documentation.
func TestWhatIsMadeOfAPackage(t *testing.T) {
	content := deb(t, "./", "", "./bin/", "", "./bin/one", "one", "./usr/lib/two", "=>./bin/one", "./lib/x/three", "->../y", "./usr/share/man/man1/one.1", "manual",
		"./usr/share/doc/some/copyright", "license", "./usr/share/doc/some/README", "text", "./usr/share/ca-certificates/mozilla/B.crt", "B\n\n", "./usr/share/ca-certificates/mozilla/A.crt", "A")
	made, err := image.BuildWith(t.Context(), settings(t, serve(content)), lockOf(content))
	if err != nil {
		t.Fatal(err)
	}
	files := unpack(t, made)
	for name, want := range map[string]string{
		"usr/bin/one": "file 755 0 one", "usr/lib/two": "hard link to usr/bin/one", "usr/lib/x/three": "link to ../y", "bin": "link to usr/bin", "lib": "link to usr/lib", "usr/bin/": "directory 755 0",
		"home/agent/": "directory 700 10001", "run/agento/": "directory 700 10001", "tmp/": "directory 1777 0", "usr/share/doc/some/copyright": "file 755 0 license",
		"etc/ssl/certs/ca-certificates.crt": "file 644 0 A\nB\n", "var/lib/dpkg/status.d/some": "file 644 0 Package: some\nVersion: 1\n", "usr/share/man/man1/one.1": "", "usr/share/man/": "", "usr/share/doc/some/README": "",
	} {
		if files[name] != want {
			t.Errorf("%s is %q, want %q", name, files[name], want)
		}
	}
}

func TestAPackageThatLeadsOutIsRefused(t *testing.T) {
	content := deb(t, "../../etc/passwd", "x")
	if _, err := image.BuildWith(t.Context(), settings(t, serve(content)), lockOf(content)); err == nil || !strings.Contains(err.Error(), "leads out") {
		t.Errorf("error %v", err)
	}
}

func filesBelow(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
