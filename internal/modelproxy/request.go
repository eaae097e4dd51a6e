package modelproxy

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
)

// A gateway's request names the session it serves: OpenClaw 2026.9.6 tells the
// model
//
//	Runtime: agent=main | session=agent:main:peer:ana:c1 | sessionId=… | host=…
//
// at the end of the system text (Anthropic, Google) or of the user's last message
// (OpenAI). No header and no field of the
// body carries the key, so it is read from there. Text that users and callers
// write comes before this line, so the last one stands; in a tool's answer and in
// what the model said it does not count. Calls that belong to no run (a summary
// when the context is compacted, a title) have no such line and are counted for
// the agent alone. OpenClaw turns session keys into lower case.
const (
	marker    = "Runtime: agent="
	keyBegins = "| session="
	keyEnds   = " |"
	maxMarked = 1024 // of the line after marker, up to the end of the key
)

// SplitSession takes a session key `agent:<entry>:peer:<peer>:<conversation>`
// apart. Any other key is a session without a peer, named by the whole key.
func SplitSession(key string) (peer, session string) {
	parts := strings.SplitN(key, ":", 5)
	if len(parts) == 5 && parts[0] == "agent" && parts[2] == "peer" {
		return parts[3], parts[4]
	}
	return "", key
}

// requestBody passes a gateway's request through and notes its model and
// session. The transport may still read it when the answer is already there,
// hence mu.
type requestBody struct {
	io.ReadCloser

	mu   sync.Mutex
	over bool    // guarded by mu; all has been read
	json scanner // guarded by mu
	note note    // guarded by mu
}

// note is what a request tells about itself.
type note struct {
	inMessages bool // the provider's protocol has the marker in messages
	model      string
	session    string
	others     bool // the message being read is not the user's or the system's
	find       finder
}

func watchRequest(body io.ReadCloser, provider string) *requestBody {
	b := &requestBody{ReadCloser: body}
	b.note.inMessages = provider == OpenAI
	b.json = scanner{wanted: b.note.wanted, found: b.note.found, text: b.note.text}
	return b
}

// Read implements io.Reader. The end is remembered: the transport asks for it
// once more, by when a quick provider may have answered and the server have
// closed the body, and would take the error for a broken request.
func (b *requestBody) Read(p []byte) (int, error) {
	if b.ended() {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.json.write(p[:n])
	b.over = errors.Is(err, io.EOF)
	return n, err
}

func (b *requestBody) ended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.over
}

// told returns the model and the session key, as far as they have been read.
func (b *requestBody) told() (model, session string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.note.model, b.note.session
}

func (n *note) wanted(p path) bool {
	return p == path{nameModel} || p == path{nameMessages, nameRole} || p == path{nameInput, nameRole}
}

func (n *note) found(p path, raw []byte) {
	if len(raw) < 2 || raw[0] != '"' {
		return
	}
	value := string(unquote(raw[1 : len(raw)-1]))
	if p == (path{nameModel}) {
		n.model = value
		return
	}
	n.others = value != "user" && value != "system" && value != "developer"
}

// text looks for the marker where the gateway puts it.
func (n *note) text(p path, piece []byte) {
	switch p[0] {
	case nameSystem, nameSystemInstruction, nameInstructions:
	case nameMessages, nameInput:
		if !n.inMessages || n.others {
			return
		}
	default:
		return
	}
	n.find.write(piece, func(key string) { n.session = key })
}

// finder finds the session keys in a text that comes in pieces.
type finder struct {
	tail []byte // the end of the text so far, where a marker may have begun
	line []byte // what follows a marker, until the key's end
	open bool   // line is being filled
}

func (f *finder) write(piece []byte, found func(key string)) {
	for len(piece) > 0 {
		if !f.open {
			after := f.search(piece)
			if after < 0 {
				return
			}
			f.open, f.line, f.tail = true, f.line[:0], f.tail[:0]
			piece = piece[after:]
			continue
		}
		n := min(len(piece), maxMarked-len(f.line))
		f.line = append(f.line, piece[:n]...)
		piece = piece[n:]
		f.read(found)
	}
}

// read looks at the line so far. A marker within it begins a new one: the first
// was not the gateway's.
func (f *finder) read(found func(key string)) {
	for {
		head, next, again := bytes.Cut(f.line, []byte(marker))
		key, whole := markedKey(head)
		if key != "" {
			found(key)
		}
		if !again {
			f.open = !whole && len(f.line) < maxMarked
			break
		}
		f.line = append(f.line[:0], next...)
	}
	if !f.open {
		f.search(f.line)
	}
}

// search returns where in piece the text after a marker begins, or -1. The
// marker may have begun in an earlier piece.
func (f *finder) search(piece []byte) int {
	tail := len(f.tail)
	f.tail = append(f.tail, piece[:min(len(piece), len(marker)-1)]...)
	if i := bytes.Index(f.tail, []byte(marker)); i >= 0 {
		return i + len(marker) - tail
	}
	if i := bytes.Index(piece, []byte(marker)); i >= 0 {
		return i + len(marker)
	}
	if len(piece) >= len(marker) {
		f.tail = append(f.tail[:0], piece[len(piece)-len(marker):]...)
	}
	f.tail = append(f.tail[:0], f.tail[max(0, len(f.tail)-len(marker)+1):]...)
	return -1
}

// markedKey reads "main | session=KEY |…"; whole says that nothing that follows
// can change the answer.
func markedKey(line []byte) (key string, whole bool) {
	_, after, ok := bytes.Cut(line, []byte(keyBegins))
	if !ok {
		return "", false
	}
	raw, _, ok := bytes.Cut(after, []byte(keyEnds))
	if !ok {
		return "", false
	}
	key = string(unquote(raw))
	if !strings.HasPrefix(key, "agent:") || strings.ContainsAny(key, "\n\r") {
		return "", true
	}
	return key, true
}
