package sshlink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// kinds are the kinds of host keys that are asked for, best first, with the algorithms of
// their signatures. RSA is taken with SHA-2 only.
var kinds = []struct {
	kind       string
	algorithms []string
}{
	{ssh.KeyAlgoED25519, []string{ssh.KeyAlgoED25519}},
	{ssh.KeyAlgoECDSA256, []string{ssh.KeyAlgoECDSA256}},
	{ssh.KeyAlgoECDSA384, []string{ssh.KeyAlgoECDSA384}},
	{ssh.KeyAlgoECDSA521, []string{ssh.KeyAlgoECDSA521}},
	{ssh.KeyAlgoRSA, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}},
}

// algorithmsOf returns the algorithms of the kinds of keys that are pinned, and no others:
// a server that has got a further kind of key must not be asked for it.
func algorithmsOf(keys []ssh.PublicKey) []string {
	var all []string
	for _, k := range kinds {
		for _, key := range keys {
			if key.Type() == k.kind {
				all = append(all, k.algorithms...)
				break
			}
		}
	}
	return all
}

// pinned are the host keys that a server may have.
type pinned struct{ keys []ssh.PublicKey }

// check is called in the key exchange, before anything of ours is sent. Errors: *HostKeyError.
func (p pinned) check(_ string, _ net.Addr, key ssh.PublicKey) error {
	for _, k := range p.keys {
		if bytes.Equal(k.Marshal(), key.Marshal()) {
			return nil
		}
	}
	return &HostKeyError{Kind: key.Type(), Pinned: Fingerprints(p.keys), Got: ssh.FingerprintSHA256(key)}
}

// Fingerprints returns the fingerprints of keys, as OpenSSH shows them: "SHA256:…".
func Fingerprints(keys []ssh.PublicKey) []string {
	all := make([]string, len(keys))
	for i, k := range keys {
		all[i] = ssh.FingerprintSHA256(k)
	}
	return all
}

// errSeen ends a handshake of which only the host key is wanted.
var errSeen = errors.New("the host key was seen")

// scanTimeout is for each kind of key.
const scanTimeout = 10 * time.Second

// ScanHostKeys returns the host keys of a server, one of each kind that it has. It logs in
// nowhere. The keys prove nothing yet: somebody must compare their fingerprints.
func ScanHostKeys(ctx context.Context, address string) ([]ssh.PublicKey, error) {
	var all []ssh.PublicKey
	for _, k := range kinds {
		key, err := scanHostKey(ctx, address, k.algorithms)
		if none := (*ssh.AlgorithmNegotiationError)(nil); errors.As(err, &none) && none.What == "host key" {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, key)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no host key of a kind that agento takes (Ed25519, ECDSA, RSA with SHA-2): give it one with ssh-keygen -A, and restart sshd", address)
	}
	return all, nil
}

func scanHostKey(ctx context.Context, address string, algorithms []string) (ssh.PublicKey, error) {
	raw, err := dialTCP(ctx, address, scanTimeout)
	if err != nil {
		return nil, err
	}
	var seen ssh.PublicKey
	client, channels, requests, err := handshake(ctx, raw, address, &ssh.ClientConfig{
		User: "agento", HostKeyAlgorithms: algorithms, ClientVersion: "SSH-2.0-agento",
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error { seen = key; return errSeen },
	}, scanTimeout)
	if err == nil { // it cannot be: the callback fails
		go ssh.DiscardRequests(requests)
		go func() {
			for range channels { // until it is closed
			}
		}()
		_ = client.Close()
	}
	if seen != nil {
		return seen, nil
	}
	return nil, err
}

// HostKeyError reports that a server has another host key than was pinned.
type HostKeyError struct {
	Kind   string   // of the key that the server has shown
	Pinned []string // the fingerprints that were confirmed
	Got    string   // the fingerprint of the key that the server has shown; empty: it has no key of these kinds
}

// Error implements error.
func (e *HostKeyError) Error() string {
	return fmt.Sprintf("its host key has changed: it shows %s (%s), and %s was confirmed. Nothing was sent to it. "+
		"Somebody may stand between, or the server was installed anew: compare with ssh-keygen -lf on the server's own console", e.Got, e.Kind, strings.Join(e.Pinned, " or "))
}
