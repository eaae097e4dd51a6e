package database_test

import (
	"encoding/json"
	"testing"

	"agento.host/agento/internal/database"
)

func TestDecodeJSONKeepsNumbers(t *testing.T) {
	const text = `{"a":9007199254740993,"b":[1.0,1e400],"c":"x"}`
	var v map[string]any
	if err := database.DecodeJSON(text, &v); err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(v); err != nil || string(again) != text {
		t.Errorf("%s became %s, %v", text, again, err)
	}
}

func TestDecodeJSONRefusesWhatIsNotOneValue(t *testing.T) {
	for _, text := range []string{``, `{`, `{} {}`, `{}]`, `[1,]`} {
		var v any
		if err := database.DecodeJSON(text, &v); err == nil {
			t.Errorf("%q was decoded as %v", text, v)
		}
	}
}
