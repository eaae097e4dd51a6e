package repository

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/restic/chunker"
	"golang.org/x/crypto/chacha20poly1305"
)

// Sizes of chunks, before they are compressed. Small chunks store less of a database of
// which some pages have changed; large ones are fewer objects.
const (
	minChunk    = 64 << 10
	averageBits = 18 // 256 KiB
	maxChunk    = 1 << 20
)

// minSealed is the size of the shortest chunk that is stored. What is shorter was cut by a
// power failure.
const minSealed = chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead + 1

// Home is where the copies of one home are. It is safe for concurrent use.
type Home struct {
	repository *Repository
	name       string
	chunkKey   []byte
	idKey      []byte
	polynomial chunker.Pol

	mu     sync.Mutex
	known  map[string]bool // the chunks that are stored; nil: they were not listed; guarded by mu
	recent []*decoded      // the chunks that were read last; guarded by mu
}

// decoded is a chunk that was read.
type decoded struct {
	id   string
	data []byte
}

// maxRecent is how many chunks a Home keeps that were read: small files share chunks.
const maxRecent = 4

// Home opens a home by its name. Errors: ErrNotFound, if it has no key, because none of its
// copies is in the repository or because they were made unreadable.
func (r *Repository) Home(ctx context.Context, name string) (*Home, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	sealed, err := r.bucket.get(ctx, keysPrefix+name)
	if err != nil {
		return nil, fmt.Errorf("read the key of the home %s: %w", name, err)
	}
	key, err := unseal(r.root, sealed, keysPrefix+name)
	if err != nil {
		return nil, fmt.Errorf("read the key of the home %s: %w", name, err)
	}
	return r.home(name, key)
}

// MakeHome is Home for one that writes: it makes the key if there is none.
func (r *Repository) MakeHome(ctx context.Context, name string) (*Home, error) {
	h, err := r.Home(ctx, name)
	if !errors.Is(err, ErrNotFound) {
		return h, err
	}
	key := randomBytes(chacha20poly1305.KeySize)
	err = r.bucket.putNew(ctx, keysPrefix+name, seal(r.root, key, keysPrefix+name))
	if errors.Is(err, errExists) {
		return r.Home(ctx, name)
	}
	if err != nil {
		return nil, fmt.Errorf("store the key of the home %s: %w", name, err)
	}
	return r.home(name, key)
}

func (r *Repository) home(name string, key []byte) (*Home, error) {
	polynomial, err := chunker.DerivePolynomial(newKeyStream(key))
	if err != nil {
		return nil, fmt.Errorf("derive the polynomial of the home %s: %w", name, err)
	}
	return &Home{
		repository: r, name: name, polynomial: polynomial,
		chunkKey: derive(key, "chunk", chacha20poly1305.KeySize), idKey: derive(key, "id", sha256.Size),
	}, nil
}

// newKeyStream returns a stream that depends on a key, for numbers that are not secret
// by themselves.
func newKeyStream(key []byte) io.Reader { return &keyStream{key: derive(key, "polynomial", 32)} }

type keyStream struct {
	key  []byte
	left []byte
	n    byte
}

// Read implements io.Reader.
func (s *keyStream) Read(p []byte) (int, error) {
	if len(s.left) == 0 {
		h := hmac.New(sha256.New, s.key)
		h.Write([]byte{s.n})
		s.n++
		s.left = h.Sum(nil)
	}
	n := copy(p, s.left)
	s.left = s.left[n:]
	return n, nil
}

// Forget deletes the key of a home, so that no copy of it can be read any more, and then its
// chunks. It succeeds if there is none.
func (r *Repository) Forget(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := r.bucket.delete(ctx, keysPrefix+name); err != nil {
		return fmt.Errorf("delete the key of the home %s: %w", name, err)
	}
	_, err := r.deleteChunks(ctx, name, 0, func(string) bool { return false })
	return err
}

func (h *Home) prefix() string { return chunksPrefix + h.name + "/" }

func (h *Home) key(id string) string { return h.prefix() + id[:2] + "/" + id }

func chunkID(key string) string { return key[strings.LastIndex(key, "/")+1:] }

// id returns the name of a chunk: equal contents have equal names in one home, and nobody
// without the key can tell what is in a chunk by its name.
func (h *Home) id(data []byte) string {
	m := hmac.New(sha256.New, h.idKey)
	m.Write(data)
	return hex.EncodeToString(m.Sum(nil))
}

// List reads which chunks are stored. Has, and a Writer, need it.
func (h *Home) List(ctx context.Context) error {
	found, err := h.repository.bucket.list(ctx, h.prefix())
	if err != nil {
		return fmt.Errorf("list the chunks of the home %s: %w", h.name, err)
	}
	known := make(map[string]bool, len(found))
	for _, o := range found {
		if o.size >= minSealed {
			known[chunkID(o.key)] = true
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known = known
	return nil
}

// Has reports whether all chunks of a content are stored.
func (h *Home) Has(c Content) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !slices.ContainsFunc(c, func(e Extent) bool { return !h.known[e.Chunk] })
}

// claim reports whether a chunk must be stored: no other call of claim has returned true.
func (h *Home) claim(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known[id] {
		return false
	}
	h.known[id] = true
	return true
}

func (h *Home) putChunk(ctx context.Context, id string, data []byte) (stored int64, err error) {
	sealed := seal(h.chunkKey, compress(data), id)
	if err := h.repository.bucket.put(ctx, h.key(id), sealed); err != nil {
		return 0, fmt.Errorf("store a chunk of the home %s: %w", h.name, err)
	}
	return int64(len(sealed)), nil
}

// chunk returns a chunk. Errors: ErrNotFound, ErrDamaged.
func (h *Home) chunk(ctx context.Context, id string) ([]byte, error) {
	if len(id) != 2*sha256.Size {
		return nil, ErrDamaged
	}
	h.mu.Lock()
	at := slices.IndexFunc(h.recent, func(d *decoded) bool { return d.id == id })
	if at >= 0 {
		data := h.recent[at].data
		h.mu.Unlock()
		return data, nil
	}
	h.mu.Unlock()
	sealed, err := h.repository.bucket.get(ctx, h.key(id))
	if err != nil {
		return nil, fmt.Errorf("read the chunk %s: %w", h.key(id), err)
	}
	data, err := unseal(h.chunkKey, sealed, id)
	if err == nil {
		data, err = decompress(data, maxChunk)
	}
	if err != nil || h.id(data) != id {
		return nil, fmt.Errorf("read the chunk %s: %w", h.key(id), ErrDamaged)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.recent) >= maxRecent {
		h.recent = h.recent[1:]
	}
	h.recent = append(h.recent, &decoded{id, data})
	return data, nil
}

// Content says where the content of a file is: in parts of chunks.
type Content []Extent

// Extent is a part of a chunk.
type Extent struct {
	Chunk  string `json:"c"`
	Offset int64  `json:"o,omitempty"`
	Length int64  `json:"l"`
}

// Size returns the length of the content.
func (c Content) Size() int64 {
	var n int64
	for _, e := range c {
		n += e.Length
	}
	return n
}

// Open returns a reader of a content, which checks what it reads: its errors are ErrDamaged
// and ErrNotFound.
func (h *Home) Open(ctx context.Context, c Content) io.Reader {
	return &contentReader{ctx: ctx, home: h, left: c}
}

type contentReader struct {
	ctx  context.Context
	home *Home
	left Content
	data []byte
}

// Read implements io.Reader.
func (r *contentReader) Read(p []byte) (int, error) {
	for len(r.data) == 0 {
		if len(r.left) == 0 {
			return 0, io.EOF
		}
		e := r.left[0]
		data, err := r.home.chunk(r.ctx, e.Chunk)
		if err != nil {
			return 0, err
		}
		if e.Offset < 0 || e.Length < 0 || e.Offset > int64(len(data)) || e.Length > int64(len(data))-e.Offset {
			return 0, fmt.Errorf("read the chunk %s: %w", r.home.key(e.Chunk), ErrDamaged)
		}
		r.data, r.left = data[e.Offset:e.Offset+e.Length], r.left[1:]
	}
	n := copy(p, r.data)
	r.data = r.data[n:]
	return n, nil
}
