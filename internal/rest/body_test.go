package rest

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestDuplicateKeysAreRefused(t *testing.T) {
	for body, want := range map[string]string{
		`{"a":1,"a":2}`: "a",
		`{"a":1,"b":{"c":[{"d":1,"e":"x","d":2}]}}`: "d",
		`{"name":1,"na\u006de":2}`:                  "name",
		`{"":1,"":2}`:                               "",
		`[1,{"a\"b":1,"a\"b":2}]`:                   `a"b`,
		`{"a":[],"a":{}}`:                           "a",
	} {
		var v any
		if err := readJSON([]byte(body), &v); err == nil || !strings.Contains(err.Error(), "twice") {
			t.Errorf("%s: %v", body, err)
		}
		if key, ok := duplicateKey([]byte(body)); !ok || key != want {
			t.Errorf("%s: the key %q, %v", body, key, ok)
		}
	}
	for _, body := range []string{
		`{"a":{"a":{"a":1}},"b":"a","c":["a","a"]}`, `[{"a":1},{"a":1}]`, `{"a":"{\"b\":1,\"b\":2}","b":1}`, `"a"`, `1`, `{}`, `{"a":1,"A":1}`,
	} {
		var v any
		if err := readJSON([]byte(body), &v); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// FuzzDuplicateKey: the scan accepts every input, and what it accepts keeps all its keys.
func FuzzDuplicateKey(f *testing.F) {
	for _, seed := range []string{`{"a":1,"a":2}`, `{"a":[{"b":"\\"}]}`, `"`, `{"`, `]}`, `{"a"`, `,"a"`, `{"\ud800":1,"\ud801":1}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, found := duplicateKey(data)
		var object map[string]json.RawMessage
		if found || json.Unmarshal(data, &object) != nil {
			return
		}
		if n := strings.Count(string(data), ":"); len(object) > n {
			t.Fatalf("%d keys in %q", len(object), data)
		}
	})
}
