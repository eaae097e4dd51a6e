package botapi

import (
	"bytes"
	"errors"
	"io"
	"net/url"
	"strings"
)

// mask replaces the bot's token in a text by the gateway's.
func (b Bot) mask(text string) string {
	for _, token := range b.spellings() {
		text = strings.ReplaceAll(text, token, b.Placeholder.Reveal())
	}
	return text
}

// spellings returns the forms in which the token may come back.
func (b Bot) spellings() []string {
	token := b.Token.Reveal()
	if token == "" {
		return nil
	}
	all := []string{token}
	for _, escaped := range []string{strings.ReplaceAll(token, ":", "%3A"), strings.ReplaceAll(token, ":", "%3a"), url.PathEscape(token), strings.ReplaceAll(token, ":", `\u003a`)} {
		if escaped != token {
			all = append(all, escaped)
		}
	}
	return all
}

// maskReader returns a reader of what r reads, with the bot's token replaced by the
// gateway's, also where it is split between two reads.
func (b Bot) maskReader(r io.Reader) io.Reader {
	m := &maskReader{from: r, placeholder: []byte(b.Placeholder.Reveal())}
	for _, s := range b.spellings() {
		m.tokens = append(m.tokens, []byte(s))
		m.keep = max(m.keep, len(s)-1)
	}
	return m
}

type maskReader struct {
	from        io.Reader
	tokens      [][]byte
	placeholder []byte
	keep        int // how many bytes at the end of what was read may begin a token

	buf   []byte // what was read and not returned
	ready int    // how much of buf can be returned
	err   error  // of from, after buf
}

// chunk is how much is read at once.
const chunk = 32 << 10

// Read implements io.Reader.
func (m *maskReader) Read(p []byte) (int, error) {
	for m.ready == 0 {
		if m.err != nil {
			return 0, m.err
		}
		part := make([]byte, chunk)
		n, err := m.from.Read(part)
		m.buf = append(m.buf, part[:n]...)
		m.err = err
		m.replace()
	}
	n := copy(p, m.buf[:m.ready])
	m.buf, m.ready = m.buf[n:], m.ready-n
	return n, nil
}

// replace replaces the tokens in buf, and finds out how much of buf is final.
func (m *maskReader) replace() {
	for _, token := range m.tokens {
		m.buf = bytes.ReplaceAll(m.buf, token, m.placeholder)
	}
	m.ready = len(m.buf)
	if !errors.Is(m.err, io.EOF) {
		m.ready = max(0, m.ready-m.keep)
	}
}
