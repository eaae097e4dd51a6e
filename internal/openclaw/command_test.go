package openclaw_test

import (
	"testing"
	"unicode/utf16"

	"agento.host/agento/internal/openclaw"
)

func TestAsTextMarksWhatLooksLikeACommand(t *testing.T) {
	for text, want := range map[string]struct {
		marked string
		at     int
	}{
		"/new":              {"/\u2060new", 1},
		" \n\ufeff/reset x": {" \n\ufeff/\u2060reset x", 4},
		"/":                 {"/\u2060", 1},
		"hello":             {"hello", -1},
		"see /new":          {"see /new", -1},
		"":                  {"", -1},
		"/\u2060new":        {"/\u2060new", -1},
	} {
		marked, at := openclaw.AsText(text)
		if marked != want.marked || at != want.at {
			t.Errorf("%q: %q, %d", text, marked, at)
		}
		if units := utf16.Encode([]rune(marked)); at >= 0 && units[at] != 0x2060 {
			t.Errorf("%q: the mark is not at %d", text, at)
		}
	}
}

func TestHistoryHasTheTextThatWasWritten(t *testing.T) {
	payload := `{"sessionKey":"agent:guest:telegram:direct:42","message":{"role":"user","content":"/\u2060new world","__openclaw":{"id":"1"}}}`
	m, ok := openclaw.ParseSessionMessage(openclaw.Event{Name: openclaw.EventMessage, Payload: []byte(payload)})
	if !ok || m.Message.Text != "/new world" {
		t.Errorf("%+v, %v", m, ok)
	}
}
