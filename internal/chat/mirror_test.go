package chat

import (
	"context"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/openclaw"
)

const (
	eve   = "agent:guest:telegram:direct:42"
	began = 900_000_000_000 // milliseconds; before the time of a bubble
)

// mirror runs the mirror until the end of the test.
func (w *world) mirror() {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	m := NewMirror(w.Service)
	go func() { ended <- m.Run(ctx) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			w.t.Errorf("the mirror ended with %v", err)
		}
	})
}

// listening waits until n connections are listened to.
func (w *world) listening(n int) {
	w.t.Helper()
	eventually(w.t, "the mirror to listen", func() bool { return len(w.gateways.listening()) == n })
}

// hears waits until the record has n messages, and returns it.
func (w *world) hears(a agent.Agent, n int) []string {
	w.t.Helper()
	eventually(w.t, "the messages of the channel to be recorded", func() bool { return len(w.recorded(a, "")) >= n })
	return w.recorded(a, "")
}

func TestWhatIsSaidThroughAChannelIsKeptOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.create("ada", withBot)
		deaf := w.create("bob")
		viaAPI := w.prepare(a, client.ChatRequest{Message: "m", PeerID: "p"}).session
		w.gateways.hold(viaAPI.GatewayKey, saidBy{"0", "user", "by the API", "", began})
		w.gateways.hold(eve,
			saidBy{"1", "user", "Hi", "Eve", began},
			saidBy{"2", "toolResult", "internal", "", began + 1},
			saidBy{"3", "assistant", "Hello, Eve.", "", began + 2},
			saidBy{"", "user", "of no name", "", began + 3})
		w.mirror()
		w.listening(1)
		wants(t, "what was said before", w.hears(a, 2), "user: Hi", "assistant: Hello, Eve.")

		w.gateways.tell(t.Context(), viaAPI.GatewayKey, saidBy{"9", "assistant", "by the API", "", began + 5})
		w.gateways.tell(t.Context(), "agent:main:main", saidBy{"8", "assistant", "to itself", "", began + 5})
		w.gateways.tell(t.Context(), eve, saidBy{"3", "assistant", "Hello, Eve.", "", began + 2}) // again
		w.gateways.tell(t.Context(), eve, saidBy{"4", "user", "Bye", "Eve", began + 10})
		w.gateways.tell(t.Context(), "agent:guest:telegram:direct:43", saidBy{"4", "user", "Me, too", "Mallory", began + 11}) // another session, the same name
		wants(t, "what was said since", w.hears(a, 4), "user: Hi", "assistant: Hello, Eve.", "user: Bye", "user: Me, too")

		listed, _, err := w.Sessions(t.Context(), w.who, string(a.ID))
		w.must(err)
		if len(listed) != 3 || listed[0].ID != viaAPI.ID {
			t.Fatalf("the sessions: %+v", listed)
		}
		v := listed[2]
		want := Session{
			ID: v.ID, AccountID: "acct_1", AgentID: string(a.ID), Owner: "channel:" + eve, PeerID: "42", Entry: openclaw.Guest,
			GatewayKey: eve, Name: "Eve", Channel: "telegram", StartedAt: time.UnixMilli(began).UTC(),
		}
		if v != want {
			t.Errorf("the channel's session:\n  got %+v\n want %+v", v, want)
		}
		if _, err := w.Prepare(t.Context(), w.who, string(a.ID), client.ChatRequest{Message: "m", SessionID: v.ID}); !fault.Is(err, fault.Conflict) {
			t.Errorf("answering on Telegram over the API: %v", err)
		}
		if got := w.prepare(a, client.ChatRequest{Message: "m", PeerID: "42"}).session; got.ID == v.ID {
			t.Error("a peer of the API got the session of a Telegram user with that number")
		}
		wants(t, "of an agent without channels", w.recorded(deaf, ""))
	})
}

func TestTheMirrorComesBack(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		a := w.create("ada", withBot)
		w.mirror()
		w.listening(1)
		w.gateways.hold(eve, saidBy{"1", "user", "One", "Eve", began})
		w.gateways.tell(t.Context(), eve, saidBy{"1", "user", "One", "Eve", began})
		w.hears(a, 1)

		w.gateways.hangUp()
		w.gateways.hold(eve, saidBy{"2", "user", "Two", "Eve", began + 1}) // while nobody listens
		wants(t, "after the connection broke", w.hears(a, 2), "user: One", "user: Two")
		w.gateways.tell(t.Context(), eve, saidBy{"3", "user", "Three", "Eve", began + 2})
		wants(t, "since", w.hears(a, 3), "user: One", "user: Two", "user: Three")

		w.stop(a)
		w.gateways.hangUp() // forgets whom it knew
		w.gateways.hold(eve, saidBy{"4", "user", "Four", "Eve", began + 3})
		asked, err := w.Agents.Start(t.Context(), w.actor(), a.ID)
		w.must(err)
		_, err = w.Agents.AwaitRunning(w.patient(), asked)
		w.must(err)
		wants(t, "after a restart", w.hears(a, 4), "user: One", "user: Two", "user: Three", "user: Four")
	})
}
