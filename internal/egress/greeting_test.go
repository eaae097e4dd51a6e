package egress

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
)

// hello returns the ClientHello of a client that asks for a name.
func hello(t testing.TB, name string) []byte {
	t.Helper()
	client, server := net.Pipe()
	go func() {
		_ = tls.Client(client, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake()
		_ = client.Close()
	}()
	header := make([]byte, recordHeader)
	if _, err := io.ReadFull(server, header); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(header[3:]))
	if _, err := io.ReadFull(server, body); err != nil {
		t.Fatal(err)
	}
	_ = server.Close()
	return append(header, body...)
}

// inRecords splits the message of one record into records of n bytes.
func inRecords(b []byte, n int) []byte {
	var all []byte
	for message := b[recordHeader:]; len(message) > 0; message = message[min(n, len(message)):] {
		part := message[:min(n, len(message))]
		all = append(all, recordHandshake, 3, 1, byte(len(part)>>8), byte(len(part)))
		all = append(all, part...)
	}
	return all
}

func TestReadGreeting(t *testing.T) {
	whole := hello(t, "good.example.com")
	for name, c := range map[string]struct {
		bytes string
		kind  greeting
		host  string
	}{
		"TLS":                      {string(whole), tlsGreeting, "good.example.com"},
		"TLS in small records":     {string(inRecords(whole, 40)), tlsGreeting, "good.example.com"},
		"TLS with more":            {string(whole) + "more", tlsGreeting, "good.example.com"},
		"TLS without a name":       {string(hello(t, "")), unreadable, ""},
		"TLS that is no hello":     {"\x16\x03\x01\x00\x04\x02\x00\x00\x00", unreadable, ""},
		"TLS with an empty record": {"\x16\x03\x01\x00\x00", unreadable, ""},
		"TLS that is garbage":      {"\x16\x03\x01\x00\x05\x01\x00\x00\x01\xff", unreadable, ""},
		"TLS of another version":   {"\x16\x02rest", unreadable, ""},
		"binary":                   {"\x00\x01rest", other, ""},
		"SSH":                      {"SSH-2.0-OpenSSH_9.6\r\n", other, ""},
		"git":                      {"0032git-upload-pack /project.git\x00host=example.com\x00", other, ""},
		"IRC":                      {"NICK somebody\r\n", other, ""},
		"SMTP":                     {"EHLO example.com\r\n", other, ""},
		"HTTP/0.9":                 {"GET /\r\n", other, ""},
		"a word":                   {"PING\r\n", other, ""},
		"no method":                {strings.Repeat("A", maxMethod+1), other, ""},
		"HTTP":                     {"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n", httpGreeting, "a.example.com"},
		"HTTP with line feeds":     {"GET / HTTP/1.1\nHost: a.example.com\n\n", httpGreeting, "a.example.com"},
		"HTTP with a port":         {"GET / HTTP/1.1\r\nHost: A.example.com.:8080\r\n\r\n", httpGreeting, "a.example.com"},
		"HTTP with a body":         {"POST / HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: 3\r\n\r\nabc", httpGreeting, "a.example.com"},
		"CONNECT":                  {"CONNECT b.example.com:443 HTTP/1.1\r\nHost: b.example.com:443\r\n\r\n", httpGreeting, "b.example.com"},
		"CONNECT elsewhere":        {"CONNECT b.example.com:443 HTTP/1.1\r\nHost: a.example.com\r\n\r\n", unreadable, ""},
		"HTTP with a space":        {"GET / HTTP/1.1\r\nHost : a.example.com\r\n\r\n", unreadable, ""},
		"HTTP in lower case":       {"get / http/1.1\r\nHost: a.example.com\r\n\r\n", unreadable, ""},
		"HTTP/2":                   {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", unreadable, ""},
		"HTTP without a host":      {"GET / HTTP/1.0\r\n\r\n", unreadable, ""},
	} {
		if kind, host := readGreeting([]byte(c.bytes)); kind != c.kind || host != c.host {
			t.Errorf("%s: %v %q, want %v %q", name, kind, host, c.kind, c.host)
		}
	}
}

// No beginning of a greeting is taken for another protocol: that would be forwarded.
func TestBeginningsOfGreetingsAreIncomplete(t *testing.T) {
	for _, whole := range []string{
		string(hello(t, "good.example.com")), string(inRecords(hello(t, "good.example.com"), 50)), "GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		for n := range len(whole) {
			if kind, _ := readGreeting([]byte(whole[:n])); kind != incomplete {
				t.Errorf("%q: %v", whole[:n], kind)
			}
		}
	}
}

func FuzzReadGreeting(f *testing.F) {
	f.Add(hello(f, "good.example.com"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, host := readGreeting(b)
		if (host != "") != (kind == tlsGreeting || kind == httpGreeting) {
			t.Errorf("%q: %v %q", b, kind, host)
		}
	})
}

func FuzzParseQuery(f *testing.F) {
	f.Add([]byte("\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x07example\x03com\x00\x00\x01\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, rcode, ok := parseQuery(b)
		if !ok {
			return
		}
		if _, err := q.answer(rcode, toAddr(firstAddress)); err != nil && q.Name.Length > 0 {
			t.Errorf("%q is not answered: %v", b, err)
		}
	})
}
