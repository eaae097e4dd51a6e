//go:build linux

package container

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"agento.host/agento/internal/runtime/relay/wire"
)

// FuzzWanted: whatever a program sends to the proxy, what the relay reports is a destination, and
// what it sends on begins as one request.
func FuzzWanted(f *testing.F) {
	for _, seed := range []string{
		"CONNECT example.test:443 HTTP/1.1\r\nHost: example.test:443\r\n\r\nrest",
		"GET http://example.test/a?b HTTP/1.1\r\nHost: other\r\nConnection: keep-alive, x-y\r\nX-Y: 1\r\n\r\n",
		"POST http://[2001:db8::1]:81/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nA: b\r\n\r\nGET /",
		"GET http://example.test/ HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
		"PUT http://u:p@example.test HTTP/1.1\r\nContent-Length: 5\r\n\r\nhellohello",
		"\x05\x01\x00\x05\x01\x00\x03\x0cexample.test\x01\xbb",
		"\x05\x02\x00\x02\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50rest",
		"\x05\x01\x00\x05\x01\x00\x04" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x50",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var answered bytes.Buffer
		want, err := readWanted(bufio.NewReaderSize(bytes.NewReader(data), maxHead), &answered)
		if err != nil {
			if bad := (*badRequest)(nil); errors.As(err, &bad) && len(bad.answer) == 0 {
				t.Error("a refusal without an answer")
			}
			return
		}
		if err := wire.CheckDestination(want.host, want.port); err != nil {
			t.Error(err)
		}
		if head := string(want.first); head != "" {
			if !strings.HasSuffix(head, "\r\n\r\n") || strings.Count(head, "\r\n\r\n") != 1 || strings.Count(strings.ToLower(head), "\nhost:") != 1 || strings.Count(strings.ToLower(head), "\nconnection:") != 1 {
				t.Errorf("%q", head)
			}
			for line := range strings.SplitSeq(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n") {
				if strings.ContainsAny(line, "\r\n") || line == "" {
					t.Errorf("%q in %q", line, head)
				}
			}
		}
		n, _ := io.Copy(io.Discard, want.rest)
		if n > int64(len(data)) {
			t.Errorf("%d bytes follow of %d", n, len(data))
		}
	})
}

func TestChunkedBodyEndsWhereItEnds(t *testing.T) {
	const body = "5;x\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n"
	r := bufio.NewReaderSize(strings.NewReader(body+"GET /"), maxHead)
	got, err := io.ReadAll(&chunkedBody{r: r})
	if err != nil || string(got) != body {
		t.Errorf("%q, %v", got, err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "GET /" {
		t.Errorf("%q follows", rest)
	}
	for _, damaged := range []string{"x\r\n", "5\r\nhel", "-1\r\n", "5", ""} {
		if _, err := io.ReadAll(&chunkedBody{r: bufio.NewReader(strings.NewReader(damaged))}); err == nil {
			t.Errorf("%q is a body", damaged)
		}
	}
}

func TestForwardedHead(t *testing.T) {
	want, err := readHTTP(bufio.NewReader(strings.NewReader("GET http://u:p@Example.test:8080/a%20b?c=d HTTP/1.1\r\nhost: evil\r\nProxy-Authorization: x\r\nConnection: close, X-Mine\r\nx-mine: 1\r\nAccept: */*\r\nUpgrade: h2c\r\n\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	const head = "GET /a%20b?c=d HTTP/1.1\r\nHost: Example.test:8080\r\nAccept: */*\r\nConnection: close\r\n\r\n"
	if string(want.first) != head || want.host != "Example.test" || want.port != 8080 {
		t.Errorf("%q, %s %d", want.first, want.host, want.port)
	}
}
