package repository

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	_ "gocloud.dev/blob/memblob" // mem://

	"agento.host/agento/internal/vault"
)

var passphrase = vault.NewSecret("a passphrase for tests")

func create(t *testing.T, dir string, p vault.Secret) *Repository {
	t.Helper()
	r, err := Create(t.Context(), dir, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func makeHome(t *testing.T, r *Repository, name string) *Home {
	t.Helper()
	h, err := r.MakeHome(t.Context(), name)
	if err == nil {
		err = h.List(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// add stores contents and returns where they are.
func add(t *testing.T, h *Home, contents ...[]byte) ([]Content, Stored) {
	t.Helper()
	w := h.NewWriter(t.Context())
	all := make([]Content, len(contents))
	for i, c := range contents {
		if err := w.Add(bytes.NewReader(c), &all[i]); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := w.Flush()
	if err != nil {
		t.Fatal(err)
	}
	return all, stored
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed)}).Read(b)
	return b
}

// TestContents: what was stored is read back, whatever its size is, by another process too.
func TestContents(t *testing.T) {
	dir := t.TempDir()
	contents := [][]byte{{}, []byte("x"), noise(1, 5<<20), []byte(strings.Repeat("abc", 40_000)), noise(2, smallFile), noise(3, smallFile-1)}
	for i := range 300 {
		contents = append(contents, noise(uint64(i), 1000+i))
	}
	places, _ := add(t, makeHome(t, create(t, dir, passphrase), "a"), contents...)
	r, err := Open(t.Context(), "file://"+dir, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	h, err := r.Home(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range places {
		got, err := io.ReadAll(h.Open(t.Context(), c))
		if err != nil || !bytes.Equal(got, contents[i]) || c.Size() != int64(len(contents[i])) {
			t.Fatalf("content %d: %d bytes, %v", i, len(got), err)
		}
	}
}

// TestIncremental: a further copy stores only the chunks that have changed, and another home
// shares none of them.
func TestIncremental(t *testing.T) {
	r := create(t, t.TempDir(), vault.Secret{})
	large := noise(1, 8<<20)
	h := makeHome(t, r, "a")
	_, first := add(t, h, large)
	changed := bytes.Clone(large)
	copy(changed[4<<20:], "something else")
	_, second := add(t, makeHome(t, r, "a"), append([]byte("in front of it"), changed...))
	if second.Bytes*3 > first.Bytes || second.Chunks == 0 {
		t.Errorf("the second copy stored %+v after %+v", second, first)
	}
	if _, other := add(t, makeHome(t, r, "b"), large); other.Bytes < int64(len(large)) {
		t.Errorf("another home shares chunks: it stored %+v", other)
	}
}

// TestSmallFilesShareChunks: many small files make few objects, and one that changes makes
// few new ones.
func TestSmallFilesShareChunks(t *testing.T) {
	h := makeHome(t, create(t, t.TempDir(), vault.Secret{}), "a")
	var files [][]byte
	for i := range 4000 {
		files = append(files, noise(uint64(i*7), 500))
	}
	_, first := add(t, h, files...)
	if first.Chunks > 40 {
		t.Errorf("4000 files of 500 bytes made %d chunks", first.Chunks)
	}
	files[10] = []byte("changed")
	if _, second := add(t, h, files...); second.Chunks > 3 {
		t.Errorf("one change made %d new chunks of %d", second.Chunks, first.Chunks)
	}
}

// TestNothingReadable: neither texts nor names of what was stored are in the bucket.
func TestNothingReadable(t *testing.T) {
	dir := t.TempDir()
	r := create(t, dir, passphrase)
	add(t, makeHome(t, r, "a"), []byte(strings.Repeat("SENSITIVE", 30_000)))
	if err := r.PutRecord(t.Context(), "one", []byte("SENSITIVE")); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte("SENSITIVE")) || bytes.Contains(data, []byte(passphrase.Reveal())) {
			t.Errorf("%s can be read", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestAccess: what opens a repository, and what does not.
func TestAccess(t *testing.T) {
	protected, plain, empty, other := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	create(t, protected, passphrase)
	create(t, plain, vault.Secret{})
	if err := os.WriteFile(filepath.Join(other, "letter.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dir  string
		with vault.Secret
		want error
	}{
		{protected, passphrase, nil},
		{protected, vault.NewSecret("another passphrase"), ErrPassphrase},
		{protected, vault.Secret{}, ErrProtected},
		{plain, vault.Secret{}, nil},
		{plain, passphrase, ErrPlain},
		{empty, passphrase, ErrNoRepository},
		{filepath.Join(empty, "missing"), passphrase, ErrNoRepository},
	} {
		r, err := Open(t.Context(), c.dir, c.with)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, not %v", c.dir, err, c.want)
		}
		if r != nil {
			_ = r.Close()
		}
	}
	if _, err := Create(t.Context(), other, passphrase); err == nil || !strings.Contains(err.Error(), "letter.txt") {
		t.Errorf("a directory with something else: %v", err)
	}
	if _, err := Create(t.Context(), filepath.Join(empty, "new"), vault.NewSecret("short")); err == nil || !strings.Contains(err.Error(), "at least") {
		t.Errorf("a short passphrase: %v", err)
	}
}

// TestForget: without its key no copy of a home can be read; other homes can.
func TestForget(t *testing.T) {
	dir := t.TempDir()
	r := create(t, dir, vault.Secret{})
	add(t, makeHome(t, r, "a"), noise(1, 1<<20))
	kept := makeHome(t, r, "b")
	places, _ := add(t, kept, noise(1, 1<<20))
	if err := r.Forget(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Home(t.Context(), "a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the key of a forgotten home: %v", err)
	}
	if left, _ := filepath.Glob(dir + "/chunks/a/*/*"); len(left) > 0 {
		t.Errorf("%d chunks are left", len(left))
	}
	if got, err := io.ReadAll(kept.Open(t.Context(), places[0])); err != nil || len(got) != 1<<20 {
		t.Errorf("the other home: %d bytes, %v", len(got), err)
	}
	if err := r.Forget(t.Context(), "a"); err != nil {
		t.Errorf("once more: %v", err)
	}
}

// TestDamage: what was changed in the bucket, or moved there, is not read; what a power
// failure has cut is stored again.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	r := create(t, dir, vault.Secret{})
	text := noise(1, 50_000)
	places, _ := add(t, makeHome(t, r, "a"), text)
	others, _ := add(t, makeHome(t, r, "b"), text)
	file := func(home string, c Content) string {
		return filepath.Join(dir, "chunks", home, c[0].Chunk[:2], c[0].Chunk)
	}
	good, err := os.ReadFile(file("a", places[0]))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(file("b", others[0]))
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	for what, data := range map[string][]byte{"a changed byte": flipped, "a cut end": good[:len(good)-1], "nothing": {}, "the chunk of another home": foreign} {
		if err := os.WriteFile(file("a", places[0]), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(makeHome(t, r, "a").Open(t.Context(), places[0])); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := os.Truncate(file("a", places[0]), 0); err != nil {
		t.Fatal(err)
	}
	h := makeHome(t, r, "a")
	if h.Has(places[0]) {
		t.Error("an empty chunk counts as stored")
	}
	if _, stored := add(t, h, text); stored.Chunks != 1 {
		t.Errorf("an empty chunk was not stored again: %+v", stored)
	}
	for _, c := range []Content{{{Chunk: "../../config", Length: 1}}, {{Chunk: places[0][0].Chunk, Offset: -1, Length: 2}}, {{Chunk: places[0][0].Chunk, Offset: 49_999, Length: 2}}} {
		if _, err := io.ReadAll(h.Open(t.Context(), c)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%v: %v", c, err)
		}
	}
}

// TestRecords: records are kept under their names, and replaced by none.
func TestRecords(t *testing.T) {
	r := create(t, t.TempDir(), vault.Secret{})
	for _, id := range []string{"b", "a"} {
		if err := r.PutRecord(t.Context(), id, []byte("record "+id)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.PutRecord(t.Context(), "a", nil); err == nil {
		t.Error("a record was replaced")
	}
	if err := r.PutRecord(t.Context(), "../x", nil); err == nil {
		t.Error("a record outside of its place")
	}
	if ids, err := r.Records(t.Context()); err != nil || strings.Join(ids, " ") != "a b" {
		t.Errorf("%q, %v", ids, err)
	}
	if data, err := r.Record(t.Context(), "a"); err != nil || string(data) != "record a" {
		t.Errorf("%q, %v", data, err)
	}
	if err := r.DeleteRecord(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Record(t.Context(), "a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a deleted record: %v", err)
	}
}

// TestPrune: chunks that nothing uses go when they are old enough, others stay.
func TestPrune(t *testing.T) {
	dir := t.TempDir()
	h := makeHome(t, create(t, dir, vault.Secret{}), "a")
	places, _ := add(t, h, noise(1, 100_000), noise(2, 100_000))
	used := func(id string) bool { return id == places[0][0].Chunk }
	if n, err := h.Prune(t.Context(), used); n != 0 || err != nil {
		t.Errorf("chunks of a moment ago: %d bytes were deleted, %v", n, err)
	}
	old := time.Now().Add(-2 * pruneGrace)
	for _, p := range places {
		if err := os.Chtimes(filepath.Join(dir, "chunks", "a", p[0].Chunk[:2], p[0].Chunk), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := h.Prune(t.Context(), used); n == 0 || err != nil {
		t.Errorf("%d bytes were deleted, %v", n, err)
	}
	if err := h.List(t.Context()); err != nil || !h.Has(places[0]) || h.Has(places[1]) {
		t.Errorf("has the first: %v, the second: %v; %v", h.Has(places[0]), h.Has(places[1]), err)
	}
}

// TestLock: there is one writer; the lock of one that was killed is taken after a minute,
// and a writer that was stopped meanwhile is told.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := create(t, dir, vault.Secret{})
		first, err := r.Lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Lock(t.Context()); !errors.Is(err, ErrLocked) {
			t.Errorf("a second lock: %v", err)
		}
		if err := first.Check(t.Context()); err != nil {
			t.Error(err)
		}
		first.stop() // killed
		<-first.done
		began := time.Now()
		second, err := r.Lock(t.Context())
		if err != nil || time.Since(began) < lockStale {
			t.Fatalf("after %s: %v", time.Since(began), err)
		}
		if err := first.Check(t.Context()); !errors.Is(err, ErrLocked) {
			t.Errorf("the first holder: %v", err)
		}
		if err := second.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
		if third, err := r.Lock(t.Context()); err != nil {
			t.Error(err)
		} else if err := third.Unlock(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestShown(t *testing.T) {
	for url, want := range map[string]string{"/srv/backups": "/srv/backups", "s3://bucket?region=eu&token=x": "s3://bucket", "azblob://user:pass@store/x": "azblob://store/x"} {
		if got := Shown(url); got != want {
			t.Errorf("%s is shown as %s", url, got)
		}
	}
}

// TestBucket: a bucket that is no directory works too.
func TestBucket(t *testing.T) {
	r := create(t, "mem://", passphrase)
	lock, err := r.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text := noise(1, 300_000)
	h := makeHome(t, r, "a")
	places, _ := add(t, h, text)
	if got, err := io.ReadAll(makeHome(t, r, "a").Open(t.Context(), places[0])); err != nil || !bytes.Equal(got, text) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	err = errors.Join(r.PutRecord(t.Context(), "one", text), lock.Check(t.Context()), lock.Unlock(t.Context()), r.Forget(t.Context(), "a"))
	if err != nil {
		t.Error(err)
	}
	if err := r.PutRecord(t.Context(), "one", text); err == nil {
		t.Error("a record was replaced")
	}
	if _, err := Open(t.Context(), "nothing://x", passphrase); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("an unknown service: %v", err)
	}
}
