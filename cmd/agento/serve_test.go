package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/alecthomas/kong"
)

// TestServeCreatesTheDataDirectory: the first start needs no other command before it.
func TestServeCreatesTheDataDirectory(t *testing.T) {
	in := newInstallation(t)
	if err := os.RemoveAll(in.data); err != nil {
		t.Fatal(err)
	}
	in.start()
	in.stop()
	if _, err := os.Stat(filepath.Join(in.data, "master.key")); err != nil {
		t.Error(err)
	}
}

// TestStopRightAfterTheStart is a clean stop: what is printed at the start asks the database.
func TestStopRightAfterTheStart(t *testing.T) {
	in := newInstallation(t)
	ctx, stop := context.WithCancel(t.Context())
	said := &stopAt{text: "agento listens on", stop: stop}
	if err := run(ctx, []string{"serve", "--data=" + in.data, "--listen=127.0.0.1:0"}, io.Discard, said); err != nil {
		t.Error(err)
	}
	if ctx.Err() == nil {
		t.Errorf("it did not start: %s", said.all.String())
	}
}

// stopAt calls stop when a text is written.
type stopAt struct {
	text string
	stop func()
	mu   sync.Mutex
	all  strings.Builder // guarded by mu
}

// Write implements io.Writer.
func (s *stopAt) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all.Write(p)
	if strings.Contains(s.all.String(), s.text) {
		s.stop()
	}
	return len(p), nil
}

func TestTrustedProxiesAreNetworks(t *testing.T) {
	for value, want := range map[string]string{
		"10.0.0.0/8,2001:db8::/32": "[10.0.0.0/8 2001:db8::/32]", "192.0.2.1/32": "[192.0.2.1/32]",
		"10.0.0.1": "", "10.0.0.0/8,proxy.example.com": "", "10.0.0.0/33": "", "*": "",
	} {
		var c commands
		parser, err := kong.New(&c, kong.Vars{"data": t.TempDir(), "debianMirror": ""})
		if err != nil {
			t.Fatal(err)
		}
		_, err = parse(parser, []string{"serve", "--trusted-proxies", value}, errors.New("exited"))
		if got := fmt.Sprint(c.Serve.TrustedProxies); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%s: %s, %v", value, got, err)
		}
	}
	var c commands
	parser, err := kong.New(&c, kong.Vars{"data": t.TempDir(), "debianMirror": ""})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = parse(parser, []string{"serve"}, errors.New("exited")); err != nil || len(c.Serve.TrustedProxies) != 0 {
		t.Errorf("by default %v are trusted, %v", c.Serve.TrustedProxies, err)
	}
}

func TestPublicURLIsAnAddress(t *testing.T) {
	for address, ok := range map[string]bool{
		"": true, "https://api.example.com": true, "http://127.0.0.1:8080/": true, "https://example.com/agento": true,
		"api.example.com": false, "ftp://example.com": false, "https://": false, "https://user@example.com": false, "https://example.com?a=b": false, "https://example.com#a": false,
	} {
		if err := (serveFlags{PublicURL: address}).checkPublicURL(); (err == nil) != ok {
			t.Errorf("--public-url %s: %v", address, err)
		}
	}
}
