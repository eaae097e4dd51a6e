package api_test

import (
	"context"
	"strings"
	"testing"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
)

// TestStreamsEndWithTheirKey: whoever revokes it, and with it the turns that it has started.
func TestStreamsEndWithTheirKey(t *testing.T) {
	ways := map[string]func(*testEnv, *caller) error{
		"by this server": func(env *testEnv, who *caller) error {
			return env.Access.RevokeKey(t.Context(), identity.ByOperator(who.account), who.keyID)
		},
		"by another process": func(env *testEnv, who *caller) error {
			other := access.New(access.Settings{DB: env.DB, Events: event.NewLog(env.DB)})
			return other.RevokeKey(t.Context(), identity.ByOperator(who.account), who.keyID)
		},
		"as it loses the scope": func(env *testEnv, who *caller) error {
			return env.DB.Tx(t.Context(), "test", func(ctx context.Context, tx *database.Tx) error {
				_, err := tx.ExecContext(ctx, `UPDATE keys SET scopes = 'agents:read' WHERE id = $1`, who.keyID)
				return err
			})
		},
	}
	for name, revoke := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnv(t, options{})
			rich := env.newAccount("acme", "")
			id := rich.newAgent("A")
			who := env.newKey(rich.account, access.NewScopes(access.Chat, access.Logs), access.MaxRateLimit)
			script, resume := pausedAnswer("I was about to ", "say this.")
			env.Gateways.SetScript(script)
			turns := "/v1/agents/" + id + "/chat/turns/"
			chat := who.chat(id, "Hello").expect(textEvent("I was about to "))
			sent := env.Gateways.LastTurn(t)
			turn := turns + chat.header.Get("X-Turn-Id")
			again := who.openStream("GET", turn+"/stream", nil).expect(textEvent("I was about to "))
			log := who.openStream("GET", "/v1/agents/"+id+"/logs/stream?tail=0", nil)
			others := rich.chat(id, "And I?").expect(textEvent("I was about to "))
			beside := rich.openStream("GET", "/v1/agents/"+id+"/logs/stream?tail=0", nil)

			if err := revoke(env, who); err != nil {
				t.Fatal(err)
			}
			for _, e := range []*eventStream{chat, again} {
				// The turn may be cancelled before the stream has found out.
				if got := e.next(); !strings.HasPrefix(got, `data: {"type":"error","code":"unauthorized"`) && !strings.HasPrefix(got, `data: {"type":"error","code":"conflict"`) {
					t.Errorf("the stream sends %q", got)
				}
				e.expect("EOF")
			}
			log.expect("EOF")
			if name != "as it loses the scope" {
				apitest.WaitClosed(t, "the gateway's request to end", sent.Ended)
				apitest.WaitUntil(t, "the turn to be cancelled", func() bool {
					return rich.do("GET", turn, nil).expect(200).field("data.state") == "cancelled"
				})
			}
			env.Driver.Print(identity.AgentID(id), `{"time":"2026-02-10T14:01:00Z","level":"warn","message":"still here"}`)
			beside.expect("data: 2026-02-10T14:01:00.000Z [warn] still here")
			resume()
			others.expect(textEvent("say this.")).expect(doneEvent)
		})
	}
}
