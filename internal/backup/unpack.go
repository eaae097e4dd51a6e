package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"agento.host/agento/internal/homecopy"
	"agento.host/agento/internal/repository"
)

// Unpack writes the data directory of a backup into dir, which is empty or does not exist. An
// empty id is that of the newest backup. Nothing of the contents is changed: the installation
// has its old id, and nothing is migrated. All files belong to the caller; none is a device,
// a pipe or setuid. An agent whose home is missing in the backup, or that never ran, has no
// home. After an error dir is incomplete. Errors: ErrNone; repository.ErrDamaged.
func Unpack(ctx context.Context, s *Store, id string, dir string) (_ Manifest, err error) {
	r, m, release, err := s.open(ctx, id)
	if err != nil {
		return Manifest{}, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := makeEmpty(dir); err != nil {
		return m, err
	}
	for _, a := range m.Agents {
		if err := unpackAgent(ctx, r, m, a, filepath.Join(dir, AgentsName)); err != nil {
			return m, fmt.Errorf("unpack the agent %s: %w", a.ID, err)
		}
	}
	if m.Catalog {
		if err := unpackTree(ctx, r, catalogHome, m.CatalogTable, filepath.Join(dir, CatalogName)); err != nil {
			return m, fmt.Errorf("unpack the operator's own skills: %w", err)
		}
	}
	if err := unpackRecords(ctx, r, m, dir); err != nil {
		return m, fmt.Errorf("unpack the database: %w", err)
	}
	return m, repository.Sync(dir)
}

func makeEmpty(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	found, err := os.ReadDir(dir)
	if err == nil && len(found) > 0 {
		err = fmt.Errorf("%s is not empty: it has %s", dir, found[0].Name())
	}
	return err
}

func unpackAgent(ctx context.Context, r *repository.Repository, m Manifest, a Agent, dir string) error {
	if len(a.Table) == 0 {
		return nil
	}
	if !filepath.IsLocal(string(a.ID)) || filepath.Base(string(a.ID)) != string(a.ID) {
		return fmt.Errorf("it has no id: %w", repository.ErrDamaged)
	}
	dir = filepath.Join(dir, string(a.ID))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "installation"), []byte(m.Installation+"\n"), 0o600); err != nil {
		return err
	}
	return unpackTree(ctx, r, string(a.ID), a.Table, filepath.Join(dir, "home"))
}

func unpackTree(ctx context.Context, r *repository.Repository, name string, table repository.Content, dir string) error {
	home, err := r.Home(ctx, name)
	if err != nil {
		return err
	}
	var entries []homecopy.Entry
	if err := json.NewDecoder(home.Open(ctx, table)).Decode(&entries); err != nil {
		return fmt.Errorf("read what is in it: %w", err)
	}
	return homecopy.Write(ctx, dir, entries, home.Open)
}

func unpackRecords(ctx context.Context, r *repository.Repository, m Manifest, dir string) error {
	home, err := r.Home(ctx, recordsHome)
	if err != nil {
		return err
	}
	if m.MasterKey.Included {
		if err := unpackFile(home.Open(ctx, m.KeyContent), filepath.Join(dir, MasterKeyName)); err != nil {
			return err
		}
	}
	return unpackFile(home.Open(ctx, m.Database), filepath.Join(dir, DatabaseName))
}

func unpackFile(r io.Reader, name string) error {
	f, err := os.OpenFile(filepath.Clean(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
