package agent

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

func (w *world) setSoul(id, text string) {
	w.t.Helper()
	_, _, err := w.documents.SetSoul(w.ctx(), w.who.Actor(), identity.AgentID(id), text, "")
	w.must(err)
}

func TestSync(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	w.setSoul(a.ID, "I am new.")
	if waits, err := w.Sync(w.ctx(), w.who, a.ID); err != nil || waits {
		t.Errorf("%v, %v", waits, err)
	}
	if soul, err := readHome(w, a.ID, "workspace/SOUL.md"); err != nil || soul != "I am new." {
		t.Errorf("%q, %v", soul, err)
	}
	if _, err := w.Sync(w.ctx(), access.Principal{AccountID: "acct_2"}, a.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("a stranger: %v", err)
	}
	if err := w.Absorb(w.ctx(), access.Principal{AccountID: "acct_2"}, a.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("a stranger: %v", err)
	}
}

func TestSyncOfOneThatDoesNotRun(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	asked, err := w.Stop(w.ctx(), w.who, a.ID)
	w.must(err)
	_, err = w.AwaitStopped(w.ctx(), asked)
	w.must(err)
	w.setSoul(a.ID, "I am new.")
	if waits, err := w.Sync(w.ctx(), w.who, a.ID); err != nil || waits {
		t.Errorf("%v, %v", waits, err)
	}
	w.must(w.Absorb(w.ctx(), w.who, a.ID))
	if soul, err := readHome(w, a.ID, "workspace/SOUL.md"); err != nil || soul == "I am new." {
		t.Errorf("%q, %v", soul, err)
	}
	asked, err = w.Start(w.ctx(), w.who, a.ID)
	w.must(err)
	_, err = w.AwaitRunning(w.ctx(), asked)
	w.must(err)
	if soul, err := readHome(w, a.ID, "workspace/SOUL.md"); err != nil || soul != "I am new." {
		t.Errorf("after the start: %q, %v", soul, err)
	}
}

func TestSyncThatCannot(t *testing.T) {
	w := newWorld(t, nil)
	w.crash()
	d, left := failing(w, "Home", 0)
	w.adjust = func(s *Settings) { s.Driver = d }
	w.serve()
	a := w.create("ada")
	left.Store(1 << 40)
	w.setSoul(a.ID, "I am new.")
	if waits, err := w.Sync(w.ctx(), w.who, a.ID); err != nil || !waits {
		t.Errorf("%v, %v", waits, err)
	}
	left.Store(0)
	w.eventually("the reconciler does it", func() bool {
		w.reconciler.Nudge(a.ID)
		soul, err := readHome(w, a.ID, "workspace/SOUL.md")
		return err == nil && soul == "I am new."
	})
}

func (w *world) soul(id string) string {
	w.t.Helper()
	c, err := w.Workspace.Content(w.ctx(), w.db, w.who.AccountID, identity.AgentID(id))
	w.must(err)
	return c.SoulMD
}

func TestAbsorb(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	writeHome(w, a.ID, "workspace/SOUL.md", "I wrote this myself.")
	w.must(w.Absorb(w.ctx(), w.who, a.ID))
	if got := w.soul(a.ID); got != "I wrote this myself." {
		t.Errorf("%q", got)
	}
	writeHome(w, a.ID, "workspace/SOUL.md", "My last words.")
	asked, err := w.Stop(w.ctx(), w.who, a.ID)
	w.must(err)
	_, err = w.AwaitStopped(w.ctx(), asked)
	w.must(err)
	if got := w.soul(a.ID); got != "My last words." {
		t.Errorf("after the stop: %q", got)
	}
}

// TestSyncLeavesOthersAlone writes only what changed: the agent may be editing the
// rest.
func TestSyncLeavesOthersAlone(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	writeHome(w, a.ID, "workspace/AGENTS.md", "mine")
	w.setSoul(a.ID, "I am new.")
	_, err := w.Sync(w.ctx(), w.who, a.ID)
	w.must(err)
	if got, err := readHome(w, a.ID, "workspace/AGENTS.md"); err != nil || got != "mine" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestAsideIsWrittenOver puts what the API wrote where the agent wrote at the same
// time, also if the API has only put back what the home was given before.
func TestAsideIsWrittenOver(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	w.setSoul(a.ID, "one")
	_, err := w.Sync(w.ctx(), w.who, a.ID)
	w.must(err)
	w.setSoul(a.ID, "two")
	writeHome(w, a.ID, "workspace/SOUL.md", "the agent's")
	w.must(w.Absorb(w.ctx(), w.who, a.ID))
	w.setSoul(a.ID, "one")
	if waits, err := w.Sync(w.ctx(), w.who, a.ID); err != nil || waits {
		t.Errorf("%v, %v", waits, err)
	}
	if got, err := readHome(w, a.ID, "workspace/SOUL.md"); err != nil || got != "one" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestSyncAtOnce lets many callers deliver while the agent comes and goes.
func TestSyncAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 20 {
				if _, err := w.Sync(w.ctx(), w.who, a.ID); err != nil {
					t.Error(err)
				}
				w.must(w.Absorb(w.ctx(), w.who, a.ID))
			}
		})
	}
	all.Go(func() {
		for range 10 {
			w.setSoul(a.ID, "even")
			w.driver.Kill(a.ID, 1)
			w.setSoul(a.ID, "odd")
			_, err := w.Gateway(w.ctx(), a.ID)
			if err != nil && !fault.Is(err, fault.NotRunning) {
				t.Error(err)
			}
			asked, err := w.Restart(w.ctx(), w.who, a.ID)
			w.must(err)
			if _, err := w.AwaitRunning(w.ctx(), asked); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	_, err := w.Sync(w.ctx(), w.who, a.ID)
	w.must(err)
	if got, err := readHome(w, a.ID, "workspace/SOUL.md"); err != nil || got != "odd" || w.soul(a.ID) != "odd" {
		t.Errorf("%q, %v; kept %q", got, err, w.soul(a.ID))
	}
	w.body.homes.mu.Lock()
	defer w.body.homes.mu.Unlock()
	if len(w.body.homes.open) != 0 {
		t.Error("a home stays locked")
	}
}

func TestFurnish(t *testing.T) {
	var mu sync.Mutex
	hash, content := "1", "a skill"
	w := newWorld(t, func(s *Settings) {
		s.Furnish = []Furnisher{{
			Hash: func(context.Context, database.Querier, string, string) (string, error) {
				mu.Lock()
				defer mu.Unlock()
				return hash, nil
			},
			Sync: func(_ context.Context, h runtime.Home, _, _ string) error {
				mu.Lock()
				defer mu.Unlock()
				if content == "" {
					return errors.New("cannot")
				}
				return h.WriteFile("skills/x/SKILL.md", []byte(content))
			},
		}}
	})
	a := w.create("ada")
	set := func(h, c string) {
		mu.Lock()
		defer mu.Unlock()
		hash, content = h, c
	}
	check := func(want string, wantWaits bool) {
		t.Helper()
		waits, err := w.Sync(w.ctx(), w.who, a.ID)
		got, readErr := readHome(w, a.ID, "skills/x/SKILL.md")
		if err != nil || readErr != nil || got != want || waits != wantWaits {
			t.Errorf("%q, waits %v, %v, %v", got, waits, err, readErr)
		}
	}
	check("a skill", false)
	set("1", "same hash")
	check("a skill", false)
	set("2", "")
	check("a skill", true)
	set("2", "better")
	check("better", false)
}

func TestNeedsRestart(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	check := func(want bool) {
		t.Helper()
		v, err := w.View(t.Context(), w.who, a.ID)
		if err != nil || v.NeedsRestart != want {
			t.Errorf("needs restart: %v, %v", v.NeedsRestart, err)
		}
	}
	update := func(in client.UpdateAgentRequest, want bool) {
		t.Helper()
		v, err := w.Update(w.ctx(), w.who, a.ID, in)
		if err != nil || v.NeedsRestart != want {
			t.Errorf("update: %v, %v", v.NeedsRestart, err)
		}
		check(want)
	}
	update(client.UpdateAgentRequest{Name: client.Some("Bob")}, false)
	if text, err := readHome(w, a.ID, "workspace/IDENTITY.md"); err != nil || !strings.Contains(text, "Bob") {
		t.Errorf("the agent was not told its name: %q, %v", text, err)
	}
	update(client.UpdateAgentRequest{Config: map[string]any{"mine": 1}}, false)
	update(client.UpdateAgentRequest{Config: map[string]any{"model": "claude-x"}}, true)
	update(client.UpdateAgentRequest{Config: map[string]any{"model": nil}}, false)
	update(client.UpdateAgentRequest{Config: map[string]any{"model": "claude-y"}}, true)
	asked, err := w.Restart(w.ctx(), w.who, a.ID)
	w.must(err)
	_, err = w.AwaitRunning(w.ctx(), asked)
	w.must(err)
	check(false)
	update(client.UpdateAgentRequest{Config: map[string]any{"model": nil}}, true)
	asked, err = w.Stop(w.ctx(), w.who, a.ID)
	w.must(err)
	_, err = w.AwaitStopped(w.ctx(), asked)
	w.must(err)
	check(false)
}

// TestChannelTokenIsRotated gives a running gateway a new token without a restart.
func TestChannelTokenIsRotated(t *testing.T) {
	w := newWorld(t, nil)
	a := w.create("ada")
	set := func(want bool, secrets map[string]string) {
		t.Helper()
		waits, err := w.SetSecrets(w.ctx(), w.who, a.ID, client.SecretsRequest{Secrets: secrets})
		if err != nil || waits != want {
			t.Errorf("%v, %v", waits, err)
		}
		if v, err := w.View(t.Context(), w.who, a.ID); err != nil || v.NeedsRestart != want {
			t.Errorf("view: %v, %v", v.NeedsRestart, err)
		}
	}
	set(true, map[string]string{"telegramBotToken": "1:first"}) // a channel more
	asked, err := w.Restart(w.ctx(), w.who, a.ID)
	w.must(err)
	_, err = w.AwaitRunning(w.ctx(), asked)
	w.must(err)
	set(false, map[string]string{"telegramBotToken": "1:second"})
	held, err := w.driver.Gateway(a.ID).Secrets()
	if err != nil || !strings.Contains(string(held), "1:second") || w.reloads.Load() != 1 || w.driver.Starts(a.ID) != 2 {
		t.Errorf("%s, %v, %d reloads, %d starts", held, err, w.reloads.Load(), w.driver.Starts(a.ID))
	}
	set(false, map[string]string{"telegramBotToken": "1:second"})
	set(false, map[string]string{"anthropicApiKey": "sk-ant-other"})
	if w.reloads.Load() != 1 {
		t.Errorf("%d reloads", w.reloads.Load())
	}
	set(true, map[string]string{"MY_VAR": "in the environment"})

	w.broken.Store(true) // what cannot be applied is told, and applied later
	_, err = w.SetSecrets(w.ctx(), w.who, a.ID, client.SecretsRequest{DeleteSecrets: []string{"MY_VAR"}})
	w.must(err)
	set(true, map[string]string{"telegramBotToken": "1:third"})
	w.broken.Store(false)
	if waits, err := w.Sync(w.ctx(), w.who, a.ID); err != nil || waits || w.reloads.Load() != 2 {
		t.Errorf("%v, %v, %d reloads", waits, err, w.reloads.Load())
	}
}

// TestUnansweredReload: a gateway that does not say whether it has read its secrets
// is looked after all the same, and its home is not closed to others.
func TestUnansweredReload(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *world) {
		in := newAgent("ada")
		in.Secrets["telegramBotToken"] = "1:first"
		asked, err := w.Create(w.ctx(), w.who, in)
		w.must(err)
		a, err := w.AwaitRunning(w.ctx(), asked)
		w.must(err)
		w.silent.Store(true)
		defer w.silent.Store(false)
		waits, err := w.SetSecrets(w.ctx(), w.who, a.ID, client.SecretsRequest{Secrets: map[string]string{"telegramBotToken": "1:second"}})
		if err != nil || !waits {
			t.Errorf("%v, %v", waits, err)
		}
		patient, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		w.must(w.Absorb(patient, w.who, a.ID))
		w.mute.Store(true)
		w.untilHours(t, a.ID, func(a Agent) bool { return a.LastError != "" })
	})
}
