package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// answers makes every message of the server's agents answered by itself.
func (s *stub) answers() *stub {
	s.mux.HandleFunc("POST /v1/agents/{id}/chat/messages", func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Message, SessionID, PeerID string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			s.t.Error(err)
		}
		w.Header().Set("X-Turn-Id", "turn_1")
		text, err := json.Marshal("[" + in.SessionID + in.PeerID + "] " + in.Message)
		if err != nil {
			s.t.Error(err)
		}
		_, _ = fmt.Fprintf(w, "id: 1\ndata: {\"type\":\"text\",\"content\":%s}\n\nid: 1\ndata: {\"type\":\"done\"}\n\n", text)
	})
	s.on("POST /v1/agents/{id}/chat/sessions", `{"data":{"id":"sess_new","startedAt":"2026-01-01T00:00:00Z"}}`)
	s.on("GET /v1/agents/{id}/chat/messages", `{"data":[{"role":"user","content":"before","timestamp":"2026-01-01T00:00:00Z"}]}`)
	return s
}

func TestChatSendsOneMessage(t *testing.T) {
	newStub(t).withAgents().answers()
	for _, c := range []struct{ stdin, args, want string }{
		{"", "chat ada hello --peer p", "[p] hello\n"},
		{"from a file\nof two lines\n", "chat ada -", "[] from a file\nof two lines\n"},
		{"", "chat ad hello", "[] hello\n"},
	} {
		if got := command(t, c.stdin, strings.Fields(c.args)...); got.out != c.want || got.code != 0 {
			t.Errorf("agento %s: %+v", c.args, got)
		}
	}
	if got := command(t, "", "chat", "ada", "-"); got.code != exitUsage {
		t.Errorf("nothing on standard input: %+v", got)
	}
	got := command(t, "", "--json", "chat", "ada", "hello")
	if !strings.Contains(got.out, `"turnId": "turn_1"`) || !strings.Contains(got.out, `"content": "[] hello"`) {
		t.Errorf("%+v", got)
	}
}

func TestChatHoldsAConversation(t *testing.T) {
	newStub(t).withAgents().answers()
	got := command(t, "one\n\n/new\ntwo\n//status\n/history\n/unknown\n/exit\nnever\n", "chat", "ada")
	want := "[] one\n[sess_new] two\n[sess_new] /status\nuser, "
	if got.code != 0 || !strings.HasPrefix(got.out, want) || !strings.Contains(got.out, "before") || strings.Contains(got.out, "never") {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(got.err, "sess_new") || !strings.Contains(got.err, "no command /unknown") {
		t.Errorf("%q", got.err)
	}
	if got := command(t, "one", "chat", "ada"); got.out != "[] one\n" || got.code != 0 {
		t.Errorf("a last line without an end: %+v", got)
	}
}

// TestChatFollowsABrokenAnswer: the text goes on where the connection has broken.
func TestChatFollowsABrokenAnswer(t *testing.T) {
	s := newStub(t).withAgents()
	s.mux.HandleFunc("POST /v1/agents/{id}/chat/messages", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Turn-Id", "turn_1")
		_, _ = io.WriteString(w, "id: 1\ndata: {\"type\":\"text\",\"content\":\"one \"}\n\n")
	})
	s.mux.HandleFunc("GET /v1/agents/{id}/chat/turns/turn_1/stream", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("after") != "1" {
			t.Errorf("after %q", r.URL.RawQuery)
		}
		_, _ = io.WriteString(w, "id: 2\ndata: {\"type\":\"text\",\"content\":\"two\"}\n\ndata: {\"type\":\"done\"}\n\n")
	})
	if got := command(t, "", "chat", "ada", "hello"); got.out != "one two\n" || got.code != 0 {
		t.Errorf("%+v", got)
	}
}

func TestChatReportsAFailedAnswer(t *testing.T) {
	s := newStub(t).withAgents()
	s.mux.HandleFunc("POST /v1/agents/{id}/chat/messages", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Turn-Id", "turn_1")
		_, _ = io.WriteString(w, "id: 1\ndata: {\"type\":\"text\",\"content\":\"half\"}\n\ndata: {\"type\":\"error\",\"code\":\"agent_not_running\",\"message\":\"The agent is stopped. Start it with POST /v1/agents/a/start.\"}\n\n")
	})
	got := command(t, "", "chat", "ada", "hello")
	if got.out != "half\n" || got.code != exitRefused || !strings.Contains(got.err, "agento agents start a") || !strings.Contains(got.err, "req-1") {
		t.Errorf("%+v", got)
	}
}

func TestLogsAreFiltered(t *testing.T) {
	s := newStub(t).withAgents()
	log := "t1 [info] gateway: up\\nt2 [debug] noise\\nt3 [error] gateway: down\\nplain words\\nt4 [warn] slow\\n"
	s.on("GET /v1/agents/{id}/logs", `{"data":{"logs":"`+log+`"}}`)
	s.on("GET /v1/agents/{id}/logs/stream", "data: t1 [info] gateway: up\n\ndata: t3 [error] gateway: down\n\n")
	for args, want := range map[string]string{
		"logs ada --level warn":                "t3 [error] gateway: down\nt4 [warn] slow\n",
		"logs ada --grep ^t.*gateway --tail 1": "t3 [error] gateway: down\n",
		"logs ada --level info --grep words":   "plain words\n",
		"logs ada -f --level error":            "t3 [error] gateway: down\n",
		"logs ada -f --level error --json":     `{"time":"t3","level":"error","message":"gateway: down"}` + "\n",
	} {
		if got := command(t, "", strings.Fields(args)...); got.out != want || got.code != 0 {
			t.Errorf("agento %s: %+v", args, got)
		}
	}
	if got := command(t, "", "logs", "ada", "--grep", "("); got.code != exitUsage {
		t.Errorf("%+v", got)
	}
}

// cancelingWriter ends a context when something is written, as Ctrl-C does.
type cancelingWriter struct {
	text   strings.Builder
	cancel context.CancelFunc
}

// Write implements io.Writer.
func (w *cancelingWriter) Write(b []byte) (int, error) {
	w.cancel()
	return w.text.Write(b)
}

// TestCtrlCCancelsTheAnswer: the turn is cancelled, and the exit code says so.
func TestCtrlCCancelsTheAnswer(t *testing.T) {
	s := newStub(t)
	s.mux.HandleFunc("POST /v1/agents/{id}/chat/messages", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Turn-Id", "turn_1")
		_, _ = io.WriteString(w, "id: 1\ndata: {\"type\":\"text\",\"content\":\"one\"}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	s.on("POST /v1/agents/{id}/chat/turns/turn_1/cancel", `{"data":{"state":"cancelled"}}`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &cancelingWriter{cancel: cancel}
	var errs strings.Builder
	code := runCommand(ctx, []string{"chat", ada, "hello"}, &terminal{out: out, err: &errs})
	if code != exitInterrupted || !strings.Contains(errs.String(), "The turn is cancelled") || !strings.Contains(s.changes(), "/chat/turns/turn_1/cancel") {
		t.Errorf("exit code %d, %q, %q", code, out.text.String(), errs.String())
	}
}
