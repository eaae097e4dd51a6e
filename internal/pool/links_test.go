package pool_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"agento.host/agento/internal/pool"
	"agento.host/agento/internal/pool/sshtest"
)

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for began := time.Now(); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatal("not in time: " + what)
		}
	}
}

// TestLinks: servers are connected as their records say, and up is what answers through the
// connection.
func TestLinks(t *testing.T) {
	s := sshtest.Start(t)
	e := newEnv(t)
	e.PingEvery = 50 * time.Millisecond
	socket := t.TempDir() + "/e.sock"
	var engine *http.Server
	serve := func() {
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		engine = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("OK")) })}
		go func(engine *http.Server) { _ = engine.Serve(l) }(engine)
	}
	serve()
	links := pool.NewLinks(e.Service)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- links.Run(ctx) }()
	up := func() bool { st, ok := links.Status("one"); return ok && st.Up() }

	if _, ok := links.Status("one"); ok {
		t.Error("a server has a link that was not added")
	}
	n := e.add(t, s, "one", socket)
	eventually(t, "up", up)
	before, _, ok := links.Of(n)
	if !ok {
		t.Fatal("no link")
	}
	if _, _, ok := links.Of(pool.Server{ID: "former", Name: "one"}); ok {
		t.Error("the link of another server of the same name")
	}
	if _, ok := links.Status("local"); ok {
		t.Error("local has a link")
	}
	eventually(t, "it is stored", func() bool { n, err := e.Find(t.Context(), "one"); return err == nil && !n.ReachedAt.IsZero() })

	// sshd lives, and the engine does not: connected is not up.
	_ = engine.Close()
	_ = os.Remove(socket)
	eventually(t, "not up", func() bool {
		st, ok := links.Status("one")
		return ok && !st.Up() && st.Connected && st.EngineError != nil
	})
	serve()
	defer func() { _ = engine.Close() }()
	eventually(t, "up again", up)

	if _, err := e.Cordon(t.Context(), operator, "one", true); err != nil {
		t.Fatal(err)
	}
	if after, _, ok := links.Of(n); !ok || after != before {
		t.Error("a cordoned server is connected anew")
	}

	// sshd is killed with its connections, and returns with another host key.
	s.Stop()
	eventually(t, "not connected", func() bool { st, _ := links.Status("one"); return !st.Connected && st.LastError != nil })
	s.NewHostKey("ed25519")
	s.Run()
	eventually(t, "nothing is done with it", func() bool { _, ok := links.Status("one"); return !ok })
	if now, err := e.Find(t.Context(), "one"); err != nil || now.Problem == "" {
		t.Errorf("%+v, %v", now, err)
	}
	keys, err := e.HostKeys(t.Context(), n.SSH())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.ConfirmHostKeys(t.Context(), operator, "one", keys); err != nil {
		t.Fatal(err)
	}
	eventually(t, "up with the new key", up)

	if _, err := e.Remove(t.Context(), operator, "one"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "gone", func() bool { _, ok := links.Status("one"); return !ok })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
