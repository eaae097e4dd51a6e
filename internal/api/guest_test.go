package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
)

// ownersChat is what a key with the owner's rights has said to an agent, in the session of
// the main entry.
type ownersChat struct{ agent, session, turn string }

const ownersText = "the safe is behind the painting"

func (c *caller) newOwnersChat() ownersChat {
	c.env.T.Helper()
	o := ownersChat{agent: c.newAgent("A")}
	chat := "/v1/agents/" + o.agent + "/chat"
	o.turn = c.do("POST", chat+"/messages", map[string]string{"message": ownersText}).expect(200).header.Get("X-Turn-Id")
	o.session = c.do("GET", chat+"/sessions", nil).expect(200).field("data.0.id")
	return o
}

// requests returns the requests of a row of the table that name what is the owner's, and
// those that name nothing.
func (o ownersChat) requests(t *testing.T, row string) (naming, plain []string) {
	t.Helper()
	chat := "/v1/agents/" + o.agent + "/chat"
	turn, ofSession := chat+"/turns/"+o.turn, "?sessionId="+o.session
	switch row {
	case "POST /v1/agents/{id}/chat/messages":
		naming = []string{chat + `/messages {"message":"Go on.","sessionId":"` + o.session + `"}`}
		plain = []string{chat + `/messages {"message":"Hello"}`, chat + `/messages {"message":"Hello","peerId":"alice"}`}
	case "GET /v1/agents/{id}/chat/messages":
		naming, plain = []string{chat + "/messages" + ofSession}, []string{chat + "/messages", chat + "/messages?after=start", chat + "/messages?peerId=alice"}
	case "GET /v1/agents/{id}/chat/sessions":
		plain = []string{chat + "/sessions", chat + "/sessions?peerId=alice"}
	case "GET /v1/sessions":
		plain = []string{"/v1/sessions", "/v1/sessions?peerId=alice"}
	case "POST /v1/agents/{id}/chat/sessions":
		plain = []string{chat + "/sessions", chat + `/sessions {"peerId":"bob"}`}
	case "PATCH /v1/agents/{id}/chat/sessions/{sessionId}":
		naming = []string{chat + "/sessions/" + o.session + ` {"name":"Mine"}`}
	case "GET /v1/agents/{id}/chat/turns":
		naming, plain = []string{chat + "/turns" + ofSession}, []string{chat + "/turns", chat + "/turns?state=done"}
	case "GET /v1/agents/{id}/chat/turns/{turnId}":
		naming = []string{turn}
	case "GET /v1/agents/{id}/chat/turns/{turnId}/stream":
		naming = []string{turn + "/stream", turn + "/stream?after=1"}
	case "POST /v1/agents/{id}/chat/turns/{turnId}/cancel":
		naming = []string{turn + "/cancel"}
	default:
		t.Fatalf("the route %s is not in this test", row)
	}
	return naming, plain
}

// send sends a request of a path and, after a space, a body.
func (c *caller) send(method, request string) *response {
	c.env.T.Helper()
	path, body, ok := strings.Cut(request, " ")
	if !ok {
		return c.do(method, path, nil)
	}
	return c.do(method, path, body)
}

func TestGuestKeysDoNotReachTheOwnersChat(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	o := who.newOwnersChat()
	all := access.AllScopes().Names()
	var others []access.Scope // all but agents:write
	for _, name := range all {
		if s := access.Scope(name); s != access.AgentsWrite {
			others = append(others, s)
		}
	}
	for name, scopes := range map[string][]access.Scope{"chat alone": {access.Chat}, "all but agents:write": others} {
		guest := env.newKey(who.account, access.NewScopes(scopes...), access.MaxRateLimit)
		for _, row := range env.Server.Table() {
			if row.Scope != access.Chat {
				continue
			}
			naming, plain := o.requests(t, row.Method+" "+row.Path)
			for _, request := range naming {
				guest.send(row.Method, request).expectError(http.StatusNotFound, "not_found")
			}
			env.Gateways.ResetTurns()
			for _, request := range plain {
				a := guest.send(row.Method, request).expect(200)
				for _, hidden := range []string{ownersText, o.session, o.turn} {
					if strings.Contains(a.body, hidden) {
						t.Errorf("%s: %s shows %q: %s", name, a.request, hidden, a.body)
					}
				}
			}
			for _, turn := range env.Gateways.Turns() {
				if turn.Entry != "openclaw/guest" || !strings.HasPrefix(turn.Session, "agent:guest:") {
					t.Errorf("%s: %q is answered by %s in %s", name, turn.Message, turn.Entry, turn.Session)
				}
			}
		}
		for _, list := range []string{"messages", "sessions", "turns"} {
			a := guest.do("GET", "/v1/agents/"+o.agent+"/chat/"+list+"?limit=200", nil)
			if list == "sessions" {
				a = guest.do("GET", "/v1/agents/"+o.agent+"/chat/"+list, nil)
			}
			if rows := a.expect(200).field("data.*"); rows == "0" || rows != a.field("pagination.total") {
				t.Errorf("%s: %s has %s rows and a total of %s", name, list, rows, a.field("pagination.total"))
			}
		}
	}
}

func TestOwnersKeysReachTheOwnersChat(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	o := who.newOwnersChat()
	for _, scope := range []access.Scope{access.ChatOwner, access.AgentsWrite} {
		owner := env.newKey(who.account, access.NewScopes(access.Chat, scope), access.MaxRateLimit)
		for _, row := range env.Server.Table() {
			if row.Scope != access.Chat {
				continue
			}
			naming, plain := o.requests(t, row.Method+" "+row.Path)
			for _, request := range append(naming, plain...) {
				owner.send(row.Method, request).expect(200)
			}
		}
		owner.send("POST", "/v1/agents/"+o.agent+`/chat/messages {"message":"It is me."}`).expect(200)
		if turn := env.Gateways.LastTurn(t); turn.Entry != "openclaw/main" {
			t.Errorf("%s: the message is answered by %s", scope, turn.Entry)
		}
	}
	alone := env.newKey(who.account, access.NewScopes(access.AgentsWrite, access.AgentsRead), access.MaxRateLimit)
	alone.do("GET", "/v1/agents/"+o.agent+"/chat/sessions", nil).expectError(http.StatusForbidden, "forbidden")
}

// TestKeyThatBecomesAGuest: a key that has spoken to the main entry gets a new session, and
// no kept response about the old one.
func TestKeyThatBecomesAGuest(t *testing.T) {
	env := newEnv(t, options{})
	rich := env.newAccount("acme", "")
	agent := rich.newAgent("A")
	who := env.newKey(rich.account, access.NewScopes(access.Chat, access.ChatOwner), access.MaxRateLimit)
	chat := "/v1/agents/" + agent + "/chat"
	message := `{"message":"` + ownersText + `"}`
	first := who.post(chat+"/messages", "k", message).expect(200)
	kept := []struct {
		path string
		body any
	}{
		{chat + "/messages", message}, {chat + "/sessions", nil}, {chat + "/turns/" + first.header.Get("X-Turn-Id") + "/cancel", nil},
	}
	for _, k := range kept {
		who.post(k.path, "k", k.body).expect(200)
		who.post(k.path, "k", k.body).expect(200).expectReplayed(true)
	}
	session := who.do("GET", chat+"/sessions", nil).expect(200).field("data.0.id")

	err := env.DB.Tx(t.Context(), "test", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE keys SET scopes = 'chat' WHERE id = $1`, who.keyID)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kept {
		if a := who.post(k.path, "k", k.body).expectError(http.StatusNotFound, "not_found"); strings.Contains(a.body, session) || a.header.Get("X-Turn-Id") != "" {
			t.Errorf("%s shows %v %s", a.request, a.header, a.body)
		}
	}
	who.do("POST", chat+"/messages", `{"message":"Hello"}`).expect(200)
	if turn := env.Gateways.LastTurn(t); turn.Entry != "openclaw/guest" || strings.HasSuffix(turn.Session, session) {
		t.Errorf("the first message as a guest is answered by %s in %s", turn.Entry, turn.Session)
	}
	if a := who.do("GET", chat+"/sessions", nil).expect(200); a.field("data.*") != "1" || a.field("data.0.id") == session {
		t.Errorf("the guest's sessions: %s", a.body)
	}
}
