package client

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// trip is what a server does with a request.
type trip func(*http.Request) (*http.Response, error)

// scripted is a server whose n-th response is answers[n]; the last one is repeated.
type scripted struct {
	answers  []trip
	requests []*http.Request
	bodies   []string
	at       []time.Time
}

// RoundTrip implements http.RoundTripper.
func (s *scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	body := ""
	if r.Body != nil {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body = string(text)
	}
	n := min(len(s.requests), len(s.answers)-1)
	s.requests, s.bodies, s.at = append(s.requests, r), append(s.bodies, body), append(s.at, time.Now())
	return s.answers[n](r)
}

func answer(status int, body string, headers ...string) trip {
	return func(r *http.Request) (*http.Response, error) {
		h := http.Header{"X-Request-Id": {"req_1"}}
		for i := 0; i < len(headers); i += 2 {
			h.Set(headers[i], headers[i+1])
		}
		return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Header: h, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	}
}

func refused(status int, code string, headers ...string) trip {
	return answer(status, `{"error":{"code":"`+code+`","message":"m","requestId":"req_1"}}`, headers...)
}

func broken(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }

const swarm = `{"data":{"id":"s1"}}`

func TestRequestsAreRepeatedWhereThatIsSafe(t *testing.T) {
	create := func(t *testing.T, c *Client) error {
		t.Helper()
		_, err := c.CreateSwarm(t.Context(), CreateSwarmRequest{Name: "Growth"})
		return err
	}
	update := func(t *testing.T, c *Client) error {
		t.Helper()
		_, err := c.UpdateSwarm(t.Context(), "s1", UpdateSwarmRequest{})
		return err
	}
	get := func(t *testing.T, c *Client) error {
		t.Helper()
		_, err := c.Swarm(t.Context(), "s1")
		return err
	}
	for name, c := range map[string]struct {
		call     func(*testing.T, *Client) error
		first    trip
		requests int
	}{
		"POST after a broken connection":  {create, broken, 2},
		"GET after a broken connection":   {get, broken, 2},
		"PATCH after a broken connection": {update, broken, 1},
		"POST after 503":                  {create, refused(503, "unavailable"), 2},
		"PATCH after 503":                 {update, refused(503, "unavailable"), 2},
		"GET after 502":                   {get, refused(502, "upstream_error"), 2},
		"PATCH after 502":                 {update, refused(502, "upstream_error"), 1},
		"GET after 502 of a proxy":        {get, answer(502, "<html>"), 2},
		"POST after 500":                  {create, refused(500, "internal_error"), 1},
		"POST after 409":                  {create, refused(409, "conflict"), 1},
		"POST after a kept 504":           {create, refused(504, "upstream_timeout", "Idempotency-Replayed", "true"), 1},
		"POST after 429":                  {create, refused(429, "rate_limited", "Retry-After", "7"), 2},
		"POST after 429 for an hour":      {create, refused(429, "rate_limited", "Retry-After", "3600"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &scripted{answers: []trip{c.first, answer(200, swarm)}}
				err := c.call(t, &Client{URL: "http://agento", HTTP: &http.Client{Transport: s}})
				if len(s.requests) != c.requests || (err == nil) != (c.requests == 2) {
					t.Fatalf("%d requests, %v", len(s.requests), err)
				}
				if c.requests == 1 {
					return
				}
				if s.bodies[0] != s.bodies[1] || s.requests[0].Header.Get("Idempotency-Key") != s.requests[1].Header.Get("Idempotency-Key") {
					t.Error("the repetition is another request")
				}
				if strings.HasSuffix(name, "429") && s.at[1].Sub(s.at[0]) != 7*time.Second {
					t.Errorf("the pause was %s", s.at[1].Sub(s.at[0]))
				}
			})
		})
	}
}

func TestRetriesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{answers: []trip{refused(503, "unavailable", "X-Ratelimit-Remaining", "5")}}
		c := &Client{URL: "http://agento", HTTP: &http.Client{Transport: s}}
		_, err := c.CreateSwarm(t.Context(), CreateSwarmRequest{Name: "Growth"})
		var e *Error
		if !errors.As(err, &e) || e.Status != 503 || e.RequestID != "req_1" || e.Header.Get("X-Ratelimit-Remaining") != "5" {
			t.Errorf("the error is %+v", err)
		}
		if len(s.requests) != 1+defaultRetries {
			t.Errorf("%d requests", len(s.requests))
		}
		for i := 1; i < len(s.at); i++ {
			if least := firstPause << (i - 1); s.at[i].Sub(s.at[i-1]) < least {
				t.Errorf("pause %d was %s", i, s.at[i].Sub(s.at[i-1]))
			}
		}
		s.requests, c.Retries = nil, -1
		if _, err := c.CreateSwarm(t.Context(), CreateSwarmRequest{Name: "Growth"}); err == nil || len(s.requests) != 1 || s.requests[0].Header.Get("Idempotency-Key") != "" {
			t.Errorf("without retries: %d requests, %v", len(s.requests), err)
		}
	})
}

const (
	firstEvents = "id: 1\ndata: {\"type\":\"text\",\"content\":\"Hello\"}\n\nid: 2\ndata: {\"type\":\"text\",\"content\":\" wor"
	lastEvents  = ": model\nid: 2\ndata: {\"type\":\"text\",\"content\":\" world\"}\n\nid: 3\ndata: {\"type\":\"done\",\"stopReason\":\"end\"}\n\n"
)

// TestStreamsGoOnByThemselves: after a cut, and after a connection that brings nothing.
func TestStreamsGoOnByThemselves(t *testing.T) {
	silent := func(r *http.Request) (*http.Response, error) {
		body, w := io.Pipe()
		go func() {
			_, _ = io.WriteString(w, firstEvents)
			<-r.Context().Done()
			_ = w.CloseWithError(r.Context().Err())
		}()
		res, err := answer(200, "", "X-Turn-Id", "turn_1")(r)
		res.Body = body
		return res, err
	}
	for name, first := range map[string]trip{"cut": answer(200, firstEvents, "X-Turn-Id", "turn_1"), "silent": silent} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &scripted{answers: []trip{first, broken, answer(200, lastEvents, "X-Turn-Id", "turn_1")}}
				c := &Client{URL: "http://agento", HTTP: &http.Client{Transport: s}}
				var text string
				for e, err := range c.Chat(t.Context(), "a", ChatRequest{Message: "Hi"}) {
					if err != nil {
						t.Fatal(err)
					}
					text += e.Content + e.StopReason
				}
				if text != "Hello worldend" {
					t.Errorf("the text is %q", text)
				}
				if got := s.requests[2].URL.String(); got != "http://agento/v1/agents/a/chat/turns/turn_1/stream?after=1" {
					t.Errorf("the stream was continued by %s", got)
				}
			})
		})
	}
}

// TestStreamsThatCannotGoOnEnd with the reason, and name the turn.
func TestStreamsThatCannotGoOnEnd(t *testing.T) {
	for name, c := range map[string]struct {
		then trip
		want func(error) bool
	}{
		"refused": {refused(404, "not_found"), func(err error) bool { return IsCode(err, "not_found") }},
		"broken":  {broken, func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &scripted{answers: []trip{answer(200, firstEvents, "X-Turn-Id", "turn_1"), c.then}}
				var last ChatEvent
				var failure error
				for e, err := range (&Client{URL: "http://agento", HTTP: &http.Client{Transport: s}}).Chat(t.Context(), "a", ChatRequest{Message: "Hi"}) {
					last, failure = e, err
				}
				if !c.want(failure) || last.TurnID != "turn_1" {
					t.Errorf("%+v, %v", last, failure)
				}
			})
		})
	}
}
