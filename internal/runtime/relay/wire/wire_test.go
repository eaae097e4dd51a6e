package wire

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"agento.host/agento/internal/runtime/home"
)

func TestErrorsSurvive(t *testing.T) {
	for _, want := range []error{fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, home.ErrTooLarge, ErrNotRunning, syscall.ENOTDIR, syscall.EISDIR, syscall.ENOSPC, syscall.ECONNREFUSED, os.ErrDeadlineExceeded, context.Canceled} {
		err := Failed(fmt.Errorf("read x\n: %w", want)).Err()
		if !errors.Is(err, want) || err.Error() != "read x: "+want.Error() {
			t.Errorf("%v became %v", want, err)
		}
	}
	if err := Failed(errors.New("")).Err(); err == nil {
		t.Error("an error was lost")
	}
	if err := (Answer{}).Err(); err != nil {
		t.Error(err)
	}
}

func TestProofIsBoundToTheChallenge(t *testing.T) {
	public, key, _ := ed25519.GenerateKey(nil)
	claim := Claim{Agent: "a", Place: "p", Epoch: 1}
	near, far := net.Pipe()
	result := make(chan error, 1)
	go func() { result <- Examine(far, claim, public, Paths{Home: "/h"}) }()
	paths, err := Prove(near, claim, key)
	if err != nil || paths.Home != "/h" || <-result != nil {
		t.Fatalf("%+v, %v", paths, err)
	}
	// A proof for another challenge is none.
	go func() { result <- Examine(far, claim, public, Paths{}) }()
	var ch challenge
	_ = ReadMessage(near, &ch, maxProof)
	_ = WriteMessage(near, proof{claim, ed25519.Sign(key, signed(make([]byte, 32), claim))})
	var v verdict
	if err := ReadMessage(near, &v, maxProof); err != nil || !v.Refused || !errors.Is(<-result, ErrRefused) {
		t.Errorf("%+v, %v", v, err)
	}
	if bytes.Equal(signed(nil, Claim{"ab", "c", 1}), signed(nil, Claim{"a", "bc", 1})) {
		t.Error("two claims are signed as one")
	}
}

// FuzzMessages: whatever the other end sends, a message is bounded, and an error is one.
func FuzzMessages(f *testing.F) {
	for _, v := range []any{Answer{Code: "not_exist", Message: "m", Size: 5}, Incoming{Kind: ToOut, Host: "h", Port: 1}, Request{Op: Start, Launch: &Launch{Command: []string{"x"}}}, challenge{Version: 1, Nonce: make([]byte, 32)}} {
		var b bytes.Buffer
		_ = WriteMessage(&b, v)
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 1000
		r := bytes.NewReader(data)
		var a Answer
		if err := ReadMessage(r, &a, limit); err == nil {
			if read := len(data) - r.Len(); read > limit+4 {
				t.Errorf("%d bytes were read", read)
			}
			if err := a.Err(); err != nil && (len(err.Error()) > 1000 || Printable(err.Error(), 1000) != err.Error()) {
				t.Errorf("%q", err)
			}
		}
		var in Incoming
		if ReadMessage(bytes.NewReader(data), &in, limit) == nil && in.Check() == nil && in.Kind == ToOut && CheckDestination(in.Host, in.Port) != nil {
			t.Errorf("%+v", in)
		}
		if len(data) > 4 {
			_, err := ReadBody(bytes.NewReader(data), int64(binary.BigEndian.Uint32(data)))
			if err == nil && int(binary.BigEndian.Uint32(data)) > len(data) {
				t.Error("more was read than there is")
			}
		}
	})
}

// FuzzConn: a connection over a stream ends in an error or at its end, whatever the other end
// sends.
func FuzzConn(f *testing.F) {
	f.Add([]byte{0, 2, 'h', 'i', 0, 0})
	f.Add([]byte{0, 2, 'h'})
	f.Add([]byte{})
	f.Add([]byte{0, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		near, far := net.Pipe()
		a, err := NewMux(near, true)
		if err != nil {
			t.Fatal(err)
		}
		defer a.CloseFor(nil)
		b, err := NewMux(far, false)
		if err != nil {
			t.Fatal(err)
		}
		defer b.CloseFor(nil)
		s, err := a.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = s.Write(data)
			_ = s.Close()
		}()
		in, err := b.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c := NewConn(in, nil, nil)
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		got, err := io.ReadAll(c)
		want, whole := decode(data)
		if whole != (err == nil) || !bytes.Equal(got, want) || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q is read as %q, %v", data, got, err)
		}
		_ = c.Close()
	})
}

// decode is what a Conn reads, and whether it ends.
func decode(data []byte) (out []byte, whole bool) {
	for len(data) >= 2 {
		n := int(binary.BigEndian.Uint16(data))
		if data = data[2:]; n == 0 {
			return out, true
		}
		n = min(n, len(data))
		out, data = append(out, data[:n]...), data[n:]
	}
	return out, false
}
