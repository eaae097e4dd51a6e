package homecopy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"agento.host/agento/internal/repository"
)

// Write writes a copy into dir, which it makes. The entries may come from whoever could
// write into the repository: what does not belong below dir is refused. All files belong to
// the caller.
func Write(ctx context.Context, dir string, entries []Entry, open func(ctx context.Context, c repository.Content) io.Reader) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := e.check(); err != nil {
			return err
		}
		if err := e.write(ctx, root, open); err != nil {
			return fmt.Errorf("write %q: %w", e.Path, err)
		}
	}
	for _, e := range slices.Backward(entries) { // a directory gets its mode and time after what is in it
		if e.Type != Directory {
			continue
		}
		if err := e.setMode(root); err != nil {
			return fmt.Errorf("write %q: %w", e.Path, err)
		}
	}
	return nil
}

func (e Entry) check() error {
	name := string(e.Path)
	if name == "." || !filepath.IsLocal(name) || path.Clean(name) != name || strings.ContainsRune(name, 0) {
		return fmt.Errorf("the copy has an entry with the name %q, which is outside of the home", name)
	}
	var data int64
	for _, r := range e.Data {
		if r.Offset < data || r.Length < 0 || r.Offset > e.Size-r.Length {
			return fmt.Errorf("the copy has the file %q, whose parts are not in it", name)
		}
		data = r.Offset + r.Length
	}
	return nil
}

func (e Entry) write(ctx context.Context, root *os.Root, open func(ctx context.Context, c repository.Content) io.Reader) error {
	name := string(e.Path)
	switch e.Type {
	case Directory:
		return root.Mkdir(name, 0o700)
	case Link:
		return root.Symlink(string(e.Link), name)
	case File:
	default:
		return fmt.Errorf("it has the type %q, which this agento does not know", e.Type)
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(e.writeData(f, open(ctx, e.Content)), f.Close()); err != nil {
		return err
	}
	return e.setMode(root)
}

func (e Entry) writeData(f *os.File, r io.Reader) error {
	if e.Data == nil {
		n, err := io.Copy(f, r)
		if err == nil && n < e.Size { // it got shorter while it was read
			err = f.Truncate(e.Size)
		}
		return err
	}
	for _, part := range e.Data {
		if _, err := f.Seek(part.Offset, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(f, r, part.Length); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
	}
	return f.Truncate(e.Size)
}

func (e Entry) setMode(root *os.Root) error {
	modified := time.Unix(0, e.ModTime)
	if err := root.Chtimes(string(e.Path), modified, modified); err != nil {
		return err
	}
	return root.Chmod(string(e.Path), os.FileMode(e.Mode&0o777))
}
