package sshlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// LoginError reports that the server has refused the login.
type LoginError struct {
	User   string
	Public []string // the lines of the keys that were offered, as authorized_keys has them
	Err    error
}

// Error implements error.
func (e *LoginError) Error() string {
	return fmt.Sprintf("it refuses the login of %s: put this line into ~%[1]s/.ssh/authorized_keys there (mode 0600, and 0700 for .ssh), and allow PubkeyAuthentication in sshd_config: %s",
		e.User, strings.Join(e.Public, " or "))
}

// Unwrap returns the error of the SSH library.
func (e *LoginError) Unwrap() error { return e.Err }

// ForwardingError reports that the server's sshd does not forward.
type ForwardingError struct {
	Network, Address string
	Err              error
}

// Error implements error.
func (e *ForwardingError) Error() string {
	setting := "AllowStreamLocalForwarding yes"
	if e.Network == "tcp" {
		setting = "AllowTcpForwarding yes, and PermitOpen, if it is set, with " + e.Address
	}
	return fmt.Sprintf("its sshd does not forward to %s: set %s (and DisableForwarding no) in /etc/ssh/sshd_config and reload sshd; in authorized_keys, the line of agento's key must have port-forwarding after restrict",
		e.Address, setting)
}

// Unwrap returns the error of the SSH library.
func (e *ForwardingError) Unwrap() error { return e.Err }

// RefusedError reports that a socket or port of the server could not be opened. Of a socket, OpenSSH
// does not say why: also if it does not forward to sockets at all.
type RefusedError struct {
	Network, Address string
	Err              error
}

// Error implements error.
func (e *RefusedError) Error() string {
	if e.Network == "unix" {
		return fmt.Sprintf("its socket %s cannot be opened, and sshd does not say why. Nothing may listen there; its user may lack the right to it; or sshd does not forward to sockets: "+
			"then set AllowStreamLocalForwarding yes (and DisableForwarding no) in /etc/ssh/sshd_config, reload sshd, and in authorized_keys give the line of agento's key port-forwarding after restrict", e.Address)
	}
	return fmt.Sprintf("its port %s cannot be opened: nothing listens there", e.Address)
}

// Unwrap returns the error of the SSH library.
func (e *RefusedError) Unwrap() error { return e.Err }

// explain makes the error of a handshake one that says what to do.
func (l *Link) explain(ctx context.Context, err error, keys []ssh.Signer) error {
	changed := (*HostKeyError)(nil)
	if errors.As(err, &changed) {
		return changed
	}
	if none := (*ssh.AlgorithmNegotiationError)(nil); errors.As(err, &none) && none.What == "host key" {
		return l.otherKinds(ctx, err)
	}
	if strings.Contains(err.Error(), "unable to authenticate") { // the library has no type for it
		e := &LoginError{User: l.s.User, Err: err}
		for _, k := range keys {
			e.Public = append(e.Public, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.PublicKey()))))
		}
		return e
	}
	return fmt.Errorf("SSH with %s failed: %w", l.s.Address, err)
}

// otherKinds returns the error of a server that has none of the kinds of host keys that were
// pinned, with those that it has.
func (l *Link) otherKinds(ctx context.Context, err error) error {
	keys, scanErr := ScanHostKeys(ctx, l.s.Address)
	if scanErr != nil {
		return errors.Join(err, scanErr)
	}
	return &HostKeyError{Kind: keys[0].Type(), Pinned: Fingerprints(l.s.HostKeys), Got: ssh.FingerprintSHA256(keys[0])}
}

// offeredKeys remembers the key that was used last: the one that the server has accepted.
type offeredKeys struct {
	mu   sync.Mutex
	used ssh.PublicKey // guarded by mu
}

func (o *offeredKeys) last() ssh.PublicKey {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.used
}

// watch returns the keys. A server is asked for each whether it takes it, and a signature
// is made only then.
func (o *offeredKeys) watch(keys []ssh.Signer) []ssh.Signer {
	all := make([]ssh.Signer, len(keys))
	for i, k := range keys {
		all[i] = k
		if multi, ok := k.(ssh.MultiAlgorithmSigner); ok {
			all[i] = watchedKey{multi, o}
		}
	}
	return all
}

type watchedKey struct {
	ssh.MultiAlgorithmSigner
	seen *offeredKeys
}

// Sign implements ssh.Signer.
func (k watchedKey) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	k.record()
	return k.MultiAlgorithmSigner.Sign(rand, data)
}

// SignWithAlgorithm implements ssh.AlgorithmSigner.
func (k watchedKey) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	k.record()
	return k.MultiAlgorithmSigner.SignWithAlgorithm(rand, data, algorithm)
}

func (k watchedKey) record() {
	k.seen.mu.Lock()
	defer k.seen.mu.Unlock()
	k.seen.used = k.PublicKey()
}
