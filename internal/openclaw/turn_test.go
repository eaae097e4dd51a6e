package openclaw_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/vault"
)

// newStubGateway returns the client of a gateway that answers every turn with the
// same bytes.
func newStubGateway(t testing.TB, status int, body string) *openclaw.Gateway {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, body)
	}))
	t.Cleanup(server.Close)
	g := openclaw.NewGateway(dialTo(server.Listener.Addr().String()), vault.NewSecret("t"))
	t.Cleanup(g.Close)
	return g
}

func discard(string) error { return nil }

// answer collects the pieces of an answer.
type answer struct{ strings.Builder }

func (a *answer) add(piece string) error {
	_, err := a.WriteString(piece)
	return err
}

func TestTurnReadsTheStream(t *testing.T) {
	g := newStubGateway(t, 200, ": a comment\n\ndata: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n"+
		"data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\r\n\r\ndata: not json\n\nevent: x\n\n"+
		"data: {\"choices\":[{\"delta\":{\"content\":\" wörld\"},\"new\":1}]}\n\n"+
		"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n")
	var deltas []string
	got, err := g.Turn(t.Context(), openclaw.TurnRequest{Entry: openclaw.Main}, func(d string) error {
		deltas = append(deltas, d)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := openclaw.TurnResult{InputTokens: 12, OutputTokens: 3}
	if got != want || len(deltas) != 2 {
		t.Errorf("Turn = %+v with deltas %q, want %+v", got, deltas, want)
	}
}

// TestEndlessAnswerIsTruncated, whether its pieces are long or as short as can be.
func TestEndlessAnswerIsTruncated(t *testing.T) {
	for _, piece := range []string{strings.Repeat("ö", 1000), "x"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":%q}}]}\n\n", piece); err != nil {
					return
				}
			}
		}))
		g := openclaw.NewGateway(dialTo(server.Listener.Addr().String()), vault.NewSecret("t"))
		n, deltas := 0, 0
		got, err := g.Turn(t.Context(), openclaw.TurnRequest{Entry: openclaw.Main}, func(d string) error {
			n, deltas = n+len(d), deltas+1
			if !utf8.ValidString(d) {
				t.Errorf("half a character in %q", d[max(0, len(d)-4):])
			}
			return nil
		})
		if err != nil || !got.Truncated || n > openclaw.MaxAnswer || deltas > openclaw.MaxAnswer/64 || len(piece) > 1 && n < openclaw.MaxAnswer-4 {
			t.Errorf("%d bytes in %d pieces, %+v, %v", n, deltas, got, err)
		}
		g.Close()
		server.Close() // waits for the handler: the connection was closed
	}
}

func TestTurnReturnsTheKindOfEachFailure(t *testing.T) {
	stream := func(message, kind string) string {
		return fmt.Sprintf("data: {\"choices\":[{\"delta\":{\"content\":\"part\"}}]}\n\ndata: {\"error\":{\"message\":%q,\"type\":%q}}\n\ndata: [DONE]\n\n", message, kind)
	}
	tests := []struct {
		name    string
		status  int
		body    string
		kind    openclaw.Kind
		message string
		code    fault.Code
	}{
		{"the provider answers 401", 200, stream(`401: {"error":{"message":"invalid x-api-key","type":"authentication_error"},"type":"error"}`, "authentication_error"), openclaw.RefusedKey, "invalid x-api-key", fault.Upstream},
		{"the model proxy reports a refused key", 200, stream(`400: {"error":{"message":"The model provider at api.anthropic.com refused this agent's key.","type":"invalid_request_error"},"type":"error"}`, "invalid_request_error"), openclaw.RefusedKey, "api.anthropic.com refused", fault.Upstream},
		{"the model proxy's error code", 200, stream(`400: {"error":{"code":"refused_key","message":"No key.","type":"invalid_request_error"},"type":"error"}`, "invalid_request_error"), openclaw.RefusedKey, "No key.", fault.Upstream},
		{"Google answers 400", 200, stream("400: Google Generative AI API error (400): API key not valid. [code=INVALID_ARGUMENT]", "api_error"), openclaw.RefusedKey, "API key not valid.", fault.Upstream},
		{"a defect of the gateway", 200, stream("internal error", "api_error"), openclaw.GatewayFailed, "Send the message again", fault.Unavailable},
		{"a defect before the run", 500, `{"error":{"message":"internal error","type":"api_error"}}`, openclaw.GatewayFailed, "Send the message again", fault.Unavailable},
		{"a provider with the same words", 200, stream(`500: {"error":{"message":"internal error","type":"api_error"}}`, "api_error"), openclaw.ModelFailed, "internal error", fault.Upstream},
		{"an aborted run", 200, stream("agent run aborted", "api_error"), openclaw.Aborted, "stopped", fault.Conflict},
		{"a refused key by its message", 200, stream("400 Incorrect API key provided", "invalid_request_error"), openclaw.RefusedKey, "Incorrect API key provided", fault.Upstream},
		{"OpenClaw's cooldown of a provider", 200, stream(`Inline API key for provider "anthropic" is temporarily disabled after a provider auth/billing failure.`, "api_error"), openclaw.RefusedKey, "Restart the agent", fault.Upstream},
		{"a call that the model proxy has given up", 200, stream(`400: {"error":{"message":"`+openclaw.CallFailed+`","type":"invalid_request_error"},"type":"error"}`, "invalid_request_error"), openclaw.ModelFailed, openclaw.CallFailed, fault.Upstream},
		{"an unknown model", 200, stream(`404: {"error":{"message":"model: nope","type":"not_found_error"},"type":"error"}`, "api_error"), openclaw.ModelFailed, "model: nope", fault.Upstream},
		{"an overloaded provider", 200, stream("500: nothing to parse", "api_error"), openclaw.ModelFailed, "nothing to parse", fault.Upstream},
		{"a silent provider", 200, stream("LLM request timed out.", "api_error"), openclaw.ModelTimeout, "timed out", fault.UpstreamTimeout},
		{"an empty error", 200, "data: {\"error\":{}}\n\ndata: [DONE]\n\n", openclaw.ModelFailed, "without saying why", fault.Upstream},
		{"an error without [DONE]", 200, "data: {\"error\":\"just words\"}\n\n", openclaw.ModelFailed, "just words", fault.Upstream},
		{"a stream that breaks off", 200, "data: {\"choices\":[{\"delta\":{\"content\":\"part\"}}]}\n\n", openclaw.GatewayGone, "stopped answering", fault.Unavailable},
		{"an empty answer", 200, "", openclaw.GatewayGone, "stopped answering", fault.Unavailable},
		{"a wrong token", 401, `{"error":{"message":"Unauthorized","type":"unauthorized"}}`, openclaw.Rejected, "Unauthorized", fault.Upstream},
		{"a rejection without a message", 500, "oops", openclaw.Rejected, "HTTP 500", fault.Upstream},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got answer
			_, err := newStubGateway(t, tt.status, tt.body).Turn(t.Context(), openclaw.TurnRequest{}, got.add)
			var turn *openclaw.TurnError
			if !errors.As(err, &turn) {
				t.Fatalf("Turn = %v, want a TurnError", err)
			}
			if turn.Kind != tt.kind || !strings.Contains(turn.Message, tt.message) || turn.Fault().Code != tt.code {
				t.Errorf("Turn = %+v, want %s with the message %q", turn, tt.kind, tt.message)
			}
			if strings.Contains(tt.body, "part") && got.String() != "part" {
				t.Errorf("Turn emitted the text %q, want the text before the error", got.String())
			}
		})
	}
}

func TestTurnClosesItsConnectionWhenTheCallerLeaves(t *testing.T) {
	closed := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the server notices a closed connection only after the body
		_, _ = fmt.Fprint(w, "data: {\"choices\":[{\"delta\":{\"content\":\"one\"}}]}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		closed <- struct{}{}
	}))
	defer server.Close()
	g := openclaw.NewGateway(dialTo(server.Listener.Addr().String()), vault.NewSecret("t"))
	defer g.Close()

	ctx, cancel := context.WithCancel(t.Context())
	_, err := g.Turn(ctx, openclaw.TurnRequest{}, func(string) error { cancel(); return nil })
	<-closed
	if !errors.Is(err, context.Canceled) {
		t.Errorf("after cancel: %v", err)
	}

	errEmit := errors.New("emit failed")
	_, err = g.Turn(t.Context(), openclaw.TurnRequest{}, func(string) error { return errEmit })
	<-closed
	if !errors.Is(err, errEmit) {
		t.Errorf("after emit failed: %v", err)
	}

	// The caller did not ask for this and can try again.
	var turn *openclaw.TurnError
	_, err = g.Turn(t.Context(), openclaw.TurnRequest{}, func(string) error { g.Close(); return nil })
	<-closed
	if !errors.As(err, &turn) || turn.Kind != openclaw.GatewayGone || errors.Is(err, context.Canceled) {
		t.Errorf("after Close: %v", err)
	}
	if errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("after Close: %v, as if the gateway had not got the message", err)
	}
	_, err = g.Turn(t.Context(), openclaw.TurnRequest{}, discard)
	if !errors.As(err, &turn) || turn.Kind != openclaw.GatewayGone || !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("a turn of a closed gateway: %v", err)
	}
}

// TestTurnOfAGatewayThatIsClosedMeanwhile: it is closed while the turn connects, so the
// message can go to another gateway.
func TestTurnOfAGatewayThatIsClosedMeanwhile(t *testing.T) {
	dialing := make(chan struct{})
	g := openclaw.NewGateway(func(ctx context.Context) (net.Conn, error) {
		close(dialing)
		<-ctx.Done()
		return nil, ctx.Err()
	}, vault.NewSecret("t"))
	go func() {
		<-dialing
		g.Close()
	}()
	var turn *openclaw.TurnError
	_, err := g.Turn(t.Context(), openclaw.TurnRequest{}, discard)
	if !errors.As(err, &turn) || turn.Kind != openclaw.GatewayGone || !errors.Is(err, runtime.ErrNotRunning) {
		t.Errorf("turn: %v", err)
	}
}

// newReadyzGateway returns the client of a gateway that gives these answers to
// /readyz one after the other, and then repeats the last. It calls onRequest with the
// number of each request.
func newReadyzGateway(t *testing.T, onRequest func(n int), answers ...string) *openclaw.Gateway {
	t.Helper()
	n := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer := answers[min(n, len(answers)-1)]
		n++
		onRequest(n)
		if answer != "ready" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = fmt.Fprint(w, answer)
	}))
	t.Cleanup(server.Close)
	g := openclaw.NewGateway(dialTo(server.Listener.Addr().String()), vault.NewSecret("t"))
	t.Cleanup(g.Close)
	return g
}

const starting = `{"ready":false,"failing":["startup-sidecars","telegram"]}`

func TestReadyPollsUntilTheGatewayIsReady(t *testing.T) {
	var polls int
	g := newReadyzGateway(t, func(n int) { polls = n }, starting, "not even JSON", "ready")
	if err := g.Ready(t.Context()); err != nil || polls != 3 {
		t.Errorf("Ready = %v after %d polls, want nil after 3", err, polls)
	}
}

func TestReadyIgnoresAChannelThatCannotConnect(t *testing.T) {
	g := newReadyzGateway(t, func(int) {}, starting, `{"ready":false,"failing":["telegram"]}`)
	if err := g.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestReadyReportsTheFailingChecks(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	g := newReadyzGateway(t, func(n int) {
		if n == 2 {
			cancel()
		}
	}, starting)
	err := g.Ready(ctx)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "startup-sidecars") {
		t.Errorf("Ready = %v, want canceled and the failing checks", err)
	}
}

func FuzzTurn(f *testing.F) {
	f.Add("data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: [DONE]\n")
	f.Add("data: {\"error\":{\"message\":\"400: {\\\"error\\\":[]}\",\"type\":7}}\n\ndata: [DONE]\n")
	f.Add("data: {\"choices\":[{\"delta\":{\"content\":[1,2]}}],\"usage\":{\"prompt_tokens\":1e300}}\n")
	f.Fuzz(func(t *testing.T, body string) {
		var emitted strings.Builder
		result, err := openclaw.ReadTurn(strings.NewReader(body), func(d string) error {
			emitted.WriteString(d)
			return nil
		})
		if err == nil && !strings.Contains(body, "[DONE]") {
			t.Errorf("a stream without [DONE] is complete: %q", body)
		}
		if result.InputTokens < 0 {
			t.Errorf("negative tokens from %q", body)
		}
	})
}
