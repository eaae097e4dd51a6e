package database

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// DecodeJSON decodes a column of JSON that a caller has sent. A number in a free-form value
// becomes a json.Number, which keeps all its digits.
func DecodeJSON(text string, v any) error {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("there is more text after the value, at byte %d", dec.InputOffset())
	}
	return nil
}
