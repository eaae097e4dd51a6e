package devmodel

import (
	"bytes"
	"encoding/json"
	"strings"
)

// textOr reads what the providers' APIs allow in many places: a plain string,
// null, or a list of parts.
func textOr[T any](data []byte, part func(text string) T) ([]T, error) {
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

// paragraphs joins what is not empty by blank lines.
func paragraphs(parts ...string) string {
	var kept []string
	for _, p := range parts {
		if p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, "\n\n")
}

// firstOf returns the first that is not empty.
func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
