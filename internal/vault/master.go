package vault

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"agento.host/agento/internal/database"
)

// KeySource is where the master key is looked for.
type KeySource struct {
	File  string // of 64 hex digits, which only its owner can read
	Given Secret // by the operator, with AGENTO_MASTER_KEY; empty: not given
}

// KeyState is what the data and the sources say of the master key. Fingerprints are
// public: they identify a key and do not help to guess it.
type KeyState struct {
	Wanted []string // fingerprints of the keys that sealed the data; empty: nothing is sealed yet
	File   string   // fingerprint of the key in the file; empty: there is no file
	Given  string   // fingerprint of the key that was given; empty: none

	recorded bool // the database has a check value
	rotating bool // the key is that of a rotation that a crash has interrupted
	key      []byte
}

// Open returns the vault of a database. Only a database in which nothing was ever sealed
// gets a new master key. The database then remembers the key, and refuses every other
// one. Two processes that start at the same time get the same key.
// Errors: the key is missing, is another one, or can be read by other users; the file
// and the given key differ. Nothing is written then.
func Open(ctx context.Context, db *database.DB, s KeySource) (*Vault, error) {
	state, err := s.Check(ctx, db)
	if err != nil {
		return nil, err
	}
	if state.key == nil {
		if err := createMasterKey(s.File); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("create master key: %w", err)
		}
		if state, err = s.Check(ctx, db); err != nil {
			return nil, err
		}
	}
	if state.rotating {
		if err := s.finishRotation(); err != nil {
			return nil, err
		}
	}
	v, err := New(state.key)
	if err != nil || state.recorded {
		return v, err
	}
	return v, v.record(ctx, db)
}

// Existing returns the vault that Open would return, and writes nothing. It returns nil
// if nothing was ever sealed and there is no key. Errors: those of Open.
func (s KeySource) Existing(ctx context.Context, q database.Reader) (*Vault, error) {
	state, err := s.Check(ctx, q)
	if err != nil || state.key == nil {
		return nil, err
	}
	return New(state.key)
}

// Check compares the master key with the data that are read through q, and writes
// nothing. A nil q means that there is no database. The state is also returned with an
// error. Errors: those of Open.
func (s KeySource) Check(ctx context.Context, q database.Reader) (KeyState, error) {
	var state KeyState
	checks, err := readChecks(ctx, q)
	if err != nil {
		return state, err
	}
	for _, c := range checks {
		if !slices.Contains(state.Wanted, c.fingerprint) {
			state.Wanted = append(state.Wanted, c.fingerprint)
		}
		state.recorded = state.recorded || c.isRecord
	}
	inFile, err := s.readFile()
	if err != nil {
		return state, err
	}
	if next, err := s.readNext(checks); err != nil {
		return state, err
	} else if next != nil {
		inFile, state.rotating = next, true
	}
	if state.File, err = fingerprintOf(inFile); err != nil {
		return state, err
	}
	state.key = inFile
	if !s.Given.Empty() {
		if state.key, err = ParseMasterKey([]byte(s.Given.Reveal())); err != nil {
			return state, err
		}
		if state.Given, err = fingerprintOf(state.key); err != nil {
			return state, err
		}
	}
	return state, s.compare(checks, state)
}

// Place returns where the key of a state was found.
func (s KeySource) Place(state KeyState) string {
	if state.File == "" {
		return "AGENTO_MASTER_KEY"
	}
	return s.File
}

// compare returns an error that says what to do, unless the key that was found is the
// one that the data want.
func (s KeySource) compare(checks []keyCheck, state KeyState) error {
	wanted := strings.Join(state.Wanted, " or ")
	switch {
	case state.File != "" && state.Given != "" && state.File != state.Given:
		text := fmt.Sprintf("there are two master keys: %s has the one with fingerprint %s, and AGENTO_MASTER_KEY gives the one with fingerprint %s", s.File, state.File, state.Given)
		if wanted != "" {
			text += "; the data want " + wanted
		}
		return errors.New(text + ": remove the wrong one. Nothing was changed")
	case wanted == "":
		return nil
	case state.key == nil:
		return fmt.Errorf("the master key is missing: the data want the one with fingerprint %s, there is no file %s and no AGENTO_MASTER_KEY: put the file back. Nothing was changed", wanted, s.File)
	}
	v, err := New(state.key)
	if err != nil {
		return err
	}
	if !v.opensAny(checks) {
		return fmt.Errorf("the master key is another one: the data want the one with fingerprint %s, %s has the one with fingerprint %s: put the right key into %s, or choose the --data that this key belongs to. Nothing was changed", wanted, s.Place(state), v.fingerprint, s.File)
	}
	return nil
}

// readFile returns the key in the file, nil if there is no file.
func (s KeySource) readFile() ([]byte, error) {
	info, err := os.Stat(s.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read master key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("other users can read the master key %s (mode %v): run chmod 600 on it", s.File, info.Mode().Perm())
	}
	text, err := os.ReadFile(filepath.Clean(s.File))
	if err != nil {
		return nil, fmt.Errorf("read master key: %w", err)
	}
	key, err := ParseMasterKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.File, err)
	}
	return key, nil
}

// keyCheck is a box that only the right master key opens.
type keyCheck struct {
	fingerprint    string
	sealed         []byte
	account, owner string // of a data key
	isRecord       bool   // it is the check value of the database, not a data key
}

// readChecks returns the check value of a database first, then data keys: those of a
// database from before check values, or whose check value is damaged.
func readChecks(ctx context.Context, q database.Reader) ([]keyCheck, error) {
	if q == nil {
		return nil, nil
	}
	var all []keyCheck
	for _, table := range []struct{ name, query string }{
		{"master_key", `SELECT fingerprint, sealed, '', '', TRUE FROM master_key`},
		// A few of each key: one of them may be damaged.
		{"data_keys", `SELECT master_id, sealed, account_id, owner_id, FALSE FROM
			(SELECT *, row_number() OVER (PARTITION BY master_id ORDER BY created_at) AS number FROM data_keys) AS numbered WHERE number <= 10`},
	} {
		exists, err := database.HasTable(ctx, q, table.name)
		if err != nil {
			return nil, fmt.Errorf("read which master key the data want: %w", err)
		}
		if !exists {
			continue // the database is about to be migrated
		}
		found, err := database.All(ctx, q, scanCheck, table.query)
		if err != nil {
			return nil, fmt.Errorf("read which master key the data want: %w", err)
		}
		if len(all) > 0 { // the check value says which key it is
			found = slices.DeleteFunc(found, func(c keyCheck) bool { return c.fingerprint != all[0].fingerprint })
		}
		all = append(all, found...)
	}
	return all, nil
}

func scanCheck(r database.Row) (keyCheck, error) {
	var c keyCheck
	err := r.Scan(&c.fingerprint, &c.sealed, &c.account, &c.owner, &c.isRecord)
	return c, err
}

// checkText is what the check value of a database seals.
const checkText = "agento"

// checkData is the additional data of the check value.
func checkData() []byte { return additionalData("master key") }

// opensAny reports whether the master key opens one of the boxes. One is enough: the
// others may be damaged.
func (v *Vault) opensAny(checks []keyCheck) bool {
	return slices.ContainsFunc(checks, func(c keyCheck) bool {
		data := additionalData(c.account, c.owner)
		if c.isRecord {
			data = checkData()
		}
		_, err := open(v.master, c.sealed, data)
		return c.fingerprint == v.fingerprint && err == nil
	})
}

// record makes the database remember the master key.
func (v *Vault) record(ctx context.Context, db *database.DB) error {
	return db.Tx(ctx, "vault.record_master_key", func(ctx context.Context, tx *database.Tx) error {
		other, err := database.One(ctx, tx, database.Scalar[string], `SELECT fingerprint FROM master_key`)
		switch {
		case errors.Is(err, sql.ErrNoRows):
		case err == nil && other != v.fingerprint:
			return v.otherKey(other) // another process was faster
		default:
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO master_key (fingerprint, sealed, created_at) VALUES ($1, $2, $3)`,
			v.fingerprint, seal(v.master, []byte(checkText), checkData()), database.Millis(time.Now()))
		if err != nil {
			return fmt.Errorf("store the check value of the master key: %w", err)
		}
		return nil
	})
}

// CheckMasterKey returns an error if the data that are read through q want another
// master key than the vault has, because the database was replaced.
func (v *Vault) CheckMasterKey(ctx context.Context, q database.Reader) error {
	wanted, err := database.One(ctx, q, database.Scalar[string], `SELECT fingerprint FROM master_key`)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return errors.New("the database does not say which master key it wants: it was replaced while the server runs. Restart the server")
	case err != nil:
		return fmt.Errorf("compare the master key: %w", err)
	case wanted != v.fingerprint:
		return v.otherKey(wanted)
	}
	return nil
}

func (v *Vault) otherKey(wanted string) error {
	return fmt.Errorf("it was sealed by the master key with fingerprint %s, this one has %s: start with the key that belongs to this database", wanted, v.fingerprint)
}

// Fingerprint returns the public name of the master key.
func (v *Vault) Fingerprint() string { return v.fingerprint }

// ParseMasterKey decodes 64 hex digits. White space around them is allowed.
func ParseMasterKey(text []byte) ([]byte, error) {
	key, err := hex.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(key) != 32 {
		return nil, errors.New("the master key must be 64 hex digits (32 bytes)")
	}
	return key, nil
}

// fingerprintOf returns the fingerprint of a key, "" for none.
func fingerprintOf(key []byte) (string, error) {
	if key == nil {
		return "", nil
	}
	v, err := New(key)
	if err != nil {
		return "", err
	}
	return v.fingerprint, nil
}

// createMasterKey writes a temporary file and links it to path, so that a crash leaves
// no incomplete key. Errors: fs.ErrExist, if another process was faster.
func createMasterKey(path string) error {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	f, err := os.CreateTemp(filepath.Dir(path), ".master-*") // created with mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString(hex.EncodeToString(key) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a new entry of a directory survive a power failure: a database without
// its key cannot be read.
func syncDir(path string) error {
	d, err := os.Open(filepath.Clean(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
