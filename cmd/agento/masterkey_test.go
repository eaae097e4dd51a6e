package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/internal/vault"
)

const (
	otherKey      = "0101010101010101010101010101010101010101010101010101010101010101"
	masterKeyFile = "master.key"
)

// digests returns the digest of every file of the data directory, except for what a reader
// of the database may change: the lock, and the index of the WAL.
func (in *installation) digests() map[string]string {
	in.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(in.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var data []byte
		if d.Type().IsRegular() { // not a socket
			if data, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		if name := d.Name(); name != "server.lock" && name != "agento.db-shm" {
			sum := sha256.Sum256(data)
			all[path] = string(sum[:])
		}
		return nil
	})
	if err != nil {
		in.t.Fatal(err)
	}
	return all
}

// refused runs a command, which must fail without changing the data directory, and
// returns what it says.
func (in *installation) refused(env string, args ...string) string {
	in.t.Helper()
	before := in.digests()
	cmd := in.program(args...)
	cmd.Env = append(cmd.Env, env)
	out, err := cmd.CombinedOutput()
	if err == nil {
		in.t.Fatalf("agento %s succeeds:\n%s", strings.Join(args, " "), out)
	}
	if after := in.digests(); !maps.Equal(before, after) {
		in.t.Errorf("agento %s changed the data directory:\n%v\n%v", strings.Join(args, " "), before, after)
	}
	return string(out)
}

// TestWrongMasterKeyIsRefused: every command that opens the vault says which key the
// data want, and writes nothing.
func TestWrongMasterKeyIsRefused(t *testing.T) {
	in := newInstallation(t, "acme")
	in.run("installation", "secrets", "list") // makes the key
	keyPath := filepath.Join(in.data, masterKeyFile)
	kept, err := os.ReadFile(keyPath)
	if err != nil {
		t.Fatal(err)
	}
	key, err := vault.ParseMasterKey(kept)
	if err != nil {
		t.Fatal(err)
	}
	v, err := vault.New(key)
	if err != nil {
		t.Fatal(err)
	}
	commands := [][]string{
		{"serve", "--listen=127.0.0.1:0"}, {"dev", "--listen=127.0.0.1:0"}, {"migrate"}, {"installation", "secrets", "list"}, {"knowledge", "reembed"}, {"doctor"},
	}
	check := func(what, env string) {
		t.Helper()
		for _, args := range commands {
			out := in.refused(env, args...)
			if !strings.Contains(out, v.Fingerprint()) || !strings.Contains(out, masterKeyFile) {
				t.Errorf("%s, %v: %s", what, args, out)
			}
			if strings.Contains(out, strings.TrimSpace(string(kept))) || strings.Contains(out, otherKey) {
				t.Errorf("%s, %v: the key is printed", what, args)
			}
		}
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(keyPath, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check("file and environment differ", "AGENTO_MASTER_KEY="+otherKey)
	write(otherKey)
	check("another key", "")
	if err := os.Remove(keyPath); err != nil {
		t.Fatal(err)
	}
	check("missing key", "")
	check("another key in the environment", "AGENTO_MASTER_KEY="+otherKey)

	write(string(kept))
	in.start()
	db := in.openDatabase()
	for _, fingerprint := range []string{"0000000000000000", v.Fingerprint()} { // as if the database were replaced
		if _, err := db.ExecContext(t.Context(), `UPDATE master_key SET fingerprint = $1`, fingerprint); err != nil {
			t.Fatal(err)
		}
		code, body := get(t, in.url+"/readyz")
		if replaced := fingerprint != v.Fingerprint(); replaced != (code == http.StatusServiceUnavailable && strings.Contains(body, "master key")) {
			t.Errorf("/readyz answers %d %s", code, body)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	in.kill() // what it has written last is in the WAL
	if err := os.Remove(keyPath); err != nil {
		t.Fatal(err)
	}
	check("missing key after a crash", "")
	write(string(kept))
	if out, _ := in.program("doctor").Output(); !strings.Contains(string(out), v.Fingerprint()+" in "+keyPath+", which the data want") {
		t.Errorf("doctor says:\n%s", out)
	}
	in.start()
	in.stop()
	in.exec(forgetLastMigration)
	write(otherKey)
	check("another key, and a database to migrate", "")
}

// TestDoctorMakesNoKey: doctor reads.
func TestDoctorMakesNoKey(t *testing.T) {
	in := newInstallation(t)
	if err := os.RemoveAll(in.data); err != nil {
		t.Fatal(err)
	}
	out, _ := in.program("doctor").Output() // it fails if the machine lacks something
	if !strings.Contains(string(out), "none (made at the first start)") {
		t.Errorf("doctor says:\n%s", out)
	}
	if _, err := os.Stat(in.data); err == nil {
		t.Error("doctor made the data directory")
	}
}

// get returns the status and the body of a response.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// TestVaultRotate: the master key is replaced while no server runs, and the secrets stay.
func TestVaultRotate(t *testing.T) {
	in := newInstallation(t, "acme")
	cmd := in.program("installation", "secrets", "set", "EMBEDDER_API_KEY")
	cmd.Stdin = strings.NewReader("kept-secret")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	keyPath := filepath.Join(in.data, masterKeyFile)
	former, err := os.ReadFile(keyPath)
	if err != nil {
		t.Fatal(err)
	}
	in.start()
	if out, err := in.program("vault", "rotate").CombinedOutput(); err == nil || !strings.Contains(string(out), "a server runs on") {
		t.Errorf("under a server: %v\n%s", err, out)
	}
	in.stop()
	kept := filepath.Join(t.TempDir(), "former.key")
	out, err := in.program("vault", "rotate", "--keep-former", kept).CombinedOutput()
	if err != nil || strings.Contains(string(out), strings.TrimSpace(string(former))) {
		t.Errorf("%v\n%s", err, out)
	}
	current, err := os.ReadFile(keyPath)
	if err != nil || string(current) == string(former) || strings.Contains(string(out), strings.TrimSpace(string(current))) {
		t.Errorf("the key in the file, %v:\n%s", err, out)
	}
	if data, err := os.ReadFile(kept); err != nil || string(data) != string(former) {
		t.Errorf("the former key: %v", err)
	}
	in.start()
	if out, err := in.program("--json", "installation", "secrets", "list").CombinedOutput(); err != nil || strings.Contains(string(out), "unreadable") || !strings.Contains(string(out), "EMBEDDER_API_KEY") {
		t.Errorf("%v\n%s", err, out)
	}
	in.stop()
	if err := os.WriteFile(keyPath, former, 0o600); err != nil {
		t.Fatal(err)
	}
	in.refused("", "serve", "--listen=127.0.0.1:0")
	if err := os.WriteFile(keyPath, current, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestMasterKeyIsNoArgument(t *testing.T) {
	key := strings.Repeat("ab", 32)
	for _, args := range [][]string{{"doctor", "--master-key=" + key}, {"doctor", "--master-key", key}} {
		var out bytes.Buffer
		err := run(t.Context(), args, &out, &out)
		if err == nil || !strings.Contains(err.Error(), "--master-key-file") || strings.Contains(err.Error()+out.String(), key) {
			t.Errorf("%v: %v, %s", args[0], err, out.String())
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "kept apart")
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f := (vaultFlags{dataFlags: dataFlags{Data: dir}, MasterKeyFile: file}); f.keySource().File != file {
		t.Errorf("the key is read from %s", f.keySource().File)
	}
	var out bytes.Buffer
	_ = run(t.Context(), []string{"doctor", "--data", dir, "--master-key-file", file}, &out, &out) // it finds other things to fix
	if !strings.Contains(out.String(), file) {
		t.Errorf("doctor does not name the file of the master key: %s", out.String())
	}
}

func TestServeWarnsOfPlainHTTP(t *testing.T) {
	for _, c := range []struct {
		address string
		proxies []netip.Prefix
		warns   bool
	}{
		{"127.0.0.1:0", nil, false}, {"[::1]:0", nil, false}, {"0.0.0.0:0", nil, true}, {"0.0.0.0:0", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, false},
	} {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", c.address)
		if err != nil {
			t.Log(err) // no IPv6 here
			continue
		}
		var log bytes.Buffer
		s := &server{resources: &resources{log: slog.New(slog.NewTextHandler(&log, nil)), public: l}}
		s.warnOfPlainHTTP(c.proxies)
		_ = l.Close()
		if warned := strings.Contains(log.String(), "without TLS"); warned != c.warns {
			t.Errorf("%s with %v: %q", c.address, c.proxies, log.String())
		}
	}
}
