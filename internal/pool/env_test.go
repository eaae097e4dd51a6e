package pool_test

import (
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/pool"
	"agento.host/agento/internal/pool/sshtest"
	"agento.host/agento/internal/vault"
)

var operator = identity.ByOperator("")

type env struct {
	*pool.Service
	db  *database.DB
	log *strings.Builder
}

func newEnv(t *testing.T) *env {
	t.Helper()
	key, err := vault.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	db := databasetest.New(t)
	e := &env{db: db, log: &strings.Builder{}}
	e.Service = pool.New(pool.Settings{DB: db, Events: event.NewLog(db), Vault: key, Log: slog.New(slog.NewTextHandler(e.log, nil)), Image: "agento/openclaw:1"})
	return e
}

// add adds a server to the pool, and lets agento log in to it.
func (e *env) add(t *testing.T, s *sshtest.Server, name, socket string) pool.Server {
	t.Helper()
	login := s.User + "@" + s.Address
	keys, err := e.HostKeys(t.Context(), login)
	if err != nil {
		t.Fatal(err)
	}
	n, err := e.Add(t.Context(), operator, pool.NewServer{Name: name, Login: login, Socket: socket, Regions: []string{"us", "eu"}, HostKeys: keys})
	if err != nil {
		t.Fatal(err)
	}
	s.Authorize(n.PublicKey)
	return n
}

// fakeEngine serves what an engine answers, by path, and returns its socket.
func fakeEngine(t *testing.T, answers map[string]any) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pool")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "engine.sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.Method+" "+r.URL.Path]
		if text, plain := answer.(string); plain {
			_, _ = w.Write([]byte(text))
			return
		}
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			answer = map[string]string{"message": "no such thing"}
		}
		_ = json.NewEncoder(w).Encode(answer)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _, _ = server.Close(), os.RemoveAll(dir) })
	return l.Addr().String()
}

// goodEngine are the answers of an engine that lacks nothing.
func goodEngine() map[string]any {
	return map[string]any{
		"GET /version":     map[string]any{"Version": "20.10.24", "ApiVersion": "1.41"},
		"GET /info":        map[string]any{"SecurityOptions": []string{"name=seccomp,profile=default"}, "CgroupVersion": "2", "MemoryLimit": true, "PidsLimit": true},
		"GET /images/json": []map[string]any{{"RepoTags": nil}, {"RepoTags": []string{"agento/openclaw:1"}}},

		"POST /containers/create":      map[string]any{"Id": "c1"},
		"POST /containers/c1/start":    "",
		"POST /containers/c1/wait":     map[string]any{"StatusCode": 0},
		"GET /containers/c1/logs":      "\x01\x00\x00\x00\x00\x00\x00\x0c      Avail\n\x01\x00\x00\x00\x00\x00\x00\x0c36405739520\n",
		"DELETE /containers/c1":        "",
		"GET /containers/json":         []any{},
		"GET /containers/json?all=1":   []any{},
		"GET /containers/unknown/json": map[string]any{},
	}
}
