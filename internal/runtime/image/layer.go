package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
)

// layer is a layer of an image. It implements v1.Layer.
type layer struct {
	facts layerFacts
	media types.MediaType
	open  func() (io.ReadCloser, error) // as it is sent
	plain func() (io.ReadCloser, error)
}

// layerFacts are what is kept of a layer beside its content.
type layerFacts struct {
	Digest   v1.Hash `json:"digest"` // of what is sent
	DiffID   v1.Hash `json:"diffId"` // of the tar archive
	Sent     int64   `json:"sent"`
	Unpacked int64   `json:"unpacked"`
}

// Digest implements v1.Layer.
func (l *layer) Digest() (v1.Hash, error) { return l.facts.Digest, nil }

// DiffID implements v1.Layer.
func (l *layer) DiffID() (v1.Hash, error) { return l.facts.DiffID, nil }

// Compressed implements v1.Layer.
func (l *layer) Compressed() (io.ReadCloser, error) { return l.open() }

// Uncompressed implements v1.Layer.
func (l *layer) Uncompressed() (io.ReadCloser, error) { return l.plain() }

// Size implements v1.Layer.
func (l *layer) Size() (int64, error) { return l.facts.Sent, nil }

// MediaType implements v1.Layer.
func (l *layer) MediaType() (types.MediaType, error) { return l.media, nil }

// newLayer returns a layer that is made of its files whenever it is read, and not compressed.
func newLayer(t *tree, at time.Time) (*layer, error) {
	sum := newCounter()
	if err := t.write(sum, at); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() { _ = w.CloseWithError(t.write(w, at)) }() // ends at the latest when r is closed
		return r, nil
	}
	facts := layerFacts{Digest: sum.hash(), DiffID: sum.hash(), Sent: sum.size, Unpacked: sum.size}
	return &layer{facts: facts, media: types.DockerUncompressedLayer, open: open, plain: open}, nil
}

// layerCache keeps layers that take long to make, each as a compressed file and one with its
// facts, which is written last.
type layerCache struct{ dir string }

// find returns the layer of a key if the cache has it.
func (c layerCache) find(key string) (*layer, bool) {
	text, err := os.ReadFile(c.factsFile(key))
	if err != nil {
		return nil, false
	}
	var facts layerFacts
	if err := json.Unmarshal(text, &facts); err != nil {
		return nil, false
	}
	info, err := os.Stat(c.file(key))
	if err != nil || info.Size() != facts.Sent {
		return nil, false
	}
	open := func() (io.ReadCloser, error) { return os.Open(c.file(key)) }
	return &layer{facts: facts, media: types.DockerLayer, open: open, plain: func() (io.ReadCloser, error) {
		packed, err := open()
		if err != nil {
			return nil, err
		}
		plain, err := gzip.NewReader(packed)
		if err != nil {
			return nil, errors.Join(err, packed.Close())
		}
		return &unpacked{plain, packed}, nil
	}}, true
}

// unpacked closes the file with its reader.
type unpacked struct {
	*gzip.Reader
	packed io.Closer
}

func (u *unpacked) Close() error { return errors.Join(u.Reader.Close(), u.packed.Close()) }

func (c layerCache) file(key string) string      { return filepath.Join(c.dir, key+".tar.gz") }
func (c layerCache) factsFile(key string) string { return filepath.Join(c.dir, key+".json") }

// put makes the layer of a key. It ends with ctx.
func (c layerCache) put(ctx context.Context, key string, t *tree, at time.Time) (*layer, error) {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of layers: %w", err)
	}
	var facts layerFacts
	err := c.replace(c.file(key), func(file io.Writer) error {
		sent, plain := newCounter(), newCounter()
		packed, err := gzip.NewWriterLevel(io.MultiWriter(file, sent), gzip.DefaultCompression)
		if err != nil {
			return err
		}
		if err := errors.Join(t.write(io.MultiWriter(until{ctx}, packed, plain), at), packed.Close()); err != nil {
			return err
		}
		facts = layerFacts{Digest: sent.hash(), DiffID: plain.hash(), Sent: sent.size, Unpacked: plain.size}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := c.replace(c.factsFile(key), func(file io.Writer) error { return json.NewEncoder(file).Encode(facts) }); err != nil {
		return nil, err
	}
	l, ok := c.find(key)
	if !ok {
		return nil, fmt.Errorf("the layer %s is damaged as soon as it is written: is the disk of %s in order?", key, c.dir)
	}
	return l, nil
}

// replace writes a file that is never seen half.
func (c layerCache) replace(name string, write func(io.Writer) error) error {
	temp, err := os.CreateTemp(c.dir, tempPrefix)
	if err != nil {
		return fmt.Errorf("make a temporary file: %w", err)
	}
	defer func() { _ = os.Remove(temp.Name()) }() // no longer exists after the rename
	if err := errors.Join(write(temp), temp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(name), err)
	}
	return os.Rename(temp.Name(), name)
}

// until is a writer that fails once its context has ended.
type until struct{ ctx context.Context }

func (u until) Write(p []byte) (int, error) { return len(p), u.ctx.Err() }

// counter is a writer that keeps the size and the sum of what is written.
type counter struct {
	sum  hash.Hash
	size int64
}

func newCounter() *counter { return &counter{sum: sha256.New()} }

func (c *counter) Write(p []byte) (int, error) {
	c.size += int64(len(p))
	return c.sum.Write(p)
}

func (c *counter) hash() v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(c.sum.Sum(nil))}
}
