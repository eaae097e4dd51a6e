package repository

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"

	"github.com/restic/chunker"
	"golang.org/x/sync/errgroup"
)

// smallFile is the size below which contents share chunks.
const smallFile = minChunk

// parallelPuts is how many chunks a Writer compresses, encrypts and stores at the same time.
const parallelPuts = 4

// Writer stores contents of one home. Its methods must not be called concurrently.
type Writer struct {
	home    *Home
	ctx     context.Context
	puts    *errgroup.Group
	chunker *chunker.Chunker

	pack    []byte     // small contents that are not stored yet
	waiting []*Content // whose place in the pack is known, and not yet its id

	added, storedChunks, storedBytes atomic.Int64
}

// Stored is what a Writer has stored.
type Stored struct {
	Read   int64 // bytes of contents
	Chunks int64 // that were not stored before
	Bytes  int64 // that they take
}

// NewWriter returns a writer. The home was listed. The caller calls Flush at the end.
func (h *Home) NewWriter(ctx context.Context) *Writer {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelPuts)
	return &Writer{home: h, ctx: ctx, puts: group, chunker: chunker.New(nil, h.polynomial)}
}

// Add stores what r has, and sets content once Flush has returned without an error.
func (w *Writer) Add(r io.Reader, content *Content) error {
	head := make([]byte, smallFile)
	n, err := io.ReadFull(r, head)
	switch {
	case errors.Is(err, io.EOF):
		*content = Content{}
		return nil
	case errors.Is(err, io.ErrUnexpectedEOF):
		w.added.Add(int64(n))
		return w.addSmall(head[:n], content)
	case err != nil:
		return err
	}
	return w.addLarge(io.MultiReader(bytes.NewReader(head), r), content)
}

func (w *Writer) addLarge(r io.Reader, content *Content) error {
	w.chunker.ResetWithBoundaries(r, w.home.polynomial, minChunk, maxChunk)
	w.chunker.SetAverageBits(averageBits)
	var all Content
	for {
		c, err := w.chunker.Next(make([]byte, maxChunk))
		if errors.Is(err, io.EOF) {
			*content = all
			return nil
		}
		if err != nil {
			return err
		}
		w.added.Add(int64(len(c.Data)))
		id := w.home.id(c.Data)
		all = append(all, Extent{Chunk: id, Length: int64(len(c.Data))})
		if err := w.put(id, c.Data); err != nil {
			return err
		}
	}
}

// addSmall appends a content to the pack. A pack ends after a content that says so, so that
// the packs after a file that has changed are the same as before.
func (w *Writer) addSmall(data []byte, content *Content) error {
	*content = Content{{Offset: int64(len(w.pack)), Length: int64(len(data))}}
	w.pack = append(w.pack, data...)
	w.waiting = append(w.waiting, content)
	ends := w.home.id(data)[0] == '0' // of one in 16
	if len(w.pack) >= minChunk && ends || len(w.pack) >= maxChunk-smallFile {
		return w.putPack()
	}
	return nil
}

func (w *Writer) putPack() error {
	if len(w.pack) == 0 {
		return nil
	}
	id := w.home.id(w.pack)
	for _, c := range w.waiting {
		(*c)[0].Chunk = id
	}
	data := w.pack
	w.pack, w.waiting = nil, nil
	return w.put(id, data)
}

// put stores a chunk in the background, unless it is stored. It returns the error of an
// earlier one.
func (w *Writer) put(id string, data []byte) error {
	if err := w.ctx.Err(); err != nil {
		return context.Cause(w.ctx)
	}
	if !w.home.claim(id) {
		return nil
	}
	w.puts.Go(func() error {
		n, err := w.home.putChunk(w.ctx, id, data)
		if err == nil {
			w.storedChunks.Add(1)
			w.storedBytes.Add(n)
		}
		return err
	})
	return nil
}

// Flush stores what is left and waits until everything is stored. The writer is used no
// more.
func (w *Writer) Flush() (Stored, error) {
	err := w.putPack()
	err = errors.Join(w.puts.Wait(), err)
	return Stored{Read: w.added.Load(), Chunks: w.storedChunks.Load(), Bytes: w.storedBytes.Load()}, err
}
