package api_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"agento.host/agento/internal/api"
)

func TestAPanicIsAnInternalErrorThatTellsNothing(t *testing.T) {
	var log logBook
	door := api.New(api.Settings{Log: slog.New(slog.NewTextHandler(&log, nil)), Ready: func(context.Context) error { panic("the cat ate it") }})
	out := httptest.NewRecorder()
	door.ServeHTTP(out, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
	a := &answer{t: t, asked: "GET /readyz", status: out.Code, header: out.Header(), body: out.Body.String()}
	a.refuses(http.StatusInternalServerError, "internal_error")
	if strings.Contains(a.body, "cat") {
		t.Errorf("the caller is told the cause: %s", a.body)
	}
	if text := log.String(); !strings.Contains(text, "the cat ate it") || !strings.Contains(text, a.text("error.requestId")) {
		t.Errorf("the log lacks the cause or the request: %s", text)
	}
}

// TestAPanicEndsItsStream: heartbeats that go on after the handler's end would write
// for ever to a connection that may serve another request by then.
func TestAPanicEndsItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBook
		door := api.New(api.Settings{Log: slog.New(slog.NewTextHandler(&log, nil)), Heartbeat: time.Second})
		door.Stream("/stream", func(context.Context) error { panic("the cat ate it") })
		out := httptest.NewRecorder()
		door.ServeHTTP(out, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/stream", nil))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		a := &answer{t: t, asked: "GET /stream", status: out.Code, header: out.Header(), body: out.Body.String()}
		if strings.Contains(a.body, "ping") {
			t.Fatalf("the stream goes on after its handler: %s", a.body)
		}
		a.refuses(http.StatusInternalServerError, "internal_error")
	})
}

// TestABrokenConnectionIsNoAnswer: a handler that gives up in the middle must not
// leave half an answer that looks whole.
func TestABrokenConnectionIsNoAnswer(t *testing.T) {
	var log logBook
	door := api.New(api.Settings{Log: slog.New(slog.NewTextHandler(&log, nil)), Ready: func(context.Context) error { panic(http.ErrAbortHandler) }})
	server := httptest.NewServer(door)
	defer server.Close()
	res, err := http.Get(server.URL + "/readyz")
	if err == nil {
		_ = res.Body.Close()
		t.Errorf("the connection should have broken, it answered %d", res.StatusCode)
	}
	if log.String() != "" {
		t.Errorf("an intended end is not worth a line: %s", log.String())
	}
}
