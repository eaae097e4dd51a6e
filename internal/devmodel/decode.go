package devmodel

import (
	"bytes"
	"encoding/json"
	"strings"
)

// decodeParts reads a value that is a string, null, or a list of parts, as many fields
// of the providers' protocols are.
func decodeParts[T any](data []byte, part func(text string) T) ([]T, error) {
	data = bytes.TrimSpace(data)
	if len(data) > 0 && data[0] == '"' {
		var text string
		err := json.Unmarshal(data, &text)
		return []T{part(text)}, err
	}
	var parts []T
	err := json.Unmarshal(data, &parts)
	return parts, err
}

// joinParagraphs joins the texts that are not empty with blank lines.
func joinParagraphs(parts ...string) string {
	var kept []string
	for _, p := range parts {
		if p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, "\n\n")
}

// firstNonEmpty returns the first value that is not empty.
func firstNonEmpty(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
