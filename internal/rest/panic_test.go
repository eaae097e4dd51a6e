package rest_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"agento.host/agento/internal/logtest"
	"agento.host/agento/internal/rest"
)

// panicking returns an API whose plain handler GET /panic panics with a value.
func panicking(log *logtest.Buffer, value any) *rest.API {
	return newAPI(rest.Settings{
		Log:   slog.New(slog.NewTextHandler(log, nil)),
		Plain: map[string]func(http.ResponseWriter, *http.Request) error{"GET /panic": func(http.ResponseWriter, *http.Request) error { panic(value) }},
	})
}

func TestPanicIsAnInternalErrorWithoutItsCause(t *testing.T) {
	var log logtest.Buffer
	out := send(t, panicking(&log, "the secret cause"), http.MethodGet, "/panic", nil)
	e := errorOf(t, out)
	if out.Code != http.StatusInternalServerError || e.Code != "internal_error" {
		t.Errorf("status %d: %s", out.Code, out.Body)
	}
	if strings.Contains(out.Body.String(), "secret cause") {
		t.Errorf("the response shows the cause: %s", out.Body)
	}
	if text := log.String(); !strings.Contains(text, "the secret cause") || !strings.Contains(text, e.RequestID) {
		t.Errorf("the log lacks the cause or the request id: %s", text)
	}
}

// TestPanicStopsTheHeartbeats: otherwise they would go on writing to a connection
// that may serve another request by then.
func TestPanicStopsTheHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPI(rest.Settings{Heartbeat: time.Second}, rest.NewStreamRoute("GET /stream", "Stream", "data: x", func(context.Context, *struct{}) (*rest.Stream, error) {
			return &rest.Stream{Serve: func(context.Context, *rest.Events) error { panic("broken") }}, nil
		}))
		out := send(t, api, http.MethodGet, "/stream", nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if strings.Contains(out.Body.String(), "ping") {
			t.Fatalf("the heartbeats go on after the handler: %s", out.Body)
		}
		if e := errorOf(t, out); out.Code != http.StatusInternalServerError || e.Code != "internal_error" {
			t.Errorf("status %d: %s", out.Code, out.Body)
		}
	})
}

// TestClientThatHasGoneIsNoPanic: huma panics when the response cannot be written, which is no
// fault of the server.
func TestClientThatHasGoneIsNoPanic(t *testing.T) {
	var log logtest.Buffer
	api := newAPI(rest.Settings{Log: slog.New(slog.NewTextHandler(&log, nil))}, rest.NewRoute("GET /v1/thing", "Thing", func(context.Context, *struct{}) (*output, error) { return &output{}, nil }))
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // a panic's value
			t.Errorf("panic: %v", p)
		}
		if strings.Contains(log.String(), "panicked") {
			t.Errorf("the log says: %s", log.String())
		}
	}()
	api.ServeHTTP(gone{httptest.NewRecorder()}, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/thing", nil))
}

// gone is the response to a client that does not read it.
type gone struct{ *httptest.ResponseRecorder }

func (gone) Write([]byte) (int, error) { return 0, context.Canceled }

// TestErrAbortHandlerBreaksTheConnection: a handler that stops in the middle must
// not leave half a response that looks complete.
func TestErrAbortHandlerBreaksTheConnection(t *testing.T) {
	var log logtest.Buffer
	server := httptest.NewServer(panicking(&log, http.ErrAbortHandler))
	defer server.Close()
	res, err := http.Get(server.URL + "/panic")
	if err == nil {
		_ = res.Body.Close()
		t.Errorf("the connection should have broken, but the status is %d", res.StatusCode)
	}
	if log.String() != "" {
		t.Errorf("an intended abort was logged: %s", log.String())
	}
}
