package chat

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/logtest"
	"agento.host/agento/internal/reconciler"
	"agento.host/agento/internal/runtime/fake"
)

// waitTimeout bounds every wait of these tests.
const waitTimeout = 30 * time.Second

const account identity.AccountID = "acct_1"

// byOwner returns an actor as a caller with the rights of an owner.
func byOwner(actor identity.Actor) Caller { return Caller{Actor: actor, Owner: true} }

// testEnv is a server with real agents and chat over fake gateways. The database and
// the gateways outlive the server, which tests crash and start again.
type testEnv struct {
	t        testing.TB
	path     string // of the database
	driver   *fake.Driver
	gateways *fakeGateways
	interval time.Duration // between transactions that store pieces; 0: the usual one
	actor    identity.Actor
	revoked  *revokedKeys
	caller   Caller // the actor, with the rights of an owner
	log      *logtest.Buffer

	*Service // of the current server
	crashed  *atomic.Bool
	cancel   context.CancelFunc
	loops    sync.WaitGroup
}

// revokedKeys are the keys that a test has revoked.
type revokedKeys struct{ ids sync.Map }

// EndedKeys implements Keys.
func (r *revokedKeys) EndedKeys(_ context.Context, keys []identity.KeyID) ([]identity.KeyID, error) {
	return slices.DeleteFunc(slices.Clone(keys), func(id identity.KeyID) bool {
		_, ok := r.ids.Load(id)
		return !ok
	}), nil
}

// newTestEnv returns an environment with a running server.
func newTestEnv(t testing.TB) *testEnv { return newTestEnvWith(t, 0) }

// newTestEnvWith is newTestEnv with a piece interval.
func newTestEnvWith(t testing.TB, interval time.Duration) *testEnv {
	t.Helper()
	env := &testEnv{
		t: t, path: filepath.Join(t.TempDir(), "agento.db"), gateways: newFakeGateways(), revoked: &revokedKeys{}, log: &logtest.Buffer{}, interval: interval,
		actor: identity.ByKey(account, "key_1"), caller: byOwner(identity.ByKey(account, "key_1")),
	}
	empty, err := migratedDatabase()
	env.must(err)
	env.must(os.WriteFile(env.path, empty, 0o600))
	env.driver = fake.New(fake.Settings{Dir: t.TempDir(), Handler: env.gateways.handler})
	t.Cleanup(env.driver.Close)
	env.startServer()
	t.Cleanup(func() { env.crashServer() })
	env.must(env.db.Tx(t.Context(), "chat.test", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(t.Context(), `INSERT INTO accounts (id, name, plan_id, created_at) VALUES ($1, 'acme', 'plan_self_hosted', 1)`, account)
		return err
	}))
	return env
}

// migratedDatabase returns the file of an empty database. Creating one takes most of
// the time of newTestEnv, so all tests share it.
var migratedDatabase = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "agento-chat-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "agento.db")
	if _, err := database.Migrate(context.Background(), path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// inSynctest runs a test with a new environment in a synctest bubble.
func inSynctest(t *testing.T, f func(t *testing.T, env *testEnv)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newTestEnv(t)) })
}

// startServer starts a server on the database and the gateways.
func (env *testEnv) startServer() {
	env.t.Helper()
	db, err := database.Open(env.t.Context(), database.Settings{Path: env.path})
	env.must(err)
	events := event.NewLog(db)
	server, err := agenttest.NewServer(agenttest.Settings{
		DB: db, Events: events, Driver: env.driver, Log: slog.New(slog.DiscardHandler),
		Timing: reconciler.Timing{Backoff: time.Millisecond}, Erasers: []reconciler.Eraser{DeleteAgent},
	})
	env.must(err)
	env.Service = New(Settings{
		DB: db, Events: events, Agents: server.Agents, Gateways: server.Gateways, Vault: server.Vault, Keys: env.revoked, Channels: server.Channels, Log: slog.New(slog.NewTextHandler(env.log, nil)),
	})
	if env.interval != 0 {
		env.pieceInterval = env.interval
	}
	env.must(env.Recover(env.t.Context()))
	ctx, cancel := context.WithCancel(context.Background())
	crashed := &atomic.Bool{}
	env.cancel, env.crashed = cancel, crashed
	for _, run := range append(server.Loops(), env.Run) {
		env.loops.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil && !crashed.Load() {
				env.t.Errorf("run: %v", err)
			}
		})
	}
}

// crashServer ends the server at once: it cannot write any more. The gateways keep
// running.
func (env *testEnv) crashServer() {
	env.t.Helper()
	env.crashed.Store(true)
	env.must(env.db.Close())
	env.cancel()
	env.loops.Wait()
}

func (env *testEnv) must(err error) {
	env.t.Helper()
	if err != nil {
		env.t.Fatal(err)
	}
}

// timeout returns the test's context with waitTimeout.
func (env *testEnv) timeout() context.Context {
	ctx, cancel := context.WithTimeout(env.t.Context(), waitTimeout)
	env.t.Cleanup(cancel)
	return ctx
}

// createAgent returns a running agent.
func (env *testEnv) createAgent(name string, change ...func(*client.CreateAgentRequest)) agent.Agent {
	env.t.Helper()
	in := client.CreateAgentRequest{Name: name, Secrets: map[string]string{"anthropicApiKey": "sk-ant-test"}}
	for _, c := range change {
		c(&in)
	}
	ctx := env.timeout()
	accepted, err := env.agents.Create(ctx, env.actor, in)
	env.must(err)
	a, err := env.agents.AwaitRunning(ctx, accepted)
	env.must(err)
	return a
}

// withTelegram gives a new agent a Telegram channel.
func withTelegram(in *client.CreateAgentRequest) { in.Secrets["telegramBotToken"] = "1:bot" }

// withModel gives a new agent a model.
func withModel(id string) func(*client.CreateAgentRequest) {
	return func(in *client.CreateAgentRequest) { in.Config = map[string]any{"model": id} }
}

// withSharedMode makes a new agent treat every caller as an untrusted peer.
func withSharedMode(in *client.CreateAgentRequest) { in.Config = map[string]any{"sharedMode": true} }

func (env *testEnv) stopAgent(a agent.Agent) {
	env.t.Helper()
	accepted, err := env.agents.Stop(env.timeout(), env.actor, a.ID)
	env.must(err)
	_, err = env.agents.AwaitStopped(env.timeout(), accepted)
	env.must(err)
}

// session returns the session that a message belongs to. It is started if it is the
// owner's first.
func (env *testEnv) session(a agent.Agent, in client.ChatRequest) Session {
	env.t.Helper()
	v, err := env.findOrStart(env.caller, a, in)
	env.must(err)
	return v
}

func (env *testEnv) findOrStart(caller Caller, a agent.Agent, in client.ChatRequest) (v Session, err error) {
	if in.SessionID != "" {
		return env.namedSession(env.timeout(), caller, a, in)
	}
	err = env.db.Tx(env.timeout(), "chat.test", func(ctx context.Context, tx *database.Tx) error {
		v, err = findOrInsertSession(env.timeout(), tx, newSession(caller, a, in.PeerID))
		return err
	})
	return v, err
}

// begin fails the test if Start fails.
func (env *testEnv) begin(a agent.Agent, in client.ChatRequest) Turn {
	env.t.Helper()
	turn, err := env.Start(env.timeout(), env.caller, a.ID, in)
	env.must(err)
	return turn
}

// send runs a whole turn in the session of a peer and returns the answer.
func (env *testEnv) send(a agent.Agent, peer, message string) string {
	env.t.Helper()
	text, err := env.read(env.timeout(), env.begin(a, client.ChatRequest{Message: message, PeerID: peer}), 0)
	env.must(err)
	return text
}

// read follows a turn to its end and returns the text after a number.
func (env *testEnv) read(ctx context.Context, t Turn, after int64) (string, error) {
	env.t.Helper()
	var text strings.Builder
	last := after
	end, err := env.Follow(ctx, t, after, func(seq int64, piece string) error {
		if seq != last+1 {
			env.t.Errorf("piece %d follows %d", seq, last)
		}
		last = seq
		text.WriteString(piece)
		return nil
	})
	if end.Ended() && last != max(end.LastSeq, after) {
		env.t.Errorf("the last piece is %d, want %d", last, end.LastSeq)
	}
	return text.String(), err
}

// readAsync follows a turn and returns a channel with its error.
func (env *testEnv) readAsync(ctx context.Context, turn Turn) <-chan error {
	out := make(chan error, 1)
	s := env.Service // the current server's
	go func() {
		_, err := s.Follow(ctx, turn, 0, func(int64, string) error { return nil })
		out <- err
	}()
	return out
}

// find returns a turn and its text so far.
func (env *testEnv) find(t Turn) (Turn, string) {
	env.t.Helper()
	found, text, err := env.FindTurn(env.t.Context(), env.caller, t.AgentID, t.ID)
	env.must(err)
	return found, text
}

// messages returns the history of an agent as "role: text" for each message. If
// session is empty, it returns that of all sessions.
func (env *testEnv) messages(a agent.Agent, session identity.SessionID) []string {
	env.t.Helper()
	page, err := env.History(env.t.Context(), env.caller, a.ID, HistoryQuery{Session: session, Limit: 1000})
	env.must(err)
	if page.Total < len(page.Messages) {
		env.t.Errorf("%d messages, a total of %d", len(page.Messages), page.Total)
	}
	lines := []string{}
	for _, m := range page.Messages {
		lines = append(lines, m.Role+": "+m.Content)
	}
	return lines
}

// insertMessage is insertMessage with the key of the session's agent.
func (env *testEnv) insertMessage(tx *database.Tx, s Session, m Message, gatewayID string) (bool, error) {
	key, err := env.textKey(env.t.Context(), tx, s.AccountID, s.AgentID)
	env.must(err)
	return insertMessage(env.t.Context(), tx, key, s, m, gatewayID)
}

// waitForStored waits until exactly this text of a turn is stored.
func (env *testEnv) waitForStored(t Turn, want string) {
	env.t.Helper()
	waitUntil(env.t, "the stored text is "+want, func() bool {
		stored, err := env.readPieces(env.t.Context(), env.db, t)
		env.must(err)
		return stored.text() == want
	})
}

func wantEqual[T comparable](t testing.TB, what string, got []T, want ...T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n  got %v\n want %v", what, got, want)
	}
}

// waitUntil waits until the condition holds. It checks less and less often.
func waitUntil(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(waitTimeout)
	defer deadline.Stop()
	for pause := time.Millisecond; !condition(); pause = min(2*pause, 200*time.Millisecond) {
		select {
		case <-time.After(pause):
		case <-deadline.C:
			t.Fatalf("timed out waiting until %s", what)
		}
	}
}
