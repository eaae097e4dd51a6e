package api_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/identity"
)

// eventStream is a response that is still being written.
type eventStream struct {
	t      testing.TB
	res    *http.Response
	in     *bufio.Reader
	cancel context.CancelFunc
	header http.Header
}

// openStream sends a request and returns as soon as the response has begun.
func (c *caller) openStream(method, path string, body any) *eventStream {
	c.env.T.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	res, err := http.DefaultClient.Do(c.request(ctx, method, path, body)) //nolint:bodyclose // eventStream.close does
	if err != nil {
		cancel()
		c.env.T.Fatalf("%s %s: %v", method, path, err)
	}
	e := &eventStream{t: c.env.T, res: res, in: bufio.NewReader(res.Body), cancel: cancel, header: res.Header}
	c.env.T.Cleanup(e.close)
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		c.env.T.Fatalf("%s %s: %d %s", method, path, res.StatusCode, text)
	}
	return e
}

func (c *caller) chat(agentID, message string) *eventStream {
	c.env.T.Helper()
	return c.openStream("POST", "/v1/agents/"+agentID+"/chat/messages", map[string]string{"message": message})
}

func (e *eventStream) close() {
	e.cancel()
	_ = e.res.Body.Close()
}

// next returns the next line that is neither empty nor an id, or the text of io.EOF at the end.
func (e *eventStream) next() string {
	e.t.Helper()
	for {
		line, err := e.in.ReadString('\n')
		if line = strings.TrimRight(line, "\n"); line != "" && !strings.HasPrefix(line, "id: ") {
			return line
		}
		if err != nil {
			return err.Error()
		}
	}
}

// expect reads one line, skipping heartbeats, and fails the test unless it is line.
func (e *eventStream) expect(line string) *eventStream {
	e.t.Helper()
	got := e.next()
	for strings.HasPrefix(got, ": ") && line != got {
		got = e.next()
	}
	if got = sessionOfDone.ReplaceAllString(got, ""); got != line {
		e.t.Fatalf("the stream sends %q, want %q", got, line)
	}
	return e
}

// expectPrefix reads until a line that is no heartbeat, which must begin with prefix, and returns it.
func (e *eventStream) expectPrefix(prefix string) string {
	e.t.Helper()
	got := e.next()
	for strings.HasPrefix(got, ": ") {
		got = e.next()
	}
	if !strings.HasPrefix(got, prefix) {
		e.t.Fatalf("the stream sends %q, want %q", got, prefix)
	}
	return got
}

// sessionOfDone is the session in the last event; it is another one in each test.
var sessionOfDone = regexp.MustCompile(`,"sessionId":"sess_[a-z2-7]+"`)

func textEvent(text string) string { return fmt.Sprintf(`data: {"type":"text","content":%q}`, text) }

const doneEvent = `data: {"type":"done","stopReason":"end"}`

// pausedAnswer returns a script that sends a piece, waits for resume and sends another.
func pausedAnswer(first, second string) (script func(context.Context, *apitest.Turn, apitest.Send), resume func()) {
	c := make(chan struct{})
	var once sync.Once
	return func(ctx context.Context, _ *apitest.Turn, send apitest.Send) {
		if first != "" && send(first) != nil {
			return
		}
		select {
		case <-c:
			_ = send(second)
		case <-ctx.Done():
		}
	}, func() { once.Do(func() { close(c) }) }
}

func TestChatStreamsTextAsItArrives(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	id := who.newAgent("A")
	script, resume := pausedAnswer("I am ", "thinking.")
	env.Gateways.SetScript(script)
	e := who.chat(id, "Hello").expect(textEvent("I am ")) // before the gateway sends the rest
	resume()
	e.expect(textEvent("thinking.")).expect(doneEvent).expect("EOF")
	for _, name := range []string{"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Request-Id"} {
		if e.header.Get(name) == "" {
			t.Errorf("the stream has no %s", name)
		}
	}
}

func TestSilentStreamSendsHeartbeats(t *testing.T) {
	env := newEnv(t, options{Heartbeat: time.Millisecond})
	who := env.newAccount("acme", "")
	id := who.newAgent("A")
	script, resume := pausedAnswer("", "At last.")
	env.Gateways.SetScript(script)
	e := who.chat(id, "Hello").expect(": boot").expect(": boot")
	resume()
	e.expect(textEvent("At last.")).expect(doneEvent)

	// Once the stream has begun, a failure is an event, even if no text was sent.
	script, resume = pausedAnswer("", apitest.FailurePrefix+"The model is on fire.")
	env.Gateways.SetScript(script)
	e = who.chat(id, "Hello").expect(": boot")
	resume()
	e.expect(`data: {"type":"error","code":"upstream_error","message":"The model is on fire."}`).expect("EOF")
}

func TestFailureAfterTheFirstTextIsAnEvent(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	id := who.newAgent("A")
	env.Gateways.SetScript(func(_ context.Context, _ *apitest.Turn, send apitest.Send) {
		_ = send("Let me ")
		_ = send(apitest.FailurePrefix + "The model is on fire.")
	})
	who.chat(id, "Hello").expect(textEvent("Let me ")).
		expect(`data: {"type":"error","code":"upstream_error","message":"The model is on fire."}`).expect("EOF")

	// The death of the gateway is an event too; the agent restarts by itself.
	script, _ := pausedAnswer("Let me ", "")
	env.Gateways.SetScript(script)
	e := who.chat(id, "Hello").expect(textEvent("Let me "))
	env.Driver.Kill(identity.AgentID(id), 137)
	if got := e.next(); !strings.HasPrefix(got, `data: {"type":"error","code":"unavailable"`) {
		t.Errorf("after the gateway's death the stream sends %q", got)
	}
	env.Gateways.SetScript(apitest.Echo)
	apitest.WaitUntil(t, "the agent to answer again", func() bool {
		a := who.do("POST", "/v1/agents/"+id+"/chat/messages", `{"message":"Back?"}`)
		return a.status == http.StatusOK && strings.Contains(a.body, "Back?")
	})
}

func TestMessagesOfOneSessionAreAnsweredInOrder(t *testing.T) {
	env := newEnv(t, options{Heartbeat: time.Millisecond})
	who := env.newAccount("acme", "")
	id := who.newAgent("A")
	script, resume := pausedAnswer("", "done")
	env.Gateways.SetScript(script)
	var streams []*eventStream
	for i, message := range []string{"first", "second", "third"} {
		waits := ": queue"
		if i == 0 {
			waits = ": boot"
		}
		streams = append(streams, who.chat(id, message).expect(waits)) // it waits for its turn now
	}
	if n := len(env.Gateways.Turns()); n != 1 {
		t.Errorf("%d messages of one session are at the gateway concurrently", n)
	}
	// A message of another peer does not wait for them.
	other := who.openStream("POST", "/v1/agents/"+id+"/chat/messages", `{"message":"aside","peerId":"p"}`).expect(": boot")
	apitest.WaitUntil(t, "the other peer's message to reach the gateway", func() bool { return len(env.Gateways.Turns()) == 2 })
	resume()
	for _, e := range append(streams, other) {
		e.expect(textEvent("done")).expect(doneEvent)
	}
	var order []string
	for _, turn := range env.Gateways.Turns() {
		order = append(order, turn.Message)
	}
	if got := strings.Join(order, " "); got != "first aside second third" {
		t.Errorf("the gateway received the messages in the order %s", got)
	}
}

func TestDisconnectingCancelsTheTurnOnRequest(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	id := who.newAgent("A")
	script, _ := pausedAnswer("I was about to ", "")
	env.Gateways.SetScript(script)
	e := who.openStream("POST", "/v1/agents/"+id+"/chat/messages", `{"message":"Hello","onDisconnect":"cancel"}`).expect(textEvent("I was about to "))
	turn := env.Gateways.LastTurn(t)
	e.close()
	apitest.WaitClosed(t, "the gateway's request to end", turn.Ended)
	apitest.WaitUntil(t, "the text so far to be saved", func() bool {
		return strings.Contains(who.do("GET", "/v1/agents/"+id+"/chat/messages", nil).body, "I was about to ")
	})
	if strings.Contains(env.Log.String(), "level=ERROR") {
		t.Errorf("a client that disconnects was logged as an error of the server:\n%s", env.Log)
	}
}

// TestChatEventsAreNumbered compares the whole response.
func TestChatEventsAreNumbered(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	id := who.newAgent("A")
	got := who.do("POST", "/v1/agents/"+id+"/chat/messages", `{"message":"Hello"}`).expect(200)
	want := "id: 1\ndata: {\"type\":\"text\",\"content\":\"You said: \"}\n\n" +
		"id: 2\ndata: {\"type\":\"text\",\"content\":\"Hello\"}\n\nid: 3\ndata: {\"type\":\"done\",\"stopReason\":\"end\"}\n\n"
	if session := who.do("GET", "/v1/agents/"+id+"/chat/sessions", nil).field("data.0.id"); !strings.Contains(got.body, `"sessionId":"`+session+`"`) {
		t.Errorf("the stream %q does not name the session %s", got.body, session)
	}
	got.body = sessionOfDone.ReplaceAllString(got.body, "")
	if got.body != want {
		t.Errorf("the stream is %q, want %q", got.body, want)
	}
	turn := "/v1/agents/" + id + "/chat/turns/" + got.header.Get("X-Turn-Id")
	rest := want[strings.Index(want, "id: 2"):]
	for _, again := range []*response{
		who.do("GET", turn+"/stream?after=1", nil), who.do("GET", turn+"/stream", nil, "Last-Event-ID", "1"),
	} {
		if sessionOfDone.ReplaceAllString(again.expect(200).body, "") != rest {
			t.Errorf("%s sends %q, want %q", again.request, again.body, rest)
		}
	}
	if all := who.do("GET", turn+"/stream?after=3", nil).expect(200).body; all != "" {
		t.Errorf("after the last event the stream sends %q", all)
	}
	found := who.do("GET", turn, nil).expect(200)
	if found.field("data.state") != "done" || found.field("data.text") != "You said: Hello" || found.field("data.stopReason") != "completed" || found.field("data.error") != "null" {
		t.Errorf("the turn: %s", found.body)
	}
	if n := who.do("GET", "/v1/agents/"+id+"/chat/turns?state=done&limit=5", nil).expect(200).field("data.*"); n != "1" {
		t.Errorf("%s turns are listed", n)
	}
	other := env.newAccount("rival", "")
	for _, path := range []string{turn, turn + "/stream"} {
		other.do("GET", path, nil).expectError(http.StatusNotFound, "not_found")
	}
	other.do("POST", turn+"/cancel", nil).expectError(http.StatusNotFound, "not_found")
	who.do("GET", "/v1/agents/"+id+"/chat/turns/turn_none", nil).expectError(http.StatusNotFound, "not_found")
}

// TestTurnGoesOnWithoutItsReader: another reader goes on where the first left.
func TestTurnGoesOnWithoutItsReader(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	id := who.newAgent("A")
	script, resume := pausedAnswer("I am ", "thinking.")
	env.Gateways.SetScript(script)
	first := who.chat(id, "Hello").expect(textEvent("I am "))
	first.close()
	turn := "/v1/agents/" + id + "/chat/turns/" + first.header.Get("X-Turn-Id")
	second := who.openStream("GET", turn+"/stream?after=1", nil)
	resume()
	second.expect(textEvent("thinking.")).expect(doneEvent).expect("EOF")
	if body := who.do("GET", "/v1/agents/"+id+"/chat/messages", nil).body; !strings.Contains(body, "I am thinking.") {
		t.Errorf("the history is %s", body)
	}
}

func TestCancellingATurnEndsItsStream(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	id := who.newAgent("A")
	script, _ := pausedAnswer("I was about to ", "")
	env.Gateways.SetScript(script)
	e := who.chat(id, "Hello").expect(textEvent("I was about to "))
	began := time.Now()
	cancelled := who.do("POST", "/v1/agents/"+id+"/chat/turns/"+e.header.Get("X-Turn-Id")+"/cancel", nil).expect(200)
	apitest.WaitClosed(t, "the gateway's request to end", env.Gateways.LastTurn(t).Ended)
	if took := time.Since(began); cancelled.field("data.state") != "cancelled" || took > time.Second {
		t.Errorf("after %v: %s", took, cancelled.body)
	}
	e.expect(`data: {"type":"error","code":"conflict","message":"The turn was cancelled.","stopReason":"cancelled"}`).expect("EOF")
}

func TestDrainEndsStreams(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	id := who.newAgent("A")
	script, _ := pausedAnswer("One moment", "")
	env.Gateways.SetScript(script)
	chat := who.chat(id, "Hello").expect(textEvent("One moment"))
	log := who.openStream("GET", "/v1/agents/"+id+"/logs/stream", nil)
	env.Server.Drain()
	chat.expect(`data: {"type":"error","code":"unavailable","message":"The server is shutting down. Try again in a moment."}`).expect("EOF")
	log.expect("EOF")
	who.do("GET", "/readyz", nil).expectError(http.StatusServiceUnavailable, "unavailable")
}

// The desired state has been saved, so the next server starts the agent.
func TestDrainAnswersWaitingRequests(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	id := who.newAgent("A")
	who.do("POST", "/v1/agents/"+id+"/stop", nil).expect(200)
	env.Driver.DelayStart(time.Hour)
	got := make(chan *response, 1)
	go func() { got <- who.do("POST", "/v1/agents/"+id+"/start", nil) }()
	apitest.WaitUntil(t, "the agent to be starting", func() bool {
		return strings.Contains(who.do("GET", "/v1/agents/"+id, nil).body, `"status":"starting"`)
	})
	env.Server.Drain()
	(<-got).expectError(http.StatusServiceUnavailable, "unavailable")
	who.do("GET", "/v1/agents/"+id, nil).expect(200)
	env.Driver.DelayStart(0)
}

func TestLogStreamSurvivesRestarts(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	id := who.newAgent("A")
	for i := range 5 {
		env.Driver.Print(identity.AgentID(id), fmt.Sprintf(`{"time":"2026-02-10T14:00:0%dZ","level":"info","subsystem":"gateway","message":"line %d with sk-ant-test"}`, i, i))
	}
	e := who.openStream("GET", "/v1/agents/"+id+"/logs/stream?tail=2", nil).
		expect("data: 2026-02-10T14:00:03.000Z [info] gateway: line 3 with [secret]").
		expect("data: 2026-02-10T14:00:04.000Z [info] gateway: line 4 with [secret]")
	who.do("POST", "/v1/agents/"+id+"/restart", nil).expect(200)
	env.Driver.Print(identity.AgentID(id), `{"time":"2026-02-10T14:01:00Z","level":"warn","message":"afresh"}`)
	e.expect("data: 2026-02-10T14:01:00.000Z [warn] afresh")
	if e.header.Get("Content-Type") != "text/event-stream; charset=utf-8" || e.header.Get("X-RateLimit-Limit") == "" {
		t.Errorf("the log's headers: %v", e.header)
	}
	// The stream ends when the agent is deleted.
	who.do("DELETE", "/v1/agents/"+id, nil).expect(200)
	for line := e.next(); line != "EOF"; line = e.next() {
		if !strings.HasPrefix(line, "data: ") {
			t.Fatalf("after the deletion the stream sends %q", line)
		}
	}
}

var lost = regexp.MustCompile(`^data: .*?(\d+) lines were lost`)

func TestSlowLogReaderDoesNotDelayOthers(t *testing.T) {
	env := newEnv(t, options{Heartbeat: time.Hour})
	who := env.newAccount("acme", "")
	id := who.newAgent("A")
	env.Driver.Print(identity.AgentID(id), "first") // a reader that has received it also receives everything that follows
	slow := openUnread(t, who, "/v1/agents/"+id+"/logs/stream?tail=1")
	fast := who.openStream("GET", "/v1/agents/"+id+"/logs/stream?tail=1", nil)
	countLines(slow, "first")
	countLines(fast.in, "first")
	const lines = 15_000 // more than the sockets buffer, fewer than the fake driver drops
	padding := strings.Repeat("x", 2000)
	seen := make(chan int)
	go func() {
		n, _ := countLines(fast.in, "last")
		seen <- n
	}()
	for i := range lines {
		env.Driver.Print(identity.AgentID(id), fmt.Sprintf("%d %s", i, padding))
	}
	env.Driver.Print(identity.AgentID(id), "last")
	if n := <-seen; n != lines+1 {
		t.Errorf("the fast reader received or missed %d lines, want %d", n, lines+1)
	}
	n, missed := countLines(slow, "last")
	if n != lines+1 || missed == 0 {
		t.Errorf("the slow reader received or missed %d lines, want %d; it missed %d", n, lines+1, missed)
	}
}

// openUnread opens a stream whose events are not read.
func openUnread(t *testing.T, who *caller, path string) *bufio.Reader {
	t.Helper()
	u, err := url.Parse(who.env.URL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // before Close of the body, which would read on
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nX-Api-Key: %s\r\n\r\n", path, u.Host, who.key); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil) //nolint:bodyclose // ends with the connection
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("the stream did not begin: %v %v", res, err)
	}
	return bufio.NewReader(res.Body)
}

// countLines counts the events up to the last, and those that were lost.
func countLines(in *bufio.Reader, last string) (n, missed int) {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return n, missed
		}
		if m := lost.FindStringSubmatch(line); m != nil {
			more, _ := strconv.Atoi(m[1]) // the expression matches digits only
			n, missed = n+more, missed+more
		} else if strings.HasPrefix(line, "data: ") {
			n++
		}
		if strings.HasSuffix(strings.TrimSpace(line), last) {
			return n, missed
		}
	}
}
