package modelproxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"agento.host/agento/internal/redact"
)

// maxEvent limits one event of a stream, in bytes. The last of a response of OpenAI has the
// whole answer.
const maxEvent = 8 << 20

// maxHeld limits the events that wait because they may end with the beginning of the key.
const maxHeld = 1 << 20

var errEventTooLong = errors.New("an event is too long")

// eventStream passes a stream of server-sent events on, event by event. It removes the key
// from them, also where it comes in several deltas, and replaces the error of a provider. A
// stream that ends without the provider's end is one that broke off.
type eventStream struct {
	io.ReadCloser
	secret redact.Secret
	// failed returns the event that is sent instead of the provider's error, and whether
	// the stream ends with it. err is why the stream broke off, if it did.
	failed func(e *reportedError, err error) (event []byte, ok bool)

	piece   [16 << 10]byte
	partial []byte // an event that is not complete
	line    int    // where the current line of partial begins
	looked  int    // how far partial has been searched for the end of that line
	ready   []byte
	held    []heldEvent
	size    int // of held
	texts   map[string]*redact.Pieces
	ended   bool // the provider has said that the answer is complete
	err     error

	before   int      // how much of ready comes before the last event, once that is there
	last     bool     // what Read has returned is the last event, or comes after it
	complete bool     // nothing that counts comes any more
	text     estimate // of the answer so far
}

// heldEvent is an event whose text may end with the beginning of the key.
type heldEvent struct {
	raw   []byte
	value any
	texts []*eventText
}

// eventText is a text of an event, and where it is.
type eventText struct {
	redact.Piece
	in  map[string]any
	key string
}

// Read implements io.Reader.
func (s *eventStream) Read(p []byte) (int, error) {
	for len(s.ready) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		n, err := s.ReadCloser.Read(s.piece[:])
		s.partial = append(s.partial, s.piece[:n]...)
		s.split()
		switch {
		case s.err != nil: // an error event ended the stream
		case err != nil:
			s.finish(err)
		case len(s.partial) > maxEvent:
			s.finish(errEventTooLong)
		}
	}
	part := s.ready
	if s.last = s.ended && s.before <= 0; !s.last && s.ended {
		part = part[:s.before]
	}
	n := copy(p, part)
	s.ready = s.ready[n:]
	s.before -= n
	return n, nil
}

// split passes on the complete events.
func (s *eventStream) split() {
	whole := s.partial
	for s.err == nil {
		end := s.eventEnd()
		if end < 0 {
			break
		}
		event := s.partial[:end:end]
		s.partial, s.line, s.looked = s.partial[end:], 0, 0
		s.add(event)
	}
	if len(s.partial) < len(whole) {
		s.partial = slices.Clone(s.partial) // what was passed on is not kept for it
	}
}

// eventEnd returns the length of the first event with the empty line that ends it; -1 if it
// is not complete. Comments that come alone are passed on at once.
func (s *eventStream) eventEnd() int {
	b := s.partial
	for {
		n := bytes.IndexAny(b[s.looked:], "\r\n")
		if n < 0 {
			s.looked = len(b)
			return -1
		}
		s.looked += n
		line, end := b[s.line:s.looked], s.looked+1
		if b[s.looked] == '\r' {
			if end == len(b) {
				return -1 // a line feed may follow
			}
			if b[end] == '\n' {
				end++
			}
		}
		if len(line) == 0 || s.line == 0 && line[0] == ':' {
			return end
		}
		s.line, s.looked = end, end
	}
}

// finish ends the stream because of an error of the connection, or its end.
func (s *eventStream) finish(err error) {
	if errors.Is(err, io.EOF) && len(bytes.TrimSpace(s.partial)) > 0 {
		event := append(s.partial, "\n\n"...) // a last event without an empty line
		s.partial = nil
		s.add(event)
		if s.err != nil {
			return
		}
	}
	s.release()
	s.err = err
	if errors.Is(err, io.EOF) && s.ended {
		return
	}
	if event, ok := s.failed(nil, err); ok {
		s.ready, s.err = append(s.ready, event...), io.EOF
	} else if errors.Is(err, io.EOF) {
		s.err = io.ErrUnexpectedEOF
	}
}

// add passes an event on.
func (s *eventStream) add(event []byte) {
	data := eventData(event)
	if data == nil {
		s.pass(heldEvent{raw: s.secret.Bytes(event)}, false)
		return
	}
	if bytes.Equal(bytes.TrimSpace(data), []byte("[DONE]")) {
		s.markEnd()
		s.complete = true
		s.release()
		s.ready = append(s.ready, event...)
		return
	}
	var value any
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if dec.Decode(&value) != nil {
		s.pass(heldEvent{raw: s.secret.Bytes(event)}, false)
		return
	}
	fields, _ := value.(map[string]any)
	if e := streamError(fields); e != nil {
		s.release()
		replacement, ok := s.failed(e, nil)
		s.ready = append(s.ready, replacement...)
		if ok {
			s.err = io.EOF
		}
		return
	}
	s.look(fields)
	h := heldEvent{raw: event, value: value}
	hold := false
	if !s.secret.Empty() {
		if raw := s.secret.Bytes(event); len(raw) != len(event) {
			h.raw = raw
			_ = json.Unmarshal(eventData(raw), &h.value) // a replacement has no character that JSON escapes
			fields, _ = h.value.(map[string]any)
		}
		h.texts, hold = s.readTexts(fields)
	} else {
		findTexts(nil, fields, "", func(_ string, t *eventText) { s.estimate(fields, t) })
	}
	s.pass(h, hold)
}

// pass passes an event on, or holds it, and all after it, until it is known that what its
// text ends with is not the key.
func (s *eventStream) pass(h heldEvent, hold bool) {
	if !hold && len(h.texts) == 0 && len(s.held) > 0 { // it has no text, so nothing is known
		hold = !s.ended
	}
	if len(s.held) == 0 && !hold {
		s.ready = append(s.ready, h.encode()...)
		return
	}
	s.held = append(s.held, h)
	s.size += len(h.raw)
	if s.size > maxHeld {
		for _, t := range s.texts {
			t.Cut()
		}
		hold = false
	}
	if !hold {
		s.release()
	}
}

// release passes on what was held.
func (s *eventStream) release() {
	for _, h := range s.held {
		s.ready = append(s.ready, h.encode()...)
	}
	s.held, s.size = nil, 0
	for _, t := range s.texts {
		t.Release()
	}
}

// encode returns the event as it came, or with its changed texts.
func (h heldEvent) encode() []byte {
	changed := false
	for _, t := range h.texts {
		if t.Changed {
			t.in[t.key], changed = t.Text, true
		}
	}
	if !changed {
		return h.raw
	}
	data, err := json.Marshal(h.value)
	if err != nil {
		return nil // impossible: it was decoded from JSON
	}
	var out []byte
	written := false
	for line := range bytes.Lines(h.raw) {
		if !bytes.HasPrefix(line, dataField) {
			out = append(out, line...)
		} else if !written {
			out, written = append(append(append(out, "data: "...), data...), '\n'), true
		}
	}
	return out
}

// textFields are the fields of events that have a part of the answer.
var textFields = map[string]bool{
	"text": true, "thinking": true, "partial_json": true, "content": true, "reasoning_content": true, "reasoning": true,
	"arguments": true, "delta": true, "refusal": true, "signature": true, "input": true,
}

// readTexts finds the key in the texts of an event. A text continues the text of the events
// before that has the same place in them.
func (s *eventStream) readTexts(fields map[string]any) (texts []*eventText, hold bool) {
	place := fmt.Sprint(fields["index"], fields["output_index"], fields["content_index"], fields["summary_index"])
	texts = findTexts(nil, fields, place, func(place string, t *eventText) {
		s.estimate(fields, t)
		if s.texts == nil {
			s.texts = map[string]*redact.Pieces{}
		}
		pieces := s.texts[place]
		if pieces == nil {
			pieces = s.secret.Pieces()
			s.texts[place] = pieces
		}
		if pieces.Add(&t.Piece) {
			hold = true
		}
	})
	return texts, hold
}

func findTexts(found []*eventText, value any, place string, add func(string, *eventText)) []*eventText {
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			text, ok := inner.(string)
			if !ok {
				found = findTexts(found, inner, place+"."+key, add)
				continue
			}
			if textFields[key] && text != "" {
				t := &eventText{Piece: redact.Piece{Text: text}, in: v, key: key}
				add(place+"."+key, t)
				found = append(found, t)
			}
		}
	case []any:
		for i, inner := range v {
			index := fmt.Sprint(i)
			if m, ok := inner.(map[string]any); ok && m["index"] != nil {
				index = fmt.Sprint(m["index"])
			}
			found = findTexts(found, inner, place+"."+index, add)
		}
	}
	return found
}

// streamError returns the error of an event, or nil if it is none.
func streamError(fields map[string]any) *reportedError {
	kind, _ := fields["type"].(string)
	inner, _ := fields["response"].(map[string]any)
	switch {
	case fields["error"] != nil, kind == "error":
		e := readError(fields, 0)
		return &e
	case kind == "response.failed":
		e := readError(inner, 0)
		return &e
	}
	return nil
}

// look notes whether an event says that the answer is complete.
func (s *eventStream) look(fields map[string]any) {
	switch kind, _ := fields["type"].(string); kind {
	case "message_stop", "response.completed", "response.incomplete":
		s.markEnd()
		s.complete = true
	}
	for choice := range objects(fields["choices"]) { // OpenAI's Chat Completions
		if reason, _ := choice["finish_reason"].(string); reason != "" {
			s.markEnd()
		}
	}
	for candidate := range objects(fields["candidates"]) { // Google
		if reason, _ := candidate["finishReason"].(string); reason != "" {
			s.markEnd()
		}
	}
	if feedback, _ := fields["promptFeedback"].(map[string]any); feedback["blockReason"] != nil {
		s.markEnd()
	}
}

// markEnd notes that the next event is the last, or one of the last.
func (s *eventStream) markEnd() {
	if !s.ended {
		s.ended, s.before = true, len(s.ready)
	}
}

// estimate adds a text of an event to what is known of the answer. Events that repeat the whole
// of what others had in pieces add nothing.
func (s *eventStream) estimate(fields map[string]any, t *eventText) {
	if kind, _ := fields["type"].(string); strings.HasSuffix(kind, ".done") || s.complete || t.key == "signature" {
		return
	}
	s.text.add(t.Text)
}

// objects yields the objects of a list.
func objects(list any) func(func(map[string]any) bool) {
	return func(yield func(map[string]any) bool) {
		items, _ := list.([]any)
		for _, item := range items {
			if o, ok := item.(map[string]any); ok && !yield(o) {
				return
			}
		}
	}
}
