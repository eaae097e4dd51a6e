package rest

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestAmbiguousJSONIsRefused(t *testing.T) {
	for body, want := range map[string]string{
		`{"a":1,"a":2}`: `the key "a" twice`,
		`{"a":1,"b":{"c":[{"d":1,"e":"x","d":2}]}}`: `the key "d" twice`,
		`{"name":1,"na\u006de":2}`:                  `the key "name" twice`,
		`{"":1,"":2}`:                               `the key "" twice`,
		`[1,{"a\"b":1,"a\"b":2}]`:                   `the key "a\"b" twice`,
		`{"a/b":1,"a/b":2}`:                         `the key "a/b" twice`,
		`{"a":[],"a":{}}`:                           `the key "a" twice`,
		`{"a":"\ud83d"}`:                            "one half of a surrogate pair",
		`{"a":"\ud83db"}`:                           "one half of a surrogate pair",
		`{"a":"\uDE00\uD83D"}`:                      "one half of a surrogate pair",
		`{"a":"\ud83d\u0041secret"}`:                "one half of a surrogate pair",
		`{"\udfff":1}`:                              "one half of a surrogate pair",
		"{\"a\":\"\xed\xa0\xbd\"}":                  "it is not valid UTF-8", // a surrogate as three bytes
		"{\"a\":\"\xff\"}":                          "it is not valid UTF-8",
		"\xef\xbb\xbf{}":                            "it begins with a byte order mark",
		"\xff\xfe{\x00}\x00":                        "it is UTF-16",
		"\x1f\x8b\x08\x00":                          "it is compressed",
		`{"a":1} {}`:                                "there is more text after the value",
		`{"a":1}]`:                                  "there is more text after the value",
		`{"a":1`:                                    "unexpected end of JSON input",
		`  `:                                        "unexpected end of JSON input",
		`{"a":"\x41"}`:                              "invalid escape sequence",
		`{'a':1}`:                                   "invalid character",
		`{"a":01}`:                                  "invalid character",
		`{"a":NaN}`:                                 "invalid character",
		`{"a":1,}`:                                  "invalid character",
		strings.Repeat("[", maxLevels+1) + strings.Repeat("]", maxLevels+1): "it has more than 64 levels",
		strings.Repeat(`{"a":`, 1_000_000):                                  "it has more than 64 levels",
		"[" + strings.Repeat("{},", maxValues) + "{}]":                      "it has more than 200000 values",
	} {
		var v any
		if err := readJSON([]byte(body), &v); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%.80s: %v, want %s", body, err, want)
		}
	}
}

func TestUnambiguousJSONIsTaken(t *testing.T) {
	for _, body := range []string{
		`{"a":{"a":{"a":1}},"b":"a","c":["a","a"]}`, `[{"a":1},{"a":1}]`, `{"a":"{\"b\":1,\"b\":2}","b":1}`, `"a"`, `1`, `{}`, `{"a":1,"A":1}`,
		" \r\n\t[1]\n", `"\ud83d\ude00"`, `"\ud83D\uDe00😀\u0000\ufffd"`, "\"\ufffd\"",
		strings.Repeat("[", maxLevels) + strings.Repeat("]", maxLevels),
	} {
		var v any
		if err := readJSON([]byte(body), &v); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestNumbersKeepTheirDigits(t *testing.T) {
	const body = `{"a":9007199254740993,"b":[-9223372036854775809,1.0,1e400,0.1000000000000000055511151231257827],"c":{"d":18446744073709551616}}`
	var v Checked[map[string]any]
	if err := readJSON([]byte(body), &v); err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(v.Value); err != nil || string(again) != body {
		t.Errorf("%s became %s, %v", body, again, err)
	}
}

// FuzzCheckJSON: what is accepted is JSON to encoding/json too, and an object keeps all its
// members.
func FuzzCheckJSON(f *testing.F) {
	for _, seed := range []string{`{"a":1,"a":2}`, `{"a":[{"b":"\\"}]}`, `"`, `{"`, `]}`, `{"a"`, `,"a"`, `{"\ud800":1,"\ud801":1}`, "\xef\xbb\xbf1"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if checkJSON(data) != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("%q is no JSON", data)
		}
		var object map[string]json.RawMessage
		if json.Unmarshal(data, &object) != nil {
			return
		}
		if n := strings.Count(string(data), ":"); len(object) > n {
			t.Fatalf("%d members in %q", len(object), data)
		}
	})
}
