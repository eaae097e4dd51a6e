package pool_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/pool"
	"agento.host/agento/internal/pool/sshlink"
	"agento.host/agento/internal/pool/sshtest"
	"agento.host/agento/internal/vault"
	"golang.org/x/crypto/ssh"
)

func code(err error) fault.Code {
	var f *fault.Fault
	if errors.As(err, &f) {
		return f.Code
	}
	return ""
}

func TestParseSSH(t *testing.T) {
	for login, want := range map[string]string{
		"agento@10.0.0.7": "agento 10.0.0.7:22", "root@host.example:2222": "root host.example:2222", "a@[::1]:22": "a [::1]:22", "a@[fd00::1]": "a [fd00::1]:22",
		"host": "", "@host": "", "a@": "", "a@host:0": "", "a@host:99999": "", "a b@host": "", "a@-oProxyCommand=x": "", "a@host/x": "", "-x@host": "",
	} {
		user, address, err := pool.ParseSSH(login)
		if got := strings.TrimSpace(user + " " + address); got != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q, %v", login, got, err)
		}
	}
}

func TestRegions(t *testing.T) {
	local := pool.Server{Name: pool.Local, State: pool.Active}
	server := func(state pool.State, regions ...string) pool.Server {
		return pool.Server{Name: "a", State: state, Regions: regions}
	}
	for _, c := range []struct {
		servers      []pool.Server
		known, local string
	}{
		{nil, "[eu us]", "[eu us]"},
		{[]pool.Server{server(pool.Active, "eu")}, "[eu us]", "[us]"},
		{[]pool.Server{server(pool.Cordoned, "eu"), server(pool.Draining, "ap", "us")}, "[ap eu us]", "[]"},
		{[]pool.Server{server(pool.Abandoned, "eu", "ap")}, "[ap eu us]", "[ap eu us]"},
	} {
		all := append(c.servers, local)
		if got := fmt.Sprint(pool.Regions(all)); got != c.known {
			t.Errorf("%v: known are %s", c.servers, got)
		}
		if got := fmt.Sprint(pool.Serves(local, all)); got != c.local {
			t.Errorf("%v: local serves %s", c.servers, got)
		}
	}
}

// TestRecords: what is stored, refused and removed.
func TestRecords(t *testing.T) {
	e := newEnv(t)
	key, _, private := sshtest.NewKey(t)
	in := pool.NewServer{Name: "fra1", Login: "agento@10.0.0.7", Regions: []string{"us", "eu", "us"}, Memory: 64 << 30, Agents: 40, HostKeys: sshKeys(key)}
	n, err := e.Add(t.Context(), operator, in)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(n.PublicKey, "restrict,port-forwarding ssh-ed25519 AAAA") || !strings.HasSuffix(n.PublicKey, " agento-fra1") {
		t.Errorf("the line is %q", n.PublicKey)
	}
	got, err := e.Find(t.Context(), "fra1")
	if err != nil || !reflect.DeepEqual(got, n) || fmt.Sprint(got.Regions) != "[eu us]" || got.Socket != pool.DefaultSocket || got.SSH() != "agento@10.0.0.7" {
		t.Errorf("stored: %+v, %v\nadded: %+v", got, err, n)
	}
	for name, change := range map[string]func(*pool.NewServer){
		"name":     func(n *pool.NewServer) { n.Name = "Bad Name" },
		"local":    func(n *pool.NewServer) { n.Name = "local" },
		"regions":  func(n *pool.NewServer) { n.Regions = nil },
		"region":   func(n *pool.NewServer) { n.Regions = []string{"E U"} },
		"memory":   func(n *pool.NewServer) { n.Memory = -1 },
		"socket":   func(n *pool.NewServer) { n.Socket = "docker.sock" },
		"host key": func(n *pool.NewServer) { n.HostKeys = nil },
		"login":    func(n *pool.NewServer) { n.Login = "nobody" },
		"identity": func(n *pool.NewServer) { n.Identity = vault.NewSecret("no key") },
	} {
		bad := in
		bad.Name, bad.Login = "other", "other@10.0.0.8"
		change(&bad)
		if _, err := e.Add(t.Context(), operator, bad); code(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, same := range []pool.NewServer{{Name: "fra1", Login: "a@b"}, {Name: "fra2", Login: "agento@10.0.0.7"}} {
		same.Regions, same.HostKeys = in.Regions, in.HostKeys
		if _, err := e.Add(t.Context(), operator, same); code(err) != fault.Conflict {
			t.Errorf("%+v: %v", same, err)
		}
	}
	own := in
	own.Name, own.Login, own.Identity, own.Regions = "own", "x@y", vault.NewSecret(string(private)), []string{"ap"}
	if n, err := e.Add(t.Context(), operator, own); err != nil || !strings.Contains(n.PublicKey, strings.Fields(pool.FormatHostKeys(sshKeys(key)))[1]) {
		t.Errorf("a key of the operator: %q, %v", n.PublicKey, err)
	}
	if regions, err := e.Regions(t.Context()); fmt.Sprint(regions) != "[ap eu us]" || err != nil {
		t.Errorf("%v, %v", regions, err)
	}
	for _, on := range []bool{true, true, false} {
		n, err := e.Cordon(t.Context(), operator, "fra1", on)
		if err != nil || n.State != map[bool]pool.State{true: pool.Cordoned, false: pool.Active}[on] {
			t.Errorf("%v: %+v, %v", on, n, err)
		}
	}
	if n, err := e.RotateKey(t.Context(), operator, "fra1", vault.Secret{}); err != nil || n.NewKey == "" || n.NewKey == n.PublicKey {
		t.Errorf("%+v, %v", n, err)
	}
	for name, f := range map[string]func(string) error{
		"cordon": func(n string) error { _, err := e.Cordon(t.Context(), operator, n, true); return err },
		"rotate": func(n string) error {
			_, err := e.RotateKey(t.Context(), operator, n, vault.Secret{})
			return err
		},
		"confirm": func(n string) error {
			_, err := e.ConfirmHostKeys(t.Context(), operator, n, in.HostKeys)
			return err
		},
		"remove": func(n string) error { _, err := e.Remove(t.Context(), operator, n); return err },
		"check":  func(n string) error { _, err := e.Check(t.Context(), n); return err },
	} {
		if err := f("nobody"); code(err) != fault.NotFound {
			t.Errorf("%s of nobody: %v", name, err)
		}
		if err := f("local"); name != "cordon" && name != "check" && code(err) != fault.Conflict {
			t.Errorf("%s of local: %v", name, err)
		}
	}
	e.AgentsOn = func(context.Context, string) (int, error) { return 2, nil }
	if _, err := e.Remove(t.Context(), operator, "fra1"); code(err) != fault.Conflict {
		t.Errorf("a server with agents was removed: %v", err)
	}
	e.AgentsOn = nil
	if _, err := e.Remove(t.Context(), operator, "fra1"); err != nil {
		t.Error(err)
	}
	all, err := e.List(t.Context())
	if err != nil || len(all) != 2 || all[0].Name != pool.Local || all[1].Name != "own" {
		t.Errorf("%+v, %v", all, err)
	}
	for _, table := range []string{"secrets", "data_keys"} {
		if left := count(t, e.db, `SELECT count(*) FROM `+table+` WHERE owner_id = $1`, n.ID); left != 0 {
			t.Errorf("%d rows of %s are left", left, table)
		}
	}
	if left := count(t, e.db, `SELECT count(*) FROM events WHERE account_id <> '' OR data LIKE '%PRIVATE%'`); left != 0 {
		t.Errorf("%d events that an account sees, or with a key", left)
	}
	if kept := count(t, e.db, `SELECT count(*) FROM events WHERE topic = 'server/fra1'`); kept != 6 {
		t.Errorf("%d events", kept)
	}
}

func count(t *testing.T, db *database.DB, query string, args ...any) int {
	t.Helper()
	n, err := database.One(t.Context(), db, database.Scalar[int], query, args...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestKeyRotation: the former key is kept until the new one has worked, and is gone then.
func TestKeyRotation(t *testing.T) {
	s := sshtest.Start(t)
	e := newEnv(t)
	engine := fakeEngine(t, goodEngine())
	n := e.add(t, s, "one", engine)
	works := func() {
		t.Helper()
		if f, err := e.Check(t.Context(), "one"); err != nil || !f[0].OK || len(f) < 5 {
			t.Fatalf("%+v, %v", f, err)
		}
	}
	works()
	rotated, err := e.RotateKey(t.Context(), operator, "one", vault.Secret{})
	if err != nil {
		t.Fatal(err)
	}
	works() // by the former key: the server does not know the new one
	if now, err := e.Find(t.Context(), "one"); err != nil || now.PublicKey != n.PublicKey || now.NewKey != rotated.NewKey {
		t.Errorf("%+v, %v", now, err)
	}
	s.Authorize(n.PublicKey, rotated.NewKey)
	works()
	now, err := e.Find(t.Context(), "one")
	if err != nil || now.PublicKey != rotated.NewKey || now.NewKey != "" {
		t.Errorf("%+v, %v", now, err)
	}
	if kept := count(t, e.db, `SELECT count(*) FROM secrets WHERE owner_id = $1`, n.ID); kept != 1 {
		t.Errorf("%d keys are kept", kept)
	}
	s.Authorize(n.PublicKey)
	if f, err := e.Check(t.Context(), "one"); err != nil || f[0].OK {
		t.Errorf("the former key works: %+v, %v", f, err)
	}
	s.Authorize(rotated.NewKey)
	works()
}

// TestChangedHostKeyStopsTheServer: nothing is done with it until the new key is confirmed.
func TestChangedHostKeyStopsTheServer(t *testing.T) {
	s := sshtest.Start(t)
	e := newEnv(t)
	n := e.add(t, s, "one", fakeEngine(t, goodEngine()))
	former := s.Fingerprint("ed25519")
	s.Stop()
	s.NewHostKey("ed25519")
	s.Run()
	link, err := e.Connect(n)
	if err != nil {
		t.Fatal(err)
	}
	_, err = link.DialContext(t.Context(), "unix", n.Socket)
	_ = link.Close()
	if changed := (*sshlink.HostKeyError)(nil); !errors.As(err, &changed) {
		t.Fatalf("%v", err)
	}
	now, err := e.Find(t.Context(), "one")
	if err != nil || !strings.Contains(now.Problem, former) || !strings.Contains(now.Problem, s.Fingerprint("ed25519")) {
		t.Errorf("%+v, %v", now, err)
	}
	if _, err := e.Connect(now); code(err) != fault.Conflict {
		t.Errorf("%v", err)
	}
	if f, err := e.Check(t.Context(), "one"); err != nil || f[0].OK || f[0].What != "host key" || !strings.Contains(fmt.Sprint(f[0].Repair), "--host-key SHA256:") {
		t.Errorf("%+v, %v", f, err)
	}
	if n := count(t, e.db, `SELECT count(*) FROM events WHERE kind = 'server.host_key_changed'`); n != 1 || !strings.Contains(e.log.String(), "level=ERROR") {
		t.Errorf("%d events; log: %s", n, e.log)
	}
	keys, err := e.HostKeys(t.Context(), n.SSH())
	if err != nil {
		t.Fatal(err)
	}
	chosen := slices.DeleteFunc(keys, func(k ssh.PublicKey) bool { return ssh.FingerprintSHA256(k) != s.Fingerprint("ed25519") })
	if n, err := e.ConfirmHostKeys(t.Context(), operator, "one", chosen); err != nil || n.Problem != "" {
		t.Fatalf("%+v, %v", n, err)
	}
	if f, err := e.Check(t.Context(), "one"); err != nil || !f[0].OK {
		t.Errorf("%+v, %v", f, err)
	}
}

// TestDamagedRecord: one does not hide the others, and nothing is done with its server.
func TestDamagedRecord(t *testing.T) {
	e := newEnv(t)
	key, _, _ := sshtest.NewKey(t)
	for _, name := range []string{"a", "b"} {
		if _, err := e.Add(t.Context(), operator, pool.NewServer{Name: name, Login: name + "@host", Regions: []string{"eu"}, HostKeys: sshKeys(key)}); err != nil {
			t.Fatal(err)
		}
	}
	err := e.db.Tx(t.Context(), "test", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE pool_servers SET host_keys = 'rubbish' WHERE name = 'a'`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	all, err := e.List(t.Context())
	if err != nil || len(all) != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	i := slices.IndexFunc(all, func(s pool.Server) bool { return s.Name == "a" })
	if _, err := e.Connect(all[i]); code(err) != fault.Conflict {
		t.Errorf("%v", err)
	}
}
