// Package redact replaces a secret in what comes back from the service that it was sent to:
// in texts, in bodies that stream by, and in texts that a stream has in pieces.
package redact

import (
	"bytes"
	"encoding/json"
	"io"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"agento.host/agento/internal/vault"
)

// Replacement is what stands in the place of a secret.
const Replacement = "[secret]"

// minLength is the length of the shortest secret that is replaced, and minWord that of the
// shortest that consists of letters. Endpoints without keys are given a word as key, such as
// "ollama", which answers have for other reasons.
const (
	minLength = 6
	minWord   = 8
)

// Secret knows a secret in the forms in which a service can quote it. The zero value replaces
// nothing. Its methods may be called concurrently.
type Secret struct {
	plain   string
	forms   [][]byte // the longest first; plain is one of them
	failure []int    // Knuth, Morris and Pratt's, of plain
}

// New returns the secret with its forms: as it is, and as JSON and URLs have it.
func New(s vault.Secret) Secret {
	plain := strings.TrimSpace(s.Reveal())
	if len(plain) < minLength || len(plain) < minWord && strings.IndexFunc(plain, func(c rune) bool { return !unicode.IsLetter(c) }) < 0 {
		return Secret{}
	}
	escaped := jsonEscape(plain, true)
	texts := []string{
		plain, escaped, jsonEscape(plain, false), strings.ReplaceAll(escaped, "/", `\/`),
		url.QueryEscape(plain), url.PathEscape(plain),
	}
	// A JSON text inside of a JSON text, as a proxy quotes the body of an error.
	texts = append(texts, jsonEscape(escaped, false))
	slices.SortFunc(texts, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	r := Secret{plain: plain, failure: failureFunction(plain)}
	for _, text := range slices.Compact(texts) {
		r.forms = append(r.forms, []byte(text))
	}
	return r
}

func jsonEscape(text string, html bool) string {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(html)
	if err := enc.Encode(text); err != nil {
		return text // impossible: it is a string
	}
	return strings.Trim(strings.TrimSpace(out.String()), `"`)
}

// failureFunction returns, for each position, the length of the longest proper prefix of
// text that ends there.
func failureFunction(text string) []int {
	f := make([]int, len(text))
	for i, k := 1, 0; i < len(text); i++ {
		for k > 0 && text[i] != text[k] {
			k = f[k-1]
		}
		if text[i] == text[k] {
			k++
		}
		f[i] = k
	}
	return f
}

// Empty reports whether nothing is replaced.
func (s Secret) Empty() bool { return len(s.forms) == 0 }

// Text returns a text without the secret.
func (s Secret) Text(text string) string {
	for _, form := range s.forms {
		text = strings.ReplaceAll(text, string(form), Replacement)
	}
	return text
}

// Bytes returns b without the secret: b itself if it does not have it.
func (s Secret) Bytes(b []byte) []byte {
	for _, form := range s.forms {
		if bytes.Contains(b, form) {
			b = bytes.ReplaceAll(b, form, []byte(Replacement))
		}
	}
	return b
}

// Body returns a body without the secret, also where it comes in pieces. What can be the
// beginning of the secret is held until the next piece.
func (s Secret) Body(body io.ReadCloser) io.ReadCloser {
	if s.Empty() {
		return body
	}
	return &redacted{ReadCloser: body, secret: s}
}

type redacted struct {
	io.ReadCloser
	secret Secret
	piece  [16 << 10]byte
	held   []byte // not looked at yet: it may be the beginning of the secret
	ready  []byte
	err    error
}

// Read implements io.Reader.
func (r *redacted) Read(p []byte) (int, error) {
	for len(r.ready) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		n, err := r.ReadCloser.Read(r.piece[:])
		r.held, r.err = r.secret.Bytes(append(r.held, r.piece[:n]...)), err
		keep := 0
		if err == nil {
			keep = r.secret.begun(r.held)
		}
		end := len(r.held) - keep
		r.ready = append(r.ready[:0], r.held[:end]...)
		r.held = append([]byte(nil), r.held[end:]...)
	}
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

// begun returns the length of the longest end of b that is the beginning of a form.
func (s Secret) begun(b []byte) int {
	longest := 0
	for _, form := range s.forms {
		for n := min(len(form)-1, len(b)); n > longest; n-- {
			if bytes.Equal(b[len(b)-n:], form[:n]) {
				longest = n
			}
		}
	}
	return longest
}
