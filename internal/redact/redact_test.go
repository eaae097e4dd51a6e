package redact_test

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"agento.host/agento/internal/redact"
	"agento.host/agento/internal/vault"
)

const key = "pk-repro-1111/2222"

func TestTextHasNoFormOfTheSecret(t *testing.T) {
	s := redact.New(vault.NewSecret(" " + key + "\n"))
	for text, want := range map[string]string{
		"the key " + key + " is wrong":           "the key [secret] is wrong",
		`{"m":"pk-repro-1111\/2222"}`:            `{"m":"[secret]"}`,
		"?key=pk-repro-1111%2F2222&x":            "?key=[secret]&x",
		"pk-repro-1111":                          "pk-repro-1111",
		key + key:                                "[secret][secret]",
		strings.ToUpper(key) + " is another key": strings.ToUpper(key) + " is another key",
	} {
		if got := s.Text(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
		if got := string(s.Bytes([]byte(text))); got != want {
			t.Errorf("%q as bytes: got %q, want %q", text, got, want)
		}
	}
	quoted := redact.New(vault.NewSecret(`a"b\c<1234`))
	for _, text := range []string{`a"b\c<1234`, `a\"b\\c<1234`, `a\"b\\c\u003c1234`} {
		if got := quoted.Text("x" + text + "y"); got != "x[secret]y" {
			t.Errorf("%q: got %q", text, got)
		}
	}
}

// TestWordsAreNoSecrets: an endpoint without keys has a word as its key.
func TestWordsAreNoSecrets(t *testing.T) {
	for _, word := range []string{"", "x", "12345", "ollama", "dummy", "EMPTY"} {
		if s := redact.New(vault.NewSecret(word)); !s.Empty() || s.Text("a "+word+" b") != "a "+word+" b" {
			t.Errorf("%q is replaced", word)
		}
	}
}

func TestBodyInPiecesOfAnySize(t *testing.T) {
	s := redact.New(vault.NewSecret(key))
	body := "pk-pk-repro " + key + "pk-repro-1" + key + " end pk-repro-1111/222"
	want := "pk-pk-repro [secret]pk-repro-1[secret] end pk-repro-1111/222"
	for name, r := range map[string]io.Reader{"one byte": iotest.OneByteReader(strings.NewReader(body)), "halves": iotest.HalfReader(strings.NewReader(body)), "with the end": iotest.DataErrReader(strings.NewReader(body))} {
		got, err := io.ReadAll(s.Body(io.NopCloser(r)))
		if err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	got, err := io.ReadAll(s.Body(io.NopCloser(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("pk-"))))))
	if err == nil || string(got) != "p" {
		t.Errorf("a body that breaks off: %q, %v", got, err)
	}
}

// TestTextInPieces splits a text at every pair of places. At most the first characters of
// the secret are passed on.
func TestTextInPieces(t *testing.T) {
	s := redact.New(vault.NewSecret(key))
	text := "It is pk-" + key + ", yes."
	for a := range len(text) {
		for b := a; b < len(text); b++ {
			p := s.Pieces()
			var pieces []*redact.Piece
			passed := ""
			for _, part := range []string{text[:a], text[a:b], text[b:]} {
				piece := &redact.Piece{Text: part}
				pieces = append(pieces, piece)
				if !p.Add(piece) {
					for ; len(pieces) > 0; pieces = pieces[1:] {
						passed += pieces[0].Text
					}
				}
			}
			for _, piece := range pieces {
				passed += piece.Text
			}
			if strings.Contains(passed, "pk-repro-") || strings.Contains(passed, "repro-1111") || !strings.HasPrefix(passed, "It is pk-") || !strings.HasSuffix(passed, "[secret], yes.") {
				t.Fatalf("at %d and %d: %q", a, b, passed)
			}
		}
	}
}

func TestWhatIsNotTheSecretIsPassedOnUnchanged(t *testing.T) {
	p := redact.New(vault.NewSecret(key)).Pieces()
	first, second := &redact.Piece{Text: "keys begin with pk-repro"}, &redact.Piece{Text: ", see the manual"}
	if !p.Add(first) || p.Add(second) || first.Changed || second.Changed {
		t.Errorf("got %+v %+v", first, second)
	}
	begun, rest := &redact.Piece{Text: "pk-repro-1111"}, &redact.Piece{Text: "/2222 is it"}
	p.Add(begun)
	p.Release()
	if p.Add(rest) || begun.Changed || rest.Text != "[secret] is it" {
		t.Errorf("after a release: %+v %+v", begun, rest)
	}
	last := &redact.Piece{Text: "the key pk-repro-11"}
	if !p.Add(last) {
		t.Error("it is not held")
	}
	if p.Cut(); last.Text != "the key[secret]" {
		t.Errorf("cut to %q", last.Text)
	}
}
