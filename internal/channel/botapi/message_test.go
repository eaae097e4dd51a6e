package botapi

import (
	"encoding/json"
	"reflect"
	"testing"
)

func TestAMessageThatLooksLikeACommandIsText(t *testing.T) {
	for in, want := range map[string]string{
		`{"message_id":9007199254740993,"text":"/new <b>","entities":[{"type":"bot_command","offset":0,"length":4},{"type":"bold","offset":5,"length":3},{"type":"italic","offset":0,"length":8}]}`://
		`{"message_id":9007199254740993,"text":"/\u2060new <b>","entities":[{"type":"bold","offset":6,"length":3},{"type":"italic","offset":0,"length":9}]}`,
		`{"caption":"/reset","photo":[]}`:                           `{"caption":"/\u2060reset","photo":[]}`,
		`{"text":"hello /new","entities":[{"type":"bot_command"}]}`: `{"text":"hello /new","entities":[{"type":"bot_command"}]}`,
		`{"text":5}`:                      `{"text":5}`,
		`{"text":"/x","entities":"none"}`: `{"text":"/\u2060x","entities":"none"}`,
		`"no object"`:                     `"no object"`,
	} {
		var got, expected any
		if err := json.Unmarshal(asText(json.RawMessage(in)), &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(want), &expected); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, expected) {
			t.Errorf("%s\nbecame %v\nwant   %v", in, got, expected)
		}
	}
}
