package chat

import (
	"bytes"
	"context"
	"os"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/vault"
)

func (env *testEnv) exec(query string, args ...any) {
	env.t.Helper()
	env.must(env.db.Tx(env.t.Context(), "chat.test", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	}))
}

// TestTextsAreInNoFile: not even while a turn runs.
func TestTextsAreInNoFile(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	script, pieces := controlledScripts("ask-plum", "wait-plum")
	env.gateways.setScript(script)
	first := env.begin(a, client.ChatRequest{Message: "ask-plum", Context: "context-plum"})
	env.begin(a, client.ChatRequest{Message: "wait-plum"})
	pieces[0] <- "answer-"
	env.waitForStored(first, "answer-")
	check := func(when string) {
		t.Helper()
		for _, suffix := range []string{"", "-wal"} {
			content, err := os.ReadFile(env.path + suffix)
			env.must(err)
			for _, text := range []string{"ask-plum", "context-plum", "wait-plum", "answer-"} {
				if bytes.Contains(content, []byte(text)) {
					t.Errorf("%s: %q is in agento.db%s", when, text, suffix)
				}
			}
		}
	}
	check("while the turn runs")
	pieces[0] <- "plum"
	close(pieces[0])
	close(pieces[1])
	_, err := env.read(env.timeout(), first, 0)
	env.must(err)
	check("after the turn")
	if _, text := env.find(first); text != "answer-plum" {
		t.Errorf("the answer is %q", text)
	}
}

// TestTextsOfBeforeSealing stay readable.
func TestTextsOfBeforeSealing(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	env.vault.LeaveTextsPlain()
	env.send(a, "", "before")
	if n, err := database.One(t.Context(), env.db, database.Scalar[int], `SELECT count(*) FROM messages WHERE typeof(content) = 'text'`); err != nil || n != 2 {
		t.Errorf("%d plain messages, %v", n, err)
	}
	env.crashServer()
	env.startServer()
	env.send(a, "", "after")
	if n, err := database.One(t.Context(), env.db, database.Scalar[int], `SELECT count(*) FROM messages WHERE typeof(content) = 'blob'`); err != nil || n != 2 {
		t.Errorf("%d sealed messages, %v", n, err)
	}
	wantEqual(t, "the history", env.messages(a, ""), "user: before", "assistant: You said: before", "user: after", "assistant: You said: after")
}

// TestMovedMessageDoesNotOpen: it is damaged, and the others can be read.
func TestMovedMessageDoesNotOpen(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	env.send(a, "", "one")
	env.send(a, "", "two")
	env.exec(`UPDATE messages SET content = (SELECT content FROM messages WHERE seq = 1) WHERE seq = 3`)
	wantEqual(t, "the history", env.messages(a, ""), "user: one", "assistant: You said: one", "user: ", "assistant: You said: two")
}

// TestLostDataKey: the texts of the agent are damaged, also those of a turn that did not
// end, and nothing of another agent is.
func TestLostDataKey(t *testing.T) {
	env := newTestEnv(t)
	a, b := env.createAgent("ada"), env.createAgent("bob")
	env.send(a, "", "Hello")
	env.send(b, "", "Hello")
	script, pieces := controlledScripts("Go on", "You too")
	env.gateways.setScript(script)
	lost, other := env.begin(a, client.ChatRequest{Message: "Go on"}), env.begin(b, client.ChatRequest{Message: "You too"})
	waiting := env.begin(a, client.ChatRequest{Message: "And then"})
	pieces[0] <- "As I "
	pieces[1] <- "Once "
	env.waitForStored(lost, "As I ")
	env.waitForStored(other, "Once ")
	env.exec(`DELETE FROM data_keys WHERE owner_id = $1`, a.ID)
	env.crashServer()
	env.gateways.setScript(newFakeGateways().script)

	env.startServer()
	if got, text := env.find(lost); got.StopReason != stopInterrupted || text != "" {
		t.Errorf("the turn that did not end: %+v, %q", got, text)
	}
	if _, err := env.read(env.timeout(), waiting, 0); err == nil {
		t.Error("the turn that waited had an answer")
	}
	wantEqual(t, "the history", env.messages(a, "")[:3], "user: ", "assistant: ", "user: ")
	wantEqual(t, "the other agent's history", env.messages(b, ""), "user: Hello", "assistant: You said: Hello", "user: You too", "assistant: Once ")
	if answer := env.send(b, "", "Again"); answer != "You said: Again" {
		t.Errorf("the other agent answers %q", answer)
	}
	if _, err := env.Start(env.timeout(), env.caller, a.ID, client.ChatRequest{Message: "Hello"}); !fault.Is(err, fault.Conflict) {
		t.Errorf("a message to the agent: %v", err)
	}
}

// TestDataKeyLostDuringATurn: the turn ends, and the text of others is stored.
func TestDataKeyLostDuringATurn(t *testing.T) {
	env := newTestEnv(t)
	a, b := env.createAgent("ada"), env.createAgent("bob")
	script, pieces := controlledScripts("Go on", "You too")
	env.gateways.setScript(script)
	lost, other := env.begin(a, client.ChatRequest{Message: "Go on"}), env.begin(b, client.ChatRequest{Message: "You too"})
	pieces[0] <- "As I "
	env.waitForStored(lost, "As I ")
	env.must(env.db.Tx(t.Context(), "chat.test", func(ctx context.Context, tx *database.Tx) error {
		return env.vault.Shred(ctx, tx, a.AccountID, vault.OfAgent(a.ID))
	}))
	pieces[0] <- "was saying"
	pieces[1] <- "Once "
	close(pieces[1])
	if text, err := env.read(env.timeout(), other, 0); err != nil || text != "Once " {
		t.Errorf("the other turn: %q, %v", text, err)
	}
	if _, err := env.Follow(env.timeout(), lost, 0, func(int64, string) error { return nil }); !fault.Is(err, fault.Conflict) {
		t.Errorf("the turn ended with %v", err)
	}
}
