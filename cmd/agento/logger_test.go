package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"agento.host/agento/internal/rest"
)

// A line that a request caused has its id, once.
func TestLinesHaveTheIDOfTheirRequest(t *testing.T) {
	var out strings.Builder
	log := logger(&terminal{err: &out}, "info").With("part", "x")
	api := rest.New(rest.Settings{Plain: map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /x": func(_ http.ResponseWriter, r *http.Request) error {
			log.InfoContext(r.Context(), "caused")
			log.WarnContext(r.Context(), "has it", "request", rest.RequestID(r.Context()))
			return nil
		},
	}}, nil)
	w := httptest.NewRecorder()
	api.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/x", nil))
	id := w.Header().Get("X-Request-Id")
	if n := len(regexp.MustCompile(`request=`+id+`\b`).FindAllString(out.String(), -1)); n != 2 || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("%d times %s in\n%s", n, id, out.String())
	}
	out.Reset()
	log.InfoContext(context.Background(), "alone")
	if strings.Contains(out.String(), "request") {
		t.Error(out.String())
	}
}
