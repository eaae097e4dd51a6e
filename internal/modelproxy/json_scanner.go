package modelproxy

import (
	"bytes"
	"encoding/json"
)

// fieldName is an object key that the proxy knows.
type fieldName uint8

const (
	none  fieldName = iota // no key: the path ends here
	other                  // any other key
	nameContent
	nameInput
	nameInstructions
	nameMessage
	nameMessages
	nameModel
	nameResponse
	nameRole
	nameSystem
	nameSystemInstruction
	nameUsage
	nameUsageMetadata
)

var fieldNames = map[string]fieldName{
	"content": nameContent, "input": nameInput, "instructions": nameInstructions, "message": nameMessage,
	"messages": nameMessages, "model": nameModel, "response": nameResponse, "role": nameRole,
	"system": nameSystem, "systemInstruction": nameSystemInstruction, "system_instruction": nameSystemInstruction,
	"usage": nameUsage, "usageMetadata": nameUsageMetadata,
}

const (
	maxPath    = 3
	maxNesting = 512
	maxKey     = 64
	maxValue   = 16 << 10
)

// path has the keys that lead to a value, outermost first. It leaves out arrays, and
// keys deeper than maxPath.
type path [maxPath]fieldName

// scanner reads one JSON text that streams by in pieces of any size. It keeps only the
// values that match and accepts any input: it finds nothing in text that is not JSON
// or is nested too deeply.
type scanner struct {
	match func(path) bool            // reports whether found gets the value
	found func(p path, raw []byte)   // gets a complete value; raw is reused afterwards
	text  func(p path, piece []byte) // gets a piece of a string as it is written in JSON; may be nil

	open    []byte // '{' or '[' for every open container
	objects int    // how many of them are objects
	path    path   // of the current or the last value

	inString, escaped, isKey bool
	keyNext                  bool // the next string is a key
	inScalar                 bool
	tooDeep                  bool // the rest is not read

	key       []byte
	value     []byte // the captured value so far
	capturing bool
	valueAt   int // len(open) at the start of the value
}

// reset prepares for the next text.
func (s *scanner) reset() {
	*s = scanner{match: s.match, found: s.found, text: s.text, open: s.open[:0], key: s.key[:0], value: s.value[:0]}
}

// write reads the next piece.
func (s *scanner) write(p []byte) {
	for len(p) > 0 && !s.tooDeep {
		if s.inString {
			p = p[s.readString(p):]
			continue
		}
		s.readByte(p[0])
		p = p[1:]
	}
}

// end ends the text, and with it a number at its end.
func (s *scanner) end() {
	if s.inScalar {
		s.closeValue()
	}
	s.reset()
}

// readString reads the rest of the current string and returns its length with the
// closing quote.
func (s *scanner) readString(p []byte) int {
	at, quote := 0, -1 // no quote before at ends the string; quote is the first after it
	if s.escaped {
		s.escaped, at = false, 1
	}
	for {
		if quote < at {
			quote = len(p)
			if i := bytes.IndexByte(p[at:], '"'); i >= 0 {
				quote = at + i
			}
		}
		i := bytes.IndexByte(p[at:quote], '\\')
		if i < 0 {
			break
		}
		if at += i + 2; at > len(p) {
			s.escaped = true
			s.readText(p)
			return len(p)
		}
	}
	s.readText(p[:quote])
	if quote == len(p) {
		return quote
	}
	s.inString = false
	s.closeString()
	return quote + 1
}

func (s *scanner) readText(p []byte) {
	switch {
	case s.isKey:
		if s.key = append(s.key, p...); len(s.key) > maxKey {
			s.key = s.key[:maxKey]
		}
	case s.text != nil:
		s.text(s.path, p)
	}
	s.capture(p...)
}

func (s *scanner) closeString() {
	s.capture('"')
	if s.isKey {
		s.isKey = false
		s.setKey(s.key)
		return
	}
	s.closeValue()
}

func (s *scanner) setKey(raw []byte) {
	if s.objects > maxPath {
		return
	}
	if bytes.IndexByte(raw, '\\') >= 0 {
		raw = unquote(raw)
	}
	known, ok := fieldNames[string(raw)]
	if !ok {
		known = other
	}
	s.path[s.objects-1] = known
}

// readByte reads one byte outside of strings.
func (s *scanner) readByte(c byte) {
	if s.inScalar && !isScalar(c) {
		s.inScalar = false
		s.closeValue()
	}
	switch c {
	case '{', '[':
		s.openValue()
		s.capture(c)
		s.push(c)
	case '}', ']':
		s.capture(c)
		s.pop()
	case '"':
		s.inString, s.isKey, s.keyNext = true, s.keyNext, false
		s.key = s.key[:0]
		if !s.isKey {
			s.openValue()
		}
		s.capture(c)
	case ',':
		s.capture(c)
		s.keyNext = len(s.open) > 0 && s.open[len(s.open)-1] == '{'
	default:
		if !s.inScalar && isScalar(c) {
			s.inScalar = true
			s.openValue()
		}
		s.capture(c)
	}
}

func (s *scanner) push(c byte) {
	if len(s.open) == maxNesting {
		s.tooDeep = true
		return
	}
	s.open = append(s.open, c)
	if s.keyNext = c == '{'; s.keyNext {
		s.objects++
		if s.objects <= maxPath {
			s.path[s.objects-1] = other
		}
	}
}

func (s *scanner) pop() {
	s.keyNext = false
	if len(s.open) == 0 {
		return
	}
	if last := len(s.open) - 1; s.open[last] == '{' {
		s.objects--
		if s.objects < maxPath {
			s.path[s.objects] = none
		}
		s.open = s.open[:last]
	} else {
		s.open = s.open[:last]
	}
	s.closeValue()
}

// openValue starts to capture a value that matches.
func (s *scanner) openValue() {
	if !s.capturing && s.objects <= maxPath && s.match(s.path) {
		s.capturing, s.valueAt, s.value = true, len(s.open), s.value[:0]
	}
}

func (s *scanner) capture(p ...byte) {
	if s.capturing {
		s.value = append(s.value, p[:min(len(p), maxValue+1-len(s.value))]...)
	}
}

// closeValue passes on the captured value if that is the one that ended.
func (s *scanner) closeValue() {
	if !s.capturing || len(s.open) != s.valueAt {
		return
	}
	s.capturing = false
	if len(s.value) <= maxValue {
		s.found(s.path, s.value)
	}
}

// isScalar reports whether c is part of a number, true, false or null.
func isScalar(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '+' || c == '.'
}

// unquote decodes the text between the quotes of a JSON string.
func unquote(raw []byte) []byte {
	var text string
	quoted := append(append([]byte{'"'}, raw...), '"')
	if json.Unmarshal(quoted, &text) != nil {
		return nil
	}
	return []byte(text)
}
