package process

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"agento.host/agento/internal/runtime/home"
)

const (
	// discardedPrefix begins the names of directories that are being deleted. No agent has
	// such an id.
	discardedPrefix = ".discarded-"
	// A caller that discards a directory waits until so many entries are deleted, and not
	// longer than that. Source: 40,000 entries a second; the home of an ordinary agent has
	// less than a thousand.
	discardEntries = 20_000
	discardTime    = 2 * time.Second
	// purgeEntries is how many entries Run deletes of one directory before it turns to the
	// next one.
	purgeEntries = 20_000
	// purgePause is the pause between them, so that deleting leaves the disk to others.
	purgePause = 100 * time.Millisecond
	// purgeRetry is the pause after one that failed.
	purgeRetry = time.Minute
)

// discardDir makes a directory disappear at once. What is in it is deleted here if that
// takes little time, and otherwise by Run: an agent has made it, and decides how much it
// is. No process of the agent may run any more.
func (d *Driver) discardDir(ctx context.Context, path string) error {
	to := filepath.Join(d.settings.Dir, discardedPrefix+rand.Text())
	err := os.Rename(path, to)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, discardTime)
	defer cancel()
	if err != nil { // the disk may be so full that it takes no new name
		return home.Purge(limited, path)
	}
	if !d.purging.TryLock() {
		d.hasDiscarded.Store(true)
		return nil
	}
	defer d.purging.Unlock()
	if done, err := home.PurgeSome(limited, to, discardEntries); !done || err != nil {
		d.hasDiscarded.Store(true)
	}
	return nil
}

// purgeRegularly deletes what discardDir has left, here or in an earlier process, until ctx
// ends.
func (d *Driver) purgeRegularly(ctx context.Context) {
	d.hasDiscarded.Store(true)
	for {
		wait := maintenanceInterval
		if d.hasDiscarded.Swap(false) {
			if left, err := d.purgeDiscarded(ctx); ctx.Err() == nil && err != nil {
				d.settings.Log.Error("deleting what agents have left failed", "error", err)
				d.hasDiscarded.Store(true)
				wait = purgeRetry
			} else if left {
				d.hasDiscarded.Store(true)
				wait = purgePause
			}
		}
		if pause(ctx, wait) != nil {
			return
		}
	}
}

// purgeDiscarded deletes some of each discarded directory. It reports whether there is more.
func (d *Driver) purgeDiscarded(ctx context.Context) (left bool, err error) {
	dirs, err := filepath.Glob(filepath.Join(d.settings.Dir, discardedPrefix+"*"))
	for _, dir := range dirs {
		d.purging.Lock()
		done, purgeErr := home.PurgeSome(ctx, dir, purgeEntries)
		d.purging.Unlock()
		left = left || !done
		err = errors.Join(err, purgeErr)
	}
	return left, err
}
