package rest_test

import (
	"net/http"
	"strings"
	"testing"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/rest"
)

// Completed is told of each request: of those that no route has and of those that fail too.
func TestCompletedIsToldOfEveryRequest(t *testing.T) {
	var got []rest.Completed
	s := rest.Settings{
		Completed: func(c rest.Completed) { got = append(got, c) },
		Plain: map[string]func(http.ResponseWriter, *http.Request) error{
			"GET /things/{id}": func(w http.ResponseWriter, _ *http.Request) error {
				rest.WriteJSON(w, http.StatusAccepted, "x")
				return nil
			},
			"GET /refused": func(http.ResponseWriter, *http.Request) error { return fault.New(fault.NotFound, "Nothing.") },
			"GET /panic":   func(http.ResponseWriter, *http.Request) error { panic("x") },
		},
	}
	api := newAPI(s)
	for _, c := range []struct {
		path, route string
		status      int
	}{
		{"/things/7?key=secret", "/things/{id}", 202}, {"/refused", "/refused", 404}, {"/panic", "/panic", 500}, {"/none", "", 404}, {"/v1/none", "", 404},
	} {
		got = nil
		out := send(t, api, http.MethodGet, c.path, nil)
		if len(got) != 1 {
			t.Fatalf("%s: told %d times", c.path, len(got))
		}
		if g := got[0]; g.Route != c.route || g.Status != c.status || out.Code != c.status || g.ID != out.Header().Get("X-Request-Id") || g.Duration <= 0 || strings.Contains(g.Route, "secret") {
			t.Errorf("%s: %+v", c.path, g)
		}
	}
}
