package botapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/channel"
	"agento.host/agento/internal/channel/botapi"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/openclaw/openclawtest"
	"agento.host/agento/internal/vault"
)

const (
	token       = "777001:AAreal-token-of-the-bot_0123456789ab"
	placeholder = "777001:0123456789abcdef-of-the-gateway"
)

// world is a proxy between a gateway, which the test is, and a Bot API server.
type world struct {
	t      *testing.T
	bot    *openclawtest.Telegram
	server *httptest.Server
	proxy  *botapi.Proxy
	log    bytes.Buffer

	mu      sync.Mutex
	token   string           // guarded by mu
	taken   bool             // another agent has the token; guarded by mu
	reports []channel.Report // guarded by mu
	changed chan struct{}    // guarded by mu
}

func newWorld(t *testing.T) *world {
	t.Helper()
	bot := openclawtest.NewTelegram()
	t.Cleanup(bot.Close)
	return newWorldAt(t, bot, bot.URL)
}

func newWorldAt(t *testing.T, bot *openclawtest.Telegram, url string) *world {
	t.Helper()
	return newWorldWith(t, bot, url, nil)
}

func newWorldWith(t *testing.T, bot *openclawtest.Telegram, url string, memory *budget.Budget) *world {
	t.Helper()
	w := &world{t: t, bot: bot, token: token, changed: make(chan struct{})}
	p, err := botapi.New(botapi.Settings{Resolver: w, Reporter: w, Guard: netguard.Guard{}, URL: url, Memory: memory, Log: slog.New(slog.NewTextHandler(&w.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	w.proxy, w.server = p, httptest.NewServer(p)
	t.Cleanup(func() {
		p.Drain()
		w.server.Close()
		p.Close()
		if strings.Contains(w.log.String(), token) {
			t.Error("the log has the token")
		}
	})
	return w
}

// ResolveBot implements botapi.Resolver.
func (w *world) ResolveBot(_ context.Context, id identity.AgentID, held vault.Secret) (botapi.Bot, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	bot := botapi.Bot{Account: "acct_1", Agent: id, Gateway: 1}
	switch {
	case id != "a1" || held.Reveal() != placeholder:
		return botapi.Bot{}, fault.New(fault.Unauthorized, "unknown")
	case w.taken:
		return bot, fault.New(fault.Conflict, "Another agent has the token.")
	}
	bot.Token, bot.Placeholder = vault.NewSecret(w.token), vault.NewSecret(placeholder)
	return bot, nil
}

// Report implements botapi.Reporter.
func (w *world) Report(r channel.Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports = append(w.reports, r)
	close(w.changed)
	w.changed = make(chan struct{})
}

// until waits for a report after the ones before.
func (w *world) until(what string, ok func(channel.Report) bool) channel.Report {
	w.t.Helper()
	timeout := time.After(50 * time.Second)
	for {
		w.mu.Lock()
		reports, changed := w.reports, w.changed
		w.mu.Unlock()
		if n := len(reports); n > 0 && ok(reports[n-1]) {
			return reports[n-1]
		}
		select {
		case <-changed:
		case <-timeout:
			w.t.Fatalf("%s: the reports are %+v", what, reports)
		}
	}
}

func failedWith(words ...string) func(channel.Report) bool {
	return func(r channel.Report) bool {
		return r.Status == channel.Failed && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(r.Error, w) })
	}
}

func connected(r channel.Report) bool { return r.Status == channel.Connected && r.Error == "" }

type reply struct {
	OK          bool
	Result      json.RawMessage
	ErrorCode   int `json:"error_code"`
	Description string
}

// call makes a call as a gateway does.
func (w *world) call(method, body string) (status int, text string, r reply) {
	w.t.Helper()
	res, err := http.Post(w.server.URL+botapi.Path("a1")+"/bot"+placeholder+"/"+method, "application/json", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	_ = json.Unmarshal(data, &r)
	if strings.Contains(string(data), token) {
		w.t.Errorf("%s: the gateway reads the bot's token: %s", method, data)
	}
	return res.StatusCode, string(data), r
}

// keepPolling polls as a gateway does until the test ends, and returns the kinds of updates
// that it gets.
func (w *world) keepPolling() <-chan string {
	got := make(chan string, 100)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	w.t.Cleanup(func() { cancel(); done.Wait() })
	done.Go(func() {
		offset := 0
		for ctx.Err() == nil {
			body := fmt.Sprintf(`{"timeout":30,"limit":100,"allowed_updates":["message","callback_query","channel_post"],"offset":%d}`, offset)
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, w.server.URL+botapi.Path("a1")+"/bot"+placeholder+"/getUpdates", strings.NewReader(body))
			req.Header.Set("Content-Type", "application/json")
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				continue
			}
			var r struct {
				OK     bool
				Result []map[string]json.RawMessage
			}
			if err := json.NewDecoder(res.Body).Decode(&r); err != nil || !r.OK {
				w.t.Errorf("a gateway that polls is answered with %d, %v", res.StatusCode, err)
			}
			_ = res.Body.Close()
			for _, u := range r.Result {
				var id int
				_ = json.Unmarshal(u["update_id"], &id)
				offset = id + 1
				for kind := range u {
					if kind != "update_id" {
						got <- kind + " " + fmt.Sprint(id)
					}
				}
			}
		}
	})
	return got
}

func TestTheProxyHoldsTheToken(t *testing.T) {
	w := newWorld(t)
	if status, _, r := w.call("getMe", ""); status != http.StatusOK || !r.OK {
		t.Errorf("getMe: %d %+v", status, r)
	}
	if status, _, _ := w.call("sendMessage", `{"chat_id":42,"text":"hello"}`); status != http.StatusOK {
		t.Errorf("sendMessage: %d", status)
	}
	if sent := <-w.bot.Sent(); !strings.Contains(sent, `"text":"hello"`) {
		t.Errorf("sent %s", sent)
	}
	w.bot.AddFile("documents/file_1.txt", "the file")
	res, err := http.Get(w.server.URL + botapi.Path("a1") + "/file/bot" + placeholder + "/documents/file_1.txt")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if string(text) != "the file" {
		t.Errorf("the file is %q, status %d", text, res.StatusCode)
	}
	for _, path := range w.bot.Paths() {
		if !strings.Contains(path, "/bot"+token+"/") {
			t.Errorf("Telegram was called with %s", path)
		}
	}
}

func TestOnlyTheGatewaysTokenIsAccepted(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{
		botapi.Path("a1") + "/bot" + token + "/getMe", botapi.Path("a2") + "/bot" + placeholder + "/getMe", botapi.Path("a1") + "/" + placeholder + "/getMe",
		botapi.Path("a1") + "/file/bot" + token + "/x", botapi.Path("a1") + "/botx/getUpdates",
	} {
		res, err := http.Get(w.server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
	if n := len(w.bot.Paths()); n != 0 {
		t.Errorf("%d calls reached Telegram", n)
	}
}

func TestMethodsThatTakeTheBotAwayAreRefused(t *testing.T) {
	w := newWorld(t)
	for _, method := range []string{"setWebhook", "SETWEBHOOK", "logOut", "close"} {
		if status, _, r := w.call(method, `{"url":"https://evil.test"}`); status != http.StatusBadRequest || r.OK {
			t.Errorf("%s: %d", method, status)
		}
	}
	if n := len(w.bot.Paths()); n != 0 {
		t.Errorf("%d calls reached Telegram", n)
	}
}

// A gateway gets messages, each once, and nothing that a stranger can press.
func TestAGatewayGetsMessagesOnly(t *testing.T) {
	w := newWorld(t)
	got := w.keepPolling()
	w.until("the first poll", connected)
	w.bot.Update(1, "callback_query", `{"id":"1","from":{"id":42},"data":"tgcmd:/status"}`)
	w.bot.Update(2, "my_chat_member", `{"chat":{"id":42,"type":"private"},"new_chat_member":{"status":"member"}}`)
	w.bot.Write(3, 42, "Eve", "hello")
	w.bot.Update(4, "channel_post", `{"message_id":1}`)
	w.bot.Update(5, "my_chat_member", `{"chat":{"id":42,"type":"private"},"new_chat_member":{"status":"member"}}`)
	w.bot.Write(6, 42, "Eve", "bye")
	for _, want := range []string{"message 3", "message 6"} {
		select {
		case kind := <-got:
			if kind != want {
				t.Errorf("got %s, want %s", kind, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s did not come", want)
		}
	}
	select {
	case kind := <-got:
		t.Errorf("got %s too", kind)
	default:
	}
}

// Each failure of a bot shows at once in the reports, is hidden from the gateway, which would
// give up, and ends when the cause ends.
func TestFailuresOfABotAreReported(t *testing.T) {
	for name, c := range map[string]struct {
		with  openclawtest.Fail
		words []string
	}{
		"a revoked token":   {openclawtest.Fail{Status: 401, Description: "Unauthorized"}, []string{"does not know the bot's token", "Unauthorized", "PUT /v1/agents/a1/secrets"}},
		"an unknown token":  {openclawtest.Fail{Status: 404, Description: "Not Found"}, []string{"does not know the bot's token"}},
		"the token echoed":  {openclawtest.Fail{Status: 401, Description: "Unauthorized: " + token}, []string{"does not know the bot's token", placeholder}},
		"a server's error":  {openclawtest.Fail{Status: 502, Description: "Bad Gateway"}, []string{"Bad Gateway"}},
		"too many requests": {openclawtest.Fail{Status: 429, Description: "Too Many Requests: retry after 1", RetryAfter: 1}, []string{"Too Many Requests"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.bot.Fail("getUpdates", c.with)
			w.keepPolling()
			r := w.until(name, failedWith(c.words...))
			if r.Account != "acct_1" || r.Agent != "a1" || r.Gateway != 1 || r.Channel != channel.Telegram {
				t.Errorf("%+v", r)
			}
			if strings.Contains(r.Error, token) {
				t.Errorf("the report has the token: %s", r.Error)
			}
			w.bot.Recover()
			w.until("after "+name, connected)
		})
	}
}

// The first call of a gateway says already that the token is dead.
func TestADeadTokenShowsAtTheFirstCall(t *testing.T) {
	w := newWorld(t)
	w.bot.Fail("", openclawtest.Fail{Status: 401, Description: "Unauthorized"})
	if status, _, r := w.call("getMe", ""); status != http.StatusUnauthorized || r.OK {
		t.Errorf("%d %+v", status, r)
	}
	w.until("getMe", failedWith("does not know the bot's token"))
}

// TestAnAnswerBeforeTheEndOfTheRequestIsWhole: Telegram answers while the end of a long request is still
// looked for.
func TestAnAnswerBeforeTheEndOfTheRequestIsWhole(t *testing.T) {
	text := strings.Repeat("x", 300<<10)
	telegram := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprintf(w, `{"ok":true,"result":%q}`, text)
	}))
	defer telegram.Close()
	w := newWorldAt(t, openclawtest.NewTelegram(), telegram.URL)
	defer w.bot.Close()
	began := make(chan struct{})
	front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.Body = &lateEnd{ReadCloser: r.Body, wait: began}
		w.proxy.ServeHTTP(rw, r)
	}))
	defer front.Close()
	res, err := http.Post(front.URL+botapi.Path("a1")+"/bot"+placeholder+"/sendDocument", "application/octet-stream", strings.NewReader(strings.Repeat("y", 256<<10)))
	close(began)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if data, err := io.ReadAll(res.Body); err != nil || !strings.Contains(string(data), text) {
		t.Errorf("%d bytes of the answer: %v", len(data), err)
	}
}

// lateEnd is a body that says only after a while that it has ended.
type lateEnd struct {
	io.ReadCloser
	wait chan struct{}
	read int64
}

func (l *lateEnd) Read(p []byte) (int, error) {
	if l.read == 256<<10 {
		<-l.wait
		return l.ReadCloser.Read(p)
	}
	n, err := l.ReadCloser.Read(p)
	if l.read += int64(n); n > 0 {
		err = nil
	}
	return n, err
}

func TestANewTokenIsUsedFromTheNextCallOn(t *testing.T) {
	w := newWorld(t)
	if status, _, _ := w.call("getMe", ""); status != http.StatusOK {
		t.Fatal(status)
	}
	w.mu.Lock()
	w.token = "777001:another"
	w.mu.Unlock()
	w.call("getMe", "")
	if paths := w.bot.Paths(); len(paths) != 2 || !strings.Contains(paths[1], "777001:another") {
		t.Errorf("%q", paths)
	}
}

// Two pollers of one bot end each other's calls, so that some calls succeed. That is a
// conflict until none has been seen for a while.
func TestAConflictOfPollersIsReported(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keepPolling()
	w.until("the first poll", connected)
	ctx, stop := context.WithCancel(t.Context())
	var other sync.WaitGroup
	other.Go(func() { // another program polls
		for ctx.Err() == nil {
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, w.bot.URL+"/bot"+token+"/getUpdates", strings.NewReader(`{"timeout":1}`))
			if res, err := http.DefaultClient.Do(req); err == nil {
				_ = res.Body.Close()
			}
		}
	})
	w.until("another poller", failedWith("Another program asks Telegram for the messages of this bot"))
	before := w.bot.Polls()
	for w.bot.Polls() < before+2 { // calls succeed in between
		time.Sleep(20 * time.Millisecond)
	}
	w.until("another poller still", failedWith("Another program asks Telegram for the messages of this bot"))
	stop()
	other.Wait()
	w.until("after the other poller", connected)
}

// A webhook that another program has set is removed, as a gateway does when it starts.
func TestAWebhookIsReportedAndRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.bot.Fail("getUpdates", openclawtest.Fail{Status: 409, Description: "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"})
	w.keepPolling()
	w.until("a webhook", failedWith("webhook"))
	deadline := time.Now().Add(20 * time.Second)
	for !slices.ContainsFunc(w.bot.Paths(), func(p string) bool { return strings.HasSuffix(p, "/deleteWebhook") }) {
		if time.Now().After(deadline) {
			t.Fatal("the webhook was not removed")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestAKickedBotIsReported(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.keepPolling()
	w.until("the first poll", connected)
	blocked := openclawtest.Fail{Status: 403, Description: "Forbidden: bot was blocked by the user"}
	w.bot.Fail("sendMessage", blocked)
	if status, _, r := w.call("sendMessage", `{"chat_id":1,"text":"x"}`); status != http.StatusForbidden || r.Description != blocked.Description {
		t.Errorf("%d %+v", status, r)
	}
	w.bot.Fail("sendMessage", openclawtest.Fail{Status: 403, Description: "Forbidden: bot was kicked from the supergroup chat"})
	w.call("sendMessage", `{"chat_id":-1,"text":"x"}`)
	w.until("a refused message", failedWith("bot was kicked from the supergroup chat"))
	w.mu.Lock()
	for _, r := range w.reports {
		if strings.Contains(r.Error, "blocked") {
			t.Errorf("a stranger made the agent look broken: %+v", r)
		}
	}
	w.mu.Unlock()
	w.bot.Recover()
	w.call("sendMessage", `{"chat_id":42,"text":"x"}`)
	w.until("a message that is delivered", connected)

	w.bot.Update(1, "my_chat_member", `{"chat":{"id":-5,"type":"supergroup","title":"Our \u0007team"},"new_chat_member":{"status":"kicked"}}`)
	w.until("removed from a group", failedWith("removed", `"Our team"`))
	w.bot.Update(2, "my_chat_member", `{"chat":{"id":42,"type":"private"},"new_chat_member":{"status":"kicked"}}`)
	w.bot.Update(3, "my_chat_member", `{"chat":{"id":-5,"type":"supergroup","title":"Our team"},"new_chat_member":{"status":"member"}}`)
	w.until("added again", connected)
}

func TestAnUnreachableServerIsReported(t *testing.T) {
	t.Parallel()
	bot := openclawtest.NewTelegram()
	address := bot.URL
	bot.Close()
	w := newWorldAt(t, bot, address)
	w.keepPolling()
	w.until("no server", failedWith("Telegram cannot be reached", "connection refused"))
	res, err := http.Post(w.server.URL+botapi.Path("a1")+"/bot"+placeholder+"/sendMessage", "application/json", strings.NewReader(`{}`))
	if err == nil {
		_ = res.Body.Close()
		t.Errorf("a message that was not sent was answered with %d: a gateway repeats what the network has lost", res.StatusCode)
	}
}

// Messages for which the server has no memory stay with Telegram.
func TestMessagesWaitForMemory(t *testing.T) {
	t.Parallel()
	memory := budget.New(budget.Settings{Resource: "memory", Total: 1 << 20})
	release, err := memory.Acquire(t.Context(), "others", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	bot := openclawtest.NewTelegram()
	t.Cleanup(bot.Close)
	w := newWorldWith(t, bot, bot.URL, memory)
	bot.Write(1, 42, "Eve", "hello")
	got := w.keepPolling()
	w.until("no memory", failedWith("no memory left"))
	release()
	select {
	case kind := <-got:
		if kind != "message 1" {
			t.Errorf("got %s", kind)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the message did not come")
	}
	w.until("memory again", connected)
	w.proxy.Drain() // no answer is being read any more
	deadline := time.Now().Add(10 * time.Second)
	for {
		if _, err := memory.Acquire(t.Context(), "others", 1<<20); err == nil {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("memory was not given back: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A token that another agent has connects nobody: nothing is sent to Telegram.
func TestATakenTokenIsNotUsed(t *testing.T) {
	w := newWorld(t)
	w.taken = true
	if status, _, _ := w.call("getMe", ""); status != http.StatusConflict {
		t.Errorf("getMe: %d", status)
	}
	w.keepPolling()
	w.until("a taken token", failedWith("Another agent has the token."))
	if n := len(w.bot.Paths()); n != 0 {
		t.Errorf("%d calls reached Telegram", n)
	}
}

// TestTheTokenIsMaskedInEverything: a server that echoes the token in its answers, in two
// pieces and in other spellings.
func TestTheTokenIsMaskedInEverything(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
	}{
		"a success":      {200, `{"ok":true,"result":{"file_path":"/var/lib/telegram-bot-api/` + token + `/photos/f.jpg","again":"` + strings.ReplaceAll(token, ":", "%3A") + `"}}`},
		"an error":       {400, `{"ok":false,"error_code":400,"description":"Bad Request: ` + token + `"}`},
		"a proxy's page": {502, "<html>" + token + "</html>"},
		"a redirect":     {302, token},
		"no answer":      {200, token},
	} {
		t.Run(name, func(t *testing.T) {
			upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "https://elsewhere.test/bot"+token)
				w.Header().Set("X-Echo", token)
				w.WriteHeader(c.status)
				for i := range len(c.body) { // one byte each
					_, _ = io.WriteString(w, c.body[i:i+1])
					if i%7 == 0 {
						_ = http.NewResponseController(w).Flush()
					}
				}
			}))
			defer upstream.Close()
			w := newWorldAt(t, nil, upstream.URL)
			for _, method := range []string{"getFile", "getMe", "sendMessage"} {
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, w.server.URL+botapi.Path("a1")+"/bot"+placeholder+"/"+method, strings.NewReader(`{}`))
				client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
				res, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				head := fmt.Sprint(res.Header)
				if err != nil || strings.Contains(string(text)+head, token) || strings.Contains(string(text), strings.ReplaceAll(token, ":", "%3A")) {
					t.Errorf("%s: %s %s %v", method, head, text, err)
				}
				if c.status == 200 && !strings.Contains(string(text), placeholder) {
					t.Errorf("%s: %s", method, text)
				}
			}
		})
	}
}

// A gateway that asks again has given up its last call, and a server that stops ends them.
func TestPollsEnd(t *testing.T) {
	w := newWorld(t)
	poll := func() <-chan error {
		ended := make(chan error, 1)
		go func() {
			res, err := http.Post(w.server.URL+botapi.Path("a1")+"/bot"+placeholder+"/getUpdates", "application/json", strings.NewReader(`{"timeout":30}`))
			if err == nil {
				_, err = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
			ended <- err
		}()
		return ended
	}
	w.bot.Fail("getUpdates", openclawtest.Fail{Status: 500, Description: "Internal Server Error"}) // so that a call waits
	first := poll()
	w.until("the first call", failedWith("Internal Server Error"))
	second := poll()
	if err := <-first; err == nil {
		t.Error("the first call was answered")
	}
	w.proxy.Drain()
	if err := <-second; err == nil {
		t.Error("a call was answered by a server that stops")
	}
}

func TestNewRefusesAnInvalidAddress(t *testing.T) {
	for _, address := range []string{"127.0.0.1:8081", "ftp://host", "http://", "http://host/?x=1"} {
		if _, err := botapi.New(botapi.Settings{URL: address}); err == nil {
			t.Errorf("%q was accepted", address)
		}
	}
}

// A gateway that is held gets its messages when it is not any more.
func TestUpdatesWaitForTheGateway(t *testing.T) {
	w := newWorld(t)
	held, asked := make(chan struct{}), make(chan struct{})
	p, err := botapi.New(botapi.Settings{Resolver: w, Reporter: w, URL: w.bot.URL, Log: slog.New(slog.DiscardHandler), Deliver: func(ctx context.Context, id identity.AgentID) error {
		close(asked)
		<-held
		return ctx.Err()
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	w.server = server
	w.bot.Write(1, 7, "Ann", "hello")
	answered := make(chan string, 1)
	go func() { _, text, _ := w.call("getUpdates", `{"timeout":5}`); answered <- text }()
	<-asked
	select {
	case text := <-answered:
		t.Errorf("in the hold the gateway got %s", text)
	default:
	}
	close(held)
	if text := <-answered; !strings.Contains(text, "hello") {
		t.Errorf("after the hold the gateway got %s", text)
	}
}
