package agent

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

// mark tells two specs apart. It is kept in the clear as Agent.RunningHash, so it
// is keyed: a spec holds secrets.
type mark struct {
	gateway string // of all that holds from the start of a gateway on
	secrets string // of the secrets file, which a running gateway can be given anew
}

func markOf(s runtime.Spec, key vault.Secret) mark {
	h := hmac.New(sha256.New, []byte(key.Reveal()))
	put(h, s.Args...)
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		put(h, name, s.Env[name].Reveal())
	}
	for _, name := range slices.Sorted(maps.Keys(s.Files)) {
		put(h, name, string(s.Files[name]))
	}
	put(h, fmt.Sprint(s.Limits))
	m := mark{gateway: hex.EncodeToString(h.Sum(nil)[:16])}
	h.Reset()
	put(h, "secrets", string(s.Secrets))
	m.secrets = hex.EncodeToString(h.Sum(nil)[:16])
	return m
}

// put writes parts so that no two lists of them look alike.
func put(h hash.Hash, parts ...string) {
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(p), p) // a hash takes every write
	}
}

// String is the mark as it is kept.
func (m mark) String() string { return m.gateway + "." + m.secrets }

func parseMark(s string) mark {
	gateway, secrets, _ := strings.Cut(s, ".")
	return mark{gateway, secrets}
}
