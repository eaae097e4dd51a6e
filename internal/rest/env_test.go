package rest_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/rest"
)

// newAPI returns an API that authenticates everyone.
func newAPI(s rest.Settings, routes ...rest.Route) *rest.API {
	s.Authenticate = func(_ http.ResponseWriter, r *http.Request) (context.Context, error) { return r.Context(), nil }
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	return rest.New(s, routes)
}

// send returns the response to a request with a JSON body; nil means without one.
func send(t *testing.T, api *rest.API, method, path string, body io.Reader) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, path, body)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	out := httptest.NewRecorder()
	api.ServeHTTP(out, req)
	return out
}

// errorOf decodes the contract's error body.
func errorOf(t *testing.T, out *httptest.ResponseRecorder) client.Error {
	t.Helper()
	var e client.ErrorEnvelope
	if err := json.Unmarshal(out.Body.Bytes(), &e); err != nil || e.Error == nil || e.Error.Message == "" || e.Error.RequestID != out.Header().Get("X-Request-Id") {
		t.Fatalf("status %d without an error body: %v %s", out.Code, err, out.Body)
	}
	return *e.Error
}

// requestWith returns a request of POST /v1/every.
func requestWith(t *testing.T, body io.Reader) *http.Request {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/every", body)
	req.Header.Set("Content-Type", "application/json")
	return req
}

func serve(api *rest.API, req *http.Request) *httptest.ResponseRecorder {
	out := httptest.NewRecorder()
	api.ServeHTTP(out, req)
	return out
}
