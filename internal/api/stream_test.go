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

	"agento.host/agento/internal/identity"
)

// events is an answer that is still being written.
type events struct {
	t      testing.TB
	res    *http.Response
	in     *bufio.Reader
	leave  context.CancelFunc
	header http.Header
}

// listen sends a request and returns as soon as the answer has begun.
func (c *caller) listen(method, path string, body any) *events {
	c.h.t.Helper()
	ctx, leave := context.WithCancel(context.Background())
	res, err := http.DefaultClient.Do(c.request(ctx, method, path, body)) //nolint:bodyclose // events.close does
	if err != nil {
		leave()
		c.h.t.Fatalf("%s %s: %v", method, path, err)
	}
	e := &events{t: c.h.t, res: res, in: bufio.NewReader(res.Body), leave: leave, header: res.Header}
	c.h.t.Cleanup(e.close)
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		c.h.t.Fatalf("%s %s: %d %s", method, path, res.StatusCode, text)
	}
	return e
}

func (c *caller) chat(agentID, message string) *events {
	c.h.t.Helper()
	return c.listen("POST", "/v1/agents/"+agentID+"/chat/messages", map[string]string{"message": message})
}

func (e *events) close() {
	e.leave()
	_ = e.res.Body.Close()
}

// next is the next line that is not empty; io.EOF as text at the end.
func (e *events) next() string {
	e.t.Helper()
	for {
		line, err := e.in.ReadString('\n')
		if line = strings.TrimRight(line, "\n"); line != "" {
			return line
		}
		if err != nil {
			return err.Error()
		}
	}
}

// wants reads one line and passes over heartbeats.
func (e *events) wants(line string) *events {
	e.t.Helper()
	got := e.next()
	for got == ": ping" && line != got {
		got = e.next()
	}
	if got != line {
		e.t.Fatalf("the stream says %q, want %q", got, line)
	}
	return e
}

func says(text string) string { return fmt.Sprintf(`data: {"type":"text","content":%q}`, text) }

const done = `data: {"type":"done"}`

// held is a script that says a piece, waits to be let go, and says another.
func held(first, second string) (script func(context.Context, *turn, sayFunc), letGo func()) {
	c := make(chan struct{})
	var once sync.Once
	return func(ctx context.Context, _ *turn, say sayFunc) {
		if first != "" && say(first) != nil {
			return
		}
		select {
		case <-c:
			_ = say(second)
		case <-ctx.Done():
		}
	}, func() { once.Do(func() { close(c) }) }
}

func TestWordsComeAsTheyAreWritten(t *testing.T) {
	h := open(t, plan{})
	who := h.account("acme", "")
	id := who.newAgent("A")
	script, letGo := held("I am ", "thinking.")
	h.gateways.answer(script)
	e := who.chat(id, "Hello").wants(says("I am ")) // while the gateway still holds the rest back
	letGo()
	e.wants(says("thinking.")).wants(done).wants("EOF")
	for _, name := range []string{"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Request-Id"} {
		if e.header.Get(name) == "" {
			t.Errorf("the stream has no %s", name)
		}
	}
}

func TestASilentStreamSaysThatItLives(t *testing.T) {
	h := open(t, plan{heartbeat: time.Millisecond})
	who := h.account("acme", "")
	id := who.newAgent("A")
	script, letGo := held("", "At last.")
	h.gateways.answer(script)
	e := who.chat(id, "Hello").wants(": ping").wants(": ping")
	letGo()
	e.wants(says("At last.")).wants(done)

	// Once the stream has begun, a failure is an event, though no word was said.
	script, letGo = held("", failing+"The model is on fire.")
	h.gateways.answer(script)
	e = who.chat(id, "Hello").wants(": ping")
	letGo()
	e.wants(`data: {"type":"error","code":"upstream_error","message":"The model is on fire."}`).wants("EOF")
}

func TestAFailureAfterTheFirstWordIsAnEvent(t *testing.T) {
	h := open(t, plan{})
	who := h.account("acme", "")
	id := who.newAgent("A")
	h.gateways.answer(func(_ context.Context, _ *turn, say sayFunc) {
		_ = say("Let me ")
		_ = say(failing + "The model is on fire.")
	})
	who.chat(id, "Hello").wants(says("Let me ")).
		wants(`data: {"type":"error","code":"upstream_error","message":"The model is on fire."}`).wants("EOF")

	// A gateway that dies is told of, too; the agent comes back by itself.
	script, _ := held("Let me ", "")
	h.gateways.answer(script)
	e := who.chat(id, "Hello").wants(says("Let me "))
	h.driver.Kill(identity.AgentID(id), 137)
	if got := e.next(); !strings.HasPrefix(got, `data: {"type":"error","code":"unavailable"`) {
		t.Errorf("after the gateway's death the stream says %q", got)
	}
	h.gateways.answer(parrot)
	eventually(t, "the agent to answer again", func() bool {
		a := who.do("POST", "/v1/agents/"+id+"/chat/messages", `{"message":"Back?"}`)
		return a.status == http.StatusOK && strings.Contains(a.body, "Back?")
	})
}

func TestMessagesOfOneSessionAreAnsweredInOrder(t *testing.T) {
	h := open(t, plan{heartbeat: time.Millisecond})
	who := h.account("acme", "")
	id := who.newAgent("A")
	script, letGo := held("", "done")
	h.gateways.answer(script)
	var streams []*events
	for _, message := range []string{"first", "second", "third"} {
		streams = append(streams, who.chat(id, message).wants(": ping")) // it stands in line now
	}
	if n := len(h.gateways.all()); n != 1 {
		t.Errorf("%d messages of one session are at the gateway at once", n)
	}
	// Another peer does not stand in that line.
	other := who.listen("POST", "/v1/agents/"+id+"/chat/messages", `{"message":"aside","peerId":"p"}`).wants(": ping")
	eventually(t, "the other peer's message to reach the gateway", func() bool { return len(h.gateways.all()) == 2 })
	letGo()
	for _, e := range append(streams, other) {
		e.wants(says("done")).wants(done)
	}
	var order []string
	for _, turn := range h.gateways.all() {
		order = append(order, turn.Message)
	}
	if got := strings.Join(order, " "); got != "first aside second third" {
		t.Errorf("the gateway was asked in this order: %s", got)
	}
}

func TestAClientThatLeavesEndsTheRun(t *testing.T) {
	h := open(t, plan{})
	who := h.account("acme", "")
	id := who.newAgent("A")
	script, _ := held("I was about to ", "")
	h.gateways.answer(script)
	e := who.chat(id, "Hello").wants(says("I was about to "))
	turn := h.gateways.last(t)
	e.close()
	await(t, "the gateway's request to end", turn.ended)
	eventually(t, "what was said until then to be kept", func() bool {
		return strings.Contains(who.do("GET", "/v1/agents/"+id+"/chat/messages", nil).body, "I was about to ")
	})
	if strings.Contains(h.log.String(), "level=ERROR") {
		t.Errorf("a client that leaves is no error of the server:\n%s", h.log)
	}
}

func TestAServerThatStopsEndsItsStreams(t *testing.T) {
	h := open(t, plan{})
	who := h.account("acme", "")
	id := who.newAgent("A")
	script, _ := held("One moment", "")
	h.gateways.answer(script)
	chat := who.chat(id, "Hello").wants(says("One moment"))
	log := who.listen("GET", "/v1/agents/"+id+"/logs/stream", nil)
	h.door.Drain()
	chat.wants(`data: {"type":"error","code":"unavailable","message":"The server is shutting down. Try again in a moment."}`).wants("EOF")
	log.wants("EOF")
	who.do("GET", "/readyz", nil).refuses(http.StatusServiceUnavailable, "unavailable")
}

// The wish is written, and the next server makes it come true.
func TestAServerThatStopsAnswersThoseWhoWait(t *testing.T) {
	h := open(t, plan{})
	who := h.account("acme", "")
	id := who.newAgent("A")
	who.do("POST", "/v1/agents/"+id+"/stop", nil).wants(200)
	h.driver.DelayStart(time.Hour)
	got := make(chan *answer, 1)
	go func() { got <- who.do("POST", "/v1/agents/"+id+"/start", nil) }()
	eventually(t, "the agent to be on its way", func() bool {
		return strings.Contains(who.do("GET", "/v1/agents/"+id, nil).body, `"status":"starting"`)
	})
	h.door.Drain()
	(<-got).refuses(http.StatusServiceUnavailable, "unavailable")
	who.do("GET", "/v1/agents/"+id, nil).wants(200)
	h.driver.DelayStart(0)
}

func TestTheLogIsFollowedOverRestarts(t *testing.T) {
	h := open(t, plan{})
	who := h.account("acme", "")
	id := who.newAgent("A")
	for i := range 5 {
		h.driver.Print(identity.AgentID(id), fmt.Sprintf(`{"time":"2026-02-10T14:00:0%dZ","level":"info","message":"line %d with sk-ant-test"}`, i, i))
	}
	e := who.listen("GET", "/v1/agents/"+id+"/logs/stream?tail=2", nil).
		wants("data: 2026-02-10T14:00:03.000Z [info] line 3 with [secret]").
		wants("data: 2026-02-10T14:00:04.000Z [info] line 4 with [secret]")
	who.do("POST", "/v1/agents/"+id+"/restart", nil).wants(200)
	h.driver.Print(identity.AgentID(id), `{"time":"2026-02-10T14:01:00Z","level":"warn","message":"afresh"}`)
	e.wants("data: 2026-02-10T14:01:00.000Z [warn] afresh")
	if e.header.Get("Content-Type") != "text/event-stream; charset=utf-8" || e.header.Get("X-RateLimit-Limit") == "" {
		t.Errorf("the log's headers: %v", e.header)
	}
	// Nothing is left of it once the agent is gone.
	who.do("DELETE", "/v1/agents/"+id, nil).wants(200)
	for line := e.next(); line != "EOF"; line = e.next() {
		if !strings.HasPrefix(line, "data: ") {
			t.Fatalf("after the deletion the stream says %q", line)
		}
	}
}

var lost = regexp.MustCompile(`^data: .*?(\d+) lines were lost`)

func TestASlowReaderOfTheLogHoldsUpNobody(t *testing.T) {
	h := open(t, plan{heartbeat: time.Hour})
	who := h.account("acme", "")
	id := who.newAgent("A")
	h.driver.Print(identity.AgentID(id), "first") // whoever has read it is there for all that follows
	slow := dawdle(t, who, "/v1/agents/"+id+"/logs/stream?tail=1")
	quick := who.listen("GET", "/v1/agents/"+id+"/logs/stream?tail=1", nil)
	countLines(slow, "first")
	countLines(quick.in, "first")
	const lines = 15_000 // more than the sockets hold, fewer than the fake driver forgets
	padding := strings.Repeat("x", 2000)
	seen := make(chan int)
	go func() {
		n, _ := countLines(quick.in, "last")
		seen <- n
	}()
	for i := range lines {
		h.driver.Print(identity.AgentID(id), fmt.Sprintf("%d %s", i, padding))
	}
	h.driver.Print(identity.AgentID(id), "last")
	if n := <-seen; n != lines+1 {
		t.Errorf("the quick reader got or was told of %d lines, want %d", n, lines+1)
	}
	n, gone := countLines(slow, "last")
	if n != lines+1 || gone == 0 {
		t.Errorf("the slow reader got or was told of %d lines, want %d; %d were lost", n, lines+1, gone)
	}
}

// dawdle asks for a stream and does not read it.
func dawdle(t *testing.T, who *caller, path string) *bufio.Reader {
	t.Helper()
	u, err := url.Parse(who.h.url)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // before the body, whose Close would read on
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nX-Api-Key: %s\r\n\r\n", path, u.Host, who.key); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil) //nolint:bodyclose // ends with the connection
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("the stream did not begin: %v %v", res, err)
	}
	return bufio.NewReader(res.Body)
}

// countLines counts events up to the last, with those that were lost.
func countLines(in *bufio.Reader, last string) (n, gone int) {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return n, gone
		}
		if m := lost.FindStringSubmatch(line); m != nil {
			more, _ := strconv.Atoi(m[1]) // digits, as the expression says
			n, gone = n+more, gone+more
		} else if strings.HasPrefix(line, "data: ") {
			n++
		}
		if strings.HasSuffix(strings.TrimSpace(line), last) {
			return n, gone
		}
	}
}
