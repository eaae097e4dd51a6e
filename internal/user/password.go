package user

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/vault"
)

// The length of passwords. NIST SP 800-63B asks for no rules about characters.
const (
	MinPassword = 12   // characters
	maxPassword = 1024 // bytes
)

// The cost of a password: RFC 9106 with the memory that two hashes at a time may have on a
// small machine.
const (
	argonTime    = 3
	argonMemory  = 32 << 10 // KiB
	argonThreads = 1
	argonKey     = 32
	argonSalt    = 16
)

const (
	maxHashes  = 2  // at a time, so that sign-ins take neither all memory nor all processors
	maxWaiting = 64 // for one of them
)

// hasher makes and checks hashes of passwords.
type hasher struct {
	running chan struct{}
	waiting *atomic.Int64
	memory  uint32 // of a new hash, in KiB
	nobody  string // the hash of a password that nobody has
}

func newHasher(memory uint32) hasher {
	salt := make([]byte, argonSalt)
	_, _ = rand.Read(salt)
	key := make([]byte, argonKey) // no password gives it, and checking it costs the same
	_, _ = rand.Read(key)
	h := hasher{running: make(chan struct{}, maxHashes), waiting: new(atomic.Int64), memory: memory}
	h.nobody = h.encode(salt, key)
	return h
}

// acquire waits until one more hash may be made. Faults: Unavailable.
func (h hasher) acquire(ctx context.Context) (release func(), err error) {
	if h.waiting.Add(1) > maxWaiting {
		h.waiting.Add(-1)
		return nil, fault.New(fault.Unavailable, "Too many people sign in at this moment. Try again in a few seconds.")
	}
	defer h.waiting.Add(-1)
	select {
	case h.running <- struct{}{}:
		return func() { <-h.running }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// hash returns the hash of a password.
func (h hasher) hash(ctx context.Context, password vault.Secret) (string, error) {
	release, err := h.acquire(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	salt := make([]byte, argonSalt)
	_, _ = rand.Read(salt)
	return h.encode(salt, argon2.IDKey(normal(password), salt, argonTime, h.memory, argonThreads, argonKey)), nil
}

// check reports whether a hash is that of a password. An empty hash, which is nobody's, takes
// the same time.
func (h hasher) check(ctx context.Context, hash string, password vault.Secret) (bool, error) {
	release, err := h.acquire(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	if hash == "" {
		hash = h.nobody
	}
	salt, key, time, memory, err := decode(hash)
	if err != nil {
		return false, err
	}
	got := argon2.IDKey(normal(password), salt, time, memory, argonThreads, uint32(len(key))) // decode bounds it
	return subtle.ConstantTimeCompare(got, key) == 1, nil
}

// normal returns a password as every keyboard and system writes it.
func normal(password vault.Secret) []byte { return norm.NFKC.Bytes([]byte(password.Reveal())) }

func (h hasher) encode(salt, key []byte) string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, argonTime, argonThreads, b64.EncodeToString(salt), b64.EncodeToString(key))
}

// decode parses a hash. The error does not repeat it.
func decode(hash string) (salt, key []byte, time, memory uint32, err error) {
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[1] != "argon2id" {
		return nil, nil, 0, 0, fmt.Errorf("a stored password cannot be read")
	}
	var version, threads int
	_, errVersion := fmt.Sscanf(parts[2], "v=%d", &version)
	_, errCost := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &time, &threads)
	salt, errSalt := base64.RawStdEncoding.DecodeString(parts[4])
	key, errKey := base64.RawStdEncoding.DecodeString(parts[5])
	if errVersion != nil || errCost != nil || errSalt != nil || errKey != nil || version != argon2.Version || threads != argonThreads ||
		memory < 8 || memory > 4*argonMemory || time < 1 || time > 16 || len(salt) < 8 || len(key) < 16 || len(key) > 64 {
		return nil, nil, 0, 0, fmt.Errorf("a stored password cannot be read")
	}
	return salt, key, time, memory, nil
}

// checkPassword adds to wrong what is wrong with a new password.
func checkPassword(wrong fault.Fields, password vault.Secret, email string) {
	text := password.Reveal()
	switch {
	case !utf8.ValidString(text):
		wrong.Add("password", "must be valid text")
	case utf8.RuneCountInString(text) < MinPassword:
		wrong.Add("password", "must have at least %d characters", MinPassword)
	case len(text) > maxPassword:
		wrong.Add("password", "must have at most %d bytes", maxPassword)
	case fault.IsBlank(text):
		wrong.Add("password", "must not consist of blanks")
	case strings.EqualFold(strings.TrimSpace(text), email):
		wrong.Add("password", "must not be the e-mail address")
	case sameCharacter(text):
		wrong.Add("password", "must not repeat one character")
	}
}

func sameCharacter(text string) bool {
	first, _ := utf8.DecodeRuneInString(text)
	return strings.Trim(text, string(first)) == ""
}
