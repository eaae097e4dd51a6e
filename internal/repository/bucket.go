package repository

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/azureblob" // azblob://
	"gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/gcsblob" // gs://
	_ "gocloud.dev/blob/s3blob"  // s3://
	"gocloud.dev/gcerrors"
)

// maxObject bounds an object that is read.
const maxObject = maxRecord + 4096

// bucket is where a repository is.
type bucket interface {
	get(ctx context.Context, key string) ([]byte, error) // ErrNotFound
	put(ctx context.Context, key string, data []byte) error
	putNew(ctx context.Context, key string, data []byte) error // errExists
	list(ctx context.Context, prefix string) ([]object, error) // sorted
	delete(ctx context.Context, key string) error              // no error if it is gone
	sync() error                                               // what was put survives a power failure
	close() error
}

// errExists is the error of putNew if there is such an object.
var errExists = errors.New("it exists")

// marked is a bucket whose failures are marked.
type marked struct{ bucket }

func mark(err error) error {
	if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, errExists) || errors.Is(err, ErrDamaged) {
		return err
	}
	return &storageError{err}
}

func (m marked) get(ctx context.Context, key string) ([]byte, error) {
	data, err := m.bucket.get(ctx, key)
	return data, mark(err)
}

func (m marked) put(ctx context.Context, key string, data []byte) error {
	return mark(m.bucket.put(ctx, key, data))
}

func (m marked) putNew(ctx context.Context, key string, data []byte) error {
	return mark(m.bucket.putNew(ctx, key, data))
}

func (m marked) list(ctx context.Context, prefix string) ([]object, error) {
	all, err := m.bucket.list(ctx, prefix)
	return all, mark(err)
}

type object struct {
	key   string
	size  int64
	since time.Time
}

// LocalPath returns the directory that a destination names, and false if it is a URL.
func LocalPath(url string) (dir string, ok bool) {
	if path, found := strings.CutPrefix(url, "file://"); found {
		path, _, _ = strings.Cut(path, "?")
		return filepath.Clean(path), true
	}
	return filepath.Clean(url), !strings.Contains(url, "://")
}

// openBucket opens the bucket of a URL or a directory, which is made if create is set.
func openBucket(ctx context.Context, url string, create bool) (bucket, error) {
	dir, local := LocalPath(url)
	if !local {
		b, err := blob.OpenBucket(ctx, url)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", Shown(url), err)
		}
		return blobBucket{Bucket: b}, nil
	}
	if create {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make the directory of the repository: %w", err)
		}
	}
	if st, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dir, ErrNoRepository)
	} else if err == nil && !st.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", dir)
	}
	b, err := fileblob.OpenBucket(dir, &fileblob.Options{NoTempDir: true, Metadata: fileblob.MetadataDontWrite, DirFileMode: 0o700})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	return blobBucket{Bucket: b, dir: dir}, nil
}

// Shown returns a destination as it may be shown: without what could be a password.
func Shown(url string) string {
	url, _, _ = strings.Cut(url, "?")
	scheme, rest, found := strings.Cut(url, "://")
	if !found {
		return url
	}
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		rest = rest[at+1:]
	}
	return scheme + "://" + rest
}

// blobBucket is a bucket of gocloud.dev.
type blobBucket struct {
	*blob.Bucket
	dir string // of a directory; empty: it is a service
}

func (b blobBucket) get(ctx context.Context, key string) ([]byte, error) {
	r, err := b.NewReader(ctx, key, nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	if r.Size() > maxObject {
		return nil, ErrDamaged
	}
	return io.ReadAll(io.LimitReader(r, maxObject))
}

func (b blobBucket) put(ctx context.Context, key string, data []byte) error {
	return b.WriteAll(ctx, key, data, &blob.WriterOptions{ContentType: contentType})
}

func (b blobBucket) putNew(ctx context.Context, key string, data []byte) error {
	err := b.WriteAll(ctx, key, data, &blob.WriterOptions{ContentType: contentType, IfNotExist: true})
	if gcerrors.Code(err) == gcerrors.FailedPrecondition {
		return errExists
	}
	return err
}

// contentType keeps the library from looking into what is encrypted.
const contentType = "application/octet-stream"

func (b blobBucket) list(ctx context.Context, prefix string) ([]object, error) {
	var all []object
	for it := b.List(&blob.ListOptions{Prefix: prefix}); ; {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, object{key: o.Key, size: o.Size, since: o.ModTime})
	}
}

func (b blobBucket) delete(ctx context.Context, key string) error {
	err := b.Delete(ctx, key)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil
	}
	return err
}

func (b blobBucket) sync() error {
	if b.dir == "" {
		return nil
	}
	return Sync(b.dir)
}

func (b blobBucket) close() error { return b.Close() }
