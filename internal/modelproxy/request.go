package modelproxy

import (
	"errors"
	"io"
	"sync"

	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/provider"
)

// requestBody passes a gateway's request through unchanged and reads its model and
// its session. The transport may still read it when the answer is already there, so
// mu guards it.
type requestBody struct {
	io.ReadCloser

	mu      sync.Mutex
	eof     bool                    // guarded by mu
	json    scanner                 // guarded by mu
	session *openclaw.SessionReader // guarded by mu
	model   string                  // guarded by mu
	role    string                  // guarded by mu; of the current message
}

func newRequestBody(body io.ReadCloser, p provider.Name) *requestBody {
	// A text without a role is the user's.
	b := &requestBody{ReadCloser: body, session: openclaw.NewSessionReader(p), role: "user"}
	b.json = scanner{match: isModelOrRole, found: b.setModelOrRole, text: b.readText}
	return b
}

// Read implements io.Reader. It remembers the end: the transport reads once more after
// it. By then a fast provider may have answered and the server may have closed the
// body, and the transport would take the error for a broken request.
func (b *requestBody) Read(p []byte) (int, error) {
	if b.ended() {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.json.write(p[:n])
	b.eof = errors.Is(err, io.EOF)
	return n, err
}

func (b *requestBody) ended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.eof
}

// modelAndSession returns the model and the session key, as far as the request has
// been read.
func (b *requestBody) modelAndSession() (model, session string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.model, b.session.Key()
}

func isModelOrRole(p path) bool {
	return p == path{nameModel} || p == path{nameMessages, nameRole} || p == path{nameInput, nameRole}
}

func (b *requestBody) setModelOrRole(p path, raw []byte) {
	if len(raw) < 2 || raw[0] != '"' {
		return
	}
	value := string(unquote(raw[1 : len(raw)-1]))
	if p == (path{nameModel}) {
		b.model = value
		return
	}
	b.role = value
}

// readText passes the texts that may name the session to the session reader. The output of a
// tool is in a field of its own or in a message with a role of its own.
func (b *requestBody) readText(p path, piece []byte) {
	switch p[0] {
	case nameSystem, nameSystemInstruction, nameInstructions:
		b.session.SystemText(piece)
	case nameMessages, nameInput:
		if p[1] == nameContent || p[1] == none {
			b.session.MessageText(b.role, piece)
		}
	}
}
