package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func TestAgentsApprove(t *testing.T) {
	var requests []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests = append(requests, r.Method+" "+r.URL.Path)
		if r.Method == http.MethodGet {
			_, _ = w.Write([]byte(`{"data":[{"document":"SOUL.md","version":2},{"document":"rules/a.md","version":3},{"document":"SOUL.md","version":4}]}`))
			return
		}
		_, _ = w.Write([]byte(`{"data":{}}`))
	}))
	defer s.Close()
	approve := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), append([]string{"agents", "approve", "--url", s.URL, "--api-key", "ak_live_x", ada}, args...), &out, &out)
		return out.String(), err
	}
	if out, err := approve(); err != nil || !strings.Contains(out, "rules/a.md") {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := approve("SOUL.md"); err != nil || out != "approved version 4 of SOUL.md\n" {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := approve("WORKFLOW.md"); err == nil || !strings.Contains(err.Error(), "no edit of WORKFLOW.md waits") {
		t.Error(err)
	}
	requests = nil
	for _, args := range [][]string{{"IDENTITY.md", "1"}, {"WORKFLOW.md", "2", "--reject"}, {"rules/a.md", "3"}} {
		if _, err := approve(args...); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	want := []string{"POST /v1/agents/" + ada + "/identity/versions/1/approve", "POST /v1/agents/" + ada + "/workflow/versions/2/reject", "POST /v1/agents/" + ada + "/rules/a.md/versions/3/approve"}
	if !slices.Equal(requests, want) {
		t.Errorf("requests %q, want %q", requests, want)
	}
}
