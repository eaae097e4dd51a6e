package process

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	goruntime "runtime"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/s2"

	"agento.host/agento/internal/runtime"
)

const (
	// packChunk is how much of a file is compressed and sealed for itself, so that a wake reads,
	// decrypts and decompresses several chunks at once. Source: the table of docs/checkpoints.md.
	packChunk = 1 << 20
	// packCheck is how often the room on the disk is looked at while a pack is written.
	packCheck = 16 << 20

	packName   = "pack"      // of a pack in memory
	indexName  = "pack.json" // makes a pack valid
	newSuffix  = ".new"      // of what is being written
	packKeyLen = 32
	packSeal   = 16 // bytes by which a chunk grows when it is sealed

	// packForm is how chunks are compressed. What another server has left in another form is not
	// read: its gateways have other arguments, so its checkpoints do not fit anyway.
	// Source: the table of docs/checkpoints.md.
	packForm = "s2"
)

// packIndex is what a pack is read with. A pack has the files of a checkpoint, cut into chunks, in
// their order. The index stays in memory, where only root can read, so it says with authority what
// is in the pack; a pack whose index is gone is garbage.
type packIndex struct {
	Key   []byte     `json:"key,omitempty"`  // of this pack alone, which seals its chunks; empty: they are plain
	Disk  bool       `json:"disk,omitempty"` // the pack is on the disk; else it is beside the index
	Form  string     `json:"form,omitempty"` // how its chunks are compressed
	Files []packFile `json:"files"`
}

// packFile is a file in a pack.
type packFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	Chunks []int  `json:"chunks"` // how long each is in the pack
}

func readIndex(dir *os.Root) (x packIndex, err error) {
	data, err := dir.ReadFile(indexName)
	if err == nil {
		err = json.Unmarshal(data, &x)
	}
	return x, err
}

// writeIndex makes a pack valid, in place of the one that there was.
func writeIndex(dir *os.Root, x packIndex) error {
	data, err := json.Marshal(x)
	if err != nil {
		return err
	}
	return errors.Join(dir.WriteFile(indexName+newSuffix, data, 0o600), dir.Rename(indexName+newSuffix, indexName))
}

// chunks returns the chunks of a pack.
func (x packIndex) chunks() (all []chunkAt) {
	var at int64
	for i, f := range x.Files {
		var offset int64
		for _, length := range f.Chunks {
			all = append(all, chunkAt{file: i, offset: offset, at: at, length: length})
			at += int64(length)
			offset += packChunk
		}
	}
	return all
}

// size returns how many bytes the files of a pack have together.
func (x packIndex) size() (bytes int64) {
	for _, f := range x.Files {
		bytes += f.Size
	}
	return bytes
}

// chunkAt is where a chunk is.
type chunkAt struct {
	file   int
	offset int64 // in the file
	at     int64 // in the pack
	length int   // in the pack
}

// sealer seals and opens the chunks of one pack by the STREAM construction: the nonce is the number
// of the chunk and whether it is the last one, so that none can be missing, moved or repeated. The
// zero sealer leaves them as they are.
type sealer struct{ aead cipher.AEAD }

func newSealer(key []byte) (sealer, error) {
	if len(key) == 0 {
		return sealer{}, nil
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return sealer{}, err
	}
	aead, err := cipher.NewGCM(block)
	return sealer{aead}, err
}

func (s sealer) nonce(number int, last bool) []byte {
	n := make([]byte, s.aead.NonceSize())
	binary.BigEndian.PutUint64(n, uint64(number))
	if last {
		n[len(n)-1] = 1
	}
	return n
}

// seal seals a chunk in place.
func (s sealer) seal(chunk []byte, number int, last bool) []byte {
	if s.aead == nil {
		return chunk
	}
	return s.aead.Seal(chunk[:0], s.nonce(number, last), chunk, nil) //nolint:gosec // the key is of this pack alone, in which no number comes twice
}

// open opens a chunk in place.
func (s sealer) open(chunk []byte, number int, last bool) ([]byte, error) {
	if s.aead == nil {
		return chunk, nil
	}
	return s.aead.Open(chunk[:0], s.nonce(number, last), chunk, nil)
}

// packer writes a pack.
type packer struct {
	out     io.Writer
	sealer  sealer
	room    func(bytes int64) error     // refuses so many bytes more; nil: it never does
	wait    func(context.Context) error // makes way for others before each chunk; nil: it does not
	written int64
	checked int64
	number  int
}

// newKey returns a key for a pack.
func newKey() []byte {
	key := make([]byte, packKeyLen)
	_, _ = rand.Read(key) // never fails
	return key
}

// write writes a compressed chunk, and returns how long it is in the pack.
func (p *packer) write(chunk []byte, last bool) (int, error) {
	chunk = p.sealer.seal(chunk, p.number, last)
	p.number++
	if p.room != nil && p.written+int64(len(chunk)) > p.checked {
		if err := p.room(packCheck); err != nil {
			return 0, err
		}
		p.checked = p.written + packCheck
	}
	n, err := p.out.Write(chunk)
	p.written += int64(n)
	return len(chunk), err
}

// next waits until the next chunk may be worked on. Errors: ctx's.
func (p *packer) next(ctx context.Context) error {
	if p.wait != nil {
		return p.wait(ctx)
	}
	return ctx.Err()
}

// packFiles compresses the files of a checkpoint that criu has written, in packForm.
func packFiles(ctx context.Context, dir *os.Root, p *packer) (files []packFile, err error) {
	names, err := imagesIn(dir)
	if err != nil {
		return nil, err
	}
	raw, packed := make([]byte, packChunk), make([]byte, s2.MaxEncodedLen(packChunk)+packSeal)
	for i, name := range names {
		f, err := packOne(ctx, dir, name, i == len(names)-1, p.next, func(chunk []byte, last bool) (int, error) {
			return p.write(s2.Encode(packed[:cap(packed)], chunk), last)
		}, raw)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// packOne cuts a file into chunks. An empty file has none, but for the last one of a pack, which
// has its end.
func packOne(ctx context.Context, dir *os.Root, name string, last bool, next func(context.Context) error, write func(chunk []byte, last bool) (int, error), buffer []byte) (packFile, error) {
	f := packFile{Name: name}
	in, err := dir.Open(name)
	if err != nil {
		return f, err
	}
	defer func() { _ = in.Close() }()
	info, err := in.Stat()
	if err != nil {
		return f, err
	}
	for f.Size < info.Size() || last && len(f.Chunks) == 0 {
		if err := next(ctx); err != nil {
			return f, err
		}
		n, err := io.ReadFull(in, buffer[:min(int64(len(buffer)), info.Size()-f.Size)])
		if err != nil {
			return f, err
		}
		f.Size += int64(n)
		length, err := write(buffer[:n], last && f.Size == info.Size())
		if err != nil {
			return f, err
		}
		f.Chunks = append(f.Chunks, length)
	}
	return f, nil
}

// imagesIn lists what criu has written to a directory.
func imagesIn(dir *os.Root) ([]string, error) {
	entries, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		switch e.Name() {
		case metaName, packName, indexName, packName + newSuffix, indexName + newSuffix:
		default:
			if e.Type().IsRegular() {
				names = append(names, e.Name())
			}
		}
	}
	return names, nil
}

// repack writes the chunks of a plain pack to another one.
func repack(ctx context.Context, from packIndex, in io.Reader, p *packer) (files []packFile, err error) {
	chunks := from.chunks()
	buffer := make([]byte, 0, packChunk+packChunk/8)
	files = make([]packFile, len(from.Files))
	for i, f := range from.Files {
		files[i] = packFile{Name: f.Name, Size: f.Size}
	}
	for i, c := range chunks {
		if err := p.next(ctx); err != nil {
			return nil, err
		}
		if cap(buffer) < c.length+64 {
			buffer = make([]byte, 0, c.length+64)
		}
		buffer = buffer[:c.length]
		if _, err := io.ReadFull(in, buffer); err != nil {
			return nil, err
		}
		length, err := p.write(buffer, i == len(chunks)-1)
		if err != nil {
			return nil, err
		}
		files[c.file].Chunks = append(files[c.file].Chunks, length)
	}
	return files, nil
}

// errDamaged means that a pack is not the one that its index is of.
var errDamaged = fmt.Errorf("%w: it is damaged", runtime.ErrNoCheckpoint)

// unpack writes the files of a pack to a directory as criu has written them. It works on several
// chunks at once: more than there are processors, as some wait for the disk.
func unpack(ctx context.Context, x packIndex, in *os.File, dir *os.Root) error {
	if x.Form != packForm {
		return fmt.Errorf("%w: another server has compressed it", runtime.ErrNoCheckpoint)
	}
	s, err := newSealer(x.Key)
	if err != nil {
		return err
	}
	files := make([]*os.File, len(x.Files))
	defer func() {
		for _, f := range files {
			if f != nil {
				_ = f.Close()
			}
		}
	}()
	for i, f := range x.Files {
		if files[i], err = dir.OpenFile(f.Name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
			return err
		}
	}
	readAhead(in)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	chunks := x.chunks()
	var next atomic.Int64
	var workers sync.WaitGroup
	for range 2 * goruntime.GOMAXPROCS(0) {
		workers.Go(func() {
			var packed []byte
			raw := make([]byte, packChunk)
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(chunks) {
					return
				}
				c := chunks[i]
				if cap(packed) < c.length {
					packed = make([]byte, c.length+c.length/4)
				}
				if err := unpackChunk(in, c, s, packed[:c.length], raw, i, i == len(chunks)-1, x.Files[c.file], files[c.file]); err != nil {
					cancel(err)
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

func unpackChunk(in io.ReaderAt, c chunkAt, s sealer, packed, raw []byte, number int, last bool, f packFile, out io.WriterAt) error {
	if _, err := in.ReadAt(packed, c.at); errors.Is(err, io.EOF) {
		return errDamaged
	} else if err != nil {
		return err
	}
	packed, err := s.open(packed, number, last)
	if err != nil {
		return errDamaged
	}
	length := min(packChunk, f.Size-c.offset)
	if n, err := s2.DecodedLen(packed); err != nil || int64(n) != length {
		return errDamaged
	}
	if raw, err = s2.Decode(raw, packed); err != nil {
		return errDamaged
	}
	_, err = out.WriteAt(raw, c.offset)
	return err
}
