// Package vault stores secrets encrypted, and seals the texts of agents. Each owner (an agent, a swarm, the
// installation) has a data key, which the master key encrypts. Account and owner are
// authenticated with every ciphertext, so a row that is copied to another owner cannot
// be decrypted.
package vault

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
)

// ErrNoKey reports that an owner has no data key: it never had a secret, or was
// shredded.
var ErrNoKey = errors.New("no data key")

// OwnerID identifies the owner of secrets within an account.
type OwnerID string

// OfAgent returns the owner of an agent's secrets.
func OfAgent(agent identity.AgentID) OwnerID { return OwnerID(agent) }

// OfSwarm returns the owner of a swarm's secrets.
func OfSwarm(swarm identity.SwarmID) OwnerID { return OwnerID(swarm) }

// OfAccount returns the owner of what belongs to an account as a whole.
func OfAccount(account identity.AccountID) OwnerID { return OwnerID(account) }

// Vault encrypts and decrypts secrets. It is safe for concurrent use.
type Vault struct {
	master      cipher.AEAD
	fingerprint string // of the master key
	plainTexts  bool
	texts       textKeys
}

// New returns a vault with a master key of 32 bytes.
func New(master []byte) (*Vault, error) {
	aead, err := newAEAD(master)
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	sum := sha256.Sum256(append([]byte("agento master key "), master...))
	return &Vault{master: aead, fingerprint: hex.EncodeToString(sum[:8])}, nil
}

// Put stores secrets of an owner and replaces those of the same name. It creates the
// owner's data key if there is none, also if it is given no secrets. A secret's origin is
// stored and authenticated with it. It replaces a data key that
// is damaged only if it sets every secret that the owner has; delete those that are not
// known any more before.
// Faults: Conflict, naming the secrets that are lost with the data key.
// Errors: *TakenError.
func (v *Vault) Put(ctx context.Context, tx *database.Tx, account identity.AccountID, owner OwnerID, secrets map[provider.SecretName]Secret) error {
	if err := checkAccount(account); err != nil {
		return err
	}
	return v.put(ctx, tx, account, owner, secrets)
}

func (v *Vault) put(ctx context.Context, tx *database.Tx, account identity.AccountID, owner OwnerID, secrets map[provider.SecretName]Secret) error {
	if err := tx.Lock(ctx, database.LockDataKey, string(owner)); err != nil {
		return err
	}
	if err := lockClaims(ctx, tx, secrets); err != nil {
		return err
	}
	if err := v.CheckClaims(ctx, tx, account, owner, secrets); err != nil {
		return err
	}
	key, err := v.dataKey(ctx, tx, account, owner)
	isNew := errors.Is(err, ErrNoKey)
	if damaged := (*UnreadableError)(nil); isNew || errors.As(err, &damaged) {
		key, err = v.makeDataKey(ctx, tx, account, owner, secrets)
	}
	if !isNew && len(secrets) > 0 {
		tx.Erase() // the values that are replaced
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
			`INSERT INTO secrets (account_id, owner_id, name, sealed, updated_at, origin, claim) VALUES ($1, $2, $3, $4, $5, $6, $7)
			 ON CONFLICT (account_id, owner_id, name) DO UPDATE SET sealed = excluded.sealed, updated_at = excluded.updated_at, origin = excluded.origin, claim = excluded.claim`,
			account, owner, name, seal(aead, []byte(s.Reveal()), secretData(account, owner, name, s.origin)), database.Millis(time.Now()), s.origin, claimOf(name, s))
		if err != nil {
			return fmt.Errorf("store secret %s: %w", name, err)
		}
	}
	return raiseRevision(ctx, tx, account, owner)
}

// Delete deletes secrets of an owner. It ignores names that the owner does not have.
func (v *Vault) Delete(ctx context.Context, tx *database.Tx, account identity.AccountID, owner OwnerID, names ...provider.SecretName) error {
	if err := checkAccount(account); err != nil {
		return err
	}
	tx.Erase()
	for _, name := range names {
		if _, err := tx.ExecContext(ctx, `DELETE FROM secrets WHERE account_id = $1 AND owner_id = $2 AND name = $3`, account, owner, name); err != nil {
			return fmt.Errorf("delete secret %s: %w", name, err)
		}
	}
	return raiseRevision(ctx, tx, account, owner)
}

func raiseRevision(ctx context.Context, tx *database.Tx, account identity.AccountID, owner OwnerID) error {
	_, err := tx.ExecContext(ctx, `UPDATE data_keys SET revision = revision + 1 WHERE account_id = $1 AND owner_id = $2`, account, owner)
	if err != nil {
		return fmt.Errorf("raise revision of secrets: %w", err)
	}
	return nil
}

// names lists the names of an owner's secrets, sorted. It decrypts nothing.
func (v *Vault) names(ctx context.Context, q database.Reader, account identity.AccountID, owner OwnerID) ([]provider.SecretName, error) {
	return database.All(ctx, q, database.Scalar[provider.SecretName],
		`SELECT name FROM secrets WHERE account_id = $1 AND owner_id = $2 ORDER BY name`, account, owner)
}

// Read decrypts and returns every secret of an owner. Errors: *UnreadableError.
func (v *Vault) Read(ctx context.Context, q database.Reader, account identity.AccountID, owner OwnerID) (map[provider.SecretName]Secret, error) {
	if err := checkAccount(account); err != nil {
		return nil, err
	}
	return v.read(ctx, q, account, owner)
}

func (v *Vault) read(ctx context.Context, q database.Reader, account identity.AccountID, owner OwnerID) (map[provider.SecretName]Secret, error) {
	all := map[OwnerID]Owned{}
	if err := v.readBatch(ctx, q, account, []OwnerID{owner}, all); err != nil {
		return nil, err
	}
	if u := all[owner].unreadable; u != nil {
		return nil, u
	}
	return all[owner].Secrets, nil
}

// Shred deletes an owner's secrets and its data key, and erases them from the files of
// the database. Copies of its ciphertexts without the data key can never be decrypted
// again.
func (v *Vault) Shred(ctx context.Context, tx *database.Tx, account identity.AccountID, owner OwnerID) error {
	if err := checkAccount(account); err != nil {
		return err
	}
	return v.shred(ctx, tx, account, owner)
}

func (v *Vault) shred(ctx context.Context, tx *database.Tx, account identity.AccountID, owner OwnerID) error {
	tx.Erase()
	v.texts.forgetIn(tx, account, owner)
	for _, table := range []string{"secrets", "data_keys"} {
		if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE account_id = $1 AND owner_id = $2`, account, owner); err != nil {
			return fmt.Errorf("shred secrets: %w", err)
		}
	}
	return nil
}

// checkAccount refuses the account id under which the installation's secrets are
// stored.
func checkAccount(account identity.AccountID) error {
	if account == InstallationAccount {
		return errors.New("a secret needs an account")
	}
	return nil
}

func (v *Vault) dataKey(ctx context.Context, q database.Reader, account identity.AccountID, owner OwnerID) ([]byte, error) {
	var box []byte
	var fingerprint string
	err := q.QueryRowContext(ctx, `SELECT sealed, master_id FROM data_keys WHERE account_id = $1 AND owner_id = $2`, account, owner).Scan(&box, &fingerprint)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, ErrNoKey
	}
	if err != nil {
		return nil, fmt.Errorf("read data key: %w", err)
	}
	key, err := v.openKey(box, fingerprint, account, owner)
	if err != nil {
		return nil, &UnreadableError{Key: true, cause: err}
	}
	return key, nil
}

func (v *Vault) openKey(box []byte, fingerprint string, account identity.AccountID, owner OwnerID) ([]byte, error) {
	if fingerprint != v.fingerprint {
		return nil, v.otherKey(fingerprint)
	}
	key, err := open(v.master, box, keyData(account, owner))
	if err != nil {
		return nil, err
	}
	return key, nil
}

// newDataKey stores a new data key, which replaces a damaged one. The revision of the
// owner's secrets continues.
func (v *Vault) newDataKey(ctx context.Context, tx *database.Tx, account identity.AccountID, owner OwnerID) ([]byte, error) {
	v.texts.forgetIn(tx, account, owner)
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the program instead
	_, err := tx.ExecContext(ctx, `INSERT INTO data_keys (account_id, owner_id, master_id, sealed, created_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (account_id, owner_id) DO UPDATE SET master_id = excluded.master_id, sealed = excluded.sealed, created_at = excluded.created_at`,
		account, owner, v.fingerprint, seal(v.master, key, keyData(account, owner)), database.Millis(time.Now()))
	if err != nil {
		return nil, fmt.Errorf("store data key: %w", err)
	}
	return key, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("has %d bytes, 32 are needed", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	// A random nonce of 96 bits is safe for 2^32 encryptions with one key. A data key
	// encrypts a few secrets, the master key one data key per owner.
	return cipher.NewGCMWithRandomNonce(block)
}

// keyData and secretData return the additional data of a box: what it belongs to. Ids,
// names and origins contain no NUL, so two owners never have the same additional data.
func keyData(account identity.AccountID, owner OwnerID) []byte {
	return additionalData(string(account), string(owner))
}

// Secrets from before origins were stored have none in their additional data.
func secretData(account identity.AccountID, owner OwnerID, name provider.SecretName, o provider.Origin) []byte {
	if o == "" {
		return additionalData(string(account), string(owner), string(name))
	}
	return additionalData(string(account), string(owner), string(name), string(o))
}

func additionalData(parts ...string) []byte {
	return []byte("agento/1\x00" + strings.Join(parts, "\x00"))
}

func seal(aead cipher.AEAD, plain, additional []byte) []byte {
	return aead.Seal(nil, nil, plain, additional) //nolint:gosec // the AEAD generates a random nonce itself
}

func open(aead cipher.AEAD, box, additional []byte) ([]byte, error) {
	return aead.Open(nil, nil, box, additional)
}
