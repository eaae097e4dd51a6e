package modelproxy

import (
	"bytes"
	"encoding/json"
)

// name is an object key the proxy knows; the rest are all alike.
type name uint8

const (
	none  name = iota // no key: the path ends here
	other             // a key of no interest
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

var names = map[string]name{
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

// path is the keys that lead to a value, outermost first. Arrays on the way do
// not count; keys beyond maxPath are not told apart.
type path [maxPath]name

// scanner watches one JSON text pass by in pieces of any size. It keeps nothing
// but the few values asked for, and copes with any input: what is no JSON, or is
// nested too deeply, it just does not understand.
type scanner struct {
	wanted func(path) bool            // whether found gets the value
	found  func(p path, raw []byte)   // a whole value; raw is reused afterwards
	text   func(p path, piece []byte) // a piece of a string as it is written in JSON; may be nil

	open    []byte // '{' or '[' for every container around us
	objects int    // how many of them are objects
	path    path   // of the value around us or before us

	inString, escaped, isKey bool
	keyNext                  bool // the next string is a key
	inScalar                 bool
	lost                     bool // nested too deeply

	key       []byte
	value     []byte // of a wanted value
	capturing bool
	valueAt   int // len(open) where it began
}

// reset makes ready for the next text.
func (s *scanner) reset() {
	*s = scanner{wanted: s.wanted, found: s.found, text: s.text, open: s.open[:0], key: s.key[:0], value: s.value[:0]}
}

// write takes the next piece.
func (s *scanner) write(p []byte) {
	for len(p) > 0 && !s.lost {
		if s.inString {
			p = p[s.inside(p):]
			continue
		}
		s.outside(p[0])
		p = p[1:]
	}
}

// end says that the text is over, which a number at its end does not tell.
func (s *scanner) end() {
	if s.inScalar {
		s.closeValue()
	}
	s.reset()
}

// inside takes what belongs to the string we are in and returns its length,
// with the closing quote.
func (s *scanner) inside(p []byte) int {
	at, quote := 0, -1 // nothing before at can end the string; quote is the first that may
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
			s.stringPiece(p)
			return len(p)
		}
	}
	s.stringPiece(p[:quote])
	if quote == len(p) {
		return quote
	}
	s.inString = false
	s.closeString()
	return quote + 1
}

func (s *scanner) stringPiece(p []byte) {
	switch {
	case s.isKey:
		if s.key = append(s.key, p...); len(s.key) > maxKey {
			s.key = s.key[:maxKey]
		}
	case s.text != nil:
		s.text(s.path, p)
	}
	s.keep(p...)
}

func (s *scanner) closeString() {
	s.keep('"')
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
	known, ok := names[string(raw)]
	if !ok {
		known = other
	}
	s.path[s.objects-1] = known
}

// outside takes one byte that is not within a string.
func (s *scanner) outside(c byte) {
	if s.inScalar && !scalar(c) {
		s.inScalar = false
		s.closeValue()
	}
	switch c {
	case '{', '[':
		s.openValue()
		s.keep(c)
		s.push(c)
	case '}', ']':
		s.keep(c)
		s.pop()
	case '"':
		s.inString, s.isKey, s.keyNext = true, s.keyNext, false
		s.key = s.key[:0]
		if !s.isKey {
			s.openValue()
		}
		s.keep(c)
	case ',':
		s.keep(c)
		s.keyNext = len(s.open) > 0 && s.open[len(s.open)-1] == '{'
	default:
		if !s.inScalar && scalar(c) {
			s.inScalar = true
			s.openValue()
		}
		s.keep(c)
	}
}

func (s *scanner) push(c byte) {
	if len(s.open) == maxNesting {
		s.lost = true
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

// openValue begins to keep a value, if it is wanted.
func (s *scanner) openValue() {
	if !s.capturing && s.objects <= maxPath && s.wanted(s.path) {
		s.capturing, s.valueAt, s.value = true, len(s.open), s.value[:0]
	}
}

func (s *scanner) keep(p ...byte) {
	if s.capturing {
		s.value = append(s.value, p[:min(len(p), maxValue+1-len(s.value))]...)
	}
}

// closeValue hands a wanted value out, if the one that ended is it.
func (s *scanner) closeValue() {
	if !s.capturing || len(s.open) != s.valueAt {
		return
	}
	s.capturing = false
	if len(s.value) <= maxValue {
		s.found(s.path, s.value)
	}
}

// scalar says whether c is part of a number, true, false or null.
func scalar(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '+' || c == '.'
}

// unquote decodes what stands between the quotes of a JSON string.
func unquote(raw []byte) []byte {
	var text string
	quoted := append(append([]byte{'"'}, raw...), '"')
	if json.Unmarshal(quoted, &text) != nil {
		return nil
	}
	return []byte(text)
}
