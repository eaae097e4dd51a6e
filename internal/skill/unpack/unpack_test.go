package unpack_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"agento.host/agento/internal/skill/unpack"
)

type entry struct {
	name string
	body string
	mode fs.FileMode
}

func makeZip(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		h.SetMode(e.mode | 0o644)
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func makeTar(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	w := tar.NewWriter(gz)
	for _, h := range entries {
		body := strings.Repeat("x", int(h.Size))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpackSelectsFiles(t *testing.T) {
	files, err := unpack.Zip(makeZip(t, entry{"a/", "", fs.ModeDir}, entry{"a/SKILL.md", "hello", 0}, entry{"a/x/y.txt", "", 0}), unpack.Skill, unpack.Under("a"))
	if err != nil || len(files) != 2 || string(files["SKILL.md"]) != "hello" {
		t.Fatalf("zip: %v, %q", err, files)
	}
	data := makeTar(t,
		tar.Header{Name: "pax_global_header", Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}},
		tar.Header{Name: "repo-1/", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "repo-1/link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		tar.Header{Name: "repo-1/s/SKILL.md", Typeflag: tar.TypeReg, Size: 5, Mode: 0o644},
	)
	files, err = unpack.TarGz(bytes.NewReader(data), unpack.Repository, unpack.Under("repo-1/s"))
	if err != nil || len(files) != 1 || string(files["SKILL.md"]) != "xxxxx" {
		t.Fatalf("tar: %v, %q", err, files)
	}
}

func TestZipRefusesUnsafeArchives(t *testing.T) {
	zeros := strings.Repeat("\x00", 900<<10)
	many := make([]entry, 300)
	for i := range many {
		many[i] = entry{name: fmt.Sprintf("f%d", i)}
	}
	for name, entries := range map[string][]entry{
		"parent":        {{"../x", "", 0}},
		"parent inside": {{"a/../../x", "", 0}},
		"absolute":      {{"/etc/x", "", 0}},
		"backslash":     {{`..\x`, "", 0}},
		"drive":         {{`C:x`, "", 0}},
		"empty part":    {{"a//b", "", 0}},
		"control":       {{"a\nb", "", 0}},
		"bidi":          {{"a\u202eb", "", 0}},
		"not utf8":      {{"a\xffb", "", 0}},
		"device name":   {{"nul.txt", "", 0}},
		"trailing dot":  {{"a./b", "", 0}},
		"long":          {{strings.Repeat("a/", 130) + "b", "", 0}},
		"deep":          {{strings.Repeat("a/", 11) + "b", "", 0}},
		"symlink":       {{"a", "/etc/passwd", fs.ModeSymlink}},
		"device":        {{"a", "", fs.ModeDevice}},
		"pipe":          {{"a", "", fs.ModeNamedPipe}},
		"twice":         {{"a", "1", 0}, {"a", "2", 0}},
		"case":          {{"SKILL.md", "1", 0}, {"skill.md", "2", 0}},
		"case of a dir": {{"A/x", "1", 0}, {"a/y", "2", 0}},
		"accent":        {{"caf\u00e9", "1", 0}, {"cafe\u0301", "2", 0}},
		"kelvin":        {{"k", "1", 0}, {"\u212a", "2", 0}},
		"file and dir":  {{"a", "1", 0}, {"a/b", "2", 0}},
		"dir and file":  {{"a/b", "1", 0}, {"A", "2", 0}},
		"bomb":          {{"a", zeros, 0}},
		"too large":     {{"a", strings.Repeat("random enough to be honest ", 50<<10), 0}},
		"too many":      many,
		"no name":       {{"", "", 0}},
	} {
		files, err := unpack.Zip(makeZip(t, entries...), unpack.Skill, unpack.All)
		if !errors.Is(err, unpack.ErrUnsafe) || files != nil {
			t.Errorf("%s: %v, %d files", name, err, len(files))
		}
	}
}

func TestTarGzRefusesUnsafeArchives(t *testing.T) {
	for name, h := range map[string]tar.Header{
		"parent":    {Name: "../x", Typeflag: tar.TypeReg},
		"absolute":  {Name: "/x", Typeflag: tar.TypeReg},
		"symlink":   {Name: "a", Typeflag: tar.TypeSymlink, Linkname: "b"},
		"hard link": {Name: "a", Typeflag: tar.TypeLink, Linkname: "/etc/shadow"},
		"device":    {Name: "a", Typeflag: tar.TypeChar},
		"pipe":      {Name: "a", Typeflag: tar.TypeFifo},
		"bomb":      {Name: "a", Typeflag: tar.TypeReg, Size: 3 << 20},
	} {
		files, err := unpack.TarGz(bytes.NewReader(makeTar(t, h)), unpack.Skill, unpack.All)
		if !errors.Is(err, unpack.ErrUnsafe) || files != nil {
			t.Errorf("%s: %v, %d files", name, err, len(files))
		}
	}
	// the size of files that are not selected is bounded too
	big := makeTar(t, tar.Header{Name: "other", Typeflag: tar.TypeReg, Size: 20 << 20}, tar.Header{Name: "s/a", Typeflag: tar.TypeReg})
	if _, err := unpack.TarGz(bytes.NewReader(big), unpack.Skill, unpack.Under("s")); !errors.Is(err, unpack.ErrUnsafe) {
		t.Errorf("skipped bomb: %v", err)
	}
}

func TestBrokenArchivesAreRefused(t *testing.T) {
	z := makeZip(t, entry{"SKILL.md", strings.Repeat("some text ", 100), 0})
	gz := makeTar(t, tar.Header{Name: "a", Typeflag: tar.TypeReg, Size: 5000})
	flipped := bytes.Clone(z)
	flipped[45] ^= 0xff
	for name, data := range map[string][]byte{"empty": nil, "text": []byte("not a zip"), "cut": z[:len(z)-30], "flipped": flipped} {
		if files, err := unpack.Zip(data, unpack.Skill, unpack.All); !errors.Is(err, unpack.ErrBroken) || files != nil {
			t.Errorf("zip %s: %v", name, err)
		}
	}
	for name, data := range map[string][]byte{"empty": nil, "text": []byte("not gzip"), "cut": gz[:len(gz)-20]} {
		if files, err := unpack.TarGz(bytes.NewReader(data), unpack.Skill, unpack.All); !errors.Is(err, unpack.ErrBroken) || files != nil {
			t.Errorf("tar %s: %v", name, err)
		}
	}
}

func checkFiles(t *testing.T, files map[string][]byte) {
	total := 0
	seen := map[string]bool{}
	for name, data := range files {
		if err := unpack.CheckPath(name); err != nil {
			t.Fatalf("unsafe path %q was unpacked: %v", name, err)
		}
		if !fs.ValidPath(name) || seen[unpack.Fold(name)] {
			t.Fatalf("invalid or duplicate path %q was unpacked", name)
		}
		seen[unpack.Fold(name)] = true
		total += len(data)
	}
	if total > 2<<20 || len(files) > 256 {
		t.Fatalf("%d files with %d bytes were unpacked", len(files), total)
	}
}

func FuzzZip(f *testing.F) {
	f.Add(makeZip(f, entry{"SKILL.md", "hello", 0}, entry{"a/b", "x", 0}))
	f.Add(makeZip(f, entry{"../x", "", 0}))
	f.Fuzz(func(t *testing.T, data []byte) {
		files, err := unpack.Zip(data, unpack.Skill, unpack.All)
		if (err == nil) == (files == nil) {
			t.Fatalf("files %v with error %v", files, err)
		}
		checkFiles(t, files)
	})
}

func FuzzTarGz(f *testing.F) {
	f.Add(makeTar(f, tar.Header{Name: "SKILL.md", Typeflag: tar.TypeReg, Size: 5}))
	f.Fuzz(func(t *testing.T, data []byte) {
		var b bytes.Buffer // the fuzzer rarely produces a valid checksum, so its input is also tried as the content
		gz := gzip.NewWriter(&b)
		if _, err := gz.Write(data); err != nil || gz.Close() != nil {
			t.Fatal("gzip failed")
		}
		for _, in := range [][]byte{data, b.Bytes()} {
			files, err := unpack.TarGz(bytes.NewReader(in), unpack.Skill, unpack.All)
			if (err == nil) == (files == nil) {
				t.Fatalf("files %v with error %v", files, err)
			}
			checkFiles(t, files)
		}
	})
}

func FuzzCheckPath(f *testing.F) {
	f.Add("a/b.md")
	f.Add("../x")
	f.Fuzz(func(t *testing.T, p string) {
		if unpack.CheckPath(p) == nil && !fs.ValidPath(p) {
			t.Fatalf("%q was accepted", p)
		}
		_ = unpack.Quote(p)
	})
}
