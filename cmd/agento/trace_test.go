package main

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"agento.host/agento/client"
)

// collector receives traces as an OpenTelemetry collector does.
type collector struct {
	mu    sync.Mutex
	all   []*tracepb.Span // guarded by mu
	bytes []byte          // all that was received; guarded by mu
}

// newCollector starts a collector, to which the servers that the test starts export.
func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			unpacked, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = unpacked
		}
		data, err := io.ReadAll(body)
		var request collectortrace.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(data, &request)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.bytes = append(c.bytes, data...)
		for _, resource := range request.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				c.all = append(c.all, scope.Spans...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(server.Close)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
	return c
}

// chain returns the names of the spans from the root of a trace to the latest model call of
// an agent.
func (c *collector) chain(agent string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, s := range c.all {
		if s.Name != "model call" || attributeOf(s, "agento.agent.id") != agent {
			continue
		}
		names = nil
		for at := s; at != nil; at = c.findLocked(at.TraceId, at.ParentSpanId) {
			names = append(names, at.Name)
		}
	}
	slices.Reverse(names)
	return names
}

func (c *collector) findLocked(traceID, id []byte) *tracepb.Span {
	for _, s := range c.all {
		if string(s.TraceId) == string(traceID) && string(s.SpanId) == string(id) {
			return s
		}
	}
	return nil
}

func attributeOf(s *tracepb.Span, name string) string {
	for _, a := range s.Attributes {
		if a.Key == name {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

// tracesOfTurns: a trace leads from the request through the turn and the gateway to the model
// call, and has no text of them.
func tracesOfTurns(t *testing.T, in *installation, c *client.Client, id string, seen *collector) {
	const said = "nobody-else-should-read-this"
	send(t, c, id, client.ChatRequest{Message: "echo " + said})
	want := []string{"POST /v1/agents/{id}/chat/messages", "turn", "gateway", "model call"}
	waitUntil(t, "the spans of a turn are exported", func() bool { return slices.Equal(seen.chain(id), want) })

	seen.mu.Lock()
	defer seen.mu.Unlock()
	for _, secret := range []string{said, "sk-ant-ada", in.keys["acme"]} {
		if strings.Contains(string(seen.bytes), secret) {
			t.Errorf("a trace contains %.4s…", secret)
		}
	}
}
