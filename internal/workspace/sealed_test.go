package workspace_test

import (
	"errors"
	"strings"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/vault"
	"agento.host/agento/internal/workspace"
)

func execute(t *testing.T, e *env, query string, args ...any) {
	t.Helper()
	inTx(t, e, func(tx *database.Tx) error {
		_, err := tx.ExecContext(t.Context(), query, args...)
		return err
	})
}

// restart gives the service a vault that has no keys in memory.
func (e *env) restart(t *testing.T) {
	t.Helper()
	e.vault = newVault(t)
	e.store = workspace.NewStore(e.db, e.events, e.vault)
	e.Service = workspace.New(e.store, e.agents)
}

func TestVersionsAreSealed(t *testing.T) {
	e := newEnv(t)
	first := changed(t)(e.SetSoul(t.Context(), actor, agent, "one", ""))
	changed(t)(e.SetSoul(t.Context(), actor, agent, "two", ""))
	changed(t)(e.PutRule(t.Context(), actor, agent, "greet", "Say hello.", ""))
	if n := must[int](t)(database.One(t.Context(), e.db, database.Scalar[int], `SELECT count(*) FROM documents WHERE content <> '' AND typeof(content) <> 'blob'`)); n != 0 {
		t.Errorf("%d contents are not sealed", n)
	}
	e.restart(t)
	if v := must[workspace.Version](t)(e.Version(t.Context(), account, agent, workspace.Soul, first.Number)); v.Content != "one" || v.Size != 3 {
		t.Errorf("%+v", v)
	}
	if v := changed(t)(e.Restore(t.Context(), actor, agent, workspace.Soul, first.Number)); v.Content != "one" {
		t.Errorf("restored %+v", v)
	}
	c := must[workspace.Content](t)(e.store.Content(t.Context(), e.db, account, agent))
	if c.SoulMD != "one" || len(c.Rules) != 1 || c.Rules[0].Content != "Say hello." || c.CheckReadable() != nil {
		t.Errorf("%+v", c)
	}
}

func TestVersionsOfBeforeSealing(t *testing.T) {
	e := newEnv(t)
	e.vault.LeaveTextsPlain()
	plain := changed(t)(e.SetSoul(t.Context(), actor, agent, "plain", ""))
	if content := must[string](t)(database.One(t.Context(), e.db, database.Scalar[string], `SELECT content FROM documents WHERE is_current AND name = 'SOUL.md'`)); content != "plain" {
		t.Errorf("stored as %q", content)
	}
	e.restart(t)
	changed(t)(e.SetSoul(t.Context(), actor, agent, "sealed", ""))
	if v := must[workspace.Version](t)(e.Version(t.Context(), account, agent, workspace.Soul, plain.Number)); v.Content != "plain" {
		t.Errorf("%+v", v)
	}
}

// A content that was moved does not open. It is delivered to no home, restored nowhere,
// and replaced when it is set again.
func TestDamagedContent(t *testing.T) {
	e := newEnv(t)
	one := changed(t)(e.SetSoul(t.Context(), actor, agent, "one", ""))
	two := changed(t)(e.SetSoul(t.Context(), actor, agent, "two", ""))
	execute(t, e, `UPDATE documents SET content = (SELECT content FROM documents WHERE name = 'SOUL.md' AND version = $1) WHERE name = 'SOUL.md' AND version = $2`, one.Number, two.Number)

	if v := must[workspace.Version](t)(e.Version(t.Context(), account, agent, workspace.Soul, two.Number)); v.Content != "" || v.Hash != two.Hash {
		t.Errorf("%+v", v)
	}
	if p := must[workspace.Personality](t)(e.Personality(t.Context(), account, agent)); p.SoulMD != "" || !strings.Contains(p.IdentityMD, "My Assistant") {
		t.Errorf("%+v", p)
	}
	c := must[workspace.Content](t)(e.store.Content(t.Context(), e.db, account, agent))
	if err := c.CheckReadable(); !errors.Is(err, workspace.ErrUnreadable) || !strings.Contains(err.Error(), "SOUL.md") {
		t.Error(err)
	}
	_, _, err := e.Restore(t.Context(), actor, agent, workspace.Soul, two.Number)
	wantFault(t, err, fault.Conflict)
	if v := changed(t)(e.SetSoul(t.Context(), actor, agent, "two", "")); v.Number == two.Number {
		t.Error("the damaged version was kept")
	}
	c = must[workspace.Content](t)(e.store.Content(t.Context(), e.db, account, agent))
	if err := c.CheckReadable(); err != nil || c.SoulMD != "two" {
		t.Errorf("%+v, %v", c, err)
	}
}

// A damaged content is recovered from the home, if that has it still.
func TestRecover(t *testing.T) {
	e, h := newEnv(t), home{}
	changed(t)(e.SetSoul(t.Context(), actor, agent, "the soul", ""))
	changed(t)(e.PutRule(t.Context(), actor, agent, "greet", "Say hello.", ""))
	h.deliver(t, e)
	h["rules/greet.md"] = "Say something else."
	execute(t, e, `UPDATE documents SET content = x'01'`)
	c := must[workspace.Content](t)(e.store.Content(t.Context(), e.db, account, agent))
	if err := e.store.Recover(t.Context(), account, agent, c, h); err != nil {
		t.Fatal(err)
	}
	c = must[workspace.Content](t)(e.store.Content(t.Context(), e.db, account, agent))
	if c.SoulMD != "the soul" || !strings.Contains(c.IdentityMD, "My Assistant") || c.Rules[0].Content != "" {
		t.Errorf("%+v", c)
	}
	if err := c.CheckReadable(); !errors.Is(err, workspace.ErrUnreadable) || !strings.Contains(err.Error(), "rules/greet.md") {
		t.Error(err)
	}
}

// Without the data key every content is damaged and nothing can be stored. With a new data
// key, documents can be set again.
func TestLostDataKey(t *testing.T) {
	e := newEnv(t)
	changed(t)(e.SetSoul(t.Context(), actor, agent, "one", ""))
	inTx(t, e, func(tx *database.Tx) error { return e.vault.Shred(t.Context(), tx, account, vault.OfAgent(agent)) })
	if p := must[workspace.Personality](t)(e.Personality(t.Context(), account, agent)); p.SoulMD != "" {
		t.Errorf("%+v", p)
	}
	if p := must[workspace.Page](t)(e.Versions(t.Context(), account, agent, workspace.Soul, 0, 0)); len(p.Versions) != 2 {
		t.Errorf("%+v", p)
	}
	_, _, err := e.SetSoul(t.Context(), actor, agent, "two", "")
	wantFault(t, err, fault.Conflict)
	inTx(t, e, func(tx *database.Tx) error {
		if err := e.vault.Put(t.Context(), tx, account, vault.OfAgent(agent), nil); err != nil {
			return err
		}
		return e.store.Rename(t.Context(), tx, actor, agent, "Ada")
	})
	changed(t)(e.SetSoul(t.Context(), actor, agent, "two", ""))
	changed(t)(e.SetWorkflow(t.Context(), actor, agent, "Work.", ""))
	c := must[workspace.Content](t)(e.store.Content(t.Context(), e.db, account, agent))
	if err := c.CheckReadable(); err != nil || c.SoulMD != "two" || !strings.Contains(c.IdentityMD, "Ada") {
		t.Errorf("%+v, %v", c, err)
	}
}
