package openclawtest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"
)

// Telegram is a Bot API server on loopback with one bot.
type Telegram struct {
	*httptest.Server
	updates chan string
	sent    chan string
}

// NewTelegram starts the server. The caller closes it.
func NewTelegram() *Telegram {
	f := &Telegram{updates: make(chan string, 10), sent: make(chan string, 100)}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	return f
}

// Write sends a message of the user with that id to the bot. n is the message's number.
func (f *Telegram) Write(n int, user int64, name, text string) {
	f.updates <- fmt.Sprintf(`{"update_id":%d,"message":{"message_id":%d,"date":%d,"chat":{"id":%d,"type":"private","first_name":%q},"from":{"id":%d,"is_bot":false,"first_name":%q},"text":%q}}`,
		n, n, time.Now().Unix(), user, name, user, name, text)
}

// Sent returns the bot's requests that send messages: method and body.
func (f *Telegram) Sent() <-chan string { return f.sent }

// pollTimeout is the time after which a poll without updates is answered.
const pollTimeout = 2 * time.Second

func (f *Telegram) serve(w http.ResponseWriter, r *http.Request) {
	method := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	w.Header().Set("Content-Type", "application/json")
	switch method {
	case "getMe":
		_, _ = fmt.Fprint(w, `{"ok":true,"result":{"id":1,"is_bot":true,"first_name":"Ada","username":"ada_bot"}}`)
	case "getUpdates":
		select {
		case u := <-f.updates:
			_, _ = fmt.Fprintf(w, `{"ok":true,"result":[%s]}`, u)
		case <-r.Context().Done():
		case <-time.After(pollTimeout):
			_, _ = fmt.Fprint(w, `{"ok":true,"result":[]}`)
		}
	case "sendMessage", "editMessageText":
		body, _ := io.ReadAll(io.LimitReader(r.Body, 64<<10))
		select {
		case f.sent <- method + " " + string(body):
		default: // the test does not read them
		}
		_, _ = fmt.Fprint(w, `{"ok":true,"result":{"message_id":7,"date":1700000000,"chat":{"id":42,"type":"private"},"text":"x"}}`)
	default:
		_, _ = fmt.Fprint(w, `{"ok":true,"result":true}`)
	}
}
