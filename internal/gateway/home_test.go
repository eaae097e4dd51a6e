package gateway_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

func TestSyncWritesChangedDocuments(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	e.SetSoul(a.ID, "I am new.")
	if needsRestart, err := e.Agents.Sync(e.Context(), agenttest.Account, a.ID); err != nil || needsRestart {
		t.Errorf("%v, %v", needsRestart, err)
	}
	if soul, err := e.ReadHome(a.ID, "workspace/SOUL.md"); err != nil || soul != "I am new." {
		t.Errorf("%q, %v", soul, err)
	}
	if _, err := e.Agents.Sync(e.Context(), "acct_2", a.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("another account: %v", err)
	}
	if err := e.Agents.Absorb(e.Context(), "acct_2", a.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("another account: %v", err)
	}
}

func TestSyncOfAStoppedAgentWaitsForItsStart(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	e.Stop(a.ID)
	e.SetSoul(a.ID, "I am new.")
	if needsRestart, err := e.Agents.Sync(e.Context(), agenttest.Account, a.ID); err != nil || needsRestart {
		t.Errorf("%v, %v", needsRestart, err)
	}
	e.Must(e.Agents.Absorb(e.Context(), agenttest.Account, a.ID))
	if soul, err := e.ReadHome(a.ID, "workspace/SOUL.md"); err != nil || soul == "I am new." {
		t.Errorf("%q, %v", soul, err)
	}
	e.Start(a.ID)
	if soul, err := e.ReadHome(a.ID, "workspace/SOUL.md"); err != nil || soul != "I am new." {
		t.Errorf("after the start: %q, %v", soul, err)
	}
}

func TestFailedSyncIsTriedAgain(t *testing.T) {
	e := agenttest.New(t, nil)
	d, left := agenttest.FailingDriver(e.Driver, "Home")
	e.RestartServer(func(s *agenttest.Settings) { s.Driver = d })
	a := e.Create("ada")
	left.Store(1 << 40)
	e.SetSoul(a.ID, "I am new.")
	if needsRestart, err := e.Agents.Sync(e.Context(), agenttest.Account, a.ID); err != nil || !needsRestart {
		t.Errorf("%v, %v", needsRestart, err)
	}
	left.Store(0)
	e.Eventually("the reconciler does it", func() bool {
		e.Events.Notify(event.ReconcileTopic(a.ID))
		soul, err := e.ReadHome(a.ID, "workspace/SOUL.md")
		return err == nil && soul == "I am new."
	})
}

func TestEditsAreAbsorbed(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	e.WriteHome(a.ID, "workspace/SOUL.md", "I wrote this myself.")
	e.Must(e.Agents.Absorb(e.Context(), agenttest.Account, a.ID))
	if got := e.Soul(a.ID); got != "I wrote this myself." {
		t.Errorf("%q", got)
	}
	e.WriteHome(a.ID, "workspace/SOUL.md", "My last words.")
	e.Stop(a.ID)
	if got := e.Soul(a.ID); got != "My last words." {
		t.Errorf("after the stop: %q", got)
	}
}

// TestSyncWritesOnlyWhatChanged: the agent may be editing the rest.
func TestSyncWritesOnlyWhatChanged(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	e.WriteHome(a.ID, "workspace/AGENTS.md", "mine")
	e.SetSoul(a.ID, "I am new.")
	_, err := e.Agents.Sync(e.Context(), agenttest.Account, a.ID)
	e.Must(err)
	if got, err := e.ReadHome(a.ID, "workspace/AGENTS.md"); err != nil || got != "mine" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestConflictingEditIsOverwritten: the version of the API replaces what the agent wrote
// at the same time, also if the API has only restored what the home held before.
func TestConflictingEditIsOverwritten(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	e.SetSoul(a.ID, "one")
	_, err := e.Agents.Sync(e.Context(), agenttest.Account, a.ID)
	e.Must(err)
	e.SetSoul(a.ID, "two")
	e.WriteHome(a.ID, "workspace/SOUL.md", "the agent's")
	e.Must(e.Agents.Absorb(e.Context(), agenttest.Account, a.ID))
	e.SetSoul(a.ID, "one")
	if needsRestart, err := e.Agents.Sync(e.Context(), agenttest.Account, a.ID); err != nil || needsRestart {
		t.Errorf("%v, %v", needsRestart, err)
	}
	if got, err := e.ReadHome(a.ID, "workspace/SOUL.md"); err != nil || got != "one" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestConcurrentSyncs: many callers sync while the gateway crashes and restarts.
func TestConcurrentSyncs(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 20 {
				if _, err := e.Agents.Sync(e.Context(), agenttest.Account, a.ID); err != nil {
					t.Error(err)
				}
				e.Must(e.Agents.Absorb(e.Context(), agenttest.Account, a.ID))
			}
		})
	}
	all.Go(func() {
		for range 10 {
			e.SetSoul(a.ID, "even")
			e.Driver.Kill(a.ID, 1)
			e.SetSoul(a.ID, "odd")
			_, err := e.Gateways.Connect(e.Context(), a.ID)
			if err != nil && !fault.Is(err, fault.NotRunning) {
				t.Error(err)
			}
			accepted, err := e.Agents.Restart(e.Context(), e.Actor, a.ID)
			e.Must(err)
			if _, err := e.Agents.AwaitRunning(e.Context(), accepted); err != nil {
				t.Error(err)
			}
		}
	})
	all.Wait()
	_, err := e.Agents.Sync(e.Context(), agenttest.Account, a.ID)
	e.Must(err)
	if got, err := e.ReadHome(a.ID, "workspace/SOUL.md"); err != nil || got != "odd" || e.Soul(a.ID) != "odd" {
		t.Errorf("%q, %v; kept %q", got, err, e.Soul(a.ID))
	}
	// The reconciler may look at the home just now.
	e.Eventually("no home stays locked", func() bool { return e.Gateways.LockedHomes() == 0 })
}

// contributor puts one file into homes.
type contributor struct {
	mu              sync.Mutex
	digest, content string // content "": SyncHome fails; guarded by mu
}

func (c *contributor) set(digest, content string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.digest, c.content = digest, content
}

// Digest implements gateway.HomeContributor.
func (c *contributor) Digest(context.Context, database.Reader, identity.AccountID, identity.AgentID) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.digest, nil
}

// SyncHome implements gateway.HomeContributor.
func (c *contributor) SyncHome(_ context.Context, home runtime.Home, _ identity.AccountID, _ identity.AgentID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.content == "" {
		return errors.New("cannot")
	}
	return home.WriteFile("skills/x/SKILL.md", []byte(c.content))
}

func TestContributorSyncsWhenItsDigestChanges(t *testing.T) {
	c := &contributor{digest: "1", content: "a skill"}
	e := agenttest.New(t, func(s *agenttest.Settings) { s.Contributors = []gateway.HomeContributor{c} })
	a := e.Create("ada")
	check := func(want string, wantRestart bool) {
		t.Helper()
		needsRestart, err := e.Agents.Sync(e.Context(), agenttest.Account, a.ID)
		got, readErr := e.ReadHome(a.ID, "skills/x/SKILL.md")
		if err != nil || readErr != nil || got != want || needsRestart != wantRestart {
			t.Errorf("%q, needs restart %v, %v, %v", got, needsRestart, err, readErr)
		}
	}
	check("a skill", false)
	c.set("1", "same digest")
	check("a skill", false)
	c.set("2", "")
	check("a skill", true)
	c.set("2", "better")
	check("better", false)
}

func TestNeedsRestart(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	check := func(want bool) {
		t.Helper()
		v, err := e.Agents.View(t.Context(), agenttest.Account, a.ID)
		if err != nil || v.NeedsRestart != want {
			t.Errorf("needs restart: %v, %v", v.NeedsRestart, err)
		}
	}
	update := func(in client.UpdateAgentRequest, want bool) {
		t.Helper()
		v, err := e.Agents.Update(e.Context(), e.Actor, a.ID, in)
		if err != nil || v.NeedsRestart != want {
			t.Errorf("update: %v, %v", v.NeedsRestart, err)
		}
		check(want)
	}
	update(client.UpdateAgentRequest{Name: client.Some("Bob")}, false)
	if text, err := e.ReadHome(a.ID, "workspace/IDENTITY.md"); err != nil || !strings.Contains(text, "Bob") {
		t.Errorf("IDENTITY.md lacks the new name: %q, %v", text, err)
	}
	update(client.UpdateAgentRequest{Config: map[string]any{"mine": 1}}, false)
	update(client.UpdateAgentRequest{Config: map[string]any{"model": "claude-x"}}, true)
	update(client.UpdateAgentRequest{Config: map[string]any{"model": nil}}, false)
	update(client.UpdateAgentRequest{Config: map[string]any{"model": "claude-y"}}, true)
	e.Restart(a.ID)
	check(false)
	update(client.UpdateAgentRequest{Config: map[string]any{"model": nil}}, true)
	e.Stop(a.ID)
	check(false)
}

func TestChannelTokenIsReplacedWithoutARestart(t *testing.T) {
	e := agenttest.New(t, nil)
	a := e.Create("ada")
	set := func(want bool, secrets map[string]string) {
		t.Helper()
		needsRestart, err := e.Agents.SetSecrets(e.Context(), e.Actor, a.ID, client.SecretsRequest{Secrets: secrets})
		if err != nil || needsRestart != want {
			t.Errorf("%v, %v", needsRestart, err)
		}
		if v, err := e.Agents.View(t.Context(), agenttest.Account, a.ID); err != nil || v.NeedsRestart != want {
			t.Errorf("view: %v, %v", v.NeedsRestart, err)
		}
	}
	set(true, map[string]string{"telegramBotToken": "1:first"}) // a channel more
	e.Restart(a.ID)
	before := botToken(t, e, a.ID).Reveal()
	set(false, map[string]string{"telegramBotToken": "1:second"})
	held, err := e.Driver.Gateway(a.ID).Secrets()
	if err != nil || botToken(t, e, a.ID).Reveal() == before || e.Scripts.SecretReloads.Load() != 1 || e.Driver.Starts(a.ID) != 2 {
		t.Errorf("%s, %v, %d reloads, %d starts", held, err, e.Scripts.SecretReloads.Load(), e.Driver.Starts(a.ID))
	}
	set(false, map[string]string{"telegramBotToken": "1:second"})
	set(false, map[string]string{"anthropicApiKey": "sk-ant-other"})
	if e.Scripts.SecretReloads.Load() != 1 {
		t.Errorf("%d reloads", e.Scripts.SecretReloads.Load())
	}
	set(true, map[string]string{"MY_VAR": "in the environment"})

	e.Scripts.RefuseCalls.Store(true) // what cannot be applied now needs a restart, and is applied later
	_, err = e.Agents.SetSecrets(e.Context(), e.Actor, a.ID, client.SecretsRequest{DeleteSecrets: []string{"MY_VAR"}})
	e.Must(err)
	set(true, map[string]string{"telegramBotToken": "1:third"})
	e.Scripts.RefuseCalls.Store(false)
	if needsRestart, err := e.Agents.Sync(e.Context(), agenttest.Account, a.ID); err != nil || needsRestart || e.Scripts.SecretReloads.Load() != 2 {
		t.Errorf("%v, %v, %d reloads", needsRestart, err, e.Scripts.SecretReloads.Load())
	}
}

// TestReloadWithoutAnAnswerBlocksNothing: the health of a gateway that does not confirm
// that it has read its secrets is still checked, and its home does not stay locked.
func TestReloadWithoutAnAnswerBlocksNothing(t *testing.T) {
	agenttest.InBubble(t, nil, func(t *testing.T, e *agenttest.Env) {
		in := agenttest.NewAgent("ada")
		in.Secrets["telegramBotToken"] = "1:first"
		accepted, err := e.Agents.Create(e.Context(), e.Actor, in)
		e.Must(err)
		a, err := e.Agents.AwaitRunning(e.Context(), accepted)
		e.Must(err)
		e.Scripts.NoAnswer.Store(true)
		defer e.Scripts.NoAnswer.Store(false)
		needsRestart, err := e.Agents.SetSecrets(e.Context(), e.Actor, a.ID, client.SecretsRequest{Secrets: map[string]string{"telegramBotToken": "1:second"}})
		if err != nil || !needsRestart {
			t.Errorf("%v, %v", needsRestart, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		e.Must(e.Agents.Absorb(ctx, agenttest.Account, a.ID))
		e.Scripts.Unhealthy.Store(true)
		e.UntilHours(a.ID, func(a agent.Agent) bool { return a.LastError != "" })
	})
}
