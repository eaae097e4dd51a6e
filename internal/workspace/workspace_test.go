package workspace_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
	"agento.host/agento/internal/workspace"
)

const (
	account identity.AccountID = "acct_1"
	agent   identity.AgentID   = "agent-1"
	key     identity.KeyID     = "key_1"
)

// actor changes documents in these tests.
var actor = identity.ByKey(account, key)

// env is a Service and its Store with one agent, which does not run.
type env struct {
	*workspace.Service
	store  *workspace.Store
	db     *database.DB
	events *event.Log
	vault  *vault.Vault
	agents *agents
}

// agents is a workspace.Agents that can record its calls.
type agents struct {
	recording    bool
	calls        []string
	absorbErr    error
	syncErr      error
	needsRestart bool
}

func (a *agents) Absorb(_ context.Context, account identity.AccountID, agent identity.AgentID) error {
	a.record("absorb", account, agent)
	return a.absorbErr
}

func (a *agents) Sync(_ context.Context, account identity.AccountID, agent identity.AgentID) (bool, error) {
	a.record("sync", account, agent)
	return a.needsRestart, a.syncErr
}

func (a *agents) record(call string, account identity.AccountID, agent identity.AgentID) {
	if !a.recording {
		return
	}
	a.calls = append(a.calls, fmt.Sprint(call, " ", account, " ", agent))
}

func newEnv(t testing.TB) *env {
	t.Helper()
	db := databasetest.New(t)
	e := &env{db: db, events: event.NewLog(db), agents: &agents{}}
	e.vault = newVault(t)
	e.store = workspace.NewStore(db, e.events, e.vault)
	e.Service = workspace.New(e.store, e.agents)
	initAgent(t, e, account, agent)
	return e
}

// newVault returns a vault with the same master key each time.
func newVault(t testing.TB) *vault.Vault {
	t.Helper()
	v, err := vault.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func initAgent(t testing.TB, s *env, account identity.AccountID, agent identity.AgentID) {
	t.Helper()
	inTx(t, s, func(tx *database.Tx) error {
		if err := s.vault.Put(t.Context(), tx, account, vault.OfAgent(agent), nil); err != nil {
			return err
		}
		return s.store.Init(t.Context(), tx, identity.ByKey(account, key), agent, "My Assistant", "", "", nil)
	})
}

func inTx(t testing.TB, s *env, f func(*database.Tx) error) {
	t.Helper()
	if err := s.db.Tx(t.Context(), "workspace.test", func(_ context.Context, tx *database.Tx) error { return f(tx) }); err != nil {
		t.Fatal(err)
	}
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// changed returns the version of a change that must succeed.
func changed(t testing.TB) func(workspace.Version, bool, error) workspace.Version {
	return func(v workspace.Version, _ bool, err error) workspace.Version {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wantFault(t testing.TB, err error, code fault.Code) *fault.Fault {
	t.Helper()
	if !fault.Is(err, code) {
		t.Fatalf("got %v, want a fault %s", err, code)
	}
	return fault.From(err)
}

// kinds lists the agent's events, oldest first, as "kind actor".
func kinds(t testing.TB, s *env) []string {
	t.Helper()
	events := must[[]event.Event](t)(s.events.List(t.Context(), account, event.Filter{Topic: event.AgentTopic(agent), Limit: 1000}))
	var all []string
	for i := len(events) - 1; i >= 0; i-- {
		all = append(all, events[i].Kind+" "+events[i].Actor.String())
	}
	return all
}

func TestInitWritesDefaults(t *testing.T) {
	s := newEnv(t)
	p := must[workspace.Personality](t)(s.Personality(t.Context(), account, agent))
	if !strings.HasPrefix(p.SoulMD, "# SOUL.md\n\nYou are a helpful assistant.") || len(p.SoulHash) != 64 || p.SoulUpdatedAt.IsZero() {
		t.Errorf("%+v", p)
	}
	if p.IdentityMD != "# IDENTITY.md\n\n- **Name:** My Assistant" {
		t.Errorf("%q", p.IdentityMD)
	}
	w := must[workspace.Procedures](t)(s.Procedures(t.Context(), account, agent))
	if w.WorkflowMD != "# Workflow\n\n## Role\n\nDescribe your agent's role here." || w.RuleFiles == nil || len(w.RuleFiles) != 0 {
		t.Errorf("%+v", w)
	}
}

func TestInitNamesEveryInvalidField(t *testing.T) {
	s := newEnv(t)
	err := s.db.Tx(t.Context(), "workspace.test", func(ctx context.Context, tx *database.Tx) error {
		return s.store.Init(t.Context(), tx, actor, "agent-2", "x", "a\x00b", strings.Repeat("x", workspace.MaxWorkflowBytes+1), nil)
	})
	f := wantFault(t, err, fault.Invalid)
	if len(f.Details) != 2 || f.Details["soulMd"] == "" || f.Details["workflowMd"] == "" {
		t.Errorf("%+v", f)
	}
}

func TestSetSoulKeepsEveryVersion(t *testing.T) {
	s := newEnv(t)
	first := must[workspace.Personality](t)(s.Personality(t.Context(), account, agent))
	v := changed(t)(s.SetSoul(t.Context(), actor, agent, "be kind", strings.ToUpper(first.SoulHash)))
	if v.Number != 2 || !v.Current || v.Actor != actor || v.Content != "be kind" {
		t.Errorf("%+v", v)
	}
	_, _, err := s.SetSoul(t.Context(), actor, agent, "be rude", first.SoulHash)
	if f := wantFault(t, err, fault.Conflict); f.Details["currentHash"] != v.Hash {
		t.Errorf("%+v", f)
	}
	again := changed(t)(s.SetSoul(t.Context(), actor, agent, "be kind", ""))
	if again.Number != 2 {
		t.Errorf("the same content made version %d", again.Number)
	}
	old := must[workspace.Version](t)(s.Version(t.Context(), account, agent, workspace.Soul, 1))
	if old.Content != first.SoulMD || old.Current {
		t.Errorf("%+v", old)
	}
	if got := kinds(t, s); len(got) != 1 || got[0] != "agent.personality_updated "+string(key) {
		t.Errorf("%v", got)
	}
}

func TestSoulLimits(t *testing.T) {
	s := newEnv(t)
	for name, c := range map[string]struct {
		content string
		ok      bool
	}{
		"the maximum":           {strings.Repeat("ж", workspace.MaxCharacters), true},
		"one more":              {strings.Repeat("ж", workspace.MaxCharacters+1), false},
		"an emoji counts twice": {strings.Repeat("🦀", workspace.MaxCharacters/2) + "x", false},
		"empty":                 {"", false},
		"blank":                 {" \n\t", false},
		"NUL":                   {"a\x00", false},
		"not UTF-8":             {"a\xff", false},
	} {
		_, _, err := s.SetSoul(t.Context(), actor, agent, c.content, "")
		if c.ok != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && wantFault(t, err, fault.Invalid).Details["soulMd"] == "" {
			t.Errorf("%s: the field is not named: %v", name, err)
		}
	}
}

func TestWorkflowMayBeEmptyAndHasALimit(t *testing.T) {
	s := newEnv(t)
	changed(t)(s.SetWorkflow(t.Context(), actor, agent, strings.Repeat("x", workspace.MaxWorkflowBytes), ""))
	_, _, err := s.SetWorkflow(t.Context(), actor, agent, strings.Repeat("x", workspace.MaxWorkflowBytes+1), "")
	wantFault(t, err, fault.Invalid)
	v := changed(t)(s.SetWorkflow(t.Context(), actor, agent, "", ""))
	if v.Number != 3 {
		t.Errorf("%+v", v)
	}
	_, _, err = s.SetWorkflow(t.Context(), actor, agent, "x", "0000")
	wantFault(t, err, fault.Conflict)
}

func TestRestoreMakesANewVersion(t *testing.T) {
	s := newEnv(t)
	changed(t)(s.SetSoul(t.Context(), actor, agent, "two", ""))
	v := changed(t)(s.Restore(t.Context(), identity.ByKey(account, "key_2"), agent, workspace.Soul, 1))
	if v.Number != 3 || v.RestoredFrom != 1 || v.Actor != identity.ByKey(account, "key_2") || !v.Current {
		t.Errorf("%+v", v)
	}
	if again := changed(t)(s.Restore(t.Context(), actor, agent, workspace.Soul, 3)); again.Number != 3 {
		t.Errorf("restoring the current version made version %d", again.Number)
	}
	_, _, err := s.Restore(t.Context(), actor, agent, workspace.Soul, 99)
	wantFault(t, err, fault.NotFound)
}

func TestVersionsArePaged(t *testing.T) {
	s := newEnv(t)
	for i := range 6 {
		changed(t)(s.SetSoul(t.Context(), actor, agent, fmt.Sprint("v", i+2), ""))
	}
	var got []int64
	var before int64
	for {
		p := must[workspace.Page](t)(s.Versions(t.Context(), account, agent, workspace.Soul, before, 3))
		for _, v := range p.Versions {
			got = append(got, v.Number)
			if v.Content != "" {
				t.Error("a list contains content")
			}
		}
		if before = p.Next; before == 0 {
			break
		}
	}
	if fmt.Sprint(got) != "[7 6 5 4 3 2 1]" {
		t.Error(got)
	}
	_, err := s.Versions(t.Context(), account, agent, workspace.Soul, 0, 101)
	wantFault(t, err, fault.Invalid)
	_, err = s.Versions(t.Context(), account, agent, "rules/none.md", 0, 0)
	wantFault(t, err, fault.NotFound)
}

func TestRulesAreCreatedListedAndValidated(t *testing.T) {
	s := newEnv(t)
	put := func(name, content string) (workspace.Version, bool, error) {
		return s.PutRule(t.Context(), actor, agent, name, content, "")
	}
	changed(t)(put("example-new-request.md", "one"))
	changed(t)(put("daily-review", "zwölf"))
	rules := must[[]workspace.Version](t)(s.Rules(t.Context(), account, agent))
	if len(rules) != 2 || rules[0].Document.Rule() != "daily-review" || rules[0].Size != 6 || rules[1].Document.Rule() != "example-new-request" {
		t.Errorf("%+v", rules)
	}
	w := must[workspace.Procedures](t)(s.Procedures(t.Context(), account, agent))
	if fmt.Sprint(w.RuleFiles) != "[daily-review.md example-new-request.md]" {
		t.Error(w.RuleFiles)
	}
	if r := must[workspace.Version](t)(s.Rule(t.Context(), account, agent, "daily-review.md")); r.Content != "zwölf" {
		t.Errorf("%+v", r)
	}
	_, _, err := put("Daily-Review", "x")
	wantFault(t, err, fault.Conflict)
	for _, name := range []string{"", ".md", "a b", "../a", "a.md.md", strings.Repeat("x", 65), "ä"} {
		_, _, err := put(name, "x")
		wantFault(t, err, fault.Invalid)
	}
	_, _, err = put("big", strings.Repeat("x", workspace.MaxRuleBytes+1))
	wantFault(t, err, fault.Invalid)
	_, _, err = put("empty", "")
	wantFault(t, err, fault.Invalid)
	_, _, err = s.PutRule(t.Context(), actor, agent, "new", "x", "abc")
	wantFault(t, err, fault.Conflict)
}

func TestDeletedRuleCanBeRestored(t *testing.T) {
	s := newEnv(t)
	changed(t)(s.PutRule(t.Context(), actor, agent, "refunds", "pay", ""))
	if v := changed(t)(s.DeleteRule(t.Context(), actor, agent, "refunds.md")); v.Document.Rule() != "refunds" || !v.Deleted {
		t.Errorf("%+v", v)
	}
	_, err := s.Rule(t.Context(), account, agent, "refunds")
	wantFault(t, err, fault.NotFound)
	_, _, err = s.DeleteRule(t.Context(), actor, agent, "refunds")
	wantFault(t, err, fault.NotFound)
	d := must[workspace.Document](t)(workspace.RuleDocument("refunds"))
	_, _, err = s.Restore(t.Context(), actor, agent, d, 2)
	wantFault(t, err, fault.Invalid)
	if v := changed(t)(s.Restore(t.Context(), actor, agent, d, 1)); v.Number != 3 || v.Content != "pay" {
		t.Errorf("%+v", v)
	}
	want := "[agent.rule_updated key_1 agent.rule_deleted key_1 agent.rule_updated key_1]"
	if got := fmt.Sprint(kinds(t, s)); got != want {
		t.Error(got)
	}
}

func TestRuleMayDifferInCaseFromADeletedRule(t *testing.T) {
	s := newEnv(t)
	changed(t)(s.PutRule(t.Context(), actor, agent, "refunds", "a", ""))
	changed(t)(s.DeleteRule(t.Context(), actor, agent, "refunds"))
	changed(t)(s.PutRule(t.Context(), actor, agent, "Refunds", "b", ""))
	d := must[workspace.Document](t)(workspace.RuleDocument("refunds"))
	_, _, err := s.Restore(t.Context(), actor, agent, d, 1)
	wantFault(t, err, fault.Conflict)
}

func TestConcurrentWritersCannotExceedMaxRules(t *testing.T) {
	s := newEnv(t)
	var wg sync.WaitGroup
	results := make(chan error, workspace.MaxRules+10)
	for i := range workspace.MaxRules + 10 {
		wg.Go(func() {
			_, _, err := s.PutRule(t.Context(), actor, agent, fmt.Sprint("rule-", i), "x", "")
			results <- err
		})
	}
	wg.Wait()
	close(results)
	refused := 0
	for err := range results {
		if err != nil {
			wantFault(t, err, fault.Conflict)
			refused++
		}
	}
	if rules := must[[]workspace.Version](t)(s.Rules(t.Context(), account, agent)); len(rules) != workspace.MaxRules || refused != 10 {
		t.Errorf("%d rules, %d refused", len(rules), refused)
	}
}

func TestOneOfManyWritersWithTheSameExpectedHashSucceeds(t *testing.T) {
	s := newEnv(t)
	hash := must[workspace.Personality](t)(s.Personality(t.Context(), account, agent)).SoulHash
	var wg sync.WaitGroup
	results := make(chan error, 20)
	for i := range cap(results) {
		wg.Go(func() {
			_, _, err := s.SetSoul(t.Context(), actor, agent, fmt.Sprint("soul ", i), hash)
			results <- err
		})
	}
	wg.Wait()
	close(results)
	succeeded := 0
	for err := range results {
		if err == nil {
			succeeded++
		} else {
			wantFault(t, err, fault.Conflict)
		}
	}
	if succeeded != 1 {
		t.Errorf("%d writers succeeded", succeeded)
	}
}

func TestRenameChangesOnlyTheNameLine(t *testing.T) {
	s := newEnv(t)
	inTx(t, s, func(tx *database.Tx) error {
		return s.store.Rename(t.Context(), tx, actor, agent, "Ada $1\nLovelace")
	})
	p := must[workspace.Personality](t)(s.Personality(t.Context(), account, agent))
	if p.IdentityMD != "# IDENTITY.md\n\n- **Name:** Ada $1 Lovelace" {
		t.Errorf("%q", p.IdentityMD)
	}
}

func TestAccountsDoNotSeeEachOther(t *testing.T) {
	s := newEnv(t)
	initAgent(t, s, "acct_2", "agent-2")
	changed(t)(s.PutRule(t.Context(), actor, agent, "mine", "x", ""))
	ctx, other := t.Context(), identity.AccountID("acct_2")
	rule := must[workspace.Document](t)(workspace.RuleDocument("mine"))
	for name, call := range map[string]func() error{
		"Personality": func() error { _, err := s.Personality(ctx, other, agent); return err },
		"SetSoul":     func() error { _, _, err := s.SetSoul(ctx, identity.ByKey(other, key), agent, "x", ""); return err },
		"Procedures":  func() error { _, err := s.Procedures(ctx, other, agent); return err },
		"SetWorkflow": func() error { _, _, err := s.SetWorkflow(ctx, identity.ByKey(other, key), agent, "x", ""); return err },
		"Rules":       func() error { _, err := s.Rules(ctx, other, agent); return err },
		"Rule":        func() error { _, err := s.Rule(ctx, other, agent, "mine"); return err },
		"PutRule": func() error {
			_, _, err := s.PutRule(ctx, identity.ByKey(other, key), agent, "mine", "x", "")
			return err
		},
		"DeleteRule": func() error { _, _, err := s.DeleteRule(ctx, identity.ByKey(other, key), agent, "mine"); return err },
		"Versions":   func() error { _, err := s.Versions(ctx, other, agent, workspace.Soul, 0, 0); return err },
		"Version":    func() error { _, err := s.Version(ctx, other, agent, rule, 1); return err },
		"Restore": func() error {
			_, _, err := s.Restore(ctx, identity.ByKey(other, key), agent, workspace.Soul, 1)
			return err
		},
		"Approve": func() error {
			_, _, err := s.Approve(ctx, identity.ByKey(other, key), agent, workspace.Soul, 1)
			return err
		},
		"Reject": func() error {
			_, err := s.Reject(ctx, identity.ByKey(other, key), agent, workspace.Soul, 1)
			return err
		},
		"PendingEdits": func() error { _, err := s.PendingEdits(ctx, other, agent); return err },
		"Content":      func() error { _, err := s.store.Content(ctx, s.db, other, agent); return err },
		"Rename": func() error {
			return s.db.Tx(ctx, "workspace.test", func(ctx context.Context, tx *database.Tx) error {
				return s.store.Rename(ctx, tx, identity.ByKey(other, key), agent, "x")
			})
		},
		"Absorb": func() error {
			_, err := s.store.Absorb(ctx, other, agent, workspace.SelfEditOn, home{"SOUL.md": "x"})
			return err
		},
	} {
		if f := fault.From(call()); f.Code != fault.NotFound || strings.Contains(f.Message, "rule") {
			t.Errorf("%s: %v", name, f)
		}
	}
}

func TestDeleteAgentDeletesEverything(t *testing.T) {
	s := newEnv(t)
	initAgent(t, s, account, "agent-2")
	c := must[workspace.Content](t)(s.store.Content(t.Context(), s.db, account, agent))
	inTx(t, s, func(tx *database.Tx) error {
		return errors.Join(s.store.MarkDelivered(t.Context(), tx, account, agent, c), s.store.DeleteAgent(t.Context(), tx, identity.BySystem(account), agent))
	})
	_, err := s.Personality(t.Context(), account, agent)
	wantFault(t, err, fault.NotFound)
	must[workspace.Personality](t)(s.Personality(t.Context(), account, "agent-2"))
	for _, table := range []string{"documents", "home_documents"} {
		n := must[int](t)(database.One(t.Context(), s.db, database.Scalar[int], "SELECT COUNT(*) FROM "+table+" WHERE agent_id = $1", agent))
		if n != 0 {
			t.Errorf("%d rows left in %s", n, table)
		}
	}
}

func TestChangeNotifiesTheReconcilerAfterTheCommit(t *testing.T) {
	s := newEnv(t)
	changes, stop := s.events.Subscribe(event.ReconcileTopic(agent))
	defer stop()
	notified := func() bool {
		select {
		case <-changes:
			return true
		default:
			return false
		}
	}
	undo := errors.New("undo")
	err := s.db.Tx(t.Context(), "workspace.test", func(ctx context.Context, tx *database.Tx) error {
		return errors.Join(s.store.Rename(t.Context(), tx, actor, agent, "Ada"), undo)
	})
	if !errors.Is(err, undo) || notified() {
		t.Fatal("notified of a change that was rolled back", err)
	}
	if p := must[workspace.Page](t)(s.Versions(t.Context(), account, agent, workspace.Identity, 0, 0)); len(p.Versions) != 1 {
		t.Error("the change was not rolled back")
	}
	first := must[workspace.Personality](t)(s.Personality(t.Context(), account, agent))
	for name, c := range map[string]struct {
		call func() error
		want bool
	}{
		"a new version":    {func() error { _, _, err := s.SetSoul(t.Context(), actor, agent, "x", ""); return err }, true},
		"a conflict":       {func() error { _, _, err := s.SetWorkflow(t.Context(), actor, agent, "x", first.SoulHash); return err }, false},
		"the same content": {func() error { _, _, err := s.Restore(t.Context(), actor, agent, workspace.Identity, 1); return err }, false},
	} {
		_ = c.call()
		if notified() != c.want {
			t.Errorf("%s: notified %v", name, !c.want)
		}
	}
}

func TestServiceAbsorbsBeforeAndSyncsAfter(t *testing.T) {
	const absorbed, synced = "absorb acct_1 agent-1", "sync acct_1 agent-1"
	for name, c := range map[string]struct {
		call    func(s *env) (needsRestart bool, err error)
		changes bool
	}{
		"Personality": {func(s *env) (bool, error) { _, err := s.Personality(t.Context(), account, agent); return false, err }, false},
		"Procedures":  {func(s *env) (bool, error) { _, err := s.Procedures(t.Context(), account, agent); return false, err }, false},
		"Rules":       {func(s *env) (bool, error) { _, err := s.Rules(t.Context(), account, agent); return false, err }, false},
		"Rule":        {func(s *env) (bool, error) { _, err := s.Rule(t.Context(), account, agent, "mine"); return false, err }, false},
		"Versions": {func(s *env) (bool, error) {
			_, err := s.Versions(t.Context(), account, agent, workspace.Soul, 0, 0)
			return false, err
		}, false},
		"Version": {func(s *env) (bool, error) {
			_, err := s.Version(t.Context(), account, agent, workspace.Soul, 1)
			return false, err
		}, false},
		"SetSoul": {func(s *env) (bool, error) { _, r, err := s.SetSoul(t.Context(), actor, agent, "x", ""); return r, err }, true},
		"SetWorkflow": {func(s *env) (bool, error) {
			_, r, err := s.SetWorkflow(t.Context(), actor, agent, "x", "")
			return r, err
		}, true},
		"PutRule": {func(s *env) (bool, error) {
			_, r, err := s.PutRule(t.Context(), actor, agent, "new", "x", "")
			return r, err
		}, true},
		"DeleteRule": {func(s *env) (bool, error) {
			_, r, err := s.DeleteRule(t.Context(), actor, agent, "mine")
			return r, err
		}, true},
		"Restore": {func(s *env) (bool, error) {
			_, r, err := s.Restore(t.Context(), actor, agent, workspace.Soul, 1)
			return r, err
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newEnv(t)
			changed(t)(s.PutRule(t.Context(), actor, agent, "mine", "x", ""))
			s.agents.recording, s.agents.needsRestart = true, true
			want := []string{absorbed}
			if c.changes {
				want = append(want, synced)
			}
			if restart, err := c.call(s); err != nil || restart != c.changes || !slices.Equal(s.agents.calls, want) {
				t.Errorf("needs restart %v, %v, calls %q", restart, err, s.agents.calls)
			}
			s.agents.calls, s.agents.absorbErr = nil, fault.New(fault.NotFound, "gone")
			if _, err := c.call(s); !fault.Is(err, fault.NotFound) || !slices.Equal(s.agents.calls, want[:1]) {
				t.Errorf("absorb failed: %v, calls %q", err, s.agents.calls)
			}
		})
	}
}

func TestChangeStaysIfSyncFails(t *testing.T) {
	s := newEnv(t)
	s.agents.syncErr = errors.New("no disk space")
	if _, _, err := s.SetSoul(t.Context(), actor, agent, "x", ""); !errors.Is(err, s.agents.syncErr) {
		t.Fatal(err)
	}
	if p := must[workspace.Personality](t)(s.Personality(t.Context(), account, agent)); p.SoulMD != "x" {
		t.Errorf("%q", p.SoulMD)
	}
}

func TestRefusedChangeIsNotSynced(t *testing.T) {
	s := newEnv(t)
	s.agents.recording = true
	_, _, err := s.SetSoul(t.Context(), actor, agent, "", "")
	wantFault(t, err, fault.Invalid)
	if want := []string{"absorb acct_1 agent-1"}; !slices.Equal(s.agents.calls, want) {
		t.Errorf("calls %q", s.agents.calls)
	}
}
