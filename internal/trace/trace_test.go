package trace_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"agento.host/agento/internal/trace"
)

// record makes a recorder of spans the exporter.
func record(t *testing.T) *tracetest.SpanRecorder {
	t.Helper()
	before := otel.GetTracerProvider()
	recorder := tracetest.NewSpanRecorder()
	otel.SetTracerProvider(sdk.NewTracerProvider(sdk.WithSpanProcessor(recorder)))
	t.Cleanup(func() { otel.SetTracerProvider(before) })
	return recorder
}

const callersTrace = "4bf92f3577b34da6a3ce929d0e0e4736"

// TestStrangersTraceIsLinked: a request joins the trace that it names only if it comes from
// who is trusted.
func TestStrangersTraceIsLinked(t *testing.T) {
	for _, trusted := range []bool{true, false} {
		recorder := record(t)
		r := httptest.NewRequest(http.MethodPost, "/v1/agents/agt_1/chat?x=secret", nil)
		r.Header.Set("traceparent", "00-"+callersTrace+"-00f067aa0ba902b7-01")
		r, span := trace.BeginRequest(r, trusted)
		_, turn := trace.Begin(r.Context(), "turn")
		turn.End()
		span.EndRequest(r, "/v1/agents/{id}/chat", http.StatusInternalServerError)

		inside, ended := recorder.Ended()[0], recorder.Ended()[1]
		if inside.Parent().SpanID() != ended.SpanContext().SpanID() {
			t.Error("a span in the request's context does not belong to the request")
		}
		if joined := ended.SpanContext().TraceID().String() == callersTrace; joined != trusted {
			t.Errorf("trusted %t: joined %t", trusted, joined)
		}
		if linked := len(ended.Links()) == 1; linked == trusted {
			t.Errorf("trusted %t: linked %t", trusted, linked)
		}
		if ended.Name() != "POST /v1/agents/{id}/chat" || ended.Status().Description != "Internal Server Error" {
			t.Errorf("%s, %+v", ended.Name(), ended.Status())
		}
		for _, a := range ended.Attributes() {
			if strings.Contains(a.Value.String(), "secret") {
				t.Errorf("%s has the query", a.Key)
			}
		}
	}
}

// TestRecordBelongsToItsParent: a call that is recorded at its end has its own times, and is in
// the trace of its turn although that may have ended.
func TestRecordBelongsToItsParent(t *testing.T) {
	recorder := record(t)
	ctx, turn := trace.Begin(t.Context(), "turn")
	parent := trace.Of(ctx)
	turn.End()
	began := time.Now().Add(-time.Minute)
	parent.Record("model call", began, "the call failed")

	ended := recorder.Ended()
	call := ended[len(ended)-1]
	if call.Parent().SpanID() != ended[0].SpanContext().SpanID() || !call.StartTime().Equal(began) || call.EndTime().Before(began.Add(time.Minute)) {
		t.Errorf("%+v", call)
	}
}

// TestEnvironmentDecidesAboutTheExport: nothing is exported unless the standard variables ask
// for it, and a value that would export nothing is refused.
func TestEnvironmentDecidesAboutTheExport(t *testing.T) {
	for _, c := range []struct {
		name     string
		env      map[string]string
		endpoint string
		refused  string
	}{
		{name: "nothing set"},
		{name: "headers alone", env: map[string]string{"OTEL_EXPORTER_OTLP_HEADERS": "a=b"}},
		{name: "none", env: map[string]string{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}},
		{name: "disabled", env: map[string]string{"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}},
		{name: "endpoint", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://name:word@127.0.0.1:1"}, endpoint: "http://127.0.0.1:1"},
		{name: "default endpoint", env: map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, endpoint: "http://localhost:4318"},
		{name: "grpc", env: map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, endpoint: "localhost:4317"},
		{name: "unknown exporter", env: map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, refused: "OTEL_TRACES_EXPORTER"},
		{name: "unknown protocol", env: map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "thrift"}, refused: "OTEL_EXPORTER_OTLP_PROTOCOL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := otel.GetTracerProvider()
			defer otel.SetTracerProvider(before)
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			endpoint, stop, err := trace.Start(t.Context(), "1", slog.New(slog.DiscardHandler))
			if endpoint != c.endpoint || (err != nil) != (c.refused != "") {
				t.Errorf("endpoint %q, %v", endpoint, err)
			}
			if err != nil && !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%v does not name %s", err, c.refused)
			}
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			_ = stop(ended) // there is no collector
		})
	}
}
