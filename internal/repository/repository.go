// Package repository keeps copies of homes in a bucket: a directory, S3, Google Cloud Storage
// or Azure. The contents of files are cut into chunks by what is in them, so that a further
// copy of a home stores what has changed. Chunks are compressed and then encrypted under a
// key of their home: copies of one home share chunks, those of different homes never do, and
// without its key no copy of a home can be read.
//
// The objects of a bucket are
//
//	config              the root key, sealed with the passphrase
//	keys/HOME           the key of a home, sealed with the root key
//	chunks/HOME/XX/ID   a chunk; ID is a keyed digest of its content, XX its first two digits
//	records/ID          what the caller keeps of a set of copies, sealed with the root key
//	lock                who writes; see Lock
package repository

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"

	"agento.host/agento/internal/vault"
)

// format is the version of the layout of a repository.
const format = 1

// MinPassphrase is the shortest passphrase of a repository, in bytes.
const MinPassphrase = 12

// Names of objects.
const (
	configKey     = "config"
	lockKey       = "lock"
	keysPrefix    = "keys/"
	chunksPrefix  = "chunks/"
	recordsPrefix = "records/"
)

// Errors that callers distinguish.
var (
	// ErrNotFound means that the bucket has no such object.
	ErrNotFound = errors.New("not found")
	// ErrNoRepository means that there is no repository in the bucket.
	ErrNoRepository = errors.New("there is no repository")
	// ErrPassphrase means that the passphrase does not open the repository.
	ErrPassphrase = errors.New("the passphrase is not that of the repository")
	// ErrPlain means that the repository was made without a passphrase, and is opened with one.
	ErrPlain = errors.New("the repository has no passphrase: it was made with --plain")
	// ErrProtected means that the repository was made with a passphrase, and is opened without one.
	ErrProtected = errors.New("the repository has a passphrase: name its file with --passphrase-file")
	// ErrDamaged means that an object is not what was stored.
	ErrDamaged = errors.New("damaged")
)

// Repository is an open repository. It is safe for concurrent use. One process at a time
// writes; see Lock.
type Repository struct {
	bucket bucket
	root   []byte
}

// config is the object of that name.
type config struct {
	Format int    `json:"format"`
	ID     string `json:"id"`
	KDF    *kdf   `json:"kdf,omitempty"` // nil: Key is not sealed
	Key    []byte `json:"key"`
}

// kdf makes a key of a passphrase.
type kdf struct {
	Name    string `json:"name"`
	Salt    []byte `json:"salt"`
	Time    uint32 `json:"time"`
	Memory  uint32 `json:"memoryKiB"`
	Threads uint8  `json:"threads"`
}

// newKDF returns the parameters of a new repository. Source: RFC 9106, the second
// recommendation, for less memory.
func newKDF() *kdf {
	return &kdf{Name: "argon2id", Salt: randomBytes(16), Time: 3, Memory: 64 << 10, Threads: 4}
}

// key returns the key of a passphrase. What a bucket asks for is bounded, because the bucket
// may be hostile.
func (k *kdf) key(passphrase vault.Secret) ([]byte, error) {
	if k.Name != "argon2id" || k.Time < 1 || k.Time > 16 || k.Memory < 8<<10 || k.Memory > 1<<20 || k.Threads < 1 || len(k.Salt) < 8 {
		return nil, fmt.Errorf("%s: its parameters of the passphrase are not those of agento: %w", configKey, ErrDamaged)
	}
	return argon2.IDKey([]byte(passphrase.Reveal()), k.Salt, k.Time, k.Memory, k.Threads, chacha20poly1305.KeySize), nil
}

// Open opens the repository of a URL of gocloud.dev/blob or of a directory. An empty
// passphrase opens one that has none. The caller closes it. Errors: ErrNoRepository,
// ErrPassphrase, ErrPlain, ErrProtected.
func Open(ctx context.Context, url string, passphrase vault.Secret) (*Repository, error) {
	b, err := openBucket(ctx, url, false)
	if err != nil {
		return nil, err
	}
	return opened(ctx, b, passphrase)
}

// Create is Open for one that writes: it makes the directory and the repository if there is
// none. Without a passphrase, the root key is in the repository.
func Create(ctx context.Context, url string, passphrase vault.Secret) (*Repository, error) {
	b, err := openBucket(ctx, url, true)
	if err != nil {
		return nil, err
	}
	r, err := opened(ctx, b, passphrase)
	if !errors.Is(err, ErrNoRepository) {
		return r, err
	}
	if b, err = openBucket(ctx, url, true); err != nil {
		return nil, err
	}
	return created(ctx, b, passphrase)
}

func opened(ctx context.Context, b bucket, passphrase vault.Secret) (_ *Repository, err error) {
	b = marked{b}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	data, err := b.get(ctx, configKey)
	if errors.Is(err, ErrNotFound) {
		return nil, ErrNoRepository
	}
	if err != nil {
		return nil, fmt.Errorf("read the repository: %w", err)
	}
	var c config
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("read the repository: %s: %w", configKey, ErrDamaged)
	}
	switch {
	case c.Format > format:
		return nil, fmt.Errorf("the repository has the format %d and this agento reads %d: use the agento that wrote it, or a newer one", c.Format, format)
	case c.KDF == nil && !passphrase.Empty():
		return nil, ErrPlain
	case c.KDF != nil && passphrase.Empty():
		return nil, ErrProtected
	}
	r := &Repository{bucket: b, root: c.Key}
	if c.KDF != nil {
		key, err := c.KDF.key(passphrase)
		if err != nil {
			return nil, err
		}
		if r.root, err = unseal(key, c.Key, configKey+"/"+c.ID); err != nil {
			return nil, ErrPassphrase
		}
	}
	if len(r.root) != chacha20poly1305.KeySize {
		return nil, fmt.Errorf("read the repository: %s: %w", configKey, ErrDamaged)
	}
	return r, nil
}

func created(ctx context.Context, b bucket, passphrase vault.Secret) (_ *Repository, err error) {
	b = marked{b}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	r := &Repository{bucket: b, root: randomBytes(chacha20poly1305.KeySize)}
	c := config{Format: format, ID: "repo_" + strings.ToLower(rand.Text()), Key: r.root}
	if !passphrase.Empty() {
		if len(passphrase.Reveal()) < MinPassphrase {
			return nil, fmt.Errorf("a passphrase has at least %d characters: make one with: openssl rand -base64 24", MinPassphrase)
		}
		c.KDF = newKDF()
		key, err := c.KDF.key(passphrase)
		if err != nil {
			return nil, err
		}
		c.Key = seal(key, r.root, configKey+"/"+c.ID)
	}
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, err
	}
	found, err := b.list(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("look into the bucket: %w", err)
	}
	for _, o := range found { // a repository that lost its config, or something else
		return nil, fmt.Errorf("it holds %s and no repository: name an empty directory or bucket", o.key)
	}
	if err := b.putNew(ctx, configKey, data); err != nil {
		return nil, fmt.Errorf("make the repository: %w", err)
	}
	return r, nil
}

// storageError is a failure of the bucket.
type storageError struct{ err error }

// Error implements error.
func (e *storageError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *storageError) Unwrap() error { return e.err }

// Failed reports whether an error is a failure of the bucket: whatever is stored next fails
// too.
func (*Repository) Failed(err error) bool {
	var failed *storageError
	return errors.As(err, &failed)
}

// Close closes the repository.
func (r *Repository) Close() error { return r.bucket.close() }

// validName is what a home can be called, and a record.
var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

func checkName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("not a name of a home or a record: %q", name)
	}
	return nil
}

// PutRecord stores a record, after everything that was stored before it has reached the disk. It replaces none.
func (r *Repository) PutRecord(ctx context.Context, id string, data []byte) error {
	if err := checkName(id); err != nil {
		return err
	}
	if err := r.bucket.sync(); err != nil {
		return fmt.Errorf("store what was copied: %w", err)
	}
	sealed := seal(r.root, compress(data), recordsPrefix+id)
	if err := r.bucket.putNew(ctx, recordsPrefix+id, sealed); err != nil {
		return fmt.Errorf("store the record %s: %w", id, err)
	}
	return r.bucket.sync()
}

// maxRecord bounds a record. Source: a backup of 100,000 agents has about 40 MB.
const maxRecord = 256 << 20

// Record returns a record. Errors: ErrNotFound.
func (r *Repository) Record(ctx context.Context, id string) ([]byte, error) {
	if err := checkName(id); err != nil {
		return nil, err
	}
	sealed, err := r.bucket.get(ctx, recordsPrefix+id)
	if err != nil {
		return nil, fmt.Errorf("read the record %s: %w", id, err)
	}
	data, err := unseal(r.root, sealed, recordsPrefix+id)
	if err == nil {
		data, err = decompress(data, maxRecord)
	}
	if err != nil {
		return nil, fmt.Errorf("read the record %s: %w", id, ErrDamaged)
	}
	return data, nil
}

// Records returns the ids of all records, sorted.
func (r *Repository) Records(ctx context.Context) ([]string, error) {
	return r.names(ctx, recordsPrefix)
}

// DeleteRecord deletes a record. It succeeds if there is none.
func (r *Repository) DeleteRecord(ctx context.Context, id string) error {
	if err := checkName(id); err != nil {
		return err
	}
	return r.bucket.delete(ctx, recordsPrefix+id)
}

// Homes returns the names of the homes that have a key, sorted.
func (r *Repository) Homes(ctx context.Context) ([]string, error) { return r.names(ctx, keysPrefix) }

func (r *Repository) names(ctx context.Context, prefix string) ([]string, error) {
	found, err := r.bucket.list(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", strings.TrimSuffix(prefix, "/"), err)
	}
	names := make([]string, 0, len(found))
	for _, o := range found {
		if name := strings.TrimPrefix(o.key, prefix); validName.MatchString(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// seal encrypts data for its place, so that what is stored elsewhere does not open there.
func seal(key, data []byte, place string) []byte {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		panic(err) // the key has another length
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(data)+aead.Overhead())
	_, _ = rand.Read(nonce)
	return aead.Seal(nonce, nonce, data, []byte(place))
}

// unseal decrypts what seal has returned. Errors: ErrDamaged.
func unseal(key, sealed []byte, place string) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil || len(sealed) < aead.NonceSize() {
		return nil, ErrDamaged
	}
	data, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], []byte(place))
	if err != nil {
		return nil, ErrDamaged
	}
	return data, nil
}

// derive returns the key for a purpose.
func derive(key []byte, purpose string, length int) []byte {
	out, err := hkdf.Key(sha256.New, key, nil, "agento repository "+purpose, length)
	if err != nil {
		panic(err) // the length is impossible
	}
	return out
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}
