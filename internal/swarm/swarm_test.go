package swarm_test

import (
	"agento.host/agento/internal/identity"

	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/swarm"
	"agento.host/agento/internal/vault"
)

const (
	account = "acct_1"
	key     = "key_1"
)

// members is the agents' record, in a table of the test's own.
type members struct{}

func (members) CountBySwarm(ctx context.Context, q database.Querier, accountID string) (map[string]int, error) {
	counts := map[string]int{}
	ids, err := database.All(ctx, q, database.Scalar[string], `SELECT swarm_id FROM test_agents WHERE account_id = $1 AND swarm_id <> ''`, accountID)
	for _, id := range ids {
		counts[id]++
	}
	return counts, err
}

func (members) InSwarm(ctx context.Context, q database.Querier, accountID, swarmID string) ([]swarm.AgentRow, error) {
	return database.All(ctx, q, func(r database.Row) (swarm.AgentRow, error) {
		a := swarm.AgentRow{Name: "My Assistant", Status: "running", CreatedAt: time.UnixMilli(1)}
		return a, r.Scan(&a.ID)
	}, `SELECT id FROM test_agents WHERE account_id = $1 AND swarm_id = $2 ORDER BY id`, accountID, swarmID)
}

func (members) LeaveSwarm(ctx context.Context, tx *database.Tx, accountID, swarmID, _ string) error {
	_, err := database.Exec(ctx, tx, `UPDATE test_agents SET swarm_id = '' WHERE account_id = $1 AND swarm_id = $2`, accountID, swarmID)
	return err
}

func newService(t testing.TB) (*swarm.Service, *vault.Vault) {
	t.Helper()
	db := databasetest.New(t)
	v, err := vault.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	s := &swarm.Service{
		DB: db, Events: event.NewLog(db), Members: members{}, Secrets: v,
		Allows: func(context.Context, string) error { return nil },
	}
	exec(t, s, `CREATE TABLE test_agents (account_id TEXT, id TEXT, swarm_id TEXT)`)
	return s, v
}

func exec(t testing.TB, s *swarm.Service, query string, args ...any) {
	t.Helper()
	err := s.DB.Tx(t.Context(), func(tx *database.Tx) error {
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

func create(t testing.TB, s *swarm.Service, account, name string) swarm.Swarm {
	t.Helper()
	return must[swarm.Swarm](t)(s.Create(t.Context(), account, key, name, "", ""))
}

func wantFault(t testing.TB, err error, code fault.Code) *fault.Fault {
	t.Helper()
	if !fault.Is(err, code) {
		t.Fatalf("got %v, want a fault %s", err, code)
	}
	return fault.From(err)
}

func ptr(s string) *string { return &s }

func TestCreateAndGet(t *testing.T) {
	s, _ := newService(t)
	w := must[swarm.Swarm](t)(s.Create(t.Context(), account, key, " Growth ", "Agents focused on growth.", "🚀"))
	if w.Name != "Growth" || w.Slug != "growth" || w.Icon != "🚀" || w.AgentCount != 0 || w.MemberCount != 1 || w.CreatedAt.IsZero() || !w.UpdatedAt.Equal(w.CreatedAt) {
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
	if names := must[map[string]swarm.Swarm](t)(s.Names(t.Context(), s.DB, account)); names[w.ID].Slug != "growth" {
		t.Errorf("%+v", names)
	}
	events := must[[]event.Event](t)(s.Events.List(t.Context(), identity.AccountID(account), event.Filter{Topic: event.Topic("swarm/" + w.ID), Limit: 10}))
	if len(events) != 1 || events[0].Kind != "swarm.created" || events[0].Actor.String() != key {
		t.Errorf("%+v", events)
	}
}

func TestCreateNamesEveryBrokenField(t *testing.T) {
	s, _ := newService(t)
	_, err := s.Create(t.Context(), account, key, " ", strings.Repeat("ж", 501), strings.Repeat("🚀", 65))
	if f := wantFault(t, err, fault.Invalid); len(f.Details) != 3 {
		t.Errorf("%+v", f)
	}
	for _, name := range []string{strings.Repeat("ж", 101), "a\x00", "a\nb", "\xff"} {
		_, err := s.Create(t.Context(), account, key, name, "", "")
		wantFault(t, err, fault.Invalid)
	}
	must[swarm.Swarm](t)(s.Create(t.Context(), account, key, strings.Repeat("ж", 100), strings.Repeat("ж\n", 250), strings.Repeat("🚀", 64)))
}

func TestThePlanMustHaveSwarms(t *testing.T) {
	s, _ := newService(t)
	s.Allows = func(_ context.Context, accountID string) error {
		return fault.New(fault.PlanLimit, "The plan of %s has no swarms.", accountID)
	}
	_, err := s.Create(t.Context(), account, key, "Growth", "", "")
	wantFault(t, err, fault.PlanLimit)
}

func TestTheSameNameTwentyTimesAtOnceGivesTwentySlugs(t *testing.T) {
	s, _ := newService(t)
	create(t, s, account, "Growth 2")
	slugs := make(chan string, 20)
	var wg sync.WaitGroup
	for range cap(slugs) {
		wg.Go(func() {
			w, err := s.Create(t.Context(), account, key, "Growth", "", "")
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

func TestSlugsAreUniqueInAnAccountOnly(t *testing.T) {
	s, _ := newService(t)
	if a, b := create(t, s, account, "東京"), create(t, s, "acct_2", "東京"); a.Slug != b.Slug {
		t.Error(a.Slug, b.Slug)
	}
	if again := create(t, s, account, "東京"); !strings.HasSuffix(again.Slug, "-2") {
		t.Error(again.Slug)
	}
}

func TestUpdate(t *testing.T) {
	s, _ := newService(t)
	w := must[swarm.Swarm](t)(s.Create(t.Context(), account, key, "Growth", "old", "🚀"))
	exec(t, s, `INSERT INTO test_agents VALUES ($1, 'agent-1', $2)`, account, w.ID)
	got := must[swarm.Swarm](t)(s.Update(t.Context(), account, key, w.ID, swarm.Changes{Name: ptr("Growth Team"), Description: ptr("")}))
	if got.Name != "Growth Team" || got.Slug != "growth" || got.Description != "" || got.Icon != "🚀" || got.AgentCount != 1 {
		t.Errorf("%+v", got)
	}
	must[swarm.Swarm](t)(s.Update(t.Context(), account, key, w.ID, swarm.Changes{}))
	events := must[[]event.Event](t)(s.Events.List(t.Context(), identity.AccountID(account), event.Filter{Kind: "swarm.updated", Limit: 10}))
	if len(events) != 1 || fmt.Sprint(events[0].Data["fields"]) != "[name description]" {
		t.Errorf("%+v", events)
	}
	_, err := s.Update(t.Context(), account, key, w.ID, swarm.Changes{Name: ptr("")})
	wantFault(t, err, fault.Invalid)
	_, err = s.Update(t.Context(), account, key, "none", swarm.Changes{Name: ptr("x")})
	wantFault(t, err, fault.NotFound)
}

func TestDeleteFreesAgentsAndShredsCredentials(t *testing.T) {
	s, v := newService(t)
	w := create(t, s, account, "Growth")
	exec(t, s, `INSERT INTO test_agents VALUES ($1, 'agent-1', $2)`, account, w.ID)
	secrets := map[string]vault.Secret{"openaiApiKey": vault.NewSecret("value-for-tests")}
	if err := s.SetSecrets(t.Context(), account, key, w.ID, secrets, nil); err != nil {
		t.Fatal(err)
	}
	fail := errors.New("undo")
	s.OnDelete = func(ctx context.Context, tx *database.Tx, accountID, swarmID string) error {
		rows, err := members{}.InSwarm(ctx, tx, accountID, swarmID)
		if len(rows) != 1 {
			t.Errorf("%d agents left before the knowledge is settled", len(rows))
		}
		return errors.Join(err, fail)
	}
	if err := s.Delete(t.Context(), account, key, w.ID); !errors.Is(err, fail) {
		t.Fatal(err)
	}
	if d := must[swarm.Details](t)(s.Get(t.Context(), account, w.ID)); d.AgentCount != 1 {
		t.Errorf("half deleted: %+v", d)
	}
	fail = nil
	if err := s.Delete(t.Context(), account, key, w.ID); err != nil {
		t.Fatal(err)
	}
	_, err := s.Get(t.Context(), account, w.ID)
	wantFault(t, err, fault.NotFound)
	wantFault(t, s.Delete(t.Context(), account, key, w.ID), fault.NotFound)
	if left := must[map[string]vault.Secret](t)(v.Read(t.Context(), s.DB, account, w.ID)); len(left) > 0 {
		t.Error("the credentials are still there")
	}
	if counts := must[map[string]int](t)(members{}.CountBySwarm(t.Context(), s.DB, account)); len(counts) > 0 {
		t.Error(counts)
	}
	if again := create(t, s, account, "Growth"); again.Slug != "growth" {
		t.Error(again.Slug)
	}
}

func TestSecretsAreNamedAndNeverRead(t *testing.T) {
	s, v := newService(t)
	w := create(t, s, account, "Growth")
	set := func(set map[string]string, remove ...string) error {
		in := map[string]vault.Secret{}
		for name, value := range set {
			in[name] = vault.NewSecret(value)
		}
		return s.SetSecrets(t.Context(), account, key, w.ID, in, remove)
	}
	if err := set(map[string]string{"anthropic_api_key": "value-a", "openaiApiKey": " value-b\n"}); err != nil {
		t.Fatal(err)
	}
	if names := must[[]string](t)(s.SecretNames(t.Context(), account, w.ID)); fmt.Sprint(names) != "[anthropicApiKey openaiApiKey]" {
		t.Error(names)
	}
	if kept := must[map[string]vault.Secret](t)(v.Read(t.Context(), s.DB, account, w.ID)); kept["openaiApiKey"].Reveal() != "value-b" {
		t.Error("not what was set")
	}
	if err := set(nil, "anthropicApiKey", "anthropic_api_key", "google_api_key"); err != nil {
		t.Fatal(err)
	}
	if names := must[[]string](t)(s.SecretNames(t.Context(), account, w.ID)); fmt.Sprint(names) != "[openaiApiKey]" {
		t.Error(names)
	}
	for name, err := range map[string]error{
		"nothing":        set(nil),
		"unknown":        set(map[string]string{"telegramBotToken": "value"}),
		"unknown delete": set(nil, "telegramBotToken"),
		"empty":          set(map[string]string{"openaiApiKey": " "}),
		"long":           set(map[string]string{"openaiApiKey": strings.Repeat("x", swarm.MaxSecret+1)}),
		"two lines":      set(map[string]string{"openaiApiKey": "a\r\nX-Evil: b"}),
		"twice":          set(map[string]string{"openaiApiKey": "a", "openai_api_key": "b"}),
		"set and delete": set(map[string]string{"openaiApiKey": "a"}, "openai_api_key"),
	} {
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	err := set(map[string]string{"value-in-the-wrong-place": "openaiApiKey"})
	if f := wantFault(t, err, fault.Invalid); strings.Contains(fmt.Sprint(f.Error(), f.Details), "wrong-place") {
		t.Error("a fault repeats what may be a secret")
	}
	events := must[[]event.Event](t)(s.Events.List(t.Context(), identity.AccountID(account), event.Filter{Kind: "swarm.secrets_updated", Limit: 10}))
	if len(events) != 2 || strings.Contains(fmt.Sprint(events), "value-") {
		t.Errorf("%+v", events)
	}
}

func TestAccountsDoNotSeeEachOther(t *testing.T) {
	s, _ := newService(t)
	w := create(t, s, account, "Growth")
	ctx, other := t.Context(), "acct_2"
	for name, err := range map[string]error{
		"Get":         func() error { _, err := s.Get(ctx, other, w.ID); return err }(),
		"Update":      func() error { _, err := s.Update(ctx, other, key, w.ID, swarm.Changes{Name: ptr("x")}); return err }(),
		"Delete":      s.Delete(ctx, other, key, w.ID),
		"Exists":      s.Exists(ctx, s.DB, identity.AccountID(other), identity.SwarmID(w.ID)),
		"SecretNames": func() error { _, err := s.SecretNames(ctx, other, w.ID); return err }(),
		"SetSecrets":  s.SetSecrets(ctx, other, key, w.ID, nil, []string{"openaiApiKey"}),
	} {
		if !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if all := must[[]swarm.Swarm](t)(s.List(ctx, other)); all == nil || len(all) > 0 {
		t.Errorf("%+v", all)
	}
	if err := s.Exists(ctx, s.DB, account, identity.SwarmID(w.ID)); err != nil {
		t.Error(err)
	}
}

func TestAnAccountHasAThousandSwarmsAtMost(t *testing.T) {
	s, _ := newService(t)
	err := s.DB.Tx(t.Context(), func(tx *database.Tx) error {
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
	_, err = s.Create(t.Context(), account, key, "Growth", "", "")
	wantFault(t, err, fault.Conflict)
	create(t, s, "acct_2", "Growth")
}

func FuzzCreate(f *testing.F) {
	f.Add("Growth", "about", "🚀")
	f.Add("\x00", "\xff", "")
	s, _ := newService(f)
	f.Fuzz(func(t *testing.T, name, description, icon string) {
		w, err := s.Create(t.Context(), account, key, name, description, icon)
		if err != nil {
			wantFault(t, err, fault.Invalid)
			return
		}
		if err := s.Delete(t.Context(), account, key, w.ID); err != nil {
			t.Fatal(err)
		}
	})
}
