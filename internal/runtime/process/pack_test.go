package process

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/s2"

	"agento.host/agento/internal/runtime"
)

// packTest is a pack of some files.
type packTest struct {
	t     *testing.T
	files map[string][]byte
	data  []byte
	index packIndex
}

// newPack packs files of several sizes. If repacked is true, they were in a plain pack before.
func newPack(t *testing.T, sizes []int, key []byte, repacked bool) packTest {
	t.Helper()
	p := packTest{t: t, files: map[string][]byte{}, index: packIndex{Form: packForm, Key: key}}
	random := rand.New(rand.NewPCG(1, 2))
	dir := openRoot(t)
	for i, size := range sizes {
		name, content := string(rune('a'+i)), make([]byte, size)
		for j := range content {
			content[j] = byte(random.IntN(4))
		}
		p.files[name] = content
		if err := dir.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{metaName, indexName, packName + newSuffix} { // are no images
		if err := dir.WriteFile(name, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := newSealer(key)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	to := &packer{out: &out, sealer: s}
	if !repacked {
		p.index.Files, err = packFiles(t.Context(), dir, to)
	} else {
		var plain bytes.Buffer
		before := packIndex{}
		if before.Files, err = packFiles(t.Context(), dir, &packer{out: &plain}); err == nil {
			p.index.Files, err = repack(t.Context(), before, &plain, to)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	p.data = out.Bytes()
	return p
}

func openRoot(t *testing.T) *os.Root {
	t.Helper()
	dir, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	return dir
}

// unpack returns the files that an index finds in a pack.
func (p packTest) unpack(x packIndex, data []byte) (map[string][]byte, error) {
	p.t.Helper()
	path := filepath.Join(p.t.TempDir(), "pack")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		p.t.Fatal(err)
	}
	in, err := os.Open(path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	dir := openRoot(p.t)
	if err := unpack(p.t.Context(), x, in, dir); err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, f := range x.Files {
		if files[f.Name], err = dir.ReadFile(f.Name); err != nil {
			p.t.Fatal(err)
		}
	}
	return files, nil
}

// TestPack: what comes out is what went in, whatever the sizes.
func TestPack(t *testing.T) {
	for _, sizes := range [][]int{
		{0}, {1}, {0, 0}, {packChunk}, {packChunk - 1, packChunk + 1, 0, 1}, {1, 0, 3*packChunk + packChunk/2}, {2 * packChunk, 0},
	} {
		for _, key := range [][]byte{nil, newKey()} {
			for _, repacked := range []bool{false, true} {
				p := newPack(t, sizes, key, repacked)
				files, err := p.unpack(p.index, p.data)
				if err != nil || len(files) != len(p.files) {
					t.Errorf("%v: %d files, %v", sizes, len(files), err)
				}
				for name, want := range p.files {
					if !bytes.Equal(files[name], want) {
						t.Errorf("%v: %s has %d bytes, not %d", sizes, name, len(files[name]), len(want))
					}
				}
				for name, want := range p.files {
					if len(key) > 0 && len(want) > 64 && bytes.Contains(p.data, s2.Encode(nil, want[:min(len(want), packChunk)])[:32]) {
						t.Errorf("%v: %s is not sealed", sizes, name)
					}
				}
			}
		}
	}
}

// TestPackChanged: what is not the pack of its index is refused, whatever was changed.
func TestPackChanged(t *testing.T) {
	p := newPack(t, []int{2*packChunk + 5, 7, 3 * packChunk}, newKey(), false)
	other := newPack(t, []int{2*packChunk + 5, 7, 3 * packChunk}, newKey(), false)
	first, second := p.index.Files[0].Chunks[0], p.index.Files[0].Chunks[1]
	for name, change := range map[string]func() (packIndex, []byte){
		"of another key": func() (packIndex, []byte) { return p.index, other.data },
		"empty":          func() (packIndex, []byte) { return p.index, nil },
		"shortened":      func() (packIndex, []byte) { return p.index, p.data[:len(p.data)-1] },
		"chunks exchanged": func() (packIndex, []byte) {
			x := p.index
			x.Files = slices.Clone(x.Files)
			x.Files[0].Chunks = slices.Clone(x.Files[0].Chunks)
			x.Files[0].Chunks[0], x.Files[0].Chunks[1] = second, first
			return x, slices.Concat(p.data[first:first+second], p.data[:first], p.data[first+second:])
		},
		"of another form": func() (packIndex, []byte) {
			x := p.index
			x.Form = ""
			return x, p.data
		},
		"the end is missing": func() (packIndex, []byte) {
			x := p.index
			x.Files = slices.Clone(x.Files[:2])
			return x, p.data
		},
	} {
		if _, err := p.unpack(change()); !errors.Is(err, runtime.ErrNoCheckpoint) {
			t.Errorf("%s: %v", name, err)
		}
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		data := bytes.Clone(p.data)
		at := random.IntN(len(data))
		data[at] ^= 1 << random.IntN(8)
		if _, err := p.unpack(p.index, data); !errors.Is(err, runtime.ErrNoCheckpoint) {
			t.Errorf("a bit of byte %d: %v", at, err)
		}
	}
}

// TestPackEndsWithItsContext, and with the room that it has.
func TestPackEndsWithItsContext(t *testing.T) {
	p := newPack(t, []int{3 * packChunk}, nil, false)
	dir := openRoot(t)
	if err := dir.WriteFile("a", p.files["a"], 0o600); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := packFiles(ended, dir, &packer{out: io.Discard}); !errors.Is(err, context.Canceled) {
		t.Errorf("packFiles: %v", err)
	}
	if _, err := repack(ended, p.index, bytes.NewReader(p.data), &packer{out: io.Discard}); !errors.Is(err, context.Canceled) {
		t.Errorf("repack: %v", err)
	}
	asked := 0
	_, err := packFiles(t.Context(), dir, &packer{out: io.Discard, room: func(int64) error { asked++; return runtime.ErrNoDiskRoom }})
	if !errors.Is(err, runtime.ErrNoDiskRoom) || asked != 1 {
		t.Errorf("without room: %v", err)
	}
}
