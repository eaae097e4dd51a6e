// Package trace records what a request caused, as OpenTelemetry traces: the request, the
// turn that it started, the call of the gateway, and the calls of the model. It is the only
// package that imports OpenTelemetry.
//
// No span has a text, a name, a header or an address: they may contain secrets. Ids say
// whose a span is.
package trace

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// tracer returns what makes the spans. Until Start is called, they record nothing.
func tracer() trace.Tracer { return otel.Tracer("agento.host/agento") }

// Attribute is a name with a value. The names are those of OpenTelemetry's semantic
// conventions where they have one.
type Attribute = attribute.KeyValue

// String returns an attribute.
func String(name, value string) Attribute { return attribute.String(name, value) }

// Int returns an attribute.
func Int(name string, value int64) Attribute { return attribute.Int64(name, value) }

// Span is a part of a trace.
type Span struct{ span trace.Span }

// Parent is a span that others belong to. The zero Parent is no span: a span of it begins a
// trace.
type Parent struct{ span trace.SpanContext }

// Of returns the span of a context as a parent.
func Of(ctx context.Context) Parent { return Parent{trace.SpanContextFromContext(ctx)} }

// Within returns a context whose spans belong to p.
func (p Parent) Within(ctx context.Context) context.Context {
	return trace.ContextWithSpanContext(ctx, p.span)
}

// Begin begins a span inside the span of ctx. The caller ends it.
func Begin(ctx context.Context, name string, attributes ...Attribute) (context.Context, *Span) {
	ctx, span := tracer().Start(ctx, name, trace.WithAttributes(attributes...))
	return ctx, &Span{span}
}

// BeginCall is Begin for a call of another program.
func BeginCall(ctx context.Context, name string, attributes ...Attribute) (context.Context, *Span) {
	ctx, span := tracer().Start(ctx, name, trace.WithAttributes(attributes...), trace.WithSpanKind(trace.SpanKindClient))
	return ctx, &Span{span}
}

// Record records a call of another program that began at a time and ends now. problem says
// why it failed; empty if it did not.
func (p Parent) Record(name string, began time.Time, problem string, attributes ...Attribute) {
	_, span := tracer().Start(p.Within(context.Background()), name, trace.WithTimestamp(began), trace.WithAttributes(attributes...), trace.WithSpanKind(trace.SpanKindClient))
	if problem != "" {
		span.SetStatus(codes.Error, problem)
	}
	span.End()
}

// Set adds attributes.
func (s *Span) Set(attributes ...Attribute) { s.span.SetAttributes(attributes...) }

// Annotate adds attributes to the span of ctx.
func Annotate(ctx context.Context, attributes ...Attribute) {
	trace.SpanFromContext(ctx).SetAttributes(attributes...)
}

// Fail says that what the span is about has failed. The reason must not have a text of a
// caller or of a model.
func (s *Span) Fail(reason string) { s.span.SetStatus(codes.Error, reason) }

// End ends the span.
func (s *Span) End() { s.span.End() }

// BeginRequest begins the span of a request that was received. The request names the trace of
// its caller in the header traceparent. If the caller is trusted, the span belongs to that
// trace. Otherwise it begins a trace that is linked to it: a stranger must not decide what is
// recorded, nor add to the traces of others.
func BeginRequest(r *http.Request, trusted bool) (*http.Request, *Span) {
	ctx := r.Context()
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("http.request.method", method(r)))}
	caller := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(r.Header)))
	switch {
	case !caller.IsValid():
	case trusted:
		ctx = trace.ContextWithRemoteSpanContext(ctx, caller)
	default:
		options = append(options, trace.WithLinks(trace.Link{SpanContext: caller}))
	}
	ctx, span := tracer().Start(ctx, method(r), options...)
	if !span.SpanContext().IsValid() { // nothing is exported
		return r, &Span{span}
	}
	return r.WithContext(ctx), &Span{span}
}

// EndRequest ends the span of a request. route is the pattern of its path, empty if no route
// has the path; status is 0 if the connection was broken before the response.
func (s *Span) EndRequest(r *http.Request, route string, status int) {
	if route != "" {
		s.span.SetName(method(r) + " " + route)
		s.span.SetAttributes(attribute.String("http.route", route))
	}
	if status > 0 {
		s.span.SetAttributes(attribute.Int("http.response.status_code", status))
	}
	if status == 0 || status >= http.StatusInternalServerError {
		s.span.SetStatus(codes.Error, http.StatusText(status))
	}
	s.span.End()
}

// method returns the method of a request, or _OTHER for one that only the caller knows, as
// the semantic conventions say.
func method(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return "_OTHER"
}

// Reason returns why something failed, without the texts of its error: cancelled, timeout or
// error.
func Reason(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return "error"
}
