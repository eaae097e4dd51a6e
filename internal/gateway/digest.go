package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strings"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/vault"
)

// specDigest identifies a spec. It is stored unencrypted as Agent.SpecDigest, so it
// is keyed: a spec holds secrets.
type specDigest struct {
	gateway string // of everything that a gateway reads only at its start
	secrets string // of the secrets file, which a running gateway can read again
}

func digestOf(s runtime.Spec, key vault.Secret) specDigest {
	h := hmac.New(sha256.New, []byte(key.Reveal()))
	add(h, s.Args...)
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		add(h, name, s.Env[name].Reveal())
	}
	for _, name := range slices.Sorted(maps.Keys(s.Files)) {
		add(h, name, string(s.Files[name]))
	}
	add(h, fmt.Sprint(s.Limits))
	d := specDigest{gateway: hex.EncodeToString(h.Sum(nil)[:16])}
	h.Reset()
	add(h, "secrets", string(s.Secrets))
	d.secrets = hex.EncodeToString(h.Sum(nil)[:16])
	return d
}

// add writes parts with their lengths: different lists of parts never write the same
// bytes.
func add(h hash.Hash, parts ...string) {
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(p), p) // writing to a hash never fails
	}
}

// String returns the digest as it is stored.
func (d specDigest) String() string { return d.gateway + "." + d.secrets }

func parseSpecDigest(s string) specDigest {
	gateway, secrets, _ := strings.Cut(s, ".")
	return specDigest{gateway, secrets}
}
