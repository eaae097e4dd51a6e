package api_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/widget"
)

const widgetOrigin = "https://shop.example"

// site is a page of a website with a chat widget.
type site struct {
	*caller
	agent, id, wk, secret string
	token                 string // that the backend has signed; empty: none
	visitor               string // that the server has given; empty: none
	origin                string
}

// newSite makes a widget for an agent.
func (c *caller) newSite(agent string, settings ...string) *site {
	c.env.T.Helper()
	more := ""
	if len(settings) > 0 {
		more = "," + strings.Join(settings, ",")
	}
	a := c.do("POST", "/v1/widgets", `{"name":"Support","agentId":"`+agent+`","origins":["`+widgetOrigin+`"]`+more+`}`).expect(201)
	return &site{caller: &caller{env: c.env, account: c.account}, agent: agent, id: a.field("data.id"), wk: a.field("data.key"), secret: a.field("data.signingSecret"), origin: widgetOrigin}
}

// ask sends a request of the page.
func (p *site) ask(method, path string, body any, headers ...string) *response {
	p.env.T.Helper()
	return p.do(method, "/widget/v1/"+path, body, append(p.headers(), headers...)...)
}

func (p *site) headers() []string {
	h := []string{"X-Widget-Key", p.wk}
	if p.origin != "" {
		h = append(h, "Origin", p.origin)
	}
	if p.token != "" {
		h = append(h, "Authorization", "Bearer "+p.token)
	}
	if p.visitor != "" {
		h = append(h, "X-Widget-Visitor", p.visitor)
	}
	return h
}

// as returns the page as another visitor sees it, whose token the backend has signed.
func (p *site) as(peer string) *site {
	other := *p
	other.token, other.visitor = p.sign(jwt.MapClaims{"peerId": peer}), ""
	return &other
}

// sign returns a token with claims, and those that every token needs.
func (p *site) sign(claims jwt.MapClaims) string {
	p.env.T.Helper()
	all := jwt.MapClaims{"aud": p.id, "exp": time.Now().Add(10 * time.Minute).Unix()}
	for name, v := range claims {
		if all[name] = v; v == nil {
			delete(all, name)
		}
	}
	return signWith(p.env.T, jwt.SigningMethodHS256, []byte(p.secret), all)
}

func signWith(t testing.TB, method jwt.SigningMethod, key any, claims jwt.Claims) string {
	t.Helper()
	signed, err := jwt.NewWithClaims(method, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func newWidgetEnv(t *testing.T, settings ...string) (*site, *caller) {
	t.Helper()
	env := newEnv(t, options{})
	owner := env.newAccount("mine", "")
	return owner.newSite(owner.newAgent("Support"), settings...), owner
}

func TestWidgetVisitorChats(t *testing.T) {
	p, owner := newWidgetEnv(t, `"greeting":"Hello!"`, `"theme":{"color":"#0F766E"}`)
	v := p.ask("POST", "visits", `{}`).expect(200)
	if v.field("data.greeting") != "Hello!" || v.field("data.theme.color") != "#0f766e" || v.field("data.title") != "Support" || v.field("data.visitor") == "" {
		t.Fatalf("%s", v.body)
	}
	p.visitor = v.field("data.visitor")
	a := p.ask("POST", "messages", `{"message":"Where is my order?"}`).expect(200)
	if !strings.Contains(a.body, `"content":"You said: "`) || !strings.Contains(a.body, `"stopReason":"end"`) || a.header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(a.header.Get("Access-Control-Expose-Headers"), "X-Turn-Id") {
		t.Fatalf("%v %s", a.header, a.body)
	}
	if strings.Contains(a.body, "usage") || strings.Contains(a.body, "sess_") || strings.Contains(a.body, "costMicros") {
		t.Errorf("a visitor reads %s", a.body)
	}
	turn := a.header.Get("X-Turn-Id")
	again := p.ask("GET", "turns/"+turn+"/stream", nil, "Last-Event-ID", "1").expect(200)
	if strings.Contains(again.body, "You said") || !strings.Contains(again.body, "Where is my order?") {
		t.Errorf("after the first event comes %q", again.body)
	}
	p.ask("POST", "turns/"+turn+"/cancel", nil).expect(200)
	h := p.ask("GET", "messages", nil).expect(200)
	if h.field("data.*") != "2" || h.field("data.0.content") != "Where is my order?" || h.field("turn") != "null" {
		t.Errorf("the history is %s", h.body)
	}
	renewed := p.ask("POST", "visits", nil).expect(200)
	p.visitor = renewed.field("data.visitor")
	if h := p.ask("GET", "messages?limit=1", nil).expect(200); h.field("data.*") != "1" || h.field("pagination.hasMore") != "true" {
		t.Errorf("after another visit the history is %s", h.body)
	}
	if last := p.env.Gateways.LastTurn(t); last.Entry != "openclaw/guest" {
		t.Errorf("a visitor speaks to %s", last.Entry)
	}
	apitest.WaitUntil(t, "the tokens to be counted", func() bool {
		n, err := p.env.DB.QueryContext(t.Context(), `SELECT 1 FROM widget_turns`)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = n.Close() }()
		return !n.Next()
	})
	if w := owner.do("GET", "/v1/widgets/"+p.id, nil).expect(200); w.field("data.today.messages") != "1" || w.field("data.days.0.messages") != "1" {
		t.Errorf("%s", w.body)
	}
}

// TestWidgetTokens presents what only the customer's backend could have signed, and what it could not.
func TestWidgetTokens(t *testing.T) {
	p, owner := newWidgetEnv(t)
	other := owner.newSite(p.agent)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	soon, peer := time.Now().Add(time.Minute).Unix(), "customer-42"
	good := jwt.MapClaims{"aud": p.id, "exp": soon, "peerId": peer}
	b64 := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	payload := b64(fmt.Sprintf(`{"aud":%q,"exp":%d,"peerId":"customer-42"}`, p.id, soon))
	signed := signWith(t, jwt.SigningMethodHS256, []byte(p.secret), good)
	crit := jwt.NewWithClaims(jwt.SigningMethodHS256, good)
	crit.Header["crit"] = []string{"b64"}
	critical, err := crit.SignedString([]byte(p.secret))
	if err != nil {
		t.Fatal(err)
	}
	hostile := map[string]string{
		"alg none":              signWith(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good),
		"alg none, upper case":  b64(`{"alg":"NONE","typ":"JWT"}`) + "." + payload + ".",
		"alg RS256":             signWith(t, jwt.SigningMethodRS256, private, good),
		"alg HS512":             signWith(t, jwt.SigningMethodHS512, []byte(p.secret), good),
		"alg HS384":             signWith(t, jwt.SigningMethodHS384, []byte(p.secret), good),
		"no alg":                b64(`{"typ":"JWT"}`) + "." + payload + "." + strings.Split(signed, ".")[2],
		"other payload":         strings.Split(signed, ".")[0] + "." + payload + "x." + strings.Split(signed, ".")[2],
		"other widget's secret": signWith(t, jwt.SigningMethodHS256, []byte(other.secret), good),
		"the key as secret":     signWith(t, jwt.SigningMethodHS256, []byte(p.wk), good),
		"empty secret":          signWith(t, jwt.SigningMethodHS256, []byte(""), good),
		"other aud":             p.sign(jwt.MapClaims{"aud": other.id, "peerId": peer}),
		"two auds":              p.sign(jwt.MapClaims{"aud": []string{p.id, other.id}, "peerId": peer}),
		"no aud":                p.sign(jwt.MapClaims{"aud": nil, "peerId": peer}),
		"the key as aud":        p.sign(jwt.MapClaims{"aud": p.wk, "peerId": peer}),
		"no exp":                p.sign(jwt.MapClaims{"exp": nil, "peerId": peer}),
		"expired":               p.sign(jwt.MapClaims{"exp": time.Now().Add(-time.Second).Unix(), "peerId": peer}),
		"long exp":              p.sign(jwt.MapClaims{"exp": time.Now().Add(2 * time.Hour).Unix(), "peerId": peer}),
		"exp for ever":          p.sign(jwt.MapClaims{"exp": 1e18, "peerId": peer}),
		"exp as text":           p.sign(jwt.MapClaims{"exp": "9999999999", "peerId": peer}),
		"not yet":               p.sign(jwt.MapClaims{"nbf": time.Now().Add(10 * time.Minute).Unix(), "peerId": peer}),
		"empty peer":            p.sign(jwt.MapClaims{"peerId": ""}),
		"blank peer":            p.sign(jwt.MapClaims{"peerId": "\u200b"}),
		"long peer":             p.sign(jwt.MapClaims{"peerId": strings.Repeat("x", 300)}),
		"peer as number":        p.sign(jwt.MapClaims{"peerId": 42}),
		"context as list":       p.sign(jwt.MapClaims{"peerId": peer, "context": []string{"a"}}),
		"long name":             p.sign(jwt.MapClaims{"peerId": peer, "name": strings.Repeat("x", 200)}),
		"crit":                  critical,
		"no token":              "hello",
		"dots":                  "..",
		"huge":                  strings.Repeat("a", 20_000),
	}
	for name, token := range hostile {
		bad := *p
		bad.token = token
		for _, request := range []func() *response{
			func() *response { return bad.ask("POST", "visits", `{}`) },
			func() *response { return bad.ask("GET", "messages", nil) },
			func() *response { return bad.ask("POST", "messages", `{"message":"Hello"}`) },
		} {
			if a := request(); a.status != 401 || !strings.Contains(a.body, `"token":`) || a.header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%s: %s: %d %s", name, a.request, a.status, a.body)
			}
		}
	}
	if n := len(p.env.Gateways.Turns()); n > 0 {
		t.Errorf("%d turns were begun", n)
	}

	p.token = p.sign(jwt.MapClaims{"peerId": peer, "name": "Alice", "context": map[string]any{"plan": "Pro", "seats": 3}, "nbf": time.Now().Add(10 * time.Second).Unix(), "exp": time.Now().Add(time.Hour).Unix()})
	if v := p.ask("POST", "visits", `{}`).expect(200); v.field("data.name") != "Alice" || strings.Contains(v.body, "visitor") {
		t.Errorf("%s", v.body)
	}
	p.ask("POST", "messages", `{"message":"Hello"}`).expect(200)
	if got := p.env.Gateways.LastTurn(t).Context; !strings.Contains(got, "name: Alice\nplan: Pro\nseats: 3") {
		t.Errorf("the agent is told %q", got)
	}
	if s := owner.do("GET", "/v1/agents/"+p.agent+"/chat/sessions?peerId="+peer, nil).expect(200); s.field("data.*") != "1" {
		t.Errorf("the sessions of the peer are %s", s.body)
	}

	// A token without a peer is for the visitor that the server knows.
	anonymous := *p
	anonymous.token = p.sign(jwt.MapClaims{"context": "On the page of prices"})
	anonymous.ask("GET", "messages", nil).expect(401)
	anonymous.visitor = anonymous.ask("POST", "visits", `{}`).expect(200).field("data.visitor")
	anonymous.ask("POST", "messages", `{"message":"Hi"}`).expect(200)
	if got := p.env.Gateways.LastTurn(t); !strings.Contains(got.Context, "On the page of prices") || !strings.Contains(got.Session, "guest") {
		t.Errorf("the agent is told %+v", got)
	}
}

// A page that names the peer or the context is refused, wherever it does.
func TestWidgetPageCannotSayWhoIsThere(t *testing.T) {
	p, _ := newWidgetEnv(t)
	p = p.as("customer-1")
	turn := p.ask("POST", "messages", `{"message":"Hello"}`).expect(200).header.Get("X-Turn-Id")
	for _, field := range []string{"peerId", "context"} {
		for _, a := range []*response{
			p.ask("POST", "messages", `{"message":"Hello","`+field+`":"customer-2"}`), p.ask("POST", "visits", `{"`+field+`":"customer-2"}`),
			p.ask("POST", "turns/"+turn+"/cancel", `{"`+field+`":"customer-2"}`), p.ask("GET", "messages?"+field+"=customer-2", nil),
			p.ask("POST", "messages?"+field+"=customer-2", `{"message":"Hello"}`), p.ask("GET", "turns/"+turn+"/stream?"+field+"=customer-2", nil),
			p.ask("POST", "messages", `{"message":"Hello","`+field+`":null}`),
		} {
			if a.status != 400 || !strings.Contains(a.body, "the token that your backend signs") {
				t.Errorf("%s: %d %s", a.request, a.status, a.body)
			}
		}
	}
	for _, body := range []string{`{"message":"Hello","sessionId":"sess_1"}`, `{"message":1}`, `{"message":""}`, `{"message":"` + strings.Repeat("x", 8001) + `"}`, `[]`, `{`} {
		p.ask("POST", "messages", body).expect(400)
	}
}

func TestWidgetPeersAreIsolated(t *testing.T) {
	p, owner := newWidgetEnv(t)
	alice, bob := p.as("alice"), p.as("bob")
	turn := alice.ask("POST", "messages", `{"message":"My secret is 4711"}`).expect(200).header.Get("X-Turn-Id")
	owners := owner.do("POST", "/v1/agents/"+p.agent+"/chat/messages", `{"message":"The owner's secret is 4711"}`).expect(200).header.Get("X-Turn-Id")
	message := alice.ask("GET", "messages", nil).expect(200).field("data.0.id")
	anonymous := *p
	anonymous.visitor = p.ask("POST", "visits", nil).expect(200).field("data.visitor")
	second := owner.newSite(owner.newAgent("Other")).as("alice")
	stranger := p.env.newAccount("stranger", "")
	foreign := stranger.newSite(stranger.newAgent("Foreign")).as("alice")
	for _, who := range []*site{bob, &anonymous, second, foreign} {
		for _, id := range []string{turn, owners} {
			who.ask("GET", "turns/"+id+"/stream", nil).expect(404)
			who.ask("POST", "turns/"+id+"/cancel", nil).expect(404)
		}
		if h := who.ask("GET", "messages", nil).expect(200); h.field("data.*") != "0" {
			t.Errorf("another visitor reads %s", h.body)
		}
		who.ask("GET", "messages?before="+message, nil).expect(400)
	}
	alice.ask("GET", "turns/"+owners+"/stream", nil).expect(404)
	if h := alice.ask("GET", "messages", nil).expect(200); strings.Contains(h.body, "owner's") || h.field("data.*") != "2" {
		t.Errorf("alice reads %s", h.body)
	}

	// A visitor's token of one widget is nothing for another one, and no peer that a backend names.
	second.token, second.visitor = "", anonymous.visitor
	second.ask("GET", "messages", nil).expect(401)
	forged := *p
	forged.visitor = p.sign(jwt.MapClaims{"peerId": "alice"})
	forged.ask("GET", "messages", nil).expect(401)
	forged.visitor = ""
	forged.token = anonymous.visitor
	forged.ask("GET", "messages", nil).expect(401)
}

// The key opens nothing but the door, and the door takes no other key.
func TestWidgetKeyIsForTheDoorAlone(t *testing.T) {
	p, owner := newWidgetEnv(t)
	for _, row := range p.env.Server.Table() {
		for _, header := range []string{"X-Api-Key", "Authorization"} {
			for _, key := range []string{p.wk, p.secret, p.as("alice").token} {
				value := key
				if header == "Authorization" {
					value = "Bearer " + key
				}
				path := strings.NewReplacer("{id}", p.agent, "{turnId}", "turn_1", "{sessionId}", "sess_1", "{name}", "a", "{n}", "1", "{skillId}", "a").Replace(row.Path)
				if a := p.do(row.Method, path, nil, header, value); a.status != 401 && a.status != 429 {
					t.Fatalf("%s with the key of a widget: %d %s", a.request, a.status, a.body)
				}
			}
		}
	}
	other := *p
	for _, key := range []string{"", owner.key, "wk_00000000000000000000000000000000", strings.ToUpper(p.wk), p.wk + " "} {
		other.wk = key
		if a := other.ask("POST", "visits", nil); a.status != 401 && !strings.HasSuffix(key, " ") {
			t.Errorf("the key %q: %d %s", key, a.status, a.body)
		}
	}
	for _, path := range []string{"sessions", "turns", "agents", "turns/turn_1", "messages/1"} {
		p.as("alice").ask("GET", path, nil).expect(404)
	}
	p.as("alice").ask("DELETE", "messages", nil).expect(405)
}

// CORS is open for the door alone, without credentials.
func TestWidgetCORS(t *testing.T) {
	p, _ := newWidgetEnv(t)
	preflight := p.do("OPTIONS", "/widget/v1/messages", nil, "Origin", "https://anywhere.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type,x-widget-key").expect(204)
	for name, want := range map[string]string{"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "GET, POST", "Access-Control-Allow-Credentials": ""} {
		if got := preflight.header.Get(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	for _, want := range []string{"Authorization", "Content-Type", "Last-Event-ID", "X-Widget-Key", "X-Widget-Visitor"} {
		if !strings.Contains(preflight.header.Get("Access-Control-Allow-Headers"), want) {
			t.Errorf("%s may not be sent", want)
		}
	}
	paths := []string{"/", "/docs", "/openapi.json", "/healthz", "/readyz", "/widget/v2/messages", "/widget/frame/" + p.wk}
	for _, row := range p.env.Server.Table() {
		paths = append(paths, strings.NewReplacer("{id}", p.agent, "{", "", "}", "").Replace(row.Path))
	}
	for _, path := range paths {
		for _, method := range []string{"OPTIONS", "GET"} {
			a := p.do(method, path, nil, "Origin", widgetOrigin, "Access-Control-Request-Method", "POST")
			for name := range a.header {
				if strings.HasPrefix(name, "Access-Control") {
					t.Errorf("%s answers %s: %q", a.request, name, a.header.Get(name))
				}
			}
		}
	}
	if a := p.ask("POST", "visits", nil).expect(200); a.header.Get("Set-Cookie") != "" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", a.header)
	}
}

func TestWidgetOrigins(t *testing.T) {
	p, owner := newWidgetEnv(t)
	p = p.as("alice")
	status := func(origin string, headers ...string) int {
		page := *p
		page.origin = origin
		return page.ask("POST", "visits", nil, headers...).status
	}
	for origin, want := range map[string]int{widgetOrigin: 200, "": 200, "https://evil.example": 403, "http://shop.example": 403, "https://shop.example.evil.example": 403, "https://a.shop.example": 403, "null": 403} {
		if got := status(origin); got != want {
			t.Errorf("a page of %q: %d", origin, got)
		}
	}
	if got := status(p.env.URL); got != 200 {
		t.Errorf("a page of this server: %d", got)
	}
	owner.do("PATCH", "/v1/widgets/"+p.id, `{"origins":["https://*.example.com","http://localhost:3000"]}`).expect(200)
	for origin, want := range map[string]int{"https://a.example.com": 200, "https://a.b.example.com": 200, "https://example.com": 403, "https://evilexample.com": 403, "http://localhost:3000": 200, "http://localhost:3001": 403, widgetOrigin: 403} {
		if got := status(origin); got != want {
			t.Errorf("a page of %q: %d", origin, got)
		}
	}
	if f := p.do("GET", "/widget/frame/"+p.wk, nil).expect(200); !strings.HasSuffix(f.header.Get("Content-Security-Policy"), "frame-ancestors https://*.example.com http://localhost:3000") {
		t.Errorf("%q", f.header.Get("Content-Security-Policy"))
	}
	// An empty list is nobody.
	owner.do("PATCH", "/v1/widgets/"+p.id, `{"origins":[]}`).expect(200)
	for _, origin := range []string{"", widgetOrigin, p.env.URL} {
		if got := status(origin); got != 403 {
			t.Errorf("without origins, a page of %q: %d", origin, got)
		}
	}
	if f := p.do("GET", "/widget/frame/"+p.wk, nil).expect(200); !strings.HasSuffix(f.header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Errorf("%q", f.header.Get("Content-Security-Policy"))
	}
	p.do("GET", "/widget/frame/wk_00000000000000000000000000000000", nil).expect(404)
}

// At its limits a widget answers a sentence, which is no error.
func TestWidgetLimits(t *testing.T) {
	p, owner := newWidgetEnv(t, `"dailyMessages":3`)
	for i := range 3 {
		p.as(fmt.Sprint("peer-", i)).ask("POST", "messages", `{"message":"Hello"}`).expect(200)
	}
	p.as("peer-0").ask("POST", "messages", `{"message":" "}`).expect(400) // does not count
	a := p.as("peer-4").ask("POST", "messages", `{"message":"Hello"}`).expect(200)
	if !strings.Contains(a.body, "come back tomorrow") || !strings.Contains(a.body, `"stopReason":"limit"`) || a.header.Get("X-Turn-Id") != "" {
		t.Errorf("%s", a.body)
	}
	if n := len(p.env.Gateways.Turns()); n != 3 {
		t.Errorf("%d turns", n)
	}
	owner.do("PATCH", "/v1/widgets/"+p.id, `{"dailyMessages":1000,"dailyTokens":1}`).expect(200)
	if a := p.as("peer-5").ask("POST", "messages", `{"message":"Hello"}`).expect(200); strings.Contains(a.body, "tomorrow") {
		t.Errorf("no token was used, and it answers %s", a.body)
	}
	p.env.exec(t, `UPDATE widget_days SET tokens = 1`)
	if a := p.as("peer-5").ask("POST", "messages", `{"message":"Hello"}`).expect(200); !strings.Contains(a.body, "tomorrow") {
		t.Errorf("at the limit of tokens it answers %s", a.body)
	}
	owner.do("PATCH", "/v1/widgets/"+p.id, `{"dailyTokens":null}`).expect(200)
	alice, slow := p.as("alice"), 0
	for range 12 {
		if strings.Contains(alice.ask("POST", "messages", `{"message":"Hello"}`).expect(200).body, "Please wait a moment") {
			slow++
		}
	}
	if slow != 2 {
		t.Errorf("%d of 12 messages in a minute were too fast", slow)
	}
	// Of one address, whoever it says it is.
	for i := range 40 {
		p.as(fmt.Sprint("many-", i)).ask("POST", "messages", `{"message":"Hello"}`)
	}
	if a := p.as("one more").ask("POST", "messages", `{"message":"Hello"}`).expect(200); !strings.Contains(a.body, "Please wait a moment") {
		t.Errorf("an address sends without limit: %s", a.body)
	}
	// A message that the agent cannot take is given back.
	before := owner.do("GET", "/v1/widgets/"+p.id, nil).expect(200).field("data.today.messages")
	owner.do("POST", "/v1/agents/"+p.agent+"/stop", nil).expect(200)
	p.env.exec(t, `UPDATE widget_days SET tokens = 0`)
	if a := p.as("late").ask("POST", "messages", `{"message":"Hello"}`); a.status != 409 && a.status != 200 || strings.Contains(a.body, "POST /v1") {
		t.Errorf("a visitor of a stopped agent reads %d %s", a.status, a.body)
	}
	if after := owner.do("GET", "/v1/widgets/"+p.id, nil).expect(200).field("data.today.messages"); after != before {
		t.Errorf("%s messages were counted, then %s", before, after)
	}
}

// exec changes the database behind the server.
func (env *testEnv) exec(t *testing.T, query string) {
	t.Helper()
	err := env.DB.Tx(t.Context(), "api.test", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, query)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestWidgetsOfARestoredInstallation answer nobody if the restore has disabled them.
func TestWidgetsOfARestoredInstallation(t *testing.T) {
	p, owner := newWidgetEnv(t)
	p.ask("POST", "visits", `{}`).expect(200)
	if err := p.env.DB.Tx(t.Context(), "api.test", widget.DisableAll); err != nil {
		t.Fatal(err)
	}
	p.ask("POST", "visits", `{}`).expectError(401, "unauthorized")
	if enabled := owner.do("GET", "/v1/widgets/"+p.id, nil).expect(200).field("data.enabled"); enabled != "false" {
		t.Errorf("enabled: %s", enabled)
	}
}

// What ends a visitor's right ends the streams within seconds.
func TestWidgetStreamsEnd(t *testing.T) {
	ends := map[string]func(*site, *caller){
		"disabled":       func(p *site, o *caller) { o.do("PATCH", "/v1/widgets/"+p.id, `{"enabled":false}`).expect(200) },
		"deleted":        func(p *site, o *caller) { o.do("DELETE", "/v1/widgets/"+p.id, nil).expect(200) },
		"key rotated":    func(p *site, o *caller) { o.do("POST", "/v1/widgets/"+p.id+"/rotate", nil).expect(200) },
		"secret rotated": func(p *site, o *caller) { o.do("POST", "/v1/widgets/"+p.id+"/secret/rotate", nil).expect(200) },
		"agent deleted":  func(p *site, o *caller) { o.do("DELETE", "/v1/agents/"+p.agent, nil).expect(200) },
		"account disabled": func(p *site, o *caller) {
			if err := o.env.Access.Disable(o.env.T.Context(), identity.ByOperator(o.account)); err != nil {
				o.env.T.Fatal(err)
			}
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, owner := newWidgetEnv(t)
			p = p.as("alice")
			p.env.Gateways.SetScript(func(ctx context.Context, _ *apitest.Turn, send apitest.Send) {
				_ = send("One")
				<-ctx.Done()
			})
			res, err := http.DefaultClient.Do(p.request(t.Context(), "POST", "/widget/v1/messages", `{"message":"Hello"}`, p.headers()...))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			lines := bufio.NewReader(res.Body)
			for text := ""; !strings.Contains(text, "One"); {
				if text, err = lines.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
			}
			began := time.Now()
			end(p, owner)
			rest, err := io.ReadAll(lines)
			if took := time.Since(began); err != nil || took > 5*time.Second {
				t.Errorf("the stream ended after %s with %v", took, err)
			}
			if !strings.Contains(string(rest), `"type":"error"`) {
				t.Errorf("it ended with %q", rest)
			}
			if a := p.ask("GET", "messages", nil); a.status != 401 {
				t.Errorf("afterwards: %d %s", a.status, a.body)
			}
		})
	}
}

func TestWidgetStreamEndsWithItsToken(t *testing.T) {
	p, _ := newWidgetEnv(t)
	p.token = p.sign(jwt.MapClaims{"peerId": "alice", "exp": time.Now().Add(2 * time.Second).Unix()})
	p.env.Gateways.SetScript(func(ctx context.Context, _ *apitest.Turn, send apitest.Send) {
		_ = send("One")
		<-ctx.Done()
	})
	a := p.ask("POST", "messages", `{"message":"Hello"}`).expect(200)
	if !strings.Contains(a.body, `"code":"unauthorized"`) || !strings.Contains(a.body, "expired") {
		t.Errorf("it ended with %q", a.body)
	}
	p.token = p.sign(jwt.MapClaims{"peerId": "alice"})
	turn := p.ask("GET", "messages", nil).expect(200).field("turn")
	if turn != a.header.Get("X-Turn-Id") {
		t.Errorf("the turn that runs is %q", turn)
	}
	p.ask("POST", "turns/"+turn+"/cancel", nil).expect(200)
	if again := p.ask("GET", "turns/"+turn+"/stream", nil).expect(200); !strings.Contains(again.body, `"stopReason":"cancelled"`) || !strings.Contains(again.body, "One") {
		t.Errorf("the cancelled turn is %q", again.body)
	}
}

func TestWidgetRotation(t *testing.T) {
	p, owner := newWidgetEnv(t)
	alice := p.as("alice")
	rotated := owner.do("POST", "/v1/widgets/"+p.id+"/rotate", `{"graceSeconds":60}`).expect(200)
	alice.ask("GET", "messages", nil).expect(200)
	alice.wk = rotated.field("data.key")
	alice.ask("GET", "messages", nil).expect(200)
	owner.do("POST", "/v1/widgets/"+p.id+"/rotate", `{"graceSeconds":60}`).expect(200)
	p.as("alice").ask("GET", "messages", nil).expect(401) // the one before the former one
	p.wk = alice.wk

	before := p.as("alice")
	secret := owner.do("POST", "/v1/widgets/"+p.id+"/secret/rotate", `{"graceSeconds":60}`).expect(200)
	before.ask("GET", "messages", nil).expect(200)
	p.secret = secret.field("data.signingSecret")
	after := p.as("alice")
	after.ask("GET", "messages", nil).expect(200)
	owner.do("POST", "/v1/widgets/"+p.id+"/secret/rotate", nil).expect(200)
	before.ask("GET", "messages", nil).expect(401)
	after.ask("GET", "messages", nil).expect(401)
	for _, path := range []string{"/v1/widgets", "/v1/widgets/" + p.id, "/v1/audit"} {
		if a := owner.do("GET", path, nil).expect(200); strings.Contains(a.body, "wks_") {
			t.Errorf("%s shows a signing secret: %s", path, a.body)
		}
	}
	if strings.Contains(p.env.Log.String(), "wks_") {
		t.Error("the log shows a signing secret")
	}
}

func TestWidgetIsRemovedWithItsAgentAndItsAccount(t *testing.T) {
	p, owner := newWidgetEnv(t)
	p.as("alice").ask("POST", "messages", `{"message":"Hello"}`).expect(200)
	second := owner.newSite(owner.newAgent("Second"))
	owner.do("DELETE", "/v1/agents/"+p.agent, nil).expect(200)
	owner.do("GET", "/v1/widgets/"+p.id, nil).expect(404)
	second.as("alice").ask("POST", "messages", `{"message":"Hello"}`).expect(200)
	if n := owner.env.countOf(t, `SELECT count(*) FROM widgets`); n != 1 {
		t.Errorf("%d widgets are left", n)
	}
	if err := owner.env.Access.DeleteAccount(t.Context(), identity.ByOperator(owner.account), "mine"); err != nil {
		t.Fatal(err)
	}
	second.ask("POST", "visits", nil).expect(401)
	apitest.WaitUntil(t, "the account to be removed", func() bool {
		return owner.env.countOf(t, `SELECT (SELECT count(*) FROM widgets) + (SELECT count(*) FROM widget_days) + (SELECT count(*) FROM widget_turns) + (SELECT count(*) FROM secrets WHERE owner_id LIKE 'widget_%')`) == 0
	})
}

func TestWidgetSettingsAreChecked(t *testing.T) {
	p, owner := newWidgetEnv(t)
	for field, body := range map[string]string{
		"origins": `{"origins":["https://a.example/path"]}`, "theme.color": `{"theme":{"color":"red"}}`, "theme.mode": `{"theme":{"mode":"pink"}}`,
		"dailyMessages": `{"dailyMessages":0}`, "dailyTokens": `{"dailyTokens":0}`, "name": `{"name":" "}`, "greeting": `{"greeting":"` + strings.Repeat("x", 501) + `"}`,
	} {
		if a := owner.do("PATCH", "/v1/widgets/"+p.id, body).expectError(400, "invalid_request"); !strings.Contains(a.body, `"`+field) {
			t.Errorf("%s: %s", body, a.body)
		}
	}
	owner.do("POST", "/v1/widgets", `{"name":"A","agentId":"`+identityOfNobody+`"}`).expect(404)
}

const identityOfNobody = "00000000-0000-4000-8000-000000000000"

func (env *testEnv) countOf(t *testing.T, query string) (n int) {
	t.Helper()
	if err := env.DB.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWidgetScript(t *testing.T) {
	p, _ := newWidgetEnv(t)
	a := p.do("GET", "/widget.js", nil).expect(200)
	if len(a.body) > 20_000 {
		t.Errorf("the script has %d bytes", len(a.body))
	}
	for _, forbidden := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", ".cookie", "<img", "'img'"} {
		if strings.Contains(a.body, forbidden) {
			t.Errorf("the script has %s", forbidden)
		}
	}
	if a.header.Get("Content-Type") != "text/javascript; charset=utf-8" || !strings.HasPrefix(a.header.Get("Cache-Control"), "public, max-age=") || a.header.Get("ETag") == "" {
		t.Errorf("%v", a.header)
	}
	p.do("GET", "/widget.js", nil, "If-None-Match", a.header.Get("ETag")).expect(304)
	var claims map[string]any
	visitor := strings.Split(p.ask("POST", "visits", nil).expect(200).field("data.visitor"), ".")
	text, err := base64.RawURLEncoding.DecodeString(visitor[1])
	if err != nil || json.Unmarshal(text, &claims) != nil || claims["aud"] == nil || claims["exp"] == nil {
		t.Errorf("a visitor's token has %s", text)
	}
}
