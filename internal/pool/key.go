package pool

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/vault"
)

// keyOptions let the key forward, and nothing else: no terminal, no program, no agent.
const keyOptions = "restrict,port-forwarding "

// newKey makes a private key for a server, and its line for authorized_keys.
func newKey(server string) (private vault.Secret, line string, err error) {
	public, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return vault.Secret{}, "", fmt.Errorf("make a key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(secret, "agento-"+server)
	if err != nil {
		return vault.Secret{}, "", fmt.Errorf("make a key: %w", err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return vault.Secret{}, "", fmt.Errorf("make a key: %w", err)
	}
	return vault.NewSecret(string(pem.EncodeToMemory(block))), keyLine(key, server), nil
}

// keyLine returns the line of a key for authorized_keys.
func keyLine(key ssh.PublicKey, server string) string {
	return keyOptions + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + " agento-" + server
}

// parseKey reads a private key as OpenSSH writes it. Faults: Invalid.
func parseKey(private vault.Secret) (ssh.Signer, error) {
	signer, err := ssh.ParsePrivateKey([]byte(private.Reveal()))
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		return nil, fault.New(fault.Invalid, "The key has a passphrase, which agento could not give: make a copy without one (ssh-keygen -p -N '' -f COPY), or leave --identity out, and agento makes a key.")
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, "The file is no private key that OpenSSH writes. Give the private one, not the .pub.")
	}
	if signer.PublicKey().Type() == "ssh-dss" {
		return nil, fault.New(fault.Invalid, "DSA keys are refused by current servers. Leave --identity out, and agento makes an Ed25519 key.")
	}
	return signer, nil
}

// useKey returns the key that an operator gave, or a new one, with its line.
func useKey(given vault.Secret, server string) (private vault.Secret, line string, err error) {
	if given.Empty() {
		return newKey(server)
	}
	signer, err := parseKey(given)
	if err != nil {
		return vault.Secret{}, "", err
	}
	return given, keyLine(signer.PublicKey(), server), nil
}

// ParseHostKeys reads keys, a line for each, as known_hosts has them behind the names. Faults: Invalid.
func ParseHostKeys(text string) ([]ssh.PublicKey, error) {
	var all []ssh.PublicKey
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return nil, fault.New(fault.Invalid, "A host key cannot be read: %v.", err)
		}
		all = append(all, key)
	}
	return all, nil
}

// FormatHostKeys is the reverse of ParseHostKeys.
func FormatHostKeys(keys []ssh.PublicKey) string {
	var text strings.Builder
	for _, k := range keys {
		text.Write(ssh.MarshalAuthorizedKey(k))
	}
	return text.String()
}
