package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/alecthomas/kong"
)

// Gateways keep running when the server stops, and call the next server process at the
// stored internal address. A start does not write the file again, so that a crash
// during the start cannot lose the address.
func TestInternalAddressIsWrittenOnce(t *testing.T) {
	kept := filepath.Join(t.TempDir(), "internal.addr")
	listen := func(flag string) string {
		t.Helper()
		l, err := listenInternal(t.Context(), flag, kept, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return l.Addr().String()
	}
	first := listen("")
	past := time.Unix(1e9, 0)
	if err := os.Chtimes(kept, past, past); err != nil {
		t.Fatal(err)
	}
	if again := listen(""); again != first {
		t.Errorf("%s, then %s", first, again)
	}
	if st, err := os.Stat(kept); err != nil || !st.ModTime().Equal(past) {
		t.Errorf("the file was written again: %v, %v", st.ModTime(), err)
	}
	other := listen("127.0.0.1:0")
	if text, err := os.ReadFile(kept); err != nil || string(text) != other+"\n" {
		t.Errorf("a new address is not stored: %q, %v", text, err)
	}
	if err := os.Mkdir(kept+".new", 0o700); err != nil { // a file that cannot be written, as on a full disk
		t.Fatal(err)
	}
	if l, err := listenInternal(t.Context(), "127.0.0.1:0", kept, nil); err == nil {
		t.Errorf("%s is not stored, but in use", l.Addr())
	}
	if text, err := os.ReadFile(kept); err != nil || string(text) != other+"\n" {
		t.Errorf("the address that gateways call is lost: %q, %v", text, err)
	}
}

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

func TestTrustedProxiesAreNetworks(t *testing.T) {
	for value, want := range map[string]string{
		"10.0.0.0/8,2001:db8::/32": "[10.0.0.0/8 2001:db8::/32]", "192.0.2.1/32": "[192.0.2.1/32]",
		"10.0.0.1": "", "10.0.0.0/8,proxy.example.com": "", "10.0.0.0/33": "", "*": "",
	} {
		var c commands
		parser, err := kong.New(&c, kong.Vars{"data": t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		_, err = parse(parser, []string{"serve", "--trusted-proxies", value}, errors.New("exited"))
		if got := fmt.Sprint(c.Serve.TrustedProxies); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%s: %s, %v", value, got, err)
		}
	}
	var c commands
	parser, err := kong.New(&c, kong.Vars{"data": t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = parse(parser, []string{"serve"}, errors.New("exited")); err != nil || len(c.Serve.TrustedProxies) != 0 {
		t.Errorf("by default %v are trusted, %v", c.Serve.TrustedProxies, err)
	}
}
