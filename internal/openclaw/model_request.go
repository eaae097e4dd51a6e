package openclaw

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"

	"agento.host/agento/internal/provider"
)

// This file knows what OpenClaw 2026.9.6 writes into its model requests.
//
// A request names the session that it serves in a line of the prompt:
//
//	Runtime: agent=main | session=agent:main:peer:ana:c1 | sessionId=… | host=…
//
// The line is at the end of the system text (Anthropic, Google, OpenAI's Responses)
// or of the user's last message (OpenAI's Chat Completions). No header and no field
// of the body holds the key. Text of users and callers comes before this line, so
// the last line counts; one in a tool's result or in the model's own text does not.
// Requests that belong to no run (a summary when the context is compacted, a title)
// have no such line. OpenClaw folds session keys to lower case.
const (
	runtimeMarker = "Runtime: agent="
	keyPrefix     = "| session="
	keySuffix     = " |"
	// maxRuntimeLine limits the text after runtimeMarker up to the end of the key, in
	// bytes.
	maxRuntimeLine = 1024
)

// SessionReader finds the session key of a model request while the request streams
// by. The texts come in pieces of any size, as they are written in JSON: without the
// quotes, with their escapes.
type SessionReader struct {
	inMessages bool // the provider's protocol may have the line in a message
	key        string
	scan       lineScanner
}

// NewSessionReader returns a reader for one request to a provider.
func NewSessionReader(p provider.Name) *SessionReader {
	return &SessionReader{inMessages: p == provider.OpenAI}
}

// SystemText reads a piece of the request's system text.
func (r *SessionReader) SystemText(piece []byte) { r.scan.write(piece, r.setKey) }

// MessageText reads a piece of a message that has the given role.
func (r *SessionReader) MessageText(role string, piece []byte) {
	if r.inMessages && (role == "user" || role == "system" || role == "developer") {
		r.scan.write(piece, r.setKey)
	}
}

// Key returns the session key, as far as the request has been read; empty if it
// names no session.
func (r *SessionReader) Key() string { return r.key }

func (r *SessionReader) setKey(key string) { r.key = key }

// lineScanner finds the keys of runtime lines in a text that comes in pieces.
type lineScanner struct {
	tail   []byte // the end of the text so far, in which a marker may have begun
	line   []byte // the text after a marker, up to the key's end
	inLine bool   // line is being filled
}

// write reads the next piece and calls found with every key.
func (s *lineScanner) write(piece []byte, found func(key string)) {
	for len(piece) > 0 {
		if !s.inLine {
			after := s.findMarker(piece)
			if after < 0 {
				return
			}
			s.inLine, s.line, s.tail = true, s.line[:0], s.tail[:0]
			piece = piece[after:]
			continue
		}
		n := min(len(piece), maxRuntimeLine-len(s.line))
		s.line = append(s.line, piece[:n]...)
		piece = piece[n:]
		s.parseLine(found)
	}
}

// parseLine looks for a key in the line so far. A marker within the line starts a
// new one, because the first was not OpenClaw's.
func (s *lineScanner) parseLine(found func(key string)) {
	for {
		head, next, again := bytes.Cut(s.line, []byte(runtimeMarker))
		key, complete := parseRuntimeLine(head)
		if key != "" {
			found(key)
		}
		if !again {
			s.inLine = !complete && len(s.line) < maxRuntimeLine
			break
		}
		s.line = append(s.line[:0], next...)
	}
	if !s.inLine {
		s.findMarker(s.line)
	}
}

// findMarker returns the index in piece of the text after a marker, or -1. The
// marker may have begun in an earlier piece.
func (s *lineScanner) findMarker(piece []byte) int {
	tail := len(s.tail)
	s.tail = append(s.tail, piece[:min(len(piece), len(runtimeMarker)-1)]...)
	if i := bytes.Index(s.tail, []byte(runtimeMarker)); i >= 0 {
		return i + len(runtimeMarker) - tail
	}
	if i := bytes.Index(piece, []byte(runtimeMarker)); i >= 0 {
		return i + len(runtimeMarker)
	}
	if len(piece) >= len(runtimeMarker) {
		s.tail = append(s.tail[:0], piece[len(piece)-len(runtimeMarker):]...)
	}
	s.tail = append(s.tail[:0], s.tail[max(0, len(s.tail)-len(runtimeMarker)+1):]...)
	return -1
}

// parseRuntimeLine reads "main | session=KEY |…". complete reports that more text
// cannot change the result.
func parseRuntimeLine(line []byte) (key string, complete bool) {
	_, after, ok := bytes.Cut(line, []byte(keyPrefix))
	if !ok {
		return "", false
	}
	raw, _, ok := bytes.Cut(after, []byte(keySuffix))
	if !ok {
		return "", false
	}
	key = unquote(raw)
	if !strings.HasPrefix(key, "agent:") || strings.ContainsAny(key, "\n\r") {
		return "", true
	}
	return key, true
}

// unquote decodes the text between the quotes of a JSON string; "" if it is invalid.
func unquote(raw []byte) string {
	var text string
	quoted := append(append([]byte{'"'}, raw...), '"')
	if json.Unmarshal(quoted, &text) != nil {
		return ""
	}
	return text
}

// What OpenClaw adds to a user message: the time before it, the runtime line after
// it (in OpenAI's protocols), and messages of its own that the model must not repeat.
var (
	timePattern    = regexp.MustCompile(`^\[[A-Z][a-z]{2} \d{4}-\d{2}-\d{2} \d{2}:\d{2}[^\]]*\] `)
	runtimePattern = regexp.MustCompile(`\s*\n\n` + runtimeMarker + `[^\n]*$`)
)

const (
	internalOpen  = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>"
	internalClose = "<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"
)

// UserText returns a user message of a model request without OpenClaw's additions;
// empty if nothing else is left.
func UserText(message string) string {
	for {
		before, rest, found := strings.Cut(message, internalOpen)
		if !found {
			break
		}
		_, after, _ := strings.Cut(rest, internalClose)
		message = before + after
	}
	message = runtimePattern.ReplaceAllString(message, "")
	return strings.TrimSpace(timePattern.ReplaceAllString(message, ""))
}
