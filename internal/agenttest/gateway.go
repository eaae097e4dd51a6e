package agenttest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"agento.host/agento/internal/runtime/fake"
)

// Scripts say how the gateways behave. The zero value is that they work.
type Scripts struct {
	NeverReady    atomic.Bool // they never get ready
	Unhealthy     atomic.Bool // they do not answer health checks
	RefuseCalls   atomic.Bool // they answer calls with an error
	NoAnswer      atomic.Bool // they stay connected, and leave calls without an answer
	SecretReloads atomic.Int64
	WorkResumes   atomic.Int64
	Busy          atomic.Bool // they have work to do and are not suspended
	Suspended     atomic.Bool // the last one that was asked is suspended
}

// Handler is the HTTP server of a gateway. It answers every turn with its place.
func (s *Scripts) Handler(g *fake.Gateway) http.Handler {
	mux := http.NewServeMux()
	suspended := &atomic.Bool{}
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if s.NeverReady.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"failing":["databases"]}`)
		}
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if s.Unhealthy.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, _ *http.Request) {
		if suspended.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"error":{"message":"Gateway is temporarily unavailable while suspending or restarting","type":"service_unavailable","code":"gateway_unavailable"}}`)
			return
		}
		_, _ = fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":\"I am at %s\"}}]}\n\ndata: [DONE]\n\n", g.Place)
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { s.serveCalls(w, r, suspended) })
	return mux
}

// serveCalls is the gateway's WebSocket. suspended is whether this gateway is suspended.
func (s *Scripts) serveCalls(w http.ResponseWriter, r *http.Request, suspended *atomic.Bool) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	var ticking sync.WaitGroup
	defer ticking.Wait()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	_ = wsjson.Write(ctx, c, map[string]any{"type": "event", "event": "connect.challenge"}) // Read returns what is wrong with a connection
	for {
		var f struct{ ID, Method string }
		if wsjson.Read(ctx, c, &f) != nil {
			return
		}
		if f.Method != "connect" && s.NoAnswer.Load() {
			ticking.Go(func() { sendTicks(ctx, c) })
			continue
		}
		ok := f.Method == "connect" || !s.RefuseCalls.Load()
		if f.Method == "secrets.reload" && ok {
			s.SecretReloads.Add(1)
		}
		payload := map[string]any{}
		switch {
		case f.Method == "gateway.suspend.prepare" && ok && s.Busy.Load():
			payload["status"] = "busy"
		case f.Method == "gateway.suspend.prepare" && ok:
			suspended.Store(true)
			s.Suspended.Store(true)
			payload["status"], payload["suspensionId"] = "ready", "suspension"
		case f.Method == "gateway.suspend.resume" && ok:
			suspended.Store(false)
			s.Suspended.Store(false)
			s.WorkResumes.Add(1)
			payload["resumed"] = true
		}
		_ = wsjson.Write(ctx, c, map[string]any{"type": "res", "id": f.ID, "ok": ok, "payload": payload, "error": map[string]any{"code": "UNAVAILABLE"}})
	}
}

// sendTicks keeps a connection alive as a gateway does that has nothing to send.
func sendTicks(ctx context.Context, c *websocket.Conn) {
	for wsjson.Write(ctx, c, map[string]any{"type": "event", "event": "tick"}) == nil {
		select {
		case <-ctx.Done():
		case <-time.After(30 * time.Second):
		}
	}
}
