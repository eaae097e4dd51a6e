package relay

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/relay/wire"
)

// Home opens the agent's directory, whether or not a gateway was launched. The caller closes it.
// When ctx or the session ends, its methods fail.
func (s *Session) Home(ctx context.Context) (runtime.Home, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.Err(); err != nil {
		return nil, s.failure(ctx, err)
	}
	return &remoteHome{ctx: ctx, session: s}, nil
}

// remoteHome is a home in a container.
type remoteHome struct {
	ctx     context.Context // of Home: it bounds all that the caller does with the home
	session *Session
	closed  atomic.Bool
}

func (h *remoteHome) call(op wire.Op, path string, data []byte, fileLimit, limit int64) ([]byte, error) {
	if h.closed.Load() {
		return nil, fs.ErrClosed
	}
	_, data, err := h.session.call(h.ctx, wire.Request{Op: op, Path: []byte(path), Limit: fileLimit}, data, limit)
	return data, err
}

// ReadFile implements runtime.Home. No file is longer than 100 MiB.
func (h *remoteHome) ReadFile(path string, limit int64) ([]byte, error) {
	limit = min(limit, wire.MaxFile)
	return h.call(wire.ReadFile, path, nil, limit, limit)
}

// WriteFile implements runtime.Home.
func (h *remoteHome) WriteFile(path string, data []byte) error {
	if len(data) > wire.MaxFile {
		return fmt.Errorf("write %s: %w", path, runtime.ErrTooLarge)
	}
	_, err := h.call(wire.WriteFile, path, data, 0, 0)
	return err
}

// ReadDir implements runtime.Home.
func (h *remoteHome) ReadDir(path string) ([]runtime.Entry, error) {
	data, err := h.call(wire.ReadDir, path, nil, 0, wire.MaxListing)
	if err != nil {
		return nil, err
	}
	return parseEntries(data)
}

// parseEntries reads a list of entries, and refuses what no directory has.
func parseEntries(data []byte) ([]runtime.Entry, error) {
	if len(data) == 0 {
		return nil, nil
	}
	var list []wire.Entry
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("the relay's list of entries is damaged: %w", err)
	}
	if len(list) > wire.MaxEntries {
		return nil, runtime.ErrTooLarge
	}
	var out []runtime.Entry
	for _, e := range list {
		name := string(e.Name)
		if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") || e.Size < 0 {
			return nil, fmt.Errorf("the relay lists an entry that no directory has: %q", wire.Printable(name, 100))
		}
		out = append(out, runtime.Entry{Name: name, Dir: e.Dir, Size: e.Size, ModTime: e.ModTime})
	}
	slices.SortFunc(out, func(a, b runtime.Entry) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// RemoveAll implements runtime.Home.
func (h *remoteHome) RemoveAll(path string) error {
	_, err := h.call(wire.RemoveAll, path, nil, 0, 0)
	return err
}

// Close implements runtime.Home.
func (h *remoteHome) Close() error {
	if h.closed.Swap(true) {
		return fs.ErrClosed
	}
	return nil
}
