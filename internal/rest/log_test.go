package rest_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/logtest"
	"agento.host/agento/internal/rest"
)

// TestWhatTheOperatorMustRepairIsLogged: at level warn or error, with the id of the request;
// what callers and their providers have done wrong is not.
func TestWhatTheOperatorMustRepairIsLogged(t *testing.T) {
	cause := errors.New("no route to host")
	for name, c := range map[string]struct {
		err   error
		level string // empty: not logged
		ctx   func() context.Context
		ends  bool // the server shuts down
	}{
		"a service has failed":        {fault.New(fault.Upstream, "The registry fails.").Because(cause), "WARN", t.Context, false},
		"a service is slow":           {fault.New(fault.UpstreamTimeout, "The registry is slow.").Because(cause), "WARN", t.Context, false},
		"the disk is full":            {fault.New(fault.Unavailable, "The disk is full.").Because(cause), "WARN", t.Context, false},
		"nobody foresaw it":           {cause, "ERROR", t.Context, false},
		"the account's provider":      {fault.New(fault.Upstream, "The model fails.").Because(cause).Expected(), "", t.Context, false},
		"a request that is wrong":     {fault.New(fault.Invalid, "It is wrong.").Because(cause), "", t.Context, false},
		"too many requests":           {fault.New(fault.RateLimited, "Slow down.").Because(cause), "", t.Context, false},
		"the client has disconnected": {cause, "", ended, false},
		"the server shuts down":       {fault.New(fault.Unavailable, "Try again.").Because(cause), "", t.Context, true},
	} {
		log := &logtest.Buffer{}
		s := rest.Settings{Log: slog.New(slog.NewTextHandler(log, nil))}
		if c.ends {
			s.Draining = ended()
		}
		api := newAPI(s, rest.NewRoute("GET /v1/fail", "Fail", func(context.Context, *struct{}) (*struct{ Body string }, error) { return nil, c.err }))
		out := httptest.NewRecorder()
		api.ServeHTTP(out, httptest.NewRequestWithContext(c.ctx(), http.MethodGet, "/v1/fail", nil))
		text := log.String()
		switch id := out.Header().Get("X-Request-Id"); {
		case c.level == "" && text != "":
			t.Errorf("%s: logged %s", name, text)
		case c.level != "" && (!strings.Contains(text, "level="+c.level) || !strings.Contains(text, "request="+id) || !strings.Contains(text, cause.Error())):
			t.Errorf("%s: request %s logged %q", name, id, text)
		}
	}
}

// ended returns a context that has ended.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
