package repository

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"gocloud.dev/blob"

	"agento.host/agento/internal/vault"
)

// CreateArchive returns a repository that is written as a tar archive, whose members are its
// objects. It has no passphrase; who writes it encrypts all of it. Its chunks cannot be
// read before OpenArchive. Close ends the archive and does not close w.
func CreateArchive(ctx context.Context, w io.Writer) (*Repository, error) {
	return created(ctx, &tarBucket{out: tar.NewWriter(w), kept: map[string][]byte{}}, vault.Secret{})
}

// OpenArchive unpacks an archive into an empty directory and opens it there.
func OpenArchive(ctx context.Context, in io.Reader, dir string) (_ *Repository, err error) {
	b, err := openBucket(ctx, dir, true)
	if err != nil {
		return nil, err
	}
	for members := tar.NewReader(in); ; {
		h, err := members.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = unpackObject(ctx, b, h, members)
		}
		if err != nil {
			return nil, errors.Join(err, b.close())
		}
	}
	if _, err := io.Copy(io.Discard, in); err != nil { // what follows must be authentic too
		return nil, errors.Join(err, b.close())
	}
	return opened(ctx, b, vault.Secret{})
}

func unpackObject(ctx context.Context, b bucket, h *tar.Header, r io.Reader) error {
	if h.Typeflag != tar.TypeReg || h.Size > maxObject {
		return fmt.Errorf("its member %q is no object of a repository: %w", h.Name, ErrDamaged)
	}
	for part := range strings.SplitSeq(h.Name, "/") {
		if checkName(part) != nil {
			return fmt.Errorf("its member %q is no object of a repository: %w", h.Name, ErrDamaged)
		}
	}
	data, err := io.ReadAll(io.LimitReader(r, maxObject))
	if err != nil {
		return err
	}
	if err := b.putNew(ctx, h.Name, data); err != nil {
		return fmt.Errorf("unpack %q: %w", h.Name, err)
	}
	return nil
}

// tarBucket writes objects as members of an archive. It keeps the small ones, which are read
// again.
type tarBucket struct {
	mu   sync.Mutex
	out  *tar.Writer       // guarded by mu
	kept map[string][]byte // guarded by mu; nil: only that the object exists
}

func (b *tarBucket) get(_ context.Context, key string) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	data, ok := b.kept[key]
	switch {
	case !ok:
		return nil, ErrNotFound
	case data == nil:
		return nil, errors.New("an archive that is being written cannot be read")
	}
	return data, nil
}

func (b *tarBucket) put(ctx context.Context, key string, data []byte) error {
	err := b.putNew(ctx, key, data)
	if errors.Is(err, errExists) {
		return nil // the lock, which needs no renewing, or a chunk
	}
	return err
}

func (b *tarBucket) putNew(_ context.Context, key string, data []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.kept[key]; ok {
		return errExists
	}
	if b.kept[key] = data; strings.HasPrefix(key, chunksPrefix) {
		b.kept[key] = nil
	}
	if key == lockKey {
		return nil
	}
	if err := b.out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: key, Size: int64(len(data)), Mode: 0o600, ModTime: time.Now()}); err != nil {
		return err
	}
	_, err := b.out.Write(data)
	return err
}

func (b *tarBucket) list(_ context.Context, prefix string) ([]object, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []object
	for _, key := range slices.Sorted(maps.Keys(b.kept)) {
		if strings.HasPrefix(key, prefix) {
			all = append(all, object{key: key, size: int64(max(minSealed, len(b.kept[key]))), since: time.Now()})
		}
	}
	return all, nil
}

func (b *tarBucket) delete(_ context.Context, key string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if key != lockKey {
		return errors.New("nothing of an archive can be deleted")
	}
	delete(b.kept, key)
	return nil
}

func (b *tarBucket) sync() error { return nil }

func (b *tarBucket) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.Close()
}

// Files returns the names of the files in the bucket of a URL or a directory that are in no
// folder, sorted.
func Files(ctx context.Context, url string) ([]string, error) {
	b, err := openBucket(ctx, url, false)
	if err != nil {
		return nil, err
	}
	defer func() { _ = b.close() }()
	found, err := b.list(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", Shown(url), err)
	}
	var names []string
	for _, o := range found {
		if !strings.Contains(o.key, "/") {
			names = append(names, o.key)
		}
	}
	return names, nil
}

// OpenFile opens a file of a bucket. The caller closes it.
func OpenFile(ctx context.Context, url, name string) (io.ReadCloser, error) {
	b, err := openBucket(ctx, url, false)
	if err != nil {
		return nil, err
	}
	r, err := b.(blobBucket).NewReader(ctx, name, nil)
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return struct {
		io.Reader
		io.Closer
	}{r, closers{r.Close, b.close}}, nil
}

// DeleteFile deletes a file of a bucket.
func DeleteFile(ctx context.Context, url, name string) error {
	b, err := openBucket(ctx, url, false)
	if err != nil {
		return err
	}
	return errors.Join(b.delete(ctx, name), b.close())
}

// CreateFile makes a file in a bucket, which is there once Close has succeeded. The directory
// is made if it is missing. Abort leaves no file behind.
func CreateFile(ctx context.Context, url, name string) (*NewFile, error) {
	b, err := openBucket(ctx, url, true)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	w, err := b.(blobBucket).NewWriter(ctx, name, &blob.WriterOptions{ContentType: contentType, IfNotExist: true})
	if err != nil {
		cancel()
		return nil, errors.Join(err, b.close())
	}
	return &NewFile{w, b, cancel}, nil
}

// NewFile is a file that is being written.
type NewFile struct {
	w      *blob.Writer
	bucket bucket
	cancel context.CancelFunc
}

// Write implements io.Writer.
func (f *NewFile) Write(p []byte) (int, error) { return f.w.Write(p) }

// Close makes the file appear.
func (f *NewFile) Close() error {
	defer f.cancel()
	return errors.Join(f.w.Close(), f.bucket.sync(), f.bucket.close())
}

// Abort leaves no file.
func (f *NewFile) Abort() {
	f.cancel()
	_ = f.w.Close() // it fails, because its context has ended
	_ = f.bucket.close()
}

type closers []func() error

// Close implements io.Closer.
func (all closers) Close() error {
	var err error
	for _, c := range all {
		err = errors.Join(err, c())
	}
	return err
}
