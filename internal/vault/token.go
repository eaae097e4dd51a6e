package vault

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

const (
	// TokenGrace is how long the bearer tokens of older generations are valid after new
	// ones were made. Source: OpenClaw calls tools with a new token about 2 s after it is in
	// the secrets file; a turn that began before may call some time later.
	TokenGrace = time.Minute
	// maxHeldTokens bounds how many generations a gateway may be behind.
	maxHeldTokens = 8
)

// ErrTokensNotTaken means that a gateway has not taken the last generations of its tokens.
var ErrTokensNotTaken = errors.New("the gateway has not taken its last tokens")

// generations are those of an owner's bearer tokens: see the table data_keys.
type generations struct {
	newest, held, valid int64
	raisedAt            time.Time
}

// oldestValid returns the oldest generation whose tokens are valid.
func (g generations) oldestValid(now time.Time) int64 {
	if now.Sub(g.raisedAt) < TokenGrace {
		return g.valid
	}
	return g.newest
}

// tokensOf derives the tokens of the generations from oldest to newest, newest first.
func tokensOf(key []byte, purpose string, oldest, newest int64) ([]Secret, error) {
	var all []Secret
	for n := newest; n >= oldest; n-- {
		token, err := deriveToken(key, purposeOf(purpose, n))
		if err != nil {
			return nil, err
		}
		all = append(all, token)
	}
	return all, nil
}

// purposeOf returns the purpose of a bearer token of a generation.
func purposeOf(purpose string, generation int64) string {
	if generation == 0 {
		return purpose
	}
	return fmt.Sprintf("%s, generation %d", purpose, generation)
}

// Token returns what is derived from the owner's data key for a purpose, 64 hex digits. It
// is stored nowhere, never changes, and ends when the owner is shredded. Errors: ErrNoKey;
// *UnreadableError, if the data key cannot be opened.
func (v *Vault) Token(ctx context.Context, q database.Reader, account identity.AccountID, owner OwnerID, purpose string) (Secret, error) {
	if err := checkAccount(account); err != nil {
		return Secret{}, err
	}
	key, err := v.dataKey(ctx, q, account, owner)
	if err != nil {
		return Secret{}, err
	}
	return deriveToken(key, purpose)
}

// BearerTokens returns the bearer tokens of an owner for a purpose that are valid now, the
// newest first. Errors: as of Token.
func (v *Vault) BearerTokens(ctx context.Context, q database.Reader, account identity.AccountID, owner OwnerID, purpose string) ([]Secret, error) {
	o, err := v.readKey(ctx, q, account, owner)
	if err != nil {
		return nil, err
	}
	return tokensOf(o.key, purpose, o.generations.oldestValid(time.Now()), o.generations.newest)
}

// HeldTokens returns the bearer tokens for a purpose of which the owner's gateway has one,
// the one that it is known to have had first. Errors: as of Token.
func (v *Vault) HeldTokens(ctx context.Context, q database.Reader, account identity.AccountID, owner OwnerID, purpose string) ([]Secret, error) {
	o, err := v.readKey(ctx, q, account, owner)
	if err != nil {
		return nil, err
	}
	first, err := tokensOf(o.key, purpose, o.generations.held, o.generations.held)
	if err != nil {
		return nil, err
	}
	others, err := tokensOf(o.key, purpose, o.generations.held+1, o.generations.newest)
	return append(first, others...), err
}

// readKey reads an owner's data key and its generations, and no secrets.
func (v *Vault) readKey(ctx context.Context, q database.Reader, account identity.AccountID, owner OwnerID) (Owned, error) {
	if err := checkAccount(account); err != nil {
		return Owned{}, err
	}
	k, err := database.One(ctx, q, scanSealedKey, `SELECT `+keyColumns+` FROM data_keys WHERE account_id = $1 AND owner_id = $2`, account, owner)
	if errors.Is(err, sql.ErrNoRows) {
		return Owned{}, ErrNoKey
	}
	if err != nil {
		return Owned{}, fmt.Errorf("read data key: %w", err)
	}
	o := Owned{generations: k.generations}
	if o.key, err = v.openKey(k.box, k.fingerprint, account, owner); err != nil {
		return Owned{}, &UnreadableError{Key: true, cause: err}
	}
	return o, nil
}

// BearerToken returns the owner's bearer token of the newest generation for a purpose.
// Errors: as of Token.
func (o Owned) BearerToken(purpose string) (Secret, error) {
	return o.Token(purposeOf(purpose, o.generations.newest))
}

// OldTokens returns the owner's bearer tokens for a purpose that its gateway may know, except
// for the newest. Errors: as of Token.
func (o Owned) OldTokens(purpose string) ([]Secret, error) {
	if _, err := o.Token(purpose); err != nil {
		return nil, err
	}
	return tokensOf(o.key, purpose, min(o.generations.held, o.generations.valid), o.generations.newest-1)
}

// Generation returns the newest generation of the owner's bearer tokens, and whether its
// gateway is known to have it.
func (o Owned) Generation() (generation int64, held bool) {
	return o.generations.newest, o.generations.held == o.generations.newest
}

// RaiseTokens begins a new generation of an owner's bearer tokens. With running the owner
// has a gateway that knows the last ones: they are valid for TokenGrace. Otherwise they end
// at once. Errors: ErrNoKey; ErrTokensNotTaken.
func (v *Vault) RaiseTokens(ctx context.Context, tx *database.Tx, account identity.AccountID, owner OwnerID, running bool) (generation int64, err error) {
	if err := checkAccount(account); err != nil {
		return 0, err
	}
	if err := tx.Lock(ctx, database.LockDataKey, string(owner)); err != nil {
		return 0, err
	}
	k, err := database.One(ctx, tx, scanSealedKey, `SELECT `+keyColumns+` FROM data_keys WHERE account_id = $1 AND owner_id = $2`, account, owner)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, ErrNoKey
	}
	if err != nil {
		return 0, fmt.Errorf("read generations of tokens: %w", err)
	}
	g := k.generations
	if running && g.newest-g.held >= maxHeldTokens {
		return 0, ErrTokensNotTaken
	}
	g.newest, g.valid = g.newest+1, g.held
	if !running {
		g.held, g.valid = g.newest, g.newest
	}
	_, err = tx.ExecContext(ctx, `UPDATE data_keys SET token_generation = $1, held_generation = $2, valid_generation = $3, tokens_raised_at = $4, revision = revision + 1
		WHERE account_id = $5 AND owner_id = $6`, g.newest, g.held, g.valid, database.Millis(time.Now()), account, owner)
	if err != nil {
		return 0, fmt.Errorf("raise the generation of tokens: %w", err)
	}
	return g.newest, nil
}

// RaiseAllTokens ends all bearer tokens of every owner at once. It is for a database that was
// restored from a backup. The original raises its own generations by one, so the next ones
// here are ones that it never reaches: those that were counted already plus the time in
// milliseconds.
func RaiseAllTokens(ctx context.Context, tx *database.Tx) error {
	_, err := tx.ExecContext(ctx, `UPDATE data_keys SET token_generation = token_generation + $1, held_generation = token_generation + $1,
		valid_generation = token_generation + $1, tokens_raised_at = $1, revision = revision + 1`, database.Millis(time.Now()))
	if err != nil {
		return fmt.Errorf("raise the generations of all tokens: %w", err)
	}
	return nil
}

// ConfirmTokens stores that an owner's gateway has the bearer tokens of a generation.
func (v *Vault) ConfirmTokens(ctx context.Context, tx *database.Tx, account identity.AccountID, owner OwnerID, generation int64) error {
	_, err := tx.ExecContext(ctx, `UPDATE data_keys SET held_generation = $1
		WHERE account_id = $2 AND owner_id = $3 AND held_generation < $1 AND token_generation >= $1`, generation, account, owner)
	if err != nil {
		return fmt.Errorf("confirm the generation of tokens: %w", err)
	}
	return nil
}

func deriveToken(key []byte, purpose string) (Secret, error) {
	token, err := hkdf.Key(sha256.New, key, nil, "agento token "+purpose, 32)
	if err != nil {
		return Secret{}, fmt.Errorf("derive token: %w", err)
	}
	return NewSecret(hex.EncodeToString(token)), nil
}
