package api_test

import (
	"crypto/rand"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
)

// TestLockedDatabase: reads go on, a stop ends the gateway, also with an
// Idempotency-Key, and every write answers 503 with what to do.
func TestLockedDatabase(t *testing.T) {
	dir := t.TempDir()
	env := newEnv(t, options{DB: databasetest.OpenIn(t, dir)})
	who := env.newAccount("acme", "plan_self_hosted")
	ada, bob := who.newAgent("ada"), who.newAgent("bob")
	(&caller{env: env}).do("GET", "/readyz", nil).expect(200)
	unlock := databasetest.Lock(t, dir)
	check := func(r *response) {
		t.Helper()
		r.expectError(http.StatusServiceUnavailable, "unavailable")
		if m := r.field("error.message"); !strings.Contains(m, string(database.Locked)) || strings.Contains(m, dir) || strings.Contains(m, "SQLITE") {
			t.Errorf("the caller sees %q", m)
		}
		if r.header.Get("Retry-After") == "" {
			t.Error("there is no Retry-After")
		}
	}
	apitest.WaitUntil(t, "the server is not ready", func() bool { return who.do("GET", "/readyz", nil).status != 200 })
	check(who.do("GET", "/readyz", nil))
	check(who.do("POST", "/v1/agents/"+ada+"/stop", nil))
	check(who.post("/v1/agents/"+bob+"/stop", "k", ""))
	if n := env.Driver.RunningCount(); n != 0 {
		t.Errorf("%d gateways run", n)
	}
	check(who.do("DELETE", "/v1/agents/"+ada, nil))
	check(who.do("PATCH", "/v1/agents/"+ada, `{"name":"eve"}`))
	check(who.post("/v1/agents", "k2", createBody))
	who.do("GET", "/v1/agents/"+ada, nil).expect(200)
	who.do("GET", "/v1/agents", nil).expect(200)
	who.do("GET", "/healthz", nil).expect(200)
	unlock()
	apitest.WaitUntil(t, "the server is ready", func() bool { return who.do("GET", "/readyz", nil).status == 200 })
	who.post("/v1/agents/"+bob+"/stop", "k", "").expect(200)
	who.do("POST", "/v1/agents/"+ada+"/stop", nil).expect(200)
	who.do("DELETE", "/v1/agents/"+ada, nil).expect(200)
}

// TestFullDisk: reads, stop and delete work; what would store something new answers 503
// with what to do.
func TestFullDisk(t *testing.T) {
	disk := databasetest.NewDisk(t, "size=64m")
	env := newEnv(t, options{DB: databasetest.OpenIn(t, disk.Dir), Monitor: true})
	who := env.newAccount("acme", "plan_self_hosted")
	ada, bob := who.newAgent("ada"), who.newAgent("bob")
	if a := who.do("GET", "/readyz", nil).expect(200); a.field("status") != "degraded" || a.field("degraded.0.name") != "disk" || a.field("degraded.0.message") != a.field("message") {
		t.Errorf("a disk of 64 MiB is %s", a.body)
	}
	apitest.WaitUntil(t, "room is reserved", func() bool {
		files, err := filepath.Glob(filepath.Join(disk.Dir, "reserve", "*"))
		return err == nil && len(files) == 32
	})
	disk.Fill()
	apitest.WaitUntil(t, "the disk is full", func() bool { // SQLite overwrites its WAL first
		text := rand.Text() + strings.Repeat("x", 30_000)
		r := who.do("PUT", "/v1/agents/"+ada+"/workflow", map[string]string{"workflowMd": text})
		if r.status == http.StatusOK {
			return false
		}
		r.expectError(http.StatusServiceUnavailable, "unavailable")
		return r.field("error.message") == string(database.DiskFull)
	})
	if r := who.do("GET", "/readyz", nil).expectError(http.StatusServiceUnavailable, "unavailable"); r.field("error.message") != string(database.DiskFull) {
		t.Errorf("/readyz says %s", r.body)
	}
	who.do("GET", "/v1/agents/"+ada, nil).expect(200)
	who.do("POST", "/v1/agents/"+ada+"/stop", nil).expect(200)
	who.do("DELETE", "/v1/agents/"+bob, nil).expect(200)
	who.do("DELETE", "/v1/agents/"+ada, nil).expect(200)
	disk.Free()
	who.newAgent("carol")
}
