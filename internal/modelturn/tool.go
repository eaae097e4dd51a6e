package modelturn

import (
	"crypto/sha256"
	"encoding/json"
)

// canonical returns a digest of the arguments of a tool call that is the same for all ways to
// write the same JSON.
func canonical(arguments string) string {
	var v any
	text := []byte(arguments)
	if json.Unmarshal(text, &v) == nil {
		if sorted, err := json.Marshal(v); err == nil {
			text = sorted
		}
	}
	sum := sha256.Sum256(text)
	return string(sum[:])
}
