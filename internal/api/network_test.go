package api_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"golang.org/x/net/dns/dnsmessage"

	"agento.host/agento/client"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/egress"
	"agento.host/agento/internal/egress/egresstest"
	"agento.host/agento/internal/identity"
)

// newNetwork returns an environment whose manager of networks connects to the outside of
// the test.
func newNetwork(t *testing.T) (*testEnv, *egresstest.Net, *caller) {
	t.Helper()
	n := egresstest.New(t)
	env := newEnv(t, options{Network: func(s *egress.Settings) { n.Adjust(s) }})
	return env, n, env.newAccount("mine", "")
}

func (c *caller) newAgentOf(body string) string {
	c.env.T.Helper()
	return c.do("POST", "/v1/agents", body).expect(201).field("data.id")
}

func (c *caller) network(agent string) client.Network {
	c.env.T.Helper()
	n, err := c.client().Network(c.env.T.Context(), agent)
	if err != nil {
		c.env.T.Fatal(err)
	}
	return n
}

func TestEgressPolicyOfAnAgent(t *testing.T) {
	_, _, mine := newNetwork(t)
	id := mine.newAgentOf(`{"name":"A","secrets":{"anthropicApiKey":"sk-ant-test"}}`)
	if n := mine.network(id); n.Egress != "open" || len(n.Hosts) != 0 || n.Limits.Connections != 256 || n.Limits.DialSeconds != 10 || n.Limits.IdleSeconds != 900 {
		t.Errorf("by default: %+v", n)
	}
	for config, want := range map[string][]string{
		`{"sharedMode":true}`:                            {"model"},
		`{"egress":["*.Example.com","203.0.113.7:443"]}`: {"list", "*.example.com", "203.0.113.7:443"},
		`{"egress":"none"}`:                              {"none"},
		`{"egress":"open"}`:                              {"open"},
	} {
		a := mine.do("PATCH", "/v1/agents/"+id, `{"config":`+config+`}`).expect(200)
		if a.field("data.needsRestart") != "false" {
			t.Errorf("%s needs a restart: %s", config, a.body)
		}
		if n := mine.network(id); n.Egress != want[0] || strings.Join(n.Hosts, " ") != strings.Join(want[1:], " ") {
			t.Errorf("%s: %+v", config, n)
		}
		mine.do("PATCH", "/v1/agents/"+id, `{"config":{"egress":null,"sharedMode":null}}`).expect(200)
	}
	for config, want := range map[string]string{
		`"list"`:                      "must be the list itself",
		`"all"`:                       `must be \"open\", \"model\", \"none\" or a list`,
		`{"hosts":["a.example.com"]}`: "or a list of hosts",
		`[]`:                          "at least one host",
		`["https://example.com/"]`:    "without a scheme",
		`["127.0.0.1"]`:               "a loopback address, which is never allowed",
	} {
		a := mine.do("PATCH", "/v1/agents/"+id, `{"config":{"egress":`+config+`}}`).expectError(http.StatusBadRequest, "invalid_request")
		if !strings.Contains(a.body, `"config.egress"`) || !strings.Contains(a.body, want) {
			t.Errorf("%s: %s", config, a.body)
		}
	}
}

// A change of the policy is in force when the gateway has not been restarted, and what is
// refused is an event that says how to allow it.
func TestPolicyChangesAtOnceAndRefusalsAreEvents(t *testing.T) {
	env, n, mine := newNetwork(t)
	id := mine.newAgentOf(`{"name":"A","secrets":{"anthropicApiKey":"sk-ant-test"},"config":{"egress":["other.example.com"]}}`)
	n.Attach(env.Network, identity.AgentID(id))
	if a := n.Query("api.example.com", dnsmessage.TypeA); a.RCode != dnsmessage.RCodeNameError {
		t.Errorf("a name that is not on the list: %+v", a)
	}
	refused := mine.network(id).Refused
	if len(refused) != 1 || refused[0].Host != "api.example.com" || refused[0].Reason != "policy" || refused[0].Count != 1 ||
		refused[0].Allow != `Add "api.example.com" to the list config.egress.` {
		t.Errorf("refused: %+v", refused)
	}
	audit := mine.do("GET", "/v1/audit?action=egress.refused", nil).expect(200)
	if !strings.Contains(audit.body, `"host":"api.example.com"`) || !strings.Contains(audit.body, `Add \"api.example.com\" to the list config.egress.`) {
		t.Errorf("the audit log: %s", audit.body)
	}
	mine.do("PATCH", "/v1/agents/"+id, `{"config":{"egress":["other.example.com","api.example.com"]}}`).expect(200)
	apitest.WaitUntil(t, "an answer", func() bool { return n.Query("api.example.com", dnsmessage.TypeA).Addr.IsValid() })
}

// A shared agent reaches Slack, its WebSocket and its files, and nothing else.
func TestSharedAgentReachesSlackOnly(t *testing.T) {
	env, n, mine := newNetwork(t)
	fake := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "wss-primary.slack.com" {
			_, _ = io.WriteString(w, `{"ok":true,"url":"wss://wss-primary.slack.com/link/?ticket=1"}`)
			return
		}
		if c, err := websocket.Accept(w, r, nil); err == nil {
			_ = c.Write(r.Context(), websocket.MessageText, []byte(`{"type":"hello"}`))
			_ = c.Close(websocket.StatusNormalClosure, "")
		}
	}))
	defer fake.Close()
	n.At(egresstest.Public+":443", fake.Listener.Addr())
	for _, name := range []string{"slack.com", "wss-primary.slack.com", "files.slack.com", "example.com"} {
		n.Host(name, egresstest.Public)
	}
	id := mine.newAgentOf(`{"name":"A","secrets":{"anthropicApiKey":"sk-ant-test","slackBotToken":"xoxb-1","slackAppToken":"xapp-1"},"config":{"sharedMode":true}}`)
	n.Attach(env.Network, identity.AgentID(id))

	agent := &http.Client{Transport: &http.Transport{
		DialTLSContext: func(_ context.Context, _, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			c := tls.Client(n.ConnectTo(host, 443), &tls.Config{ServerName: host, InsecureSkipVerify: true})
			return c, c.Handshake()
		},
	}}
	for _, url := range []string{"https://slack.com/api/apps.connections.open", "https://files.slack.com/x"} {
		res, err := agent.Post(url, "application/json", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _ = res.Body.Close(); res.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", url, res.StatusCode)
		}
	}
	ws, res, err := websocket.Dial(t.Context(), "wss://wss-primary.slack.com/link/?ticket=1", &websocket.DialOptions{HTTPClient: agent})
	if err != nil {
		t.Fatal(err)
	}
	if res.Body != nil {
		defer func() { _ = res.Body.Close() }()
	}
	if _, hello, err := ws.Read(t.Context()); err != nil || !strings.Contains(string(hello), "hello") {
		t.Errorf("the WebSocket says %q, %v", hello, err)
	}
	_ = ws.CloseNow()
	for _, name := range []string{"example.com", "api.telegram.org", "api.anthropic.com"} {
		if a := n.Query(name, dnsmessage.TypeA); a.RCode != dnsmessage.RCodeNameError {
			t.Errorf("%s: %+v", name, a)
		}
	}
	// Calls of the Bot API go through the server, so the agent needs no way to Telegram.
	mine.do("PATCH", "/v1/agents/"+id, `{"secrets":{"telegramBotToken":"1:bot"},"config":{"channels":{"slack":false}}}`).expect(200)
	apitest.WaitUntil(t, "the end of Slack, which is disabled now", func() bool { return n.Query("slack.com", dnsmessage.TypeA).RCode == dnsmessage.RCodeNameError })
	if a := n.Query("api.telegram.org", dnsmessage.TypeA); a.RCode != dnsmessage.RCodeNameError {
		t.Errorf("api.telegram.org: %+v", a)
	}
}

func TestInstallNamesTheHostsToAdd(t *testing.T) {
	_, _, mine := newNetwork(t)
	id := mine.newAgentOf(`{"name":"A","secrets":{"anthropicApiKey":"sk-ant-test"},"config":{"egress":["*.example.com"]}}`)
	mine.do("POST", "/v1/skills", `{"id":"weather","name":"Weather","version":"1.0.0","skillMd":"---\nname: weather\ndescription: The weather.\nmetadata: {\"openclaw\":{\"requires\":{\"hosts\":[\"api.example.com\",\"Weather.Example.org\",\"10.0.0.1:53\"]}}}\n---\nAsk."}`).expect(201)
	a := mine.do("POST", "/v1/agents/"+id+"/skills", `{"skillId":"weather","trustLevel":"custom"}`).expect(201)
	if !strings.Contains(a.body, `"hostsToAdd":["weather.example.org","10.0.0.1:53"]`) {
		t.Errorf("with a list: %s", a.body)
	}
	open := mine.newAgentOf(`{"name":"B","secrets":{"anthropicApiKey":"sk-ant-test"}}`)
	if a := mine.do("POST", "/v1/agents/"+open+"/skills", `{"skillId":"weather","trustLevel":"custom"}`).expect(201); strings.Contains(a.body, "hostsToAdd") {
		t.Errorf("with an open network: %s", a.body)
	}
}
