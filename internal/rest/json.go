package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"agento.host/agento/internal/fault"
)

const (
	// maxValues is the largest number of values in a body. It is more than any request
	// needs: 100 chunks of knowledge with 2,000 values each.
	maxValues = 200_000
	// maxLevels is how deep the objects and arrays of a body may nest. It is more than any
	// request needs: a config may have 32 levels.
	maxLevels = 64
)

// readJSON decodes a body. encoding/json alone accepts text that means something else to
// other readers: it puts replacement characters for invalid UTF-8 and for lone surrogates,
// takes the last of two equal names, ignores the case of names, and makes gigabytes of a few
// megabytes of [{},{},….
func readJSON(data []byte, v any) error {
	if err := checkJSON(data); err != nil {
		return err
	}
	return decodeJSON(data, v)
}

// DecodeJSON decodes the body of a request of a Foreign. It ignores fields that v does not have.
// Faults: Invalid.
func DecodeJSON(data []byte, v any) error {
	if err := readJSON(data, v); err != nil {
		return fault.New(fault.Invalid, "The body is not JSON that this request takes: %v.", err).Because(err)
	}
	return nil
}

// decodeJSON decodes a checked text. A number in a free-form value is a json.Number, which
// keeps all its digits. Unlike a json.Decoder, it does not copy the text.
func decodeJSON(data []byte, v any) error { return jsonv2.Unmarshal(data, v, keepNumbers) }

var keepNumbers = jsonv2.WithUnmarshalers(jsonv2.UnmarshalFromFunc(func(dec *jsontext.Decoder, v *any) error {
	if dec.PeekKind() != '0' {
		return errors.ErrUnsupported // the default does it
	}
	number, err := dec.ReadValue()
	*v = json.Number(number)
	return err
}))

// checkJSON returns an error unless data is one JSON value that every reader reads alike.
// The error completes a sentence that begins with "is not JSON that this request takes: ".
func checkJSON(data []byte) error {
	if err := checkEncoding(data); err != nil {
		return err
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(data))
	for values := 0; ; {
		token, err := dec.ReadToken()
		if err != nil {
			return describeSyntax(err)
		}
		if dec.StackDepth() > maxLevels {
			return fmt.Errorf("it has more than %d levels of objects and arrays", maxLevels)
		}
		if kind := token.Kind(); kind != '}' && kind != ']' && !isNameToken(dec) {
			values++
		}
		if values > maxValues {
			return fmt.Errorf("it has more than %d values", maxValues)
		}
		if dec.StackDepth() > 0 {
			continue
		}
		if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("there is more text after the value, at byte %d", dec.InputOffset())
		}
		return nil
	}
}

// checkEncoding returns an error if data is no text in UTF-8.
func checkEncoding(data []byte) error {
	switch {
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return errors.New("it begins with a byte order mark: send it without one")
	case bytes.HasPrefix(data, []byte("\x1f\x8b")):
		return errors.New("it is compressed: send it as it is")
	case bytes.HasPrefix(data, []byte("\xfe\xff")), bytes.HasPrefix(data, []byte("\xff\xfe")):
		return errors.New("it is UTF-16: send it as UTF-8")
	case !utf8.Valid(data):
		return errors.New("it is not valid UTF-8")
	}
	return nil
}

// isNameToken reports whether the last token that dec has read is the name of an object's
// member.
func isNameToken(dec *jsontext.Decoder) bool {
	kind, length := dec.StackIndex(dec.StackDepth())
	return kind == '{' && length%2 == 1
}

// halfPair matches what package jsontext, which has no error value for it, says of a
// surrogate that is not followed by its other half.
var halfPair = regexp.MustCompile(`^invalid (escape sequence|surrogate pair) .\\u[dD][89a-fA-F]`)

// describeSyntax returns an error of package jsontext in the API's words, without any value
// of the text, which may be a secret.
func describeSyntax(err error) error {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("unexpected end of JSON input")
	case !errors.As(err, &syntax):
		return err
	case errors.Is(err, jsontext.ErrDuplicateName):
		return fmt.Errorf("an object in it has the key %.80q twice", syntax.JSONPointer.LastToken())
	}
	if halfPair.MatchString(syntax.Err.Error()) {
		return fmt.Errorf("it has one half of a surrogate pair without the other, at byte %d: send whole characters", syntax.ByteOffset)
	}
	return fmt.Errorf("%w, at byte %d", syntax.Err, syntax.ByteOffset)
}
