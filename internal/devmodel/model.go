// Package devmodel is a scripted model that serves the streaming APIs of Anthropic,
// OpenAI and Google on loopback. It answers by simple rules, says that it is not a
// real model, and keeps its latest requests.
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

// maxBody limits one request, in bytes. Conversations with images have some megabytes.
const maxBody = 64 << 20

// Settings configure a Model. The zero value is a model that has only the default
// rules.
type Settings struct {
	Rules []Rule // tried in order, before the default rules
	// KeepRequests and KeepBytes limit the log of requests; 0 means 100 requests and
	// 8 MiB of bodies. The log always has the latest request.
	KeepRequests int
	KeepBytes    int
}

// Model is the scripted model, an http.Handler.
type Model struct {
	*callLog
	mux    *http.ServeMux
	lastID atomic.Int64 // of replies and calls

	mu    sync.RWMutex
	rules []*Rule // guarded by mu; pointers, because functions cannot be compared
}

// New returns a model.
func New(s Settings) *Model {
	m := &Model{callLog: newCallLog(s.KeepRequests, s.KeepBytes), mux: http.NewServeMux()}
	for _, rule := range append(slices.Clone(s.Rules), defaultRules()...) {
		m.rules = append(m.rules, &rule)
	}
	m.addRoutes()
	return m
}

// Script adds rules before all others. remove removes them.
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

// addRoutes serves every API at its own path and below the prefixes that a base URL
// may have.
func (m *Model) addRoutes() {
	m.mux.HandleFunc("GET /", m.listModels)
	for _, prefix := range []string{"", "/anthropic"} {
		m.mux.HandleFunc("POST "+prefix+"/v1/messages", m.serve(decodeAnthropic, encodeAnthropic))
	}
	for _, prefix := range []string{"", "/openai"} {
		m.mux.HandleFunc("POST "+prefix+"/v1/chat/completions", m.serve(decodeChat, encodeChat))
		m.mux.HandleFunc("POST "+prefix+"/v1/responses", m.serve(decodeResponses, encodeResponses))
	}
	for _, prefix := range []string{"", "/google"} {
		m.mux.HandleFunc("POST "+prefix+"/v1beta/models/{call}", m.serve(decodeGemini, encodeGemini))
	}
}

var modelsPath = regexp.MustCompile(`/v1(beta)?/models$`)

// listModels lists one model, in a form that the clients of all three providers read.
func (m *Model) listModels(w http.ResponseWriter, r *http.Request) {
	if !modelsPath.MatchString(r.URL.Path) {
		http.NotFound(w, r)
		return
	}
	entry := object{"id": "scripted", "name": "models/scripted", "type": "model", "object": "model", "display_name": "Scripted model"}
	writeJSON(w, http.StatusOK, object{"object": "list", "data": []any{entry}, "models": []any{entry}, "has_more": false})
}

// decoder reads a request of one API.
type decoder func(r *http.Request, body []byte) (Request, error)

// encoder writes a reply in one API's format. For a stream, begin, text, call and end
// are called in this order; otherwise complete.
type encoder interface {
	begin()
	text(chunk string)
	call(c ToolCall)
	end()
	complete() any
	failure(status int, reason, message string) any
}

// turn is one request with its reply.
type turn struct {
	id      string // unique, without an API's prefix
	request Request
	reply   Reply
	usage   Usage
	at      time.Time
	out     *stream
}

func (m *Model) serve(decode decoder, encode func(*turn) encoder) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		t := &turn{id: m.nextID(), at: time.Now(), out: &stream{w: w}}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err == nil {
			t.request, err = decode(r, body)
		}
		if err != nil {
			writeJSON(w, http.StatusBadRequest, encode(t).failure(http.StatusBadRequest, "", err.Error()))
			return
		}
		t.request.Body = body
		t.request.Key, t.request.Header = credential(r)
		call := m.add(t.request)
		defer func() { call.end(r.Context().Err() != nil) }()
		t.reply = m.reply(t.request)
		t.setDefaults(m.nextID)
		t.send(r.Context(), w, encode(t))
	}
}

// reply returns the reply of the first rule that answers. The last of the default
// rules answers every request.
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

func (m *Model) nextID() string { return strconv.FormatInt(m.lastID.Add(1), 10) }

// setDefaults sets the fields of the reply that its rule left empty.
func (t *turn) setDefaults(nextID func() string) {
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
	t.usage = Usage{Input: t.request.countWords(), Output: int64(len(t.reply.Chunks) + len(t.reply.Calls))}
}

// send writes the reply, with its delays, until the caller disconnects.
func (t *turn) send(ctx context.Context, w http.ResponseWriter, s encoder) {
	if t.reply.Status != 0 {
		writeJSON(w, t.reply.Status, s.failure(t.reply.Status, t.reply.Reason, t.reply.Error))
		return
	}
	writeText := func(string) {}
	if t.request.Stream {
		t.out.open()
		s.begin()
		writeText = s.text
	}
	for _, chunk := range t.reply.Chunks {
		if t.waitStep(ctx) != nil {
			return
		}
		writeText(chunk)
	}
	if t.waitStep(ctx) != nil {
		return
	}
	if t.reply.Drop {
		panic(http.ErrAbortHandler) // the only way to break a connection from a handler
	}
	if !t.request.Stream {
		writeJSON(w, http.StatusOK, s.complete())
		return
	}
	for _, c := range t.reply.Calls {
		s.call(c)
	}
	s.end()
	t.out.flush()
}

// waitStep flushes the events so far and waits until the next one may be sent.
func (t *turn) waitStep(ctx context.Context) error {
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

// allText returns the complete text of the reply.
func (t *turn) allText() string {
	var all []byte
	for _, c := range t.reply.Chunks {
		all = append(all, c...)
	}
	return string(all)
}

// object is a JSON object.
type object = map[string]any

// stream writes server-sent events. It ignores write errors: the request's context
// ends when the caller disconnects.
type stream struct{ w http.ResponseWriter }

func (s *stream) open() {
	s.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	s.w.Header().Set("Cache-Control", "no-cache")
	s.w.WriteHeader(http.StatusOK)
}

// send writes one event. An empty name writes only the data.
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
