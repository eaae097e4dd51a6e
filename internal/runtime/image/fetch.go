package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// DefaultMirror is where packages are fetched from: a server with Debian's archive at
// /debian and its security updates at /debian-security.
const DefaultMirror = "http://deb.debian.org"

const (
	tempPrefix       = "incomplete-"
	downloadAttempts = 3
	downloadTimeout  = 10 * time.Minute // of one package; the largest has 8 MB
	parallel         = 4                // downloads
)

// MissingPackageError reports a package that the mirror does not have any more.
type MissingPackageError struct {
	Package Package
	URL     string
}

func (e *MissingPackageError) Error() string {
	return fmt.Sprintf("the mirror does not have the package %s %s any more (%s): Debian has replaced it. Use a newer agento, or write the lock file anew with make image-lock in agento's source", e.Package.Name, e.Package.Version, e.URL)
}

// mirror fetches packages into a directory.
type mirror struct {
	url  string
	dir  string
	http *http.Client
}

// fetchAll fetches the packages that are missing. It calls report with how many are there
// of how many.
func (m mirror) fetchAll(ctx context.Context, packages []Package, report func(done, of int)) error {
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return fmt.Errorf("make the directory of packages: %w", err)
	}
	var done atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, p := range packages {
		group.Go(func() error {
			if !m.has(p) {
				if err := m.fetch(ctx, p); err != nil {
					return err
				}
			}
			report(int(done.Add(1)), len(packages))
			return nil
		})
	}
	return group.Wait()
}

// file returns the name of a package's file. Its name is its content's, so that packages of
// several lock files share the directory.
func (m mirror) file(p Package) string { return filepath.Join(m.dir, p.SHA256+".deb") }

// has reports whether the directory has the package, undamaged.
func (m mirror) has(p Package) bool {
	file, err := os.Open(m.file(p))
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	return copyVerified(io.Discard, file, p) == nil
}

// fetch downloads a package, again if the connection fails on the way.
func (m mirror) fetch(ctx context.Context, p Package) error {
	var err error
	for range downloadAttempts {
		var isFinal bool
		if isFinal, err = m.download(ctx, p); err == nil || isFinal || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// download writes a package under its name when all of it is there. isFinal says that
// another attempt would not help.
func (m mirror) download(ctx context.Context, p Package) (isFinal bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, downloadTimeout)
	defer cancel()
	url := strings.TrimSuffix(m.url, "/") + "/" + p.Path
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return true, fmt.Errorf("the address of the mirror: %w", err)
	}
	response, err := m.http.Do(request)
	if err != nil {
		return false, fmt.Errorf("fetch the package %s; is the mirror reachable? %w", p.Name, err)
	}
	defer func() { _ = response.Body.Close() }()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return true, &MissingPackageError{Package: p, URL: url}
	default:
		return response.StatusCode < http.StatusInternalServerError, fmt.Errorf("fetch the package %s: the mirror answers %s for %s", p.Name, response.Status, url)
	}
	temp, err := os.CreateTemp(m.dir, tempPrefix)
	if err != nil {
		return true, fmt.Errorf("make a temporary file: %w", err)
	}
	defer func() { _ = os.Remove(temp.Name()) }() // no longer exists after the rename
	err = copyVerified(temp, response.Body, p)
	if err := errors.Join(err, temp.Close()); err != nil {
		return errors.Is(err, errOtherContent), fmt.Errorf("fetch the package %s from %s: %w", p.Name, url, err)
	}
	return true, os.Rename(temp.Name(), m.file(p))
}

// errOtherContent reports that a file is not the one that the lock file pins.
var errOtherContent = errors.New("it is not the file that the lock file pins; is the mirror right?")

// copyVerified copies a package and checks its size and sum.
func copyVerified(to io.Writer, from io.Reader, p Package) error {
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(to, sum), io.LimitReader(from, p.Size+1))
	switch {
	case err != nil:
		return err
	case n > p.Size:
		return fmt.Errorf("it has more than %d bytes: %w", p.Size, errOtherContent)
	case n < p.Size:
		return fmt.Errorf("it ends after %d of %d bytes", n, p.Size)
	case hex.EncodeToString(sum.Sum(nil)) != p.SHA256:
		return fmt.Errorf("its SHA-256 sum is another one: %w", errOtherContent)
	}
	return nil
}

// interruptedAge is after how long a temporary file belongs to a process that was killed.
const interruptedAge = time.Hour

// removeInterrupted deletes what killed processes have left in a directory.
func removeInterrupted(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
	if err != nil {
		return fmt.Errorf("list interrupted downloads: %w", err)
	}
	for _, name := range left {
		info, err := os.Stat(name)
		if err != nil || time.Since(info.ModTime()) < interruptedAge {
			continue
		}
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove an interrupted download: %w", err)
		}
	}
	return nil
}
