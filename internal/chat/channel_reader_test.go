package chat

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
)

const (
	eve   = "agent:guest:telegram:direct:42" // a session key as OpenClaw makes them
	start = 900_000_000_000                  // milliseconds; before the time in a synctest bubble
)

// startReader runs a channel reader until the end of the test.
func (env *testEnv) startReader() {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	reader := NewChannelReader(env.Service)
	go func() { ended <- reader.Run(ctx) }()
	env.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			env.t.Errorf("the reader ended with %v", err)
		}
	})
}

// waitForSubscribers waits until n connections have subscribed.
func (env *testEnv) waitForSubscribers(n int) {
	env.t.Helper()
	waitUntil(env.t, "the reader has subscribed", func() bool { return len(env.gateways.subscribed()) == n })
}

// waitForMessages waits until the agent has n messages and returns them.
func (env *testEnv) waitForMessages(a agent.Agent, n int) []string {
	env.t.Helper()
	waitUntil(env.t, "the messages of the channel are saved", func() bool { return len(env.messages(a, "")) >= n })
	return env.messages(a, "")
}

// Options that a person of a channel has set in a session before are taken back when the
// reader connects.
func TestOptionsOfChannelsAreCleared(t *testing.T) {
	inSynctest(t, func(t *testing.T, env *testEnv) {
		a := env.createAgent("ada", withTelegram)
		viaAPI := env.session(a, client.ChatRequest{Message: "m"})
		env.gateways.addMessages(viaAPI.GatewayKey, gatewayMessage{"0", "user", "by the API", "", start})
		env.gateways.addMessages(eve, gatewayMessage{"1", "user", "Hi", "Eve", start})
		env.startReader()
		cleared := func(key string) bool {
			env.gateways.mu.Lock()
			defer env.gateways.mu.Unlock()
			return env.gateways.cleared[key]
		}
		waitUntil(t, "the options are cleared", func() bool { return cleared(eve) })
		if cleared(viaAPI.GatewayKey) {
			t.Error("a session of the API was changed")
		}
	})
}

func TestChannelMessagesAreSavedOnce(t *testing.T) {
	inSynctest(t, func(t *testing.T, env *testEnv) {
		a := env.createAgent("ada", withTelegram)
		other := env.createAgent("bob")
		viaAPI := env.session(a, client.ChatRequest{Message: "m", PeerID: "p"})
		env.gateways.addMessages(viaAPI.GatewayKey, gatewayMessage{"0", "user", "by the API", "", start})
		env.gateways.addMessages(eve,
			gatewayMessage{"1", "user", "Hi", "Eve", start},
			gatewayMessage{"2", "toolResult", "internal", "", start + 1},
			gatewayMessage{"3", "assistant", "Hello, Eve.", "", start + 2},
			gatewayMessage{"", "user", "without an id", "", start + 3})
		env.startReader()
		env.waitForSubscribers(1)
		wantEqual(t, "the messages from before the reader started", env.waitForMessages(a, 2), "user: Hi", "assistant: Hello, Eve.")

		env.gateways.publish(t.Context(), viaAPI.GatewayKey, gatewayMessage{"9", "assistant", "by the API", "", start + 5})
		env.gateways.publish(t.Context(), "agent:main:main", gatewayMessage{"8", "assistant", "its own session", "", start + 5})
		env.gateways.publish(t.Context(), eve, gatewayMessage{"3", "assistant", "Hello, Eve.", "", start + 2}) // again
		env.gateways.publish(t.Context(), eve, gatewayMessage{"4", "user", "Bye", "Eve", start + 10})
		env.gateways.publish(t.Context(), "agent:guest:telegram:direct:43", gatewayMessage{"4", "user", "Me, too", "Mallory", start + 11}) // another session, the same message id
		wantEqual(t, "the messages since", env.waitForMessages(a, 4), "user: Hi", "assistant: Hello, Eve.", "user: Bye", "user: Me, too")

		listed, _, err := env.Sessions(t.Context(), env.caller, a.ID, SessionQuery{Limit: MaxSessions})
		env.must(err)
		if len(listed) != 3 || listed[2].ID != viaAPI.ID {
			t.Fatalf("the sessions: %+v", listed)
		}
		v := listed[1] // after the session of the API, before that of Mallory
		want := Session{
			ID: v.ID, AccountID: account, AgentID: a.ID, Owner: "channel:" + eve, PeerID: "42", Entry: openclaw.Guest,
			GatewayKey: eve, Name: "Eve", Channel: "telegram", StartedAt: time.UnixMilli(start).UTC(),
			MessageCount: 3, LastMessageAt: time.UnixMilli(start + 10).UTC(), name: v.name, title: v.title,
		}
		if v != want {
			t.Errorf("the channel's session:\n  got %+v\n want %+v", v, want)
		}
		if _, err := env.Start(t.Context(), env.caller, a.ID, client.ChatRequest{Message: "m", SessionID: string(v.ID)}); !fault.Is(err, fault.Conflict) {
			t.Errorf("a message of the API in a Telegram session: %v", err)
		}
		if got := env.session(a, client.ChatRequest{Message: "m", PeerID: "42"}); got.ID == v.ID {
			t.Error("a peer of the API got the session of a Telegram user with that number")
		}
		wantEqual(t, "the messages of an agent without channels", env.messages(other, ""))
	})
}

func TestChannelReaderReconnects(t *testing.T) {
	inSynctest(t, func(t *testing.T, env *testEnv) {
		a := env.createAgent("ada", withTelegram)
		env.startReader()
		env.waitForSubscribers(1)
		env.gateways.addMessages(eve, gatewayMessage{"1", "user", "One", "Eve", start})
		env.gateways.publish(t.Context(), eve, gatewayMessage{"1", "user", "One", "Eve", start})
		env.waitForMessages(a, 1)

		env.gateways.disconnect()
		env.gateways.addMessages(eve, gatewayMessage{"2", "user", "Two", "Eve", start + 1}) // while the reader is disconnected
		wantEqual(t, "the messages after a disconnect", env.waitForMessages(a, 2), "user: One", "user: Two")
		env.gateways.publish(t.Context(), eve, gatewayMessage{"3", "user", "Three", "Eve", start + 2})
		wantEqual(t, "the messages after reconnecting", env.waitForMessages(a, 3), "user: One", "user: Two", "user: Three")

		env.stopAgent(a)
		env.gateways.disconnect()
		env.gateways.addMessages(eve, gatewayMessage{"4", "user", "Four", "Eve", start + 3})
		outcome, err := env.agents.Start(t.Context(), env.actor, a.ID)
		env.must(err)
		_, err = env.agents.AwaitRunning(env.timeout(), outcome)
		env.must(err)
		wantEqual(t, "the messages after a restart", env.waitForMessages(a, 4), "user: One", "user: Two", "user: Three", "user: Four")
	})
}

// TestOneServerReadsChannels: another server reads an agent's channels only when the
// first one has given its lease back, and a late holder saves nothing.
func TestOneServerReadsChannels(t *testing.T) {
	inSynctest(t, func(t *testing.T, env *testEnv) {
		a := env.createAgent("ada", withTelegram)
		first, second := NewChannelReader(env.Service), NewChannelReader(env.otherServer())
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		defer running.Wait()
		defer stop()
		firstCtx, stopFirst := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- first.Run(firstCtx) }()
		env.waitForSubscribers(1)
		running.Go(func() { _ = second.Run(ctx) })
		time.Sleep(3 * leaseTime) // time for the second to take a lease that is not renewed
		if n := len(env.gateways.subscribed()); n != 1 {
			t.Fatalf("%d servers read the channels", n)
		}
		lease := readerLease{agent: a.ID, holder: first.chat.holder, number: 1}
		env.must(first.save(t.Context(), a, lease, eve, openclaw.Message{ID: "1", Role: "user", Text: "One"}))

		stopFirst()
		env.must(<-ended)
		env.waitForReader(a, second.chat.holder)
		if err := first.save(t.Context(), a, lease, eve, openclaw.Message{ID: "2", Role: "user", Text: "Too late"}); !errors.Is(err, errReaderLost) {
			t.Errorf("the late holder saves: %v", err)
		}
		env.gateways.publish(t.Context(), eve, gatewayMessage{"3", "user", "Two", "Eve", start})
		wantEqual(t, "the messages", env.waitForMessages(a, 2), "user: One", "user: Two") // in the order in which they were saved
	})
}

// otherServer returns the service of another server on the same records.
func (env *testEnv) otherServer() *Service {
	s := env.Service
	return New(Settings{DB: s.db, Events: s.events, Agents: s.agents, Gateways: s.gateways, Vault: s.vault, Log: s.log})
}

func (env *testEnv) waitForReader(a agent.Agent, holder string) {
	env.t.Helper()
	waitUntil(env.t, "the other server reads", func() bool {
		got, err := database.One(env.t.Context(), env.db, database.Scalar[string], `SELECT holder FROM channel_readers WHERE agent_id = $1`, a.ID)
		env.must(err)
		return got == holder && len(env.gateways.subscribed()) > 1 // the first one's is still listed
	})
}

// smallQuota refuses what is longer than a hundred bytes.
type smallQuota struct{}

// CheckStorage implements Quota.
func (smallQuota) CheckStorage(_ context.Context, _ database.Reader, _ identity.AccountID, more int64) error {
	if more > 100 {
		return fault.New(fault.PlanLimit, "The plan allows no more.")
	}
	return nil
}

// TestMessagesOverTheQuotaAreNotKept: those of a channel are left out, and those of callers
// are refused.
func TestMessagesOverTheQuotaAreNotKept(t *testing.T) {
	inSynctest(t, func(t *testing.T, env *testEnv) {
		env.quota = smallQuota{}
		a := env.createAgent("ada", withTelegram)
		long := strings.Repeat("x", 101)
		env.gateways.addMessages(eve, gatewayMessage{"1", "user", "Hi", "Eve", start}, gatewayMessage{"2", "user", long, "Eve", start + 1}, gatewayMessage{"3", "user", "Ho", "Eve", start + 2})
		env.startReader()
		wantEqual(t, "the history", env.waitForMessages(a, 2), "user: Hi", "user: Ho")
		if _, err := env.Start(env.timeout(), env.caller, a.ID, client.ChatRequest{Message: long}); !fault.Is(err, fault.PlanLimit) {
			t.Errorf("a message of a caller: %v", err)
		}
	})
}
