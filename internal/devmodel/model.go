// Package devmodel is a scripted model that speaks the streaming APIs of
// Anthropic, OpenAI and Google on loopback. It answers by plain rules, says that
// it is no real model, and remembers what it was asked.
package devmodel

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// maxBody bounds one request; conversations with images reach some megabytes.
const maxBody = 64 << 20

// Settings configure a Model; the zero value is a model that answers by
// DefaultRules.
type Settings struct {
	Rules []Rule // asked in order, before DefaultRules
	// KeepRequests and KeepBytes bound what is remembered; 0 means 100 requests
	// and 8 MiB of bodies. The latest request is always kept.
	KeepRequests int
	KeepBytes    int
}

// Model is the scripted model, an http.Handler.
type Model struct {
	*record
	mux  *http.ServeMux
	made atomic.Int64 // ids of replies and calls

	mu    sync.RWMutex
	rules []*Rule // guarded by mu; pointers, to tell them apart
}

// New makes a model.
func New(s Settings) *Model {
	m := &Model{record: newRecord(s.KeepRequests, s.KeepBytes), mux: http.NewServeMux()}
	for _, rule := range append(slices.Clone(s.Rules), DefaultRules()...) {
		m.rules = append(m.rules, &rule)
	}
	m.routes()
	return m
}

// Script puts rules before all that are there. The function returned takes them
// away again.
func (m *Model) Script(rules ...Rule) (remove func()) {
	added := make([]*Rule, len(rules))
	for i := range rules {
		added[i] = &rules[i]
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rules = append(slices.Clone(added), m.rules...)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.rules = slices.DeleteFunc(slices.Clone(m.rules), func(r *Rule) bool { return slices.Contains(added, r) })
	}
}

// ServeHTTP implements http.Handler.
func (m *Model) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.mux.ServeHTTP(w, r) }

// routes offers every API at its own path, and below the prefixes that a base
// URL may carry.
func (m *Model) routes() {
	m.mux.HandleFunc("GET /", m.models)
	for _, prefix := range []string{"", "/anthropic"} {
		m.mux.HandleFunc("POST "+prefix+"/v1/messages", m.answer(decodeAnthropic, speakAnthropic))
	}
	for _, prefix := range []string{"", "/openai"} {
		m.mux.HandleFunc("POST "+prefix+"/v1/chat/completions", m.answer(decodeChat, speakChat))
		m.mux.HandleFunc("POST "+prefix+"/v1/responses", m.answer(decodeResponses, speakResponses))
	}
	for _, prefix := range []string{"", "/google"} {
		m.mux.HandleFunc("POST "+prefix+"/v1beta/models/{call}", m.answer(decodeGemini, speakGemini))
	}
}

var modelsPath = regexp.MustCompile(`/v1(beta)?/models$`)

// models lists one model, in a shape that all three providers' clients read.
func (m *Model) models(w http.ResponseWriter, r *http.Request) {
	if !modelsPath.MatchString(r.URL.Path) {
		http.NotFound(w, r)
		return
	}
	one := object{"id": "scripted", "name": "models/scripted", "type": "model", "object": "model", "display_name": "Scripted model"}
	writeJSON(w, http.StatusOK, object{"object": "list", "data": []any{one}, "models": []any{one}, "has_more": false})
}

// decoder reads one API's request.
type decoder func(r *http.Request, body []byte) (Request, error)

// speaker puts a reply into one API's words. On a stream begin, text, call and
// end are used, in this order; otherwise whole.
type speaker interface {
	begin()
	text(chunk string)
	call(c ToolCall)
	end()
	whole() any
	failure(status int, reason, message string) any
}

// turn is one request with its reply, ready to be spoken.
type turn struct {
	id      string // unique, without any API's prefix
	request Request
	reply   Reply
	usage   Usage
	at      time.Time
	out     *stream
}

func (m *Model) answer(decode decoder, speak func(*turn) speaker) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		t := &turn{id: m.nextID(), at: time.Now(), out: &stream{w: w}}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err == nil {
			t.request, err = decode(r, body)
		}
		if err != nil {
			writeJSON(w, http.StatusBadRequest, speak(t).failure(http.StatusBadRequest, "", err.Error()))
			return
		}
		t.request.Body = body
		t.request.Key, t.request.Header = credential(r)
		call := m.add(t.request)
		defer func() { call.end(r.Context().Err() != nil) }()
		t.reply = m.reply(t.request)
		t.finish(m.nextID)
		t.play(r.Context(), w, speak(t))
	}
}

// reply asks the rules. DefaultRules end with one that answers everything.
func (m *Model) reply(r Request) Reply {
	m.mu.RLock()
	rules := m.rules
	m.mu.RUnlock()
	for _, rule := range rules {
		if reply, ok := (*rule)(r); ok {
			return reply
		}
	}
	return Fail(http.StatusInternalServerError, "No rule answers this.")
}

func (m *Model) nextID() string { return strconv.FormatInt(m.made.Add(1), 10) }

// finish fills in what a rule left open.
func (t *turn) finish(nextID func() string) {
	t.reply.Calls = slices.Clone(t.reply.Calls)
	for i := range t.reply.Calls {
		c := &t.reply.Calls[i]
		if c.ID == "" {
			c.ID = "call_" + nextID()
		}
		if c.Input == "" {
			c.Input = "{}"
		}
	}
	if t.reply.Usage != nil {
		t.usage = *t.reply.Usage
		return
	}
	t.usage = Usage{Input: t.request.words(), Output: int64(len(t.reply.Chunks) + len(t.reply.Calls))}
}

// play speaks the reply, in its own time, until the caller leaves.
func (t *turn) play(ctx context.Context, w http.ResponseWriter, s speaker) {
	if t.reply.Status != 0 {
		writeJSON(w, t.reply.Status, s.failure(t.reply.Status, t.reply.Reason, t.reply.Error))
		return
	}
	say := func(string) {}
	if t.request.Stream {
		t.out.open()
		s.begin()
		say = s.text
	}
	for _, chunk := range t.reply.Chunks {
		if t.step(ctx) != nil {
			return
		}
		say(chunk)
	}
	if t.step(ctx) != nil {
		return
	}
	if t.reply.Drop {
		panic(http.ErrAbortHandler) // the only way to cut a connection from a handler
	}
	if !t.request.Stream {
		writeJSON(w, http.StatusOK, s.whole())
		return
	}
	for _, c := range t.reply.Calls {
		s.call(c)
	}
	s.end()
	t.out.flush()
}

// step waits until the next event may be sent, with all before it on its way.
func (t *turn) step(ctx context.Context) error {
	if t.request.Stream {
		t.out.flush()
	}
	if t.reply.Delay > 0 {
		timer := time.NewTimer(t.reply.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if t.reply.Gate != nil {
		select {
		case <-t.reply.Gate:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// allText is the text of a reply in one piece.
func (t *turn) allText() string {
	var all []byte
	for _, c := range t.reply.Chunks {
		all = append(all, c...)
	}
	return string(all)
}

// object is a JSON object.
type object = map[string]any

// stream writes server-sent events. A caller that has left is noticed by the
// request's context, so failed writes are not looked at.
type stream struct{ w http.ResponseWriter }

func (s *stream) open() {
	s.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	s.w.Header().Set("Cache-Control", "no-cache")
	s.w.WriteHeader(http.StatusOK)
}

// send writes one event; without a name, only its data.
func (s *stream) send(name string, data any) {
	if name != "" {
		_, _ = fmt.Fprintf(s.w, "event: %s\n", name)
	}
	text, err := json.Marshal(data)
	if err != nil {
		return
	}
	_, _ = fmt.Fprintf(s.w, "data: %s\n\n", text)
}

func (s *stream) raw(text string) { _, _ = io.WriteString(s.w, text) }

func (s *stream) flush() { _ = http.NewResponseController(s.w).Flush() }

func writeJSON(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text)
}
