package modelproxy

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// scanPieces writes text to a scanner in pieces of size n and returns every value
// that matches.
func scanPieces(text []byte, n int, match func(path) bool) []string {
	var found []string
	s := scanner{match: match, found: func(_ path, raw []byte) { found = append(found, string(raw)) }}
	for len(text) > 0 {
		n := min(n, len(text))
		s.write(text[:n])
		text = text[n:]
	}
	s.end()
	return found
}

func TestScannerFindsValuesByPath(t *testing.T) {
	for text, want := range map[string]string{
		`{"usage":{"a":[1,{"b":"}"}]}}`:                        `{"a":[1,{"b":"}"}]}`,
		`{"x":{"usage":1},"usage":2}`:                          `2`,
		`{"message":{"usage":{"n":1}},"response":{"usage":3}}`: `{"n":1} 3`,
		`[{"usageMetadata":{"n":1}},{"usageMetadata":{}}]`:     `{"n":1} {}`,
		`{"text":"\"usage\":{\\","usage":null}`:                `null`,
		`{"\u0075sage":true}`:                                  `true`,
		`{"usage":"a\"b"}`:                                     `"a\"b"`,
		`{"a":{"b":{"c":{"d":{"usage":1}}}},"usage":5}`:        `5`,
		`{"usage":-1.5e3}`:                                     `-1.5e3`,
		`"usage"`:                                              ``,
		`}}}]],,,{{{`:                                          ``,
		`{"usage":{"a":1`:                                      ``,
	} {
		for n := 1; n <= len(text); n++ {
			if got := strings.Join(scanPieces([]byte(text), n, isUsage), " "); got != want {
				t.Errorf("%s in pieces of %d: %q, want %q", text, n, got, want)
				break
			}
		}
	}
}

func TestScannerLimitsItsMemory(t *testing.T) {
	deep := strings.Repeat(`{"usage":[`, 100_000)
	large := `{"usage":"` + strings.Repeat("x", 10*maxValue) + `"}`
	s := scanner{match: isUsage, found: func(path, []byte) { t.Error("found something") }}
	s.write([]byte(deep))
	if len(s.open) > maxNesting {
		t.Errorf("%d containers kept", len(s.open))
	}
	s.reset()
	s.write([]byte(large))
	if cap(s.value) > 4*maxValue {
		t.Errorf("%d bytes kept", cap(s.value))
	}
}

// findByDecoding finds the values of isUsage by decoding the complete text.
func findByDecoding(text []byte) (found []string, ok bool) {
	if !json.Valid(text) {
		return nil, false
	}
	var visit func(raw json.RawMessage, at path, depth int)
	visit = func(raw json.RawMessage, at path, depth int) {
		if depth > 0 && isUsage(at) {
			found = append(found, string(raw))
			return
		}
		d := json.NewDecoder(bytes.NewReader(raw))
		open, err := d.Token()
		if err != nil {
			return
		}
		for d.More() {
			inner, innerDepth := at, depth
			if open == json.Delim('{') {
				key, err := d.Token()
				if err != nil {
					return
				}
				if innerDepth = depth + 1; innerDepth <= maxPath {
					inner[innerDepth-1] = other
					if known, ok := fieldNames[key.(string)]; ok {
						inner[innerDepth-1] = known
					}
				}
			}
			var value json.RawMessage
			if d.Decode(&value) != nil {
				return
			}
			if innerDepth <= maxPath {
				visit(value, inner, innerDepth)
			}
		}
	}
	visit(text, path{}, 0)
	return found, true
}

func FuzzScanner(f *testing.F) {
	for _, s := range []string{
		`{"usage":{"input_tokens":3}}`, `{"message":{"usage":[1,2,{"a":"\\\""}]}}`, `[{"usageMetadata":1e5},{"x":[[]],"usage":"\u0022"}]`,
		`{"a":{"b":{"c":{"usage":1}}},"usage":2}`, ` { "usage" : true , "response" : { "usage" : null } } `, "{", `"`, `\`,
	} {
		f.Add([]byte(s), uint8(1))
		f.Add([]byte(s), uint8(200))
	}
	f.Fuzz(func(t *testing.T, text []byte, size uint8) {
		got := scanPieces(text, int(size)+1, isUsage)
		want, valid := findByDecoding(text)
		if !valid || len(text) > maxValue || bytes.Count(text, []byte("["))+bytes.Count(text, []byte("{")) >= maxNesting {
			return
		}
		if len(got) != len(want) {
			t.Fatalf("%q: got %q, want %q", text, got, want)
		}
		for i := range got {
			if !sameJSON(got[i], want[i]) {
				t.Fatalf("%q: got %q, want %q", text, got, want)
			}
		}
	})
}

// sameJSON compares without white space.
func sameJSON(a, b string) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, []byte(a)) == nil && json.Compact(&y, []byte(b)) == nil && x.String() == y.String()
}
