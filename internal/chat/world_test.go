package chat

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agent/agenttest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/reconciler"
	"agento.host/agento/internal/runtime/fake"
)

// patience bounds every wait of these tests.
const patience = 30 * time.Second

// world is all that outlives a server, records and gateways, and the server that
// is up now: agents and chat as they are, gateways that are scripted.
type world struct {
	t        testing.TB
	path     string // of the database
	driver   *fake.Driver
	gateways *gateways
	every    time.Duration // Settings.DraftEvery of the next server
	who      access.Principal
	log      *logBook

	*Service
	dead *atomic.Bool // the server that is up now
	end  context.CancelFunc
	ran  sync.WaitGroup
}

// newWorld has a server that is up.
func newWorld(t testing.TB) *world { return newWorldOf(t, 0) }

// newWorldOf has one that saves answers that often.
func newWorldOf(t testing.TB, every time.Duration) *world {
	t.Helper()
	w := &world{
		t: t, path: filepath.Join(t.TempDir(), "agento.db"), gateways: newGateways(), log: &logBook{}, every: every,
		who: access.Principal{AccountID: "acct_1", KeyID: "key_1"},
	}
	empty, err := migrated()
	w.must(err)
	w.must(os.WriteFile(w.path, empty, 0o600))
	w.driver = fake.New(fake.Settings{Dir: t.TempDir(), Handler: w.gateways.handler})
	t.Cleanup(w.driver.Close)
	w.serve()
	t.Cleanup(func() { w.crash() })
	w.must(w.DB.Tx(t.Context(), func(tx *database.Tx) error {
		_, err := tx.ExecContext(t.Context(), `INSERT INTO accounts (id, name, plan_id, created_at) VALUES ('acct_1', 'acme', 'plan_self_hosted', 1)`)
		return err
	}))
	return w
}

// migrated is an empty database: most of what a world would take is to make one.
var migrated = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "agento-chat-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "agento.db")
	db, err := database.Open(context.Background(), database.Settings{Path: path})
	if err != nil {
		return nil, err
	}
	if err := db.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// inBubble runs a test whose time is not the clock's: it goes on when nothing else
// can happen.
func inBubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newWorld(t)) })
}

// serve starts a server over what there is.
func (w *world) serve() {
	w.t.Helper()
	db, err := database.Open(w.t.Context(), database.Settings{Path: w.path})
	w.must(err)
	log := slog.New(slog.NewTextHandler(w.log, nil))
	events := event.NewLog(db)
	eraser := func(ctx context.Context, tx *database.Tx, account identity.AccountID, id identity.AgentID) error {
		return DeleteAgent(ctx, tx, string(account), string(id))
	}
	server, err := agenttest.NewServer(agenttest.Settings{
		DB: db, Events: events, Driver: w.driver, Log: slog.New(slog.DiscardHandler),
		Timing: reconciler.Timing{Backoff: time.Millisecond}, Erasers: []reconciler.Eraser{eraser},
	})
	w.must(err)
	w.Service = New(Settings{DB: db, Events: events, Agents: server.Agents, Gateways: server.Gateways, Log: log, DraftEvery: w.every})
	w.must(w.Recover(w.t.Context()))
	ctx, cancel := context.WithCancel(context.Background())
	dead := &atomic.Bool{}
	w.end, w.dead = cancel, dead
	for _, run := range append(server.Loops(), w.KeepDrafts) {
		w.ran.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil && !dead.Load() {
				w.t.Errorf("run: %v", err)
			}
		})
	}
}

// crash ends the server wherever it is: from now on it writes nothing. Gateways go
// on.
func (w *world) crash() {
	w.t.Helper()
	w.dead.Store(true)
	w.must(w.DB.Close())
	w.end()
	w.ran.Wait()
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// create returns a running agent; with a bot it has a Telegram channel.
func (w *world) create(name string, change ...func(*client.CreateAgentRequest)) agent.Agent {
	w.t.Helper()
	in := client.CreateAgentRequest{Name: name, Secrets: map[string]string{"anthropicApiKey": "sk-ant-test"}}
	for _, c := range change {
		c(&in)
	}
	ctx := w.patient()
	asked, err := w.Agents.Create(ctx, w.actor(), in)
	w.must(err)
	a, err := w.Agents.AwaitRunning(ctx, asked)
	w.must(err)
	return a
}

func withBot(in *client.CreateAgentRequest) { in.Secrets["telegramBotToken"] = "1:bot" }

func shared(in *client.CreateAgentRequest) { in.Config = map[string]any{"sharedMode": true} }

func (w *world) actor() identity.Actor {
	return identity.ByKey(identity.AccountID(w.who.AccountID), identity.KeyID(w.who.KeyID))
}

func (w *world) stop(a agent.Agent) {
	w.t.Helper()
	asked, err := w.Agents.Stop(w.patient(), w.actor(), a.ID)
	w.must(err)
	_, err = w.Agents.AwaitStopped(w.patient(), asked)
	w.must(err)
}

func (w *world) patient() context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	w.t.Cleanup(cancel)
	return ctx
}

// prepare is Prepare of what must be fine.
func (w *world) prepare(a agent.Agent, in client.ChatRequest) Turn {
	w.t.Helper()
	turn, err := w.Prepare(w.patient(), w.who, string(a.ID), in)
	w.must(err)
	return turn
}

// say is a whole turn, in the session of a peer; it returns the answer.
func (w *world) say(a agent.Agent, peer, message string) string {
	w.t.Helper()
	var text strings.Builder
	w.must(w.Run(w.patient(), w.prepare(a, client.ChatRequest{Message: message, PeerID: peer}), func(piece string) error {
		text.WriteString(piece)
		return nil
	}))
	return text.String()
}

// begin starts a turn and returns what becomes of it.
func (w *world) begin(ctx context.Context, turn Turn) <-chan error {
	out := make(chan error, 1)
	s := w.Service // the server of now
	go func() { out <- s.Run(ctx, turn, func(string) error { return nil }) }()
	return out
}

// recorded is the history of an agent, as "role: text" a message.
func (w *world) recorded(a agent.Agent, session string) []string {
	w.t.Helper()
	said, total, err := w.History(w.t.Context(), w.who, string(a.ID), session, time.Time{}, 1000)
	w.must(err)
	if total < len(said) {
		w.t.Errorf("%d messages, a total of %d", len(said), total)
	}
	return lines(said)
}

func lines(said []Message) []string {
	out := []string{}
	for _, m := range said {
		out = append(out, m.Role+": "+m.Content)
	}
	return out
}

// drafts are the texts of all drafts.
func (w *world) drafts() []string {
	w.t.Helper()
	all, err := database.All(w.t.Context(), w.DB, database.Scalar[string], `SELECT content FROM drafts ORDER BY content`)
	w.must(err)
	return all
}

func wants[T comparable](t testing.TB, what string, got []T, want ...T) {
	t.Helper()
	same := len(got) == len(want)
	for i := 0; same && i < len(got); i++ {
		same = got[i] == want[i]
	}
	if !same {
		t.Errorf("%s:\n  got %v\n want %v", what, got, want)
	}
}

// eventually waits until what must come has come. It looks less and less often.
func eventually(t testing.TB, what string, come func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for pause := time.Millisecond; !come(); pause = min(2*pause, 200*time.Millisecond) {
		select {
		case <-time.After(pause):
		case <-deadline.C:
			t.Fatalf("in vain we waited for this: %s", what)
		}
	}
}

var errGone = errors.New("the client has gone")

// logBook is the server's log.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
