package swarm_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/swarm"
	"agento.host/agento/internal/vault"
)

const (
	account identity.AccountID = "acct_1"
	other   identity.AccountID = "acct_2"
	key     identity.KeyID     = "key_1"
)

// actor changes swarms in these tests.
var actor = identity.ByKey(account, key)

// agents is a swarm.Agents with a table of its own.
type agents struct{ needsRestart bool }

func (*agents) CountBySwarm(ctx context.Context, q database.Reader, account identity.AccountID) (map[identity.SwarmID]int, error) {
	counts := map[identity.SwarmID]int{}
	ids, err := database.All(ctx, q, database.Scalar[identity.SwarmID], `SELECT swarm_id FROM test_agents WHERE account_id = $1 AND swarm_id <> ''`, account)
	for _, id := range ids {
		counts[id]++
	}
	return counts, err
}

func (*agents) InSwarm(ctx context.Context, q database.Reader, account identity.AccountID, id identity.SwarmID) ([]swarm.AgentRow, error) {
	return database.All(ctx, q, func(r database.Row) (swarm.AgentRow, error) {
		a := swarm.AgentRow{Name: "My Assistant", Status: "running", CreatedAt: time.UnixMilli(1)}
		return a, r.Scan(&a.ID)
	}, `SELECT id FROM test_agents WHERE account_id = $1 AND swarm_id = $2 ORDER BY id`, account, id)
}

func (*agents) LeaveSwarm(ctx context.Context, tx *database.Tx, actor identity.Actor, id identity.SwarmID) error {
	_, err := database.Exec(ctx, tx, `UPDATE test_agents SET swarm_id = '' WHERE account_id = $1 AND swarm_id = $2`, actor.AccountID, id)
	return err
}

func (a *agents) SwarmNeedsRestart(context.Context, identity.AccountID, identity.SwarmID) (bool, error) {
	return a.needsRestart, nil
}

// knowledge is a swarm.Knowledge that calls a function.
type knowledge struct {
	deleted func(ctx context.Context, tx *database.Tx, id identity.SwarmID, agents []identity.AgentID) error // nil: nothing happens
}

func (*knowledge) PassOn(context.Context, identity.AccountID, identity.SwarmID, []identity.AgentID) error {
	return nil
}

func (k *knowledge) SwarmDeleted(ctx context.Context, tx *database.Tx, _ identity.AccountID, id identity.SwarmID, agents []identity.AgentID) error {
	if k.deleted == nil {
		return nil
	}
	return k.deleted(ctx, tx, id, agents)
}

// members is a swarm.Members that has nobody.
type members struct{}

func (members) CountBySwarm(context.Context, database.Reader, identity.AccountID) (map[identity.SwarmID]int, error) {
	return nil, nil
}

func (members) SwarmCreated(context.Context, *database.Tx, identity.Actor, identity.SwarmID) error {
	return nil
}

// env is a Service with everything that it uses. It has two accounts.
type env struct {
	*swarm.Service
	store     *swarm.Store
	db        *database.DB
	events    *event.Log
	vault     *vault.Vault
	agents    *agents
	knowledge *knowledge
}

func newEnv(t testing.TB) *env {
	t.Helper()
	db := databasetest.New(t)
	v, err := vault.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	e := &env{store: swarm.NewStore(db), db: db, events: event.NewLog(db), vault: v, agents: &agents{}, knowledge: &knowledge{}}
	e.Service = swarm.New(swarm.Settings{
		Store: e.store, Events: e.events, Vault: v, Agents: e.agents, Members: members{}, Knowledge: e.knowledge, URLs: netguard.Guard{},
	})
	exec(t, e, `CREATE TABLE test_agents (account_id TEXT, id TEXT, swarm_id TEXT)`)
	for _, id := range []identity.AccountID{account, other} {
		exec(t, e, `INSERT INTO accounts (id, name, plan_id, created_at) VALUES ($1, $1, 'plan_self_hosted', 1)`, id)
	}
	return e
}

func exec(t testing.TB, s *env, query string, args ...any) {
	t.Helper()
	err := s.db.Tx(t.Context(), "swarm.test", func(ctx context.Context, tx *database.Tx) error {
		_, err := database.Exec(t.Context(), tx, query, args...)
		return err
	})
	if err != nil {
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

func create(t testing.TB, s *env, account identity.AccountID, name string) swarm.Swarm {
	t.Helper()
	return must[swarm.Swarm](t)(s.Create(t.Context(), identity.ByKey(account, key), name, "", ""))
}

func wantFault(t testing.TB, err error, code fault.Code) *fault.Fault {
	t.Helper()
	if !fault.Is(err, code) {
		t.Fatalf("got %v, want a fault %s", err, code)
	}
	return fault.From(err)
}

func ptr(s string) *string { return &s }

func TestCreateGetAndList(t *testing.T) {
	s := newEnv(t)
	w := must[swarm.Swarm](t)(s.Create(t.Context(), actor, " Growth ", "Agents focused on growth.", "🚀"))
	if w.Name != "Growth" || w.Slug != "growth" || w.Icon != "🚀" || w.AgentCount != 0 || w.MemberCount != 0 || w.CreatedAt.IsZero() || !w.UpdatedAt.Equal(w.CreatedAt) {
		t.Errorf("%+v", w)
	}
	exec(t, s, `INSERT INTO test_agents VALUES ($1, 'agent-1', $2)`, account, w.ID)
	d := must[swarm.Details](t)(s.Get(t.Context(), account, w.ID))
	if d.AgentCount != 1 || len(d.Agents) != 1 || d.Agents[0].ID != "agent-1" || d.Description != w.Description {
		t.Errorf("%+v", d)
	}
	create(t, s, account, "Second")
	all := must[[]swarm.Swarm](t)(s.List(t.Context(), account))
	counts := map[string]int{}
	for _, w := range all {
		counts[w.Slug] = w.AgentCount
	}
	if len(all) != 2 || counts["growth"] != 1 || counts["second"] != 0 {
		t.Errorf("%+v", all)
	}
	if names := must[map[identity.SwarmID]swarm.Swarm](t)(s.store.Names(t.Context(), s.db, account)); names[w.ID].Slug != "growth" {
		t.Errorf("%+v", names)
	}
	events := must[[]event.Event](t)(s.events.List(t.Context(), account, event.Filter{Topic: event.SwarmTopic(w.ID), Limit: 10}))
	if len(events) != 1 || events[0].Kind != "swarm.created" || events[0].Actor != actor {
		t.Errorf("%+v", events)
	}
}

func TestCreateNamesEveryInvalidField(t *testing.T) {
	s := newEnv(t)
	_, err := s.Create(t.Context(), actor, " ", strings.Repeat("ж", 501), strings.Repeat("🚀", 65))
	if f := wantFault(t, err, fault.Invalid); len(f.Details) != 3 {
		t.Errorf("%+v", f)
	}
	for _, name := range []string{strings.Repeat("ж", 101), "a\x00", "a\nb", "\xff"} {
		_, err := s.Create(t.Context(), identity.ByKey(account, key), name, "", "")
		wantFault(t, err, fault.Invalid)
	}
	must[swarm.Swarm](t)(s.Create(t.Context(), actor, strings.Repeat("ж", 100), strings.Repeat("ж\n", 250), strings.Repeat("🚀", 64)))
}

func TestConcurrentCreatesWithOneNameGetDifferentSlugs(t *testing.T) {
	s := newEnv(t)
	create(t, s, account, "Growth 2")
	slugs := make(chan string, 20)
	var wg sync.WaitGroup
	for range cap(slugs) {
		wg.Go(func() {
			w, err := s.Create(t.Context(), actor, "Growth", "", "")
			if err != nil {
				t.Error(err)
			}
			slugs <- w.Slug
		})
	}
	wg.Wait()
	close(slugs)
	seen := map[string]bool{"growth-2": true}
	for slug := range slugs {
		if seen[slug] || !strings.HasPrefix(slug, "growth") {
			t.Errorf("slug %q", slug)
		}
		seen[slug] = true
	}
	if len(seen) != 21 || !seen["growth"] || !seen["growth-21"] {
		t.Errorf("%v", seen)
	}
}

func TestSlugsAreUniquePerAccount(t *testing.T) {
	s := newEnv(t)
	if a, b := create(t, s, account, "東京"), create(t, s, other, "東京"); a.Slug != b.Slug {
		t.Error(a.Slug, b.Slug)
	}
	if again := create(t, s, account, "東京"); !strings.HasSuffix(again.Slug, "-2") {
		t.Error(again.Slug)
	}
}

func TestUpdateChangesTheGivenFields(t *testing.T) {
	s := newEnv(t)
	w := must[swarm.Swarm](t)(s.Create(t.Context(), actor, "Growth", "old", "🚀"))
	exec(t, s, `INSERT INTO test_agents VALUES ($1, 'agent-1', $2)`, account, w.ID)
	got := must[swarm.Swarm](t)(s.Update(t.Context(), actor, w.ID, swarm.Changes{Name: ptr("Growth Team"), Description: ptr("")}))
	if got.Name != "Growth Team" || got.Slug != "growth" || got.Description != "" || got.Icon != "🚀" || got.AgentCount != 1 {
		t.Errorf("%+v", got)
	}
	must[swarm.Swarm](t)(s.Update(t.Context(), actor, w.ID, swarm.Changes{}))
	events := must[[]event.Event](t)(s.events.List(t.Context(), account, event.Filter{Kind: "swarm.updated", Limit: 10}))
	if len(events) != 1 || fmt.Sprint(events[0].Data["fields"]) != "[name description]" {
		t.Errorf("%+v", events)
	}
	_, err := s.Update(t.Context(), actor, w.ID, swarm.Changes{Name: ptr("")})
	wantFault(t, err, fault.Invalid)
	_, err = s.Update(t.Context(), actor, "none", swarm.Changes{Name: ptr("x")})
	wantFault(t, err, fault.NotFound)
}

func TestDeleteRemovesAgentsAndShredsSecrets(t *testing.T) {
	s := newEnv(t)
	w := create(t, s, account, "Growth")
	exec(t, s, `INSERT INTO test_agents VALUES ($1, 'agent-1', $2)`, account, w.ID)
	secrets := map[string]vault.Secret{"openaiApiKey": vault.NewSecret("value-for-tests")}
	if _, err := s.SetSecrets(t.Context(), actor, w.ID, swarm.SecretChange{Set: secrets}); err != nil {
		t.Fatal(err)
	}
	fail := errors.New("undo")
	s.knowledge.deleted = func(ctx context.Context, tx *database.Tx, id identity.SwarmID, agents []identity.AgentID) error {
		rows, err := s.agents.InSwarm(ctx, tx, account, id)
		if len(rows) != 1 || len(agents) != 1 || agents[0] != "agent-1" {
			t.Errorf("%d agents in the swarm and %q passed when the knowledge is moved", len(rows), agents)
		}
		return errors.Join(err, fail)
	}
	if err := s.Delete(t.Context(), actor, w.ID); !errors.Is(err, fail) {
		t.Fatal(err)
	}
	if d := must[swarm.Details](t)(s.Get(t.Context(), account, w.ID)); d.AgentCount != 1 {
		t.Errorf("not rolled back: %+v", d)
	}
	fail = nil
	if err := s.Delete(t.Context(), actor, w.ID); err != nil {
		t.Fatal(err)
	}
	_, err := s.Get(t.Context(), account, w.ID)
	wantFault(t, err, fault.NotFound)
	wantFault(t, s.Delete(t.Context(), actor, w.ID), fault.NotFound)
	if left := must[map[provider.SecretName]vault.Secret](t)(s.vault.Read(t.Context(), s.db, account, vault.OfSwarm(w.ID))); len(left) > 0 {
		t.Error("the secrets still exist")
	}
	if counts := must[map[identity.SwarmID]int](t)(s.agents.CountBySwarm(t.Context(), s.db, account)); len(counts) > 0 {
		t.Error(counts)
	}
	if again := create(t, s, account, "Growth"); again.Slug != "growth" {
		t.Error(again.Slug)
	}
}

func TestSetSecretsStoresAndDeletes(t *testing.T) {
	s := newEnv(t)
	w := create(t, s, account, "Growth")
	setAt := func(baseURL string, set map[string]string, remove ...string) error {
		in := map[string]vault.Secret{}
		for name, value := range set {
			in[name] = vault.NewSecret(value)
		}
		_, err := s.SetSecrets(t.Context(), actor, w.ID, swarm.SecretChange{Set: in, BaseURL: baseURL, Remove: remove})
		return err
	}
	set := func(in map[string]string, remove ...string) error { return setAt("", in, remove...) }
	if err := set(map[string]string{"anthropic_api_key": "sk-ant-value-a", "openaiApiKey": "value-b"}); err != nil {
		t.Fatal(err)
	}
	if names := slices.Sorted(maps.Keys(must[map[provider.SecretName]provider.Origin](t)(s.SecretOrigins(t.Context(), account, w.ID)))); fmt.Sprint(names) != "[anthropicApiKey openaiApiKey]" {
		t.Error(names)
	}
	if kept := must[map[provider.SecretName]vault.Secret](t)(s.vault.Read(t.Context(), s.db, account, vault.OfSwarm(w.ID))); kept["openaiApiKey"].Reveal() != "value-b" {
		t.Error("not the value that was set")
	}
	if err := set(nil, "anthropicApiKey", "anthropic_api_key", "google_api_key"); err != nil {
		t.Fatal(err)
	}
	if names := slices.Sorted(maps.Keys(must[map[provider.SecretName]provider.Origin](t)(s.SecretOrigins(t.Context(), account, w.ID)))); fmt.Sprint(names) != "[openaiApiKey]" {
		t.Error(names)
	}
	for name, err := range map[string]error{
		"nothing":        set(nil),
		"unknown":        set(map[string]string{"telegramBotToken": "value"}),
		"unknown delete": set(nil, "telegramBotToken"),
		"empty":          set(map[string]string{"openaiApiKey": " "}),
		"long":           set(map[string]string{"openaiApiKey": strings.Repeat("x", 4097)}),
		"white space":    set(map[string]string{"openaiApiKey": " value-b\n"}),
		"prefix":         set(map[string]string{"anthropicApiKey": "value-a"}),
		"two lines":      set(map[string]string{"openaiApiKey": "a\r\nX-Evil: b"}),
		"twice":          set(map[string]string{"openaiApiKey": "a", "openai_api_key": "b"}),
		"set and delete": set(map[string]string{"openaiApiKey": "a"}, "openai_api_key"),
		"refused URL":    setAt("http://169.254.169.254/", map[string]string{"openaiApiKey": "a"}),
		"no URL":         setAt("api.openai.com", map[string]string{"openaiApiKey": "a"}),
		"URL alone":      setAt("https://one.test", nil, "openaiApiKey"),
	} {
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := setAt("https://llm.test", map[string]string{"anthropicApiKey": "virtual-key"}); err != nil {
		t.Errorf("a key for another endpoint: %v", err)
	}
	err := set(map[string]string{"value-in-the-wrong-place": "openaiApiKey"})
	if f := wantFault(t, err, fault.Invalid); strings.Contains(fmt.Sprint(f.Error(), f.Details), "wrong-place") {
		t.Error("a fault repeats what may be a secret")
	}
	events := must[[]event.Event](t)(s.events.List(t.Context(), account, event.Filter{Kind: "swarm.secrets_updated", Limit: 10}))
	if len(events) != 3 || strings.Contains(fmt.Sprint(events), "value-") {
		t.Errorf("%+v", events)
	}
}

func TestSetSecretsReportsWhetherAnAgentNeedsARestart(t *testing.T) {
	s := newEnv(t)
	w := create(t, s, account, "Growth")
	for _, want := range []bool{false, true} {
		s.agents.needsRestart = want
		got := must[bool](t)(s.SetSecrets(t.Context(), actor, w.ID, swarm.SecretChange{Remove: []string{"openaiApiKey"}}))
		if got != want {
			t.Errorf("needs restart %v, want %v", got, want)
		}
	}
}

func TestAccountsDoNotSeeEachOther(t *testing.T) {
	s := newEnv(t)
	w := create(t, s, account, "Growth")
	ctx, otherActor := t.Context(), identity.ByKey(other, key)
	for name, err := range map[string]error{
		"Get":           func() error { _, err := s.Get(ctx, other, w.ID); return err }(),
		"Update":        func() error { _, err := s.Update(ctx, otherActor, w.ID, swarm.Changes{Name: ptr("x")}); return err }(),
		"Delete":        s.Delete(ctx, otherActor, w.ID),
		"Exists":        s.store.Exists(ctx, s.db, other, w.ID),
		"SecretOrigins": func() error { _, err := s.SecretOrigins(ctx, other, w.ID); return err }(),
		"SetSecrets": func() error {
			_, err := s.SetSecrets(ctx, otherActor, w.ID, swarm.SecretChange{Remove: []string{"openaiApiKey"}})
			return err
		}(),
	} {
		if !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if all := must[[]swarm.Swarm](t)(s.List(ctx, other)); all == nil || len(all) > 0 {
		t.Errorf("%+v", all)
	}
	if err := s.store.Exists(ctx, s.db, account, w.ID); err != nil {
		t.Error(err)
	}
}

func TestAccountCannotExceedMaxSwarms(t *testing.T) {
	s := newEnv(t)
	err := s.db.Tx(t.Context(), "swarm.test", func(ctx context.Context, tx *database.Tx) error {
		for i := range swarm.MaxSwarms {
			if _, err := database.Exec(t.Context(), tx, `INSERT INTO swarms VALUES ($1, $2, 'x', $1, '', '', 1, 1)`, fmt.Sprint("s", i), account); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Create(t.Context(), actor, "Growth", "", "")
	wantFault(t, err, fault.Conflict)
	create(t, s, other, "Growth")
}

func FuzzCreate(f *testing.F) {
	f.Add("Growth", "about", "🚀")
	f.Add("\x00", "\xff", "")
	s := newEnv(f)
	f.Fuzz(func(t *testing.T, name, description, icon string) {
		w, err := s.Create(t.Context(), actor, name, description, icon)
		if err != nil {
			wantFault(t, err, fault.Invalid)
			return
		}
		if err := s.Delete(t.Context(), actor, w.ID); err != nil {
			t.Fatal(err)
		}
	})
}

func TestConcurrentCreatesCannotExceedMaxSwarms(t *testing.T) {
	s := newEnv(t)
	err := s.db.Tx(t.Context(), "swarm.test", func(ctx context.Context, tx *database.Tx) error {
		for i := range swarm.MaxSwarms - 1 {
			_, err := tx.ExecContext(ctx, `INSERT INTO swarms (id, account_id, name, slug, description, icon, created_at, updated_at) VALUES ($1, $2, 'S', $1, '', '', 1, 1)`,
				fmt.Sprint("s", i), account)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var created atomic.Int64
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if _, err := s.Create(t.Context(), actor, "Last", "", ""); err == nil {
				created.Add(1)
			} else if !fault.Is(err, fault.Conflict) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := created.Load(); n != 1 {
		t.Errorf("%d swarms were created in the last slot", n)
	}
}

func TestSecretsOfASwarmAreForAnOrigin(t *testing.T) {
	s := newEnv(t)
	w := create(t, s, account, "Growth")
	set := func(c swarm.SecretChange) string {
		t.Helper()
		must[bool](t)(s.SetSecrets(t.Context(), actor, w.ID, c))
		kept := must[map[provider.SecretName]vault.Secret](t)(s.vault.Read(t.Context(), s.db, account, vault.OfSwarm(w.ID)))
		shown := must[map[provider.SecretName]provider.Origin](t)(s.SecretOrigins(t.Context(), account, w.ID))
		for name, secret := range kept {
			if secret.Origin() != shown[name] {
				t.Errorf("%s is for %s, shown as %s", name, secret.Origin(), shown[name])
			}
		}
		return fmt.Sprint(shown)
	}
	both := map[string]vault.Secret{"openaiApiKey": vault.NewSecret("a"), "google_api_key": vault.NewSecret("b")}
	if got := set(swarm.SecretChange{Set: both}); got != "map[googleApiKey:https://generativelanguage.googleapis.com openaiApiKey:https://api.openai.com]" {
		t.Error(got)
	}
	one := map[string]vault.Secret{"openaiApiKey": vault.NewSecret("c")}
	if got := set(swarm.SecretChange{Set: one, BaseURL: "https://vllm.test:8443/v1"}); got != "map[googleApiKey:https://generativelanguage.googleapis.com openaiApiKey:https://vllm.test:8443]" {
		t.Error(got)
	}
	events := must[[]event.Event](t)(s.events.List(t.Context(), account, event.Filter{Kind: "swarm.secrets_updated", Limit: 1}))
	if len(events) != 1 || fmt.Sprint(events[0].Data["origins"]) != "map[openaiApiKey:https://vllm.test:8443]" {
		t.Errorf("%+v", events)
	}
}
