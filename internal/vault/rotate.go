package vault

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
)

// Rotation is a request to replace the master key of a database that no server uses.
type Rotation struct {
	Source KeySource
	// Next is the new key; empty: a new one is made. If the present key was given and is
	// in no file, the new one must be given too.
	Next Secret
	// Former is the path of a file that gets the former key, for backups from before. It
	// must not exist. Empty: the former key is kept nowhere.
	Former string

	reached func(step string) error // in tests: called after each step
}

// Rotated is the result of a Rotation.
type Rotated struct {
	Former  string // fingerprint
	Current string // fingerprint
	Keys    int    // data keys that the new key seals
	Damaged int    // data keys that the former key could not open, which are as they were
	InFile  bool   // the new key is in the file of the source
}

// Rotate seals every data key with another master key, in one transaction. Data keys, and
// so tokens and everything that they seal, stay the same. The new key is in a file beside
// the present one before the transaction commits, and takes its place afterwards: after a
// crash in between, Open finds the one that the data want.
func (r Rotation) Rotate(ctx context.Context, db *database.DB, events *event.Log) (Rotated, error) {
	former, state, err := r.open(ctx, db)
	if err != nil {
		return Rotated{}, err
	}
	next, err := r.newKey()
	if err != nil {
		return Rotated{}, err
	}
	current, err := New(next)
	if err != nil {
		return Rotated{}, err
	}
	if current.fingerprint == former.fingerprint {
		return Rotated{}, errors.New("the new master key is the present one: give another one. Nothing was changed")
	}
	done := Rotated{Former: former.fingerprint, Current: current.fingerprint, InFile: state.File != ""}
	if r.Former != "" {
		if err := writeKey(r.Former, state.key); err != nil {
			return Rotated{}, fmt.Errorf("keep the former master key: %w", err)
		}
	}
	if done.InFile {
		if err := r.Source.writeNext(next); err != nil {
			return Rotated{}, fmt.Errorf("write the new master key: %w", err)
		}
	}
	if err := r.step("written"); err != nil {
		return Rotated{}, err
	}
	err = db.Tx(ctx, "vault.rotate_master_key", func(ctx context.Context, tx *database.Tx) (err error) {
		if done.Keys, done.Damaged, err = reseal(ctx, tx, former, current); err != nil {
			return err
		}
		data := map[string]any{"former": done.Former, "fingerprint": done.Current}
		if err := events.Append(ctx, tx, identity.ByOperator(InstallationAccount), event.Event{Topic: "installation/secrets", Kind: "installation.master_key_rotated", Data: data}); err != nil {
			return err
		}
		return r.step("sealed")
	})
	if err != nil {
		if done.InFile {
			err = errors.Join(err, r.discard(ctx, db, current.fingerprint))
		}
		return Rotated{}, err
	}
	if err := r.step("committed"); err != nil || !done.InFile {
		return done, err
	}
	return done, r.Source.finishRotation()
}

func (r Rotation) step(name string) error {
	if r.reached == nil {
		return nil
	}
	return r.reached(name)
}

// open returns the vault of the present key.
func (r Rotation) open(ctx context.Context, db *database.DB) (*Vault, KeyState, error) {
	former, err := Open(ctx, db, r.Source) // finishes a rotation that a crash interrupted
	if err != nil {
		return nil, KeyState{}, err
	}
	state, err := r.Source.Check(ctx, db)
	if err != nil {
		return nil, KeyState{}, err
	}
	if state.Given != "" && state.File != "" {
		return nil, KeyState{}, fmt.Errorf("the master key is in %s and in AGENTO_MASTER_KEY: remove it from one of the two. Nothing was changed", r.Source.File)
	}
	if state.Given != "" && r.Next.Empty() {
		return nil, KeyState{}, errors.New("the master key comes from AGENTO_MASTER_KEY, where agento cannot replace it: give the new one in AGENTO_NEW_MASTER_KEY, 64 hex digits, and start the server with that afterwards. Nothing was changed")
	}
	return former, state, nil
}

func (r Rotation) newKey() ([]byte, error) {
	if !r.Next.Empty() {
		return ParseMasterKey([]byte(r.Next.Reveal()))
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the program instead
	return key, nil
}

// discard removes the new key if the data do not want it: a transaction that failed may
// have been committed nevertheless.
func (r Rotation) discard(ctx context.Context, db *database.DB, fingerprint string) error {
	wanted, err := database.One(context.WithoutCancel(ctx), db, database.Scalar[string], `SELECT fingerprint FROM master_key`)
	if err != nil || wanted == fingerprint {
		return err // the next Open decides
	}
	return os.Remove(r.Source.nextFile())
}

// reseal seals every data key and the check value of the database with another master key.
func reseal(ctx context.Context, tx *database.Tx, former, current *Vault) (keys, damaged int, err error) {
	tx.Erase() // what the former key sealed
	all, err := database.All(ctx, tx, scanOwnedKey, `SELECT account_id, owner_id, master_id, sealed FROM data_keys`)
	if err != nil {
		return 0, 0, fmt.Errorf("read data keys: %w", err)
	}
	for _, k := range all {
		key, err := former.openKey(k.box, k.fingerprint, k.account, k.owner)
		if err != nil {
			damaged++
			continue
		}
		_, err = tx.ExecContext(ctx, `UPDATE data_keys SET master_id = $1, sealed = $2 WHERE account_id = $3 AND owner_id = $4`,
			current.fingerprint, seal(current.master, key, keyData(k.account, k.owner)), k.account, k.owner)
		if err != nil {
			return 0, 0, fmt.Errorf("store data key: %w", err)
		}
		keys++
	}
	_, err = tx.ExecContext(ctx, `UPDATE master_key SET fingerprint = $1, sealed = $2, created_at = $3 WHERE fingerprint = $4`,
		current.fingerprint, seal(current.master, []byte(checkText), checkData()), database.Millis(time.Now()), former.fingerprint)
	if err != nil {
		return 0, 0, fmt.Errorf("store the check value of the master key: %w", err)
	}
	return keys, damaged, nil
}

// ownedKey is a data key with its owner.
type ownedKey struct {
	account     identity.AccountID
	owner       OwnerID
	fingerprint string
	box         []byte
}

func scanOwnedKey(r database.Row) (ownedKey, error) {
	var k ownedKey
	err := r.Scan(&k.account, &k.owner, &k.fingerprint, &k.box)
	return k, err
}

// nextFile is the file of the new key until a rotation has ended.
func (s KeySource) nextFile() string { return s.File + ".new" }

// readNext returns the key of a rotation that was committed and has not ended, nil if there
// is none that the data want.
func (s KeySource) readNext(checks []keyCheck) ([]byte, error) {
	next := KeySource{File: s.nextFile()}
	key, err := next.readFile()
	if err != nil || key == nil {
		return nil, nil //nolint:nilerr // a crash may have left a part of a key, which the data cannot want
	}
	v, err := New(key)
	if err != nil || !v.opensAny(checks) {
		return nil, err
	}
	return key, nil
}

// finishRotation puts the new key in place of the former one.
func (s KeySource) finishRotation() error {
	if err := os.Rename(s.nextFile(), s.File); err != nil {
		return fmt.Errorf("put the new master key in place: %w", err)
	}
	return syncDir(filepath.Dir(s.File))
}

// writeNext writes the key of a rotation, in place of one that did not commit.
func (s KeySource) writeNext(key []byte) error {
	if err := os.Remove(s.nextFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeKey(s.nextFile(), key)
}

// writeKey writes a key to a new file that only its owner can read, and makes it survive a
// power failure.
func writeKey(path string, key []byte) error {
	f, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(hex.EncodeToString(key) + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return syncDir(filepath.Dir(path))
}
