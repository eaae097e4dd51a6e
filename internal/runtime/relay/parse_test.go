package relay

import (
	"encoding/json"
	"strings"
	"testing"

	"agento.host/agento/internal/runtime/relay/wire"
)

// FuzzEntries: a relay's list of a directory has only names that a directory can have, sorted.
func FuzzEntries(f *testing.F) {
	text, _ := json.Marshal([]wire.Entry{{Name: []byte("b"), Size: 1}, {Name: []byte("a"), Dir: true}})
	f.Add(text)
	f.Add([]byte(`[{"Name":"Li4="}]`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := parseEntries(data)
		if err != nil {
			return
		}
		for i, e := range entries {
			if e.Name == "" || e.Name == "." || e.Name == ".." || strings.Contains(e.Name, "/") || i > 0 && e.Name < entries[i-1].Name {
				t.Errorf("%q", e.Name)
			}
		}
	})
}
