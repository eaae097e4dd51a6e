// Package vault keeps secrets sealed. Each owner (an agent, a swarm, the
// installation) has a data key, itself sealed by the master key; account and owner
// are bound into every seal, so a row copied to another owner does not open.
package vault

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"agento.host/agento/internal/database"
)

// ErrNoKey says that an owner has no data key: it never had a secret, or was shredded.
var ErrNoKey = errors.New("no data key")

// Vault seals and opens secrets. It is safe for concurrent use.
type Vault struct {
	master   cipher.AEAD
	masterID string
}

// New makes a vault from a master key of 32 bytes.
func New(master []byte) (*Vault, error) {
	aead, err := newAEAD(master)
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	sum := sha256.Sum256(append([]byte("agento master key "), master...))
	return &Vault{master: aead, masterID: hex.EncodeToString(sum[:8])}, nil
}

// Put stores secrets of an owner, replacing those of the same name.
func (v *Vault) Put(ctx context.Context, tx *database.Tx, accountID, ownerID string, secrets map[string]Secret) error {
	if err := tenant(accountID); err != nil {
		return err
	}
	return v.put(ctx, tx, accountID, ownerID, secrets)
}

func (v *Vault) put(ctx context.Context, tx *database.Tx, accountID, ownerID string, secrets map[string]Secret) error {
	key, err := v.dataKey(ctx, tx, accountID, ownerID)
	if errors.Is(err, ErrNoKey) {
		key, err = v.newDataKey(ctx, tx, accountID, ownerID)
	}
	if err != nil {
		return err
	}
	aead, err := newAEAD(key)
	if err != nil {
		return err
	}
	for name, s := range secrets {
		_, err := tx.ExecContext(ctx,
			`INSERT INTO secrets (account_id, owner_id, name, sealed, updated_at) VALUES ($1, $2, $3, $4, $5)
			 ON CONFLICT (account_id, owner_id, name) DO UPDATE SET sealed = excluded.sealed, updated_at = excluded.updated_at`,
			accountID, ownerID, name, seal(aead, []byte(s.Reveal()), accountID, ownerID, name), database.Millis(time.Now()))
		if err != nil {
			return fmt.Errorf("store secret %s: %w", name, err)
		}
	}
	return nil
}

// Delete removes secrets of an owner; a name that is not there is no error.
func (v *Vault) Delete(ctx context.Context, tx *database.Tx, accountID, ownerID string, names ...string) error {
	if err := tenant(accountID); err != nil {
		return err
	}
	for _, name := range names {
		if _, err := tx.ExecContext(ctx, `DELETE FROM secrets WHERE account_id = $1 AND owner_id = $2 AND name = $3`, accountID, ownerID, name); err != nil {
			return fmt.Errorf("delete secret %s: %w", name, err)
		}
	}
	return nil
}

// Names lists what an owner has, in order, without opening anything.
func (v *Vault) Names(ctx context.Context, q database.Querier, accountID, ownerID string) ([]string, error) {
	if err := tenant(accountID); err != nil {
		return nil, err
	}
	return database.All(ctx, q, database.Scalar[string],
		`SELECT name FROM secrets WHERE account_id = $1 AND owner_id = $2 ORDER BY name`, accountID, ownerID)
}

// Read opens every secret of an owner.
func (v *Vault) Read(ctx context.Context, q database.Querier, accountID, ownerID string) (map[string]Secret, error) {
	if err := tenant(accountID); err != nil {
		return nil, err
	}
	return v.read(ctx, q, accountID, ownerID)
}

func (v *Vault) read(ctx context.Context, q database.Querier, accountID, ownerID string) (map[string]Secret, error) {
	sealed, err := database.All(ctx, q, scanSealed,
		`SELECT name, sealed FROM secrets WHERE account_id = $1 AND owner_id = $2`, accountID, ownerID)
	if err != nil || len(sealed) == 0 {
		return map[string]Secret{}, err
	}
	key, err := v.dataKey(ctx, q, accountID, ownerID)
	if err != nil {
		return nil, err
	}
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	opened := make(map[string]Secret, len(sealed))
	for _, s := range sealed {
		plain, err := open(aead, s.box, accountID, ownerID, s.name)
		if err != nil {
			return nil, fmt.Errorf("open secret %s: %w", s.name, err)
		}
		opened[s.name] = NewSecret(string(plain))
	}
	return opened, nil
}

// Token is a bearer token of 64 hex digits that belongs to an owner and a
// purpose. It is derived from the owner's data key, so it is stored nowhere and
// dies when the owner is shredded. Errors: ErrNoKey.
func (v *Vault) Token(ctx context.Context, q database.Querier, accountID, ownerID, purpose string) (Secret, error) {
	if err := tenant(accountID); err != nil {
		return Secret{}, err
	}
	key, err := v.dataKey(ctx, q, accountID, ownerID)
	if err != nil {
		return Secret{}, err
	}
	return deriveToken(key, purpose)
}

func deriveToken(key []byte, purpose string) (Secret, error) {
	token, err := hkdf.Key(sha256.New, key, nil, "agento token "+purpose, 32)
	if err != nil {
		return Secret{}, fmt.Errorf("derive token: %w", err)
	}
	return NewSecret(hex.EncodeToString(token)), nil
}

// Shred removes an owner's secrets and its data key: nothing of it can be opened again.
func (v *Vault) Shred(ctx context.Context, tx *database.Tx, accountID, ownerID string) error {
	if err := tenant(accountID); err != nil {
		return err
	}
	return v.shred(ctx, tx, accountID, ownerID)
}

func (v *Vault) shred(ctx context.Context, tx *database.Tx, accountID, ownerID string) error {
	for _, table := range []string{"secrets", "data_keys"} {
		if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE account_id = $1 AND owner_id = $2`, accountID, ownerID); err != nil {
			return fmt.Errorf("shred secrets: %w", err)
		}
	}
	return nil
}

// tenant refuses the id under which the installation keeps its own secrets.
func tenant(accountID string) error {
	if accountID == InstallationAccount {
		return errors.New("a secret was asked for without an account")
	}
	return nil
}

// belongs refuses a master key that is not the one of this database. Otherwise an
// operator's command with the wrong key would store what the server cannot open.
func (v *Vault) belongs(ctx context.Context, q database.Querier) error {
	other, err := database.One(ctx, q, database.Scalar[string], `SELECT master_id FROM data_keys WHERE master_id <> $1 LIMIT 1`, v.masterID)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("compare the master key: %w", err)
	}
	return v.wrongMaster(other)
}

func (v *Vault) wrongMaster(other string) error {
	return fmt.Errorf("the data key was sealed by master key %s, this is %s: start with the master key file that belongs to this database", other, v.masterID)
}

func (v *Vault) dataKey(ctx context.Context, q database.Querier, accountID, ownerID string) ([]byte, error) {
	var box []byte
	var masterID string
	err := q.QueryRowContext(ctx, `SELECT sealed, master_id FROM data_keys WHERE account_id = $1 AND owner_id = $2`, accountID, ownerID).Scan(&box, &masterID)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNoKey
	}
	if err != nil {
		return nil, fmt.Errorf("read data key: %w", err)
	}
	return v.openKey(box, masterID, accountID, ownerID)
}

func (v *Vault) openKey(box []byte, masterID, accountID, ownerID string) ([]byte, error) {
	if masterID != v.masterID {
		return nil, v.wrongMaster(masterID)
	}
	key, err := open(v.master, box, accountID, ownerID)
	if err != nil {
		return nil, fmt.Errorf("open data key: %w", err)
	}
	return key, nil
}

func (v *Vault) newDataKey(ctx context.Context, tx *database.Tx, accountID, ownerID string) ([]byte, error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the program instead
	_, err := tx.ExecContext(ctx, `INSERT INTO data_keys (account_id, owner_id, master_id, sealed, created_at) VALUES ($1, $2, $3, $4, $5)`,
		accountID, ownerID, v.masterID, seal(v.master, key, accountID, ownerID), database.Millis(time.Now()))
	if err != nil {
		return nil, fmt.Errorf("store data key: %w", err)
	}
	return key, nil
}

type sealedSecret struct {
	name string
	box  []byte
}

func scanSealed(r database.Row) (sealedSecret, error) {
	var s sealedSecret
	err := r.Scan(&s.name, &s.box)
	return s, err
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("has %d bytes, 32 are needed", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	// A random nonce of 96 bits is safe for 2^32 seals of one key; a data key
	// seals a handful, the master key one per owner.
	return cipher.NewGCMWithRandomNonce(block)
}

// bind names what a box belongs to; ids and names hold no NUL.
func bind(parts []string) []byte { return []byte("agento/1\x00" + strings.Join(parts, "\x00")) }

func seal(aead cipher.AEAD, plain []byte, parts ...string) []byte {
	return aead.Seal(nil, nil, plain, bind(parts)) //nolint:gosec // the AEAD makes a random nonce itself
}

func open(aead cipher.AEAD, box []byte, parts ...string) ([]byte, error) {
	return aead.Open(nil, nil, box, bind(parts))
}
