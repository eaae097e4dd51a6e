//go:build linux

package container

import (
	"bufio"
	"errors"
	"io"
	"net/netip"

	"agento.host/agento/internal/runtime/relay/wire"
)

// Numbers of RFC 1928.
const (
	socksVersion = 5

	socksNoAuthentication = 0
	socksNoMethod         = 0xff
	socksConnect          = 1

	socksIPv4 = 1
	socksName = 3
	socksIPv6 = 4

	socksSucceeded          = 0
	socksFailed             = 1
	socksNotAllowed         = 2
	socksCommandUnsupported = 7
	socksAddressUnsupported = 8
)

// badRequest is a request that the proxy does not take.
type badRequest struct {
	answer []byte
	reason string
}

func (e *badRequest) Error() string { return e.reason }

func asBadRequest(err error, to **badRequest) bool { return errors.As(err, to) }

// socksReply returns a reply without an address, which nobody needs.
func socksReply(code byte) []byte {
	return []byte{socksVersion, code, 0, socksIPv4, 0, 0, 0, 0, 0, 0}
}

// readSOCKS reads the greeting and the request of SOCKS5.
func readSOCKS(r *bufio.Reader, w io.Writer) (wanted, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return wanted{}, err
	}
	methods := make([]byte, head[1])
	if _, err := io.ReadFull(r, methods); err != nil {
		return wanted{}, err
	}
	offered := false
	for _, m := range methods {
		offered = offered || m == socksNoAuthentication
	}
	if !offered {
		return wanted{}, &badRequest{[]byte{socksVersion, socksNoMethod}, "no method of authentication that the proxy has"}
	}
	if _, err := w.Write([]byte{socksVersion, socksNoAuthentication}); err != nil {
		return wanted{}, err
	}
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return wanted{}, err
	}
	if head[0] != socksVersion || head[1] != socksConnect {
		return wanted{}, &badRequest{socksReply(socksCommandUnsupported), "not a request to connect"}
	}
	host, err := readSOCKSHost(r, head[3])
	if err != nil {
		return wanted{}, err
	}
	var port [2]byte
	if _, err := io.ReadFull(r, port[:]); err != nil {
		return wanted{}, err
	}
	want := wanted{host: host, port: uint16(port[0])<<8 | uint16(port[1]), rest: r, answer: socksAnswers{}}
	if err := wire.CheckDestination(want.host, want.port); err != nil {
		return wanted{}, &badRequest{socksReply(socksFailed), err.Error()}
	}
	return want, nil
}

func readSOCKSHost(r *bufio.Reader, kind byte) (string, error) {
	size := 0
	switch kind {
	case socksIPv4:
		size = 4
	case socksIPv6:
		size = 16
	case socksName:
		n, err := r.ReadByte()
		if err != nil {
			return "", err
		}
		size = int(n)
	default:
		return "", &badRequest{socksReply(socksAddressUnsupported), "no kind of address that the proxy has"}
	}
	address := make([]byte, size)
	if _, err := io.ReadFull(r, address); err != nil {
		return "", err
	}
	if kind == socksName {
		return string(address), nil
	}
	ip, _ := netip.AddrFromSlice(address)
	return ip.String(), nil
}

// socksAnswers implements answerer.
type socksAnswers struct{}

func (socksAnswers) accepted(w io.Writer) error { return reply(w, socksSucceeded) }

func (socksAnswers) refused(w io.Writer, _ string) error { return reply(w, socksNotAllowed) }

func (socksAnswers) failed(w io.Writer) error { return reply(w, socksFailed) }

func reply(w io.Writer, code byte) error {
	_, err := w.Write(socksReply(code))
	return err
}
