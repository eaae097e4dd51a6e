package rest_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"agento.host/agento/internal/rest"
)

// TestCommentsSayWhatAStreamWaitsFor: every five seconds without an event, in one line, as an
// empty line would be an event without data for some clients.
func TestCommentsSayWhatAStreamWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waiting atomic.Value
		waiting.Store("boot")
		serve := func(_ context.Context, out *rest.Events) error {
			time.Sleep(6 * time.Second)
			waiting.Store("tool exec")
			time.Sleep(6 * time.Second)
			if err := out.SendNumbered(1, "a"); err != nil {
				return err
			}
			time.Sleep(4 * time.Second)
			if err := out.SendNumbered(2, "b"); err != nil {
				return err
			}
			waiting.Store("")
			time.Sleep(6 * time.Second)
			return nil
		}
		api := newAPI(rest.Settings{}, rest.NewStreamRoute("GET /stream", "Stream", "data: x", func(context.Context, *struct{}) (*rest.Stream, error) {
			return &rest.Stream{Serve: serve, Waiting: func() string { return waiting.Load().(string) }}, nil
		}))
		const want = ": boot\n: tool exec\nid: 1\ndata: \"a\"\n\nid: 2\ndata: \"b\"\n\n: ping\n"
		if got := send(t, api, http.MethodGet, "/stream", nil).Body.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
