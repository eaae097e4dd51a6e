package openclawtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"
)

// Telegram is a Bot API server on loopback with one bot. It was compared with the
// documentation of Telegram's (core.telegram.org/bots/api) and with what api.telegram.org
// answers to unknown tokens: an update comes again until a call confirms it with a higher
// offset, a new call for updates ends the one that waits, updates of other kinds than
// allowed_updates are not sent, and errors have their code in the body too.
type Telegram struct {
	*httptest.Server

	mu       sync.Mutex
	changed  chan struct{}   // closed when updates or fail change; guarded by mu
	updates  []update        // that are not confirmed; guarded by mu
	poll     int             // number of the last call for updates; guarded by mu
	fail     map[string]Fail // by method in lower case; "": all; guarded by mu
	files    map[string]string
	paths    []string    // of the calls; guarded by mu
	polls    int         // calls for updates that were answered with success; guarded by mu
	waiting  int         // calls for updates that are not answered yet; guarded by mu
	sent     chan string // method and body
	pollTime time.Duration
}

// Fail is the answer to calls that fail.
type Fail struct {
	Status      int
	Description string
	RetryAfter  int // seconds; 0: none
}

type update struct {
	id   int
	kind string
	text string
}

// NewTelegram starts the server. The caller closes it.
func NewTelegram() *Telegram {
	f := &Telegram{sent: make(chan string, 100), changed: make(chan struct{}), fail: map[string]Fail{}, files: map[string]string{}, pollTime: pollTimeout}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	return f
}

// Write sends a message of the user with that id to the bot. n is the message's number.
func (f *Telegram) Write(n int, user int64, name, text string) {
	f.Update(n, "message", fmt.Sprintf(`{"message_id":%d,"date":%d,"chat":{"id":%d,"type":"private","first_name":%q},"from":{"id":%d,"is_bot":false,"first_name":%q},"text":%s}`,
		n, time.Now().Unix(), user, name, user, name, quote(text)))
}

// Update adds an update of a kind, such as message, with its JSON.
func (f *Telegram) Update(n int, kind, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.updates = append(f.updates, update{n, kind, text})
	f.change()
}

// Fail makes the calls of a method fail until Recover; an empty method means all.
func (f *Telegram) Fail(method string, with Fail) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail[strings.ToLower(method)] = with
	f.change()
}

// Recover ends all failures.
func (f *Telegram) Recover() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.fail)
	f.change()
}

// AddFile makes a file available under a path.
func (f *Telegram) AddFile(path, content string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files[path] = content
}

// change wakes the calls for updates. The caller holds mu.
func (f *Telegram) change() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// Sent returns the bot's requests that send messages: method and body.
func (f *Telegram) Sent() <-chan string { return f.sent }

// Paths returns the paths of all calls.
func (f *Telegram) Paths() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.paths...)
}

// Polls returns how many calls for updates succeeded.
func (f *Telegram) Polls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.polls
}

// Waiting returns how many calls for updates wait.
func (f *Telegram) Waiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.waiting
}

// Unconfirmed returns how many updates no call for updates has confirmed.
func (f *Telegram) Unconfirmed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.updates)
}

// pollTimeout is the time after which a poll without updates is answered, whatever it asks
// for.
const pollTimeout = 2 * time.Second

func (f *Telegram) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	f.mu.Lock()
	f.paths = append(f.paths, r.URL.Path)
	f.mu.Unlock()
	if strings.HasPrefix(r.URL.Path, "/file/") {
		f.serveFile(w, r)
		return
	}
	method := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	if fail, ok := f.failure(method); ok {
		refuse(w, fail)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	switch method {
	case "getMe":
		_, _ = fmt.Fprint(w, `{"ok":true,"result":{"id":1,"is_bot":true,"first_name":"Ada","username":"ada_bot"}}`)
	case "getUpdates":
		f.getUpdates(w, r, body)
	case "getFile":
		_, _ = fmt.Fprint(w, `{"ok":true,"result":{"file_id":"f","file_unique_id":"u","file_size":10,"file_path":"documents/file_1.txt"}}`)
	case "sendMessage", "editMessageText", "sendPhoto", "sendDocument":
		select {
		case f.sent <- method + " " + string(body):
		default: // the test does not read them
		}
		_, _ = fmt.Fprint(w, `{"ok":true,"result":{"message_id":7,"date":1700000000,"chat":{"id":42,"type":"private"},"text":"x"}}`)
	default:
		_, _ = fmt.Fprint(w, `{"ok":true,"result":true}`)
	}
}

func (f *Telegram) failure(method string) (Fail, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fail, ok := f.fail[strings.ToLower(method)]; ok {
		return fail, true
	}
	fail, ok := f.fail[""]
	return fail, ok
}

func refuse(w http.ResponseWriter, fail Fail) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(fail.Status)
	parameters := ""
	if fail.RetryAfter > 0 {
		parameters = fmt.Sprintf(`,"parameters":{"retry_after":%d}`, fail.RetryAfter)
	}
	_, _ = fmt.Fprintf(w, `{"ok":false,"error_code":%d,"description":%s%s}`, fail.Status, quote(fail.Description), parameters)
}

func (f *Telegram) getUpdates(w http.ResponseWriter, r *http.Request, body []byte) {
	var request struct {
		Offset  int
		Timeout int
		Allowed []string `json:"allowed_updates"`
	}
	_ = json.Unmarshal(body, &request)
	f.mu.Lock()
	f.poll++
	number := f.poll
	f.waiting++
	f.change() // ends the call that waits
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.waiting--
	}()
	end := time.After(min(f.pollTime, time.Duration(request.Timeout)*time.Second))
	for {
		f.mu.Lock()
		changed := f.changed
		if number != f.poll {
			f.mu.Unlock()
			refuse(w, Fail{Status: http.StatusConflict, Description: "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"})
			return
		}
		if fail, ok := f.fail["getupdates"]; ok {
			f.mu.Unlock()
			refuse(w, fail)
			return
		}
		due := f.take(request.Offset, request.Allowed)
		if len(due) > 0 {
			f.polls++
		}
		f.mu.Unlock()
		if len(due) > 0 {
			_, _ = fmt.Fprintf(w, `{"ok":true,"result":[%s]}`, strings.Join(due, ","))
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		case <-end:
			f.mu.Lock()
			f.polls++
			f.mu.Unlock()
			_, _ = fmt.Fprint(w, `{"ok":true,"result":[]}`)
			return
		}
	}
}

// take removes what an offset confirms, and returns the other updates. The caller holds mu.
func (f *Telegram) take(offset int, allowed []string) []string {
	var left []update
	var due []string
	for _, u := range f.updates {
		if u.id < offset {
			continue
		}
		left = append(left, u)
		if allows(allowed, u.kind) {
			due = append(due, fmt.Sprintf(`{"update_id":%d,%s:%s}`, u.id, quote(u.kind), u.text))
		}
	}
	f.updates = left
	return due
}

func allows(allowed []string, kind string) bool {
	for _, a := range allowed {
		if a == kind {
			return true
		}
	}
	return len(allowed) == 0
}

func (f *Telegram) serveFile(w http.ResponseWriter, r *http.Request) {
	parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/file/"), "/", 2)
	f.mu.Lock()
	content, ok := f.files[parts[len(parts)-1]]
	f.mu.Unlock()
	if !ok {
		refuse(w, Fail{Status: http.StatusNotFound, Description: "Not Found: " + r.URL.Path})
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = io.WriteString(w, content)
}

func quote(s string) string {
	text, _ := json.Marshal(s) // of a string never fails
	return string(text)
}
