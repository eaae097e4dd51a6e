package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"agento.host/agento/internal/repository"
)

// archiveSuffix ends the name of a backup in one file, which is encrypted for a recipient.
const archiveSuffix = ".tar.age"

// archivePrefix begins it.
const archivePrefix = "agento-"

// ErrNone means that a place has no backup, or none with that id.
var ErrNone = errors.New("there is no such backup")

// Store is a place that holds backups: a repository, or files that are encrypted for a
// recipient.
type Store struct {
	repository *repository.Repository // nil: files
	url        string
	file       string // the only file; empty: all in url
	identities []age.Identity
}

// Open opens the place at a URL of gocloud.dev/blob, a directory, or a file that a backup for
// a recipient is in. The caller closes the store. Errors: those of repository.Open.
func Open(ctx context.Context, source string, a Access) (*Store, error) {
	if a.Identity.Empty() {
		if dir, local := repository.LocalPath(source); local && strings.HasSuffix(dir, archiveSuffix) {
			return nil, fmt.Errorf("%s is encrypted for a recipient: name the file of its private key with --identity", dir)
		}
		r, err := repository.Open(ctx, source, a.Passphrase)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", repository.Shown(source), err)
		}
		return &Store{repository: r, url: source}, nil
	}
	identities, err := age.ParseIdentities(strings.NewReader(a.Identity.Reveal()))
	if err != nil {
		return nil, errors.New("the file of --identity has no private key of age: it has lines that begin with AGE-SECRET-KEY-1")
	}
	s := &Store{url: source, identities: identities}
	if path, local := repository.LocalPath(source); local {
		st, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
		if !st.IsDir() {
			s.url, s.file = filepath.Dir(path), filepath.Base(path)
		}
	}
	return s, nil
}

// Close closes the store.
func (s *Store) Close() error {
	if s.repository == nil {
		return nil
	}
	return s.repository.Close()
}

// List returns the backups, newest first. Of those in files for a recipient, only ID and
// Began are known.
func (s *Store) List(ctx context.Context) ([]Manifest, error) {
	ids, err := s.ids(ctx)
	if err != nil {
		return nil, err
	}
	slices.Reverse(ids)
	all := make([]Manifest, 0, len(ids))
	for _, id := range ids {
		if s.repository == nil {
			began, _ := time.Parse(idTime, id)
			all = append(all, Manifest{ID: id, Began: began})
			continue
		}
		m, err := readManifest(ctx, s.repository, id)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// ids returns the ids of the backups, oldest first.
func (s *Store) ids(ctx context.Context) ([]string, error) {
	if s.repository != nil {
		return s.repository.Records(ctx)
	}
	if s.file != "" {
		return []string{archiveID(s.file)}, nil
	}
	names, err := repository.Files(ctx, s.url)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, name := range names {
		if isArchive(name) {
			ids = append(ids, archiveID(name))
		}
	}
	return ids, nil
}

func isArchive(name string) bool {
	if !strings.HasPrefix(name, archivePrefix) || !strings.HasSuffix(name, archiveSuffix) {
		return false
	}
	_, err := time.Parse(idTime, archiveID(name))
	return err == nil
}

func archiveID(name string) string {
	return strings.TrimSuffix(strings.TrimPrefix(name, archivePrefix), archiveSuffix)
}

// open returns the repository that a backup is in, with its manifest. An empty id is that of the newest
// backup. Errors: ErrNone.
func (s *Store) open(ctx context.Context, id string) (_ *repository.Repository, m Manifest, release func() error, err error) {
	ids, err := s.ids(ctx)
	if err != nil {
		return nil, m, nil, err
	}
	if id == "" && len(ids) > 0 {
		id = ids[len(ids)-1]
	}
	if !slices.Contains(ids, id) {
		return nil, m, nil, fmt.Errorf("%s in %s: %w", orNewest(id), repository.Shown(s.url), ErrNone)
	}
	r, release := s.repository, func() error { return nil }
	if r == nil {
		if r, release, err = s.openArchive(ctx, id); err != nil {
			return nil, m, nil, err
		}
		if ids, err = r.Records(ctx); err == nil && len(ids) != 1 {
			err = fmt.Errorf("the file has %d backups: %w", len(ids), repository.ErrDamaged)
		}
		if err == nil {
			id = ids[0] // the file may have another name by now
		}
	}
	if err == nil {
		m, err = readManifest(ctx, r, id)
	}
	if err != nil {
		return nil, m, nil, errors.Join(err, release())
	}
	return r, m, release, nil
}

func orNewest(id string) string {
	if id == "" {
		return "the newest backup"
	}
	return "the backup " + id
}

func readManifest(ctx context.Context, r *repository.Repository, id string) (m Manifest, err error) {
	data, err := r.Record(ctx, id)
	if err != nil {
		return m, fmt.Errorf("read the backup %s: %w", id, err)
	}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&m); err != nil {
		return m, fmt.Errorf("read the backup %s: %w", id, repository.ErrDamaged)
	}
	if m.Format > format {
		return m, fmt.Errorf("the backup %s has the format %d, made by agento %s, and this agento reads %d: use that agento, or a newer one", id, m.Format, m.Version, format)
	}
	return m, nil
}

// openArchive decrypts a file and unpacks it into a temporary directory.
func (s *Store) openArchive(ctx context.Context, id string) (_ *repository.Repository, release func() error, err error) {
	name := s.file
	if name == "" {
		name = archivePrefix + id + archiveSuffix
	}
	file, err := repository.OpenFile(ctx, s.url, name)
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", name, err)
	}
	defer func() { _ = file.Close() }()
	plain, err := age.Decrypt(file, s.identities...)
	if err != nil {
		if noMatch := (*age.NoIdentityMatchError)(nil); errors.As(err, &noMatch) {
			err = errors.New("the key of --identity is not that of the recipient that the backup was made for")
		}
		return nil, nil, fmt.Errorf("decrypt %s: %w", name, err)
	}
	dir, err := os.MkdirTemp("", "agento-backup-")
	if err != nil {
		return nil, nil, err
	}
	r, err := repository.OpenArchive(ctx, plain, dir)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("unpack %s: %w", name, err), os.RemoveAll(dir))
	}
	return r, func() error { return errors.Join(r.Close(), os.RemoveAll(dir)) }, nil
}
