package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/admin"
	"agento.host/agento/internal/pool/sshtest"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string]size{"64GiB": 64 << 30, "64G": 64 << 30, "2TB": 2 << 40, "512MiB": 512 << 20, "512": 512 << 20, "0": 0, "": -1, "GiB": -1, "-1": -1, "1.5GiB": -1, "64 GiB": -1, "1KiB": -1, "99999999999G": -1} {
		var got size
		if err := got.UnmarshalText([]byte(text)); err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q is %d", text, got)
		}
	}
}

// TestServers: a server is added, checked, changed and removed, without and with a running
// agento, over a real sshd.
func TestServers(t *testing.T) {
	sshd := sshtest.Start(t)
	socket := filepath.Join(t.TempDir(), "e.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Skip("skipped: the temporary directory has too long a name for sockets: ", err)
	}
	engine := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := map[string]string{
			"/version": `{"Version":"24.0","ApiVersion":"1.43"}`, "/_ping": "OK", "/images/json": "[]",
			"/info": `{"SecurityOptions":["name=seccomp,profile=default"],"MemoryLimit":true,"PidsLimit":true,"CgroupVersion":"2"}`,
		}[r.URL.Path]
		_, _ = w.Write([]byte(answer))
	})}
	go func() { _ = engine.Serve(l) }()
	t.Cleanup(func() { _ = engine.Close() })

	in := newInstallation(t, "acme")
	operate := func(args ...string) result {
		return command(t, "", append(args, "--data", in.data)...)
	}
	login := sshd.User + "@" + sshd.Address
	add := []string{"servers", "add", "fra1", "--ssh", login, "--region", "eu,ap", "--memory", "64GiB", "--agents", "40", "--socket", socket}
	if r := operate(add...); r.code != exitRefused || !strings.Contains(r.err, "--host-key") {
		t.Errorf("without confirmation: %+v", r)
	}
	if r := operate(append(add, "--host-key", "SHA256:AAAA")...); r.code != exitRefused || !strings.Contains(r.err, sshd.Fingerprint("ed25519")) || !strings.Contains(r.err, "stands between") {
		t.Errorf("another host key: %+v", r)
	}
	r := operate(append(add, "--host-key", sshd.Fingerprint("ed25519"))...)
	line := strings.TrimSpace(r.out)
	if r.code != 0 || !strings.HasPrefix(line, "restrict,port-forwarding ssh-ed25519 ") || !strings.HasSuffix(line, "agento-fra1") || !strings.Contains(r.err, "refuses the key so far") {
		t.Fatalf("%+v", r)
	}
	if r := operate(append(add, "--host-key", sshd.Fingerprint("ed25519"))...); r.code != exitRefused {
		t.Errorf("added twice: %+v", r)
	}
	if r := operate("servers", "check", "fra1"); r.code != exitFailed || !strings.Contains(r.out, line) || !strings.Contains(r.out, "FIX") {
		t.Errorf("%+v", r)
	}
	sshd.Authorize(line)
	if r := operate("servers", "check", "fra1"); r.code != exitFailed || !strings.Contains(r.out, "docker load") || !strings.Contains(r.err, "1 thing") {
		t.Errorf("%+v", r)
	}
	if r := operate("servers", "list"); r.code != 0 || !strings.Contains(r.out, "64.0 GiB") || !strings.Contains(r.out, "reached") || strings.Contains(r.out, "us,") {
		t.Errorf("%+v", r)
	}

	in.start()
	if out := in.run("servers", "cordon", "fra1"); !strings.Contains(out, "cordoned fra1") {
		t.Error(out)
	}
	waitUntil(t, "the server is up", func() bool {
		var all []admin.Server
		text := in.run("--json", "servers", "list")
		if err := json.Unmarshal([]byte(text), &all); err != nil || len(all) != 2 {
			t.Fatalf("%s: %v", text, err)
		}
		s := all[1]
		return s.State == "cordoned" && s.Link != nil && s.Link.Connected && s.Link.Up && s.Link.RoundTripMicros > 0
	})
	if _, err := in.client("acme").CreateAgent(t.Context(), client.CreateAgentRequest{Name: "Ada", Region: "mars", Secrets: client.Secrets{"anthropicApiKey": "sk-ant-x"}}); !client.IsCode(err, "invalid_request") || !strings.Contains(err.Error(), "ap, eu, us") {
		t.Errorf("an unknown region: %v", err)
	}
	if out := in.run("servers", "show", "fra1"); !strings.Contains(out, "up, ") || !strings.Contains(out, line) || !strings.Contains(out, sshd.Fingerprint("ed25519")) {
		t.Error(out)
	}
	key, _, private := sshtest.NewKey(t)
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, private, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := in.run("servers", "rotate-key", "fra1", "--identity", file); !strings.HasPrefix(out, "restrict,port-forwarding ") || strings.TrimSpace(out) == line || key == nil {
		t.Error(out)
	}
	in.run("servers", "uncordon", "fra1")
	if r := operate("servers", "remove", "fra1"); r.code != exitRefused {
		t.Errorf("removed without a yes: %+v", r)
	}
	in.run("servers", "remove", "fra1", "--yes")
	if r := operate("servers", "show", "fra1"); r.code != exitNotFound {
		t.Errorf("%+v", r)
	}
}
