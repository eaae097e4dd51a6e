package vault

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

const (
	// textVersion is the first byte of a sealed text.
	textVersion = 1
	// TextOverhead is how many bytes a sealed text has more than the text: a version, a nonce
	// of 12 bytes and a tag of 16. The triggers of 0072_sealed_texts.sql have it, too.
	TextOverhead = 1 + 12 + 16
)

// Text is a text as a column holds it: sealed, which is a BLOB, or as it is, which is a
// TEXT. Both can be in one column, because sealing can be turned on and off.
type Text struct {
	value  string
	sealed bool
}

// Scan implements sql.Scanner.
func (t *Text) Scan(value any) error {
	switch v := value.(type) {
	case string:
		*t = Text{value: v}
	case []byte:
		*t = Text{value: string(v), sealed: true}
	default:
		return fmt.Errorf("a %T is no text", value)
	}
	return nil
}

// IsEmpty reports whether the text is empty. An empty text is not sealed.
func (t Text) IsEmpty() bool { return t.value == "" }

// Value implements driver.Valuer.
func (t Text) Value() (driver.Value, error) {
	if t.sealed {
		return []byte(t.value), nil
	}
	return t.value, nil
}

// TextKey seals and opens the texts of one owner. The zero TextKey has no key.
type TextKey struct {
	aead  cipher.AEAD
	owner string // account and owner
	plain bool   // Seal leaves texts as they are
	err   error  // why there is no key
}

// TextKey returns the key of an owner's texts. It is derived from the data key, so that
// nobody can open the texts after the owner was shredded. If there is no data key, or it
// cannot be opened, the key opens only texts that are not sealed.
func (v *Vault) TextKey(ctx context.Context, q database.Reader, account identity.AccountID, owner OwnerID) (TextKey, error) {
	if err := checkAccount(account); err != nil {
		return TextKey{}, err
	}
	k := TextKey{owner: string(account) + "\x00" + string(owner), plain: v.plainTexts}
	aead, forgotten := v.texts.find(k.owner)
	if aead != nil {
		k.aead = aead
		return k, nil
	}
	key, err := v.dataKey(ctx, q, account, owner)
	if unreadable := (*UnreadableError)(nil); errors.Is(err, ErrNoKey) || errors.As(err, &unreadable) {
		k.err = err
		return k, nil
	}
	if err != nil {
		return TextKey{}, err
	}
	if k.aead, err = newTextAEAD(key); err != nil {
		return TextKey{}, err
	}
	v.texts.add(k.owner, k.aead, forgotten)
	return k, nil
}

// LeaveTextsPlain makes the vault seal no texts. It opens those that are sealed. Call it
// before anything else.
func (v *Vault) LeaveTextsPlain() { v.plainTexts = true }

func newTextAEAD(dataKey []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, dataKey, nil, "agento texts", 32)
	if err != nil {
		return nil, fmt.Errorf("derive the key of texts: %w", err)
	}
	return newAEAD(key)
}

// Seal seals a text for a place: the names that its row and column have for ever. An empty
// text stays as it is. All parts of a place but the last must have no NUL.
// Faults: Conflict, if the data key is missing or damaged.
func (k TextKey) Seal(text string, place ...string) (Text, error) {
	if text == "" || k.plain {
		return Text{value: text}, nil
	}
	box, err := k.SealBytes([]byte(text), place...)
	if err != nil {
		return Text{}, err
	}
	return Text{value: string(box), sealed: true}, nil
}

// Seals reports whether Seal seals.
func (k TextKey) Seals() bool { return !k.plain }

// SealBytes seals data for a place, also where Seal leaves texts as they are. Faults: as of
// Seal.
func (k TextKey) SealBytes(data []byte, place ...string) ([]byte, error) {
	if k.aead == nil {
		return nil, fault.New(fault.Conflict, "The agent's data key is damaged, and no text can be stored without it. Set all secrets of the agent in one request, which makes a new data key; or ask the operator to restore a backup.").
			Because(k.reason())
	}
	return append([]byte{textVersion}, seal(k.aead, data, k.additional(place))...), nil
}

// Open returns a text that was stored for a place. Errors: of a text that is damaged,
// belongs to another place or owner, or whose key is lost.
func (k TextKey) Open(t Text, place ...string) (string, error) {
	if !t.sealed {
		return t.value, nil
	}
	text, err := k.OpenBytes([]byte(t.value), place...)
	return string(text), err
}

// OpenBytes opens what SealBytes sealed for a place. Errors: as of Open.
func (k TextKey) OpenBytes(box []byte, place ...string) ([]byte, error) {
	if k.aead == nil {
		return nil, k.reason()
	}
	if len(box) == 0 || box[0] != textVersion {
		return nil, errors.New("not a sealed text")
	}
	return open(k.aead, box[1:], k.additional(place))
}

// reason returns why there is no key.
func (k TextKey) reason() error {
	if k.err == nil {
		return ErrNoKey
	}
	return k.err
}

func (k TextKey) additional(place []string) []byte {
	return additionalData(append([]string{"text", k.owner}, place...)...)
}

// maxTextKeys is how many keys of texts are kept in memory. A key needs about 1 kB.
const maxTextKeys = 2000

// textKeys are the keys of texts that were used last, so that a message needs no query for
// its key.
type textKeys struct {
	mu        sync.Mutex
	byOwner   map[string]cipher.AEAD // guarded by mu
	forgotten int                    // how often forget was called; guarded by mu
}

// find returns the key of an owner; nil if it is not kept. forgotten is for add.
func (t *textKeys) find(owner string) (aead cipher.AEAD, forgotten int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byOwner[owner], t.forgotten
}

// add keeps a key, unless one was forgotten since: the key may have been read before that.
func (t *textKeys) add(owner string, aead cipher.AEAD, forgotten int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.forgotten != forgotten {
		return
	}
	if t.byOwner == nil {
		t.byOwner = map[string]cipher.AEAD{}
	}
	if len(t.byOwner) >= maxTextKeys {
		for other := range t.byOwner { // any: it is read again when it is needed
			delete(t.byOwner, other)
			break
		}
	}
	t.byOwner[owner] = aead
}

// forgetIn forgets the key of an owner whose data key a transaction deletes or replaces.
func (t *textKeys) forgetIn(tx *database.Tx, account identity.AccountID, owner OwnerID) {
	t.forget(string(account) + "\x00" + string(owner))
	tx.AfterCommit(func() { t.forget(string(account) + "\x00" + string(owner)) })
}

func (t *textKeys) forget(owner string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byOwner, owner)
	t.forgotten++
}
