//go:build linux

package container

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"agento.host/agento/internal/runtime/relay/wire"
)

// maxHead is the longest head of a request. Source: Node.js takes 16 kB, curl sends URLs of 8 kB.
const maxHead = 32 << 10

// readHTTP reads a request to a proxy: CONNECT, or one with an absolute URL.
func readHTTP(r *bufio.Reader) (wanted, error) {
	lines, err := readHead(r)
	if err != nil {
		return wanted{}, err
	}
	part := strings.Split(lines[0], " ")
	if len(part) != 3 || part[0] == "" || !strings.HasPrefix(part[2], "HTTP/1.") {
		return wanted{}, badHTTP("this is a proxy for HTTP/1.1 and SOCKS5")
	}
	if part[0] == "CONNECT" {
		host, port, err := splitAuthority(part[1], "")
		if err != nil {
			return wanted{}, err
		}
		return wanted{host: host, port: port, rest: r, answer: httpAnswers{tunnel: true}}, nil
	}
	target, err := url.Parse(part[1])
	if err != nil || target.Scheme != "http" || target.Host == "" {
		return wanted{}, badHTTP("the proxy takes CONNECT, and URLs that begin with http://")
	}
	host, port, err := splitAuthority(target.Host, "80")
	if err != nil {
		return wanted{}, err
	}
	fields, err := parseFields(lines[1:])
	if err != nil {
		return wanted{}, err
	}
	upgrade := fields.upgrades()
	rest := io.Reader(r)
	if !upgrade {
		body, err := fields.body(r)
		if err != nil {
			return wanted{}, err
		}
		rest = io.MultiReader(body, &nothingMore{r})
	}
	first := part[0] + " " + target.RequestURI() + " HTTP/1.1\r\nHost: " + target.Host + "\r\n" + fields.forwarded(upgrade)
	return wanted{host: host, port: port, first: []byte(first), rest: rest, answer: httpAnswers{}}, nil
}

// readHead returns the lines of the head of a request. The reader's buffer is the limit.
func readHead(r *bufio.Reader) ([]string, error) {
	var lines []string
	for total := 0; ; {
		line, err := r.ReadSlice('\n')
		if total += len(line); errors.Is(err, bufio.ErrBufferFull) || total > maxHead {
			return nil, badHTTP("the head of the request is too long")
		}
		if err != nil {
			return nil, err
		}
		text := strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r")
		if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
			return nil, badHTTP("the head of the request has control characters")
		}
		if text == "" {
			if len(lines) == 0 {
				return nil, badHTTP("there is no request")
			}
			return lines, nil
		}
		lines = append(lines, text)
	}
}

// splitAuthority returns the parts of host:port.
func splitAuthority(authority, defaultPort string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(authority)
	if err != nil && defaultPort != "" {
		host, text, err = net.SplitHostPort(authority + ":" + defaultPort)
	}
	n, numberErr := strconv.ParseUint(text, 10, 16)
	if err != nil || numberErr != nil {
		return "", 0, badHTTP("the request names no host and port")
	}
	if err := wire.CheckDestination(host, uint16(n)); err != nil {
		return "", 0, badHTTP(err.Error())
	}
	return host, uint16(n), nil
}

// field is a line of a head.
type field struct{ name, value string }

type fields []field

func parseFields(lines []string) (fields, error) {
	var out fields
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.ContainsAny(name, " \t\"(),/;<=>?@[\\]{}") {
			return nil, badHTTP("the head of the request is damaged")
		}
		out = append(out, field{name, strings.Trim(value, " \t")})
	}
	return out, nil
}

func (f fields) values(name string) []string {
	var out []string
	for _, one := range f {
		if strings.EqualFold(one.name, name) {
			out = append(out, one.value)
		}
	}
	return out
}

// upgrades reports whether the request is for a WebSocket: then the connection has no other
// request after it.
func (f fields) upgrades() bool {
	v := f.values("Upgrade")
	return len(v) == 1 && strings.EqualFold(v[0], "websocket")
}

// forwarded returns the head without its first lines, and without what is meant for the proxy.
// The other end is asked to close the connection, because the next request of this program may
// be for another one.
func (f fields) forwarded(upgrade bool) string {
	hop := []string{"host", "connection", "proxy-connection", "proxy-authorization", "keep-alive"}
	if !upgrade {
		hop = append(hop, "upgrade", "http2-settings")
	}
	for _, v := range f.values("Connection") {
		for name := range strings.SplitSeq(strings.ToLower(v), ",") {
			if name = strings.TrimSpace(name); name != "upgrade" && name != "transfer-encoding" && name != "content-length" {
				hop = append(hop, name)
			}
		}
	}
	var b strings.Builder
	for _, one := range f {
		if !slices.Contains(hop, strings.ToLower(one.name)) {
			fmt.Fprintf(&b, "%s: %s\r\n", one.name, one.value)
		}
	}
	if upgrade {
		return b.String() + "Connection: Upgrade\r\n\r\n"
	}
	return b.String() + "Connection: close\r\n\r\n"
}

// body returns a reader of the request's body, as it is on the wire, and of nothing after it.
func (f fields) body(r *bufio.Reader) (io.Reader, error) {
	encodings, lengths := f.values("Transfer-Encoding"), f.values("Content-Length")
	switch {
	case len(encodings) == 1 && len(lengths) == 0 && strings.EqualFold(encodings[0], "chunked"):
		return &chunkedBody{r: r}, nil
	case len(encodings) > 0 || len(lengths) > 1:
		return nil, badHTTP("the length of the request's body is not clear")
	case len(lengths) == 0:
		return eof{}, nil
	}
	n, err := strconv.ParseInt(lengths[0], 10, 64)
	if err != nil || n < 0 || strings.HasPrefix(lengths[0], "+") {
		return nil, badHTTP("the length of the request's body is no number")
	}
	return io.LimitReader(r, n), nil
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// nothingMore fails if the program sends another request: it may be for another host.
type nothingMore struct{ r *bufio.Reader }

func (n *nothingMore) Read([]byte) (int, error) {
	if _, err := n.r.ReadByte(); err != nil {
		return 0, err
	}
	return 0, errors.New("a second request on a connection that has one")
}

// chunkedBody reads a body with chunks, as it is.
type chunkedBody struct {
	r       *bufio.Reader
	pending []byte // that was read and is not returned yet
	left    int64  // bytes of the present chunk, with its line end
	last    bool   // the last chunk has begun: lines follow up to an empty one
	done    bool
}

// Read implements io.Reader.
func (c *chunkedBody) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(c.pending) > 0 {
		n := copy(p, c.pending)
		c.pending = c.pending[n:]
		return n, nil
	}
	if c.done {
		return 0, io.EOF
	}
	if c.left > 0 {
		n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
		c.left -= int64(n)
		return n, noEOF(err)
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, noEOF(err)
	}
	c.pending = bytes.Clone(line)
	text := string(bytes.TrimRight(line, "\r\n"))
	if c.last {
		c.done = text == ""
		return c.Read(p)
	}
	size, _, _ := strings.Cut(text, ";")
	n, err := strconv.ParseUint(strings.TrimSpace(size), 16, 62)
	if err != nil {
		return 0, errors.New("a chunk without a size")
	}
	if c.last = n == 0; !c.last {
		c.left = int64(n) + 2
	}
	return c.Read(p)
}

// noEOF returns the error of a body that ends too early.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// httpAnswers implements answerer.
type httpAnswers struct{ tunnel bool }

func (a httpAnswers) accepted(w io.Writer) error {
	if !a.tunnel {
		return nil // the other end answers
	}
	_, err := io.WriteString(w, "HTTP/1.1 200 Connection established\r\n\r\n")
	return err
}

func (httpAnswers) refused(w io.Writer, reason string) error {
	_, err := w.Write(httpAnswer("403 Forbidden", reason))
	return err
}

func (httpAnswers) failed(w io.Writer) error {
	_, err := w.Write(httpAnswer("502 Bad Gateway", "the way out of this agent is not open now: try again"))
	return err
}

func badHTTP(reason string) error { return &badRequest{httpAnswer("400 Bad Request", reason), reason} }

func httpAnswer(status, reason string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s\n", status, len(reason)+1, reason)
}
