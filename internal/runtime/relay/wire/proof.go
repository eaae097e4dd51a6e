package wire

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// version is the version of the protocol. Both ends must have the same.
const version = 1

// maxProof is the longest message before the proof: everybody in the container can send one.
const maxProof = 4 << 10

// Claim says which control plane somebody claims to be: the one that started this gateway.
type Claim struct {
	Agent, Place string
	Epoch        int64
}

// ErrRefused means that the relay does not take the proof.
var ErrRefused = errors.New("the relay refuses the session: it belongs to another key, agent, place or epoch")

type challenge struct {
	Version int
	Nonce   []byte
}

type proof struct {
	Claim     Claim
	Signature []byte
}

// Paths are where the gateway finds things.
type Paths struct {
	Home, Secrets, Server string
	Port                  int
}

// verdict is the relay's answer to a proof.
type verdict struct {
	Refused bool
	Paths   Paths
}

// signed returns what is signed for a claim.
func signed(nonce []byte, c Claim) []byte {
	b := append([]byte("agento relay session 1\x00"), nonce...)
	for _, s := range []string{c.Agent, c.Place} {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
	}
	return binary.BigEndian.AppendUint64(b, uint64(c.Epoch))
}

// Prove proves a claim to the relay at the other end. Errors: ErrRefused.
func Prove(conn io.ReadWriter, c Claim, key ed25519.PrivateKey) (Paths, error) {
	var ch challenge
	if err := ReadMessage(conn, &ch, maxProof); err != nil {
		return Paths{}, fmt.Errorf("read the relay's challenge: %w", err)
	}
	if ch.Version != version || len(ch.Nonce) != 32 {
		return Paths{}, fmt.Errorf("the relay speaks version %d of the protocol and not %d: use an image of this release", ch.Version, version)
	}
	if err := WriteMessage(conn, proof{c, ed25519.Sign(key, signed(ch.Nonce, c))}); err != nil {
		return Paths{}, fmt.Errorf("send the proof: %w", err)
	}
	var v verdict
	if err := ReadMessage(conn, &v, maxProof); err != nil {
		return Paths{}, fmt.Errorf("read the relay's verdict: %w", err)
	}
	if v.Refused {
		return Paths{}, ErrRefused
	}
	return v.Paths, nil
}

// Examine has the other end prove a claim, and tells it whether it did. Errors: ErrRefused.
func Examine(conn io.ReadWriter, want Claim, key ed25519.PublicKey, paths Paths) error {
	ch := challenge{Version: version, Nonce: make([]byte, 32)}
	_, _ = rand.Read(ch.Nonce) // never fails
	if err := WriteMessage(conn, ch); err != nil {
		return err
	}
	var p proof
	if err := ReadMessage(conn, &p, maxProof); err != nil {
		return err
	}
	if p.Claim != want || !ed25519.Verify(key, signed(ch.Nonce, want), p.Signature) {
		return errors.Join(ErrRefused, WriteMessage(conn, verdict{Refused: true}))
	}
	return WriteMessage(conn, verdict{Paths: paths})
}
