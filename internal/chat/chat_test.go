package chat

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
)

func TestCheckRequestReportsEveryInvalidField(t *testing.T) {
	for name, c := range map[string]struct {
		in   client.ChatRequest
		want map[string]string // by field: a part of its problem
	}{
		"valid":          {client.ChatRequest{Message: "Hello"}, nil},
		"longest":        {client.ChatRequest{Message: strings.Repeat("é", 200_000), PeerID: strings.Repeat("é", 256), Context: strings.Repeat("é", 2000)}, nil},
		"empty":          {client.ChatRequest{}, map[string]string{"message": "empty"}},
		"blank":          {client.ChatRequest{Message: " \n\t"}, map[string]string{"message": "empty"}},
		"long message":   {client.ChatRequest{Message: strings.Repeat("é", 200_001)}, map[string]string{"message": "200001"}},
		"NULs":           {client.ChatRequest{Message: "a\x00", PeerID: "b\x00"}, map[string]string{"message": "NUL", "peerId": "NUL"}},
		"long context":   {client.ChatRequest{Message: "m", Context: strings.Repeat("é", 2001)}, map[string]string{"context": "it has 2001"}},
		"blank context":  {client.ChatRequest{Message: "m", Context: strings.Repeat(" ", 3000)}, nil},
		"long object":    {client.ChatRequest{Message: "m", Context: map[string]any{"k": strings.Repeat("é", 1998)}}, map[string]string{"context": "it has 2001"}},
		"array context":  {client.ChatRequest{Message: "m", Context: []any{1.0}}, map[string]string{"context": "object"}},
		"everything":     {client.ChatRequest{PeerID: strings.Repeat("p", 257), Context: 1.5}, map[string]string{"message": "", "peerId": "257", "context": ""}},
		"longest object": {client.ChatRequest{Message: "m", Context: map[string]any{"k": strings.Repeat("é", 1997)}}, nil},
	} {
		_, err := checkRequest(c.in)
		if len(c.want) == 0 {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		var f *fault.Fault
		if !errors.As(err, &f) || f.Code != fault.Invalid {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, want := slices.Sorted(maps.Keys(f.Details)), slices.Sorted(maps.Keys(c.want)); !slices.Equal(got, want) {
			t.Errorf("%s: reports %v, want %v", name, got, want)
		}
		for field, part := range c.want {
			if problem := f.Details[field]; !strings.Contains(problem, part) {
				t.Errorf("%s: the problem of %s is %q, want %q in it", name, field, problem, part)
			}
		}
	}
}

func TestFormattedContextIsDeterministic(t *testing.T) {
	for _, c := range []struct {
		in   any
		want string
	}{
		{nil, ""},
		{"  A visitor.\n", "A visitor."},
		{map[string]any{}, ""},
		{map[string]any{"plan": "Pro", "name": "Alice", "seats": 3.0, "big": 12345678.0}, "big: 12345678\nname: Alice\nplan: Pro\nseats: 3"},
		{map[string]any{"b": nil, "a": true, "c": []any{1.0, "<x>"}, "d": map[string]any{"z": 1.0, "y": "&"}}, `a: true` + "\nb: null\n" + `c: [1,"<x>"]` + "\n" + `d: {"y":"&","z":1}`},
	} {
		for range 20 { // the order of maps is random
			if got, err := checkRequest(client.ChatRequest{Message: "m", Context: c.in}); err != nil || got != c.want {
				t.Fatalf("%v: %q, %v; want %q", c.in, got, err, c.want)
			}
		}
	}
}
