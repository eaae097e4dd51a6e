package api_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/openaiapi/clienttest"
	"agento.host/agento/internal/openclaw/install"
)

// memory is a model that remembers what it was told, by session.
type memory struct {
	pause time.Duration // before the second half of each answer

	mu   sync.Mutex
	told map[string]string // guarded by mu
}

var nameIsTold = regexp.MustCompile(`My name is (\w+)`)

// answer is an apitest.Script.
func (m *memory) answer(ctx context.Context, t *apitest.Turn, send apitest.Send) {
	m.mu.Lock()
	m.told[t.Session] += t.Message + "\n"
	told := m.told[t.Session]
	m.mu.Unlock()
	text := "Noted, thanks."
	if strings.HasSuffix(t.Message, "What is my name?") {
		text = "I do not know."
		if all := nameIsTold.FindAllStringSubmatch(told, -1); len(all) > 0 {
			text = "Your name is " + all[len(all)-1][1]
		}
	}
	_ = send(text[:5])
	select {
	case <-time.After(m.pause):
		_ = send(text[5:])
	case <-ctx.Done():
	}
}

// TestOpenAIClients are the real ones: newer ones of two languages here, and all of them in
// make chaos-openai.
func TestOpenAIClients(t *testing.T) {
	clients := []string{"openai-7", "openai-go-3"}
	if os.Getenv("AGENTO_CHAOS") != "" {
		clients = clienttest.All()
	}
	runtime, err := install.Install(t.Context(), install.Settings{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	env := newEnv(t, options{Heartbeat: 100 * time.Millisecond}) // some in each answer
	mine := env.newAccount("mine", "")
	agent := mine.newAgent("Ada")
	breaker := clienttest.NewBreaker(t, env.URL)
	all := clienttest.New(t, runtime.Node, env.URL+"/openai/v1", mine.key)
	for _, client := range clients {
		t.Run(client, func(t *testing.T) {
			c := &openAIClient{t: t, env: env, mine: mine, agent: agent, Clients: all, broken: all.At(breaker.URL + "/openai/v1"), breaker: breaker, name: client}
			t.Run("a name without and with a conversation", c.remembers)
			t.Run("errors are not repeated", c.fails)
			t.Run("repetitions", c.repeats)
		})
	}
}

// openAIClient is one of the real clients.
type openAIClient struct {
	t       *testing.T
	env     *testEnv
	mine    *caller
	agent   string
	name    string
	broken  *clienttest.Clients
	breaker *clienttest.Breaker
	*clienttest.Clients
}

// remembers tells a name and asks for it, with the history that the client keeps.
func (c *openAIClient) remembers(t *testing.T) {
	c.env.Gateways.SetScript((&memory{pause: 250 * time.Millisecond, told: map[string]string{}}).answer)
	for _, stream := range []bool{false, true} {
		for _, conversation := range []string{"", fmt.Sprintf("%s %t", c.name, stream)} {
			c.env.Gateways.ResetTurns()
			r := clienttest.Request{Model: "Ada", Stream: stream, Helper: stream && conversation == "", Conversation: conversation, Messages: []clienttest.Message{{Role: "user", Content: "My name is Xenia."}}}
			first := c.Ask(c.name, r)
			r.Messages = append(r.Messages, clienttest.Message{Role: "assistant", Content: first.Text}, clienttest.Message{Role: "user", Content: "What is my name?"})
			second := c.Ask(c.name, r)
			if first.Text != "Noted, thanks." || second.Text != "Your name is Xenia" || second.Finish != "stop" {
				t.Errorf("stream %t, conversation %q: got %+v and %+v", stream, conversation, first, second)
			}
			turns := c.env.Gateways.Turns()
			if len(turns) != 2 {
				t.Fatalf("stream %t, conversation %q: %d model calls", stream, conversation, len(turns))
			}
			alone := turns[1].Message == "What is my name?"
			if alone != (conversation != "") || (turns[0].Session == turns[1].Session) != (conversation != "") {
				t.Errorf("stream %t, conversation %q: the model has got %q", stream, conversation, turns[1].Message)
			}
			if strings.HasPrefix(c.name, "openai-") && !strings.Contains(c.name, "go") && (len(second.Models) != 1 || second.Models[0] != c.agent) {
				t.Errorf("models %v", second.Models)
			}
		}
	}
}

// fails asks for what fails for good: there is one request.
func (c *openAIClient) fails(t *testing.T) {
	c.env.Gateways.SetScript(apitest.AnswerOnce(apitest.FailurePrefix + "the model is overloaded"))
	for _, stream := range []bool{false, true} {
		c.env.Gateways.ResetTurns()
		c.breaker.Break("")
		got := c.broken.Ask(c.name, clienttest.Request{Model: c.agent, Stream: stream, Messages: []clienttest.Message{{Role: "user", Content: "hello"}}})
		if got.Error == "" || got.Status != 502 && !strings.Contains(got.Error, "overloaded") {
			t.Errorf("stream %t: got %+v", stream, got)
		}
		requests, turns := c.breaker.Requests(), len(c.env.Gateways.Turns())
		t.Logf("stream %t: status %d, %d requests, %d model calls", stream, got.Status, requests, turns)
		if readsShouldRetry(c.name) && (requests != 1 || turns != 1) {
			t.Errorf("stream %t: %d requests and %d model calls", stream, requests, turns)
		}
	}
}

// readsShouldRetry reports whether a client reads X-Should-Retry. The others decide by the status.
func readsShouldRetry(client string) bool { return client != "ai" && client != "langchain" }

// repeats breaks the first request of each kind: the client, or the program that uses it, repeats
// it, and there is one model call and one message.
func (c *openAIClient) repeats(t *testing.T) {
	c.env.Gateways.SetScript((&memory{pause: 1200 * time.Millisecond, told: map[string]string{}}).answer)
	for _, b := range []struct {
		how     clienttest.Breakage
		stream  bool
		timeout int
		byHand  bool // the client does not repeat it itself, and reports an error
	}{
		{how: clienttest.Refuse}, {how: clienttest.Refuse, stream: true}, {how: clienttest.Cut},
		{how: clienttest.Stall, timeout: 900, byHand: strings.HasPrefix(c.name, "openai-go")},
		{how: clienttest.CutMid, stream: true, byHand: true},
	} {
		t.Run(fmt.Sprintf("%s, stream %t", b.how, b.stream), func(t *testing.T) {
			if b.how == clienttest.Stall && c.name == "ai" {
				t.Skip("the AI SDK has no timeout of its own")
			}
			c.env.Gateways.ResetTurns()
			r := clienttest.Request{Model: c.agent, Stream: b.stream, Conversation: fmt.Sprintf("%s %s %t %d", c.name, b.how, b.stream, time.Now().UnixNano()), Timeout: b.timeout, Again: b.byHand, Messages: []clienttest.Message{{Role: "user", Content: "What is my name?"}}}
			c.breaker.Break(b.how)
			got := c.broken.Ask(c.name, r)
			if b.byHand != (got.First != "") {
				t.Errorf("by hand %t: %+v", b.byHand, got)
			}
			if got.Text != "I do not know." || got.Finish != "stop" {
				t.Errorf("got %+v", got)
			}
			if n := c.breaker.Requests(); n < 2 {
				t.Errorf("%d requests", n)
			}
			turns := c.env.Gateways.Turns()
			if len(turns) != 1 {
				t.Fatalf("%d model calls", len(turns))
			}
			session := strings.TrimPrefix(turns[0].Session, "agent:main:api:")
			history := c.mine.do("GET", "/v1/agents/"+c.agent+"/chat/messages?sessionId="+session, nil).expect(200)
			if n := history.field("pagination.total"); n != "2" {
				t.Errorf("the history has %s messages: %s", n, history.body)
			}
		})
	}
}
