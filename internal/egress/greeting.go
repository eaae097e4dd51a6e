package egress

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// greeting is what the first bytes of a connection tell.
type greeting int

const (
	incomplete   greeting = iota // more bytes decide
	other                        // neither TLS nor HTTP
	tlsGreeting                  // a ClientHello
	httpGreeting                 // a request
	unreadable                   // it begins as TLS or HTTP does, and shows no name
)

const (
	recordHeader    = 5 // of a TLS record
	recordHandshake = 0x16
	clientHello     = 1
	handshakeHeader = 4
)

// readGreeting returns the kind of a greeting, and the host that it names in lower case.
func readGreeting(b []byte) (kind greeting, host string) {
	switch {
	case len(b) == 0:
		return incomplete, ""
	case b[0] == recordHandshake:
		return readHello(b)
	}
	switch kind := beginsRequest(b); kind {
	case httpGreeting:
		return readRequest(b)
	default:
		return kind, ""
	}
}

// looksNamed reports whether an incomplete greeting is TLS or HTTP.
func looksNamed(b []byte) bool {
	return b[0] == recordHandshake || beginsRequest(b) == httpGreeting
}

// readHello reads the name in a ClientHello. crypto/tls parses it once it is complete.
func readHello(b []byte) (greeting, string) {
	complete, ok := completeHello(b)
	if !ok {
		return unreadable, ""
	}
	if !complete {
		return incomplete, ""
	}
	var name string
	seen := errors.New("seen")
	conn := tls.Server(readOnly{Reader: bytes.NewReader(b)}, &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			name = h.ServerName
			return nil, seen
		},
	})
	if err := conn.Handshake(); !errors.Is(err, seen) || name == "" {
		return unreadable, ""
	}
	return tlsGreeting, canonicalHost(name)
}

// completeHello reports whether the records in b have a whole ClientHello. ok is false if
// they cannot have one.
func completeHello(b []byte) (complete, ok bool) {
	var message []byte
	for {
		if len(message) > 0 && message[0] != clientHello {
			return false, false
		}
		if len(message) >= handshakeHeader {
			if size := int(message[1])<<16 | int(message[2])<<8 | int(message[3]); len(message) >= handshakeHeader+size {
				return true, true
			}
		}
		if len(b) < recordHeader {
			return false, len(b) == 0 || b[0] == recordHandshake
		}
		size := int(binary.BigEndian.Uint16(b[3:]))
		if b[0] != recordHandshake || b[1] != 3 || size == 0 {
			return false, false
		}
		if len(b) < recordHeader+size {
			return false, true
		}
		message = append(message, b[recordHeader:recordHeader+size]...)
		b = b[recordHeader+size:]
	}
}

// maxMethod is longer than every method of a request.
const maxMethod = 32

// beginsRequest returns incomplete, other or httpGreeting. Methods are not known by name:
// servers accept others, and an empty line before a request.
func beginsRequest(b []byte) greeting {
	b = bytes.TrimLeft(b, "\r\n")
	end := bytes.IndexFunc(b, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '-' })
	switch {
	case end < 0 && len(b) <= maxMethod:
		return incomplete
	case end <= 0 || b[end] != ' ':
		return other
	}
	line, _, complete := bytes.Cut(b, []byte("\n"))
	switch {
	case bytes.Contains(bytes.ToUpper(line), []byte(" HTTP/")):
		return httpGreeting
	case complete:
		return other
	}
	return incomplete
}

// readRequest reads the host that a request names. Hosts that differ make it unreadable,
// and so does HTTP/2 without TLS, where the host follows the server's first answer.
func readRequest(b []byte) (greeting, string) {
	if bytes.HasPrefix(b, []byte("PRI ")) {
		return unreadable, ""
	}
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if lf := bytes.Index(b, []byte("\n\n")); end < 0 || lf >= 0 && lf < end {
		end = lf
	}
	if end < 0 {
		return incomplete, ""
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
	if err != nil || r.Host == "" {
		return unreadable, ""
	}
	if fields := hostFields(b[:end]); len(fields) != 1 || canonicalHost(hostOf(fields[0])) != canonicalHost(hostOf(r.Host)) {
		return unreadable, ""
	}
	return httpGreeting, canonicalHost(hostOf(r.Host))
}

// hostFields returns the values of the Host fields of a request's header.
func hostFields(header []byte) []string {
	var values []string
	for line := range strings.Lines(string(header)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(strings.TrimSpace(key), "Host") {
			values = append(values, strings.TrimSpace(value))
		}
	}
	return values
}

// hostOf returns the host of host:port.
func hostOf(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return hostport
}

func canonicalHost(host string) string { return strings.TrimSuffix(strings.ToLower(host), ".") }

// readOnly is a connection that has only what was received.
type readOnly struct{ io.Reader }

var errReadOnly = errors.New("the connection can only be read")

func (readOnly) Write([]byte) (int, error)        { return 0, errReadOnly }
func (readOnly) Close() error                     { return nil }
func (readOnly) LocalAddr() net.Addr              { return nil }
func (readOnly) RemoteAddr() net.Addr             { return nil }
func (readOnly) SetDeadline(time.Time) error      { return nil }
func (readOnly) SetReadDeadline(time.Time) error  { return nil }
func (readOnly) SetWriteDeadline(time.Time) error { return nil }
