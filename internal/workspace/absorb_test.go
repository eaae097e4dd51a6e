package workspace_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/workspace"
)

// home is a workspace folder in memory, by path.
type home map[string]string

func (h home) ReadFile(path string, limit int64) ([]byte, error) {
	content, ok := h[path]
	if !ok {
		return nil, fmt.Errorf("open %s: %w", path, fs.ErrNotExist)
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("read %s: %w", path, runtime.ErrTooLarge)
	}
	return []byte(content), nil
}

func (h home) ReadDir(path string) ([]runtime.Entry, error) {
	var all []runtime.Entry
	for name := range h {
		if rest, ok := strings.CutPrefix(name, path+"/"); ok {
			all = append(all, runtime.Entry{Name: rest})
		}
	}
	slices.SortFunc(all, func(a, b runtime.Entry) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// deliver does what the gateway manager does: it writes the documents, removes deleted
// rules and records the delivery.
func (h home) deliver(t testing.TB, s *env) {
	t.Helper()
	c := must[workspace.Content](t)(s.store.Content(t.Context(), s.db, account, agent))
	h.write(c)
	inTx(t, s, func(tx *database.Tx) error { return s.store.MarkDelivered(t.Context(), tx, account, agent, c) })
}

func (h home) write(c workspace.Content) {
	for path, content := range c.Files() {
		h[path] = string(content)
	}
	for _, path := range c.Gone {
		delete(h, path)
	}
}

func newDelivered(t testing.TB) (*env, home) {
	t.Helper()
	s, h := newEnv(t), home{}
	changed(t)(s.PutRule(t.Context(), actor, agent, "refunds", "pay", ""))
	h.deliver(t, s)
	return s, h
}

func absorb(t testing.TB, s *env, h workspace.Folder) workspace.Absorbed {
	t.Helper()
	return must[workspace.Absorbed](t)(s.store.Absorb(t.Context(), account, agent, workspace.SelfEditOn, h))
}

func soul(t testing.TB, s *env) string {
	t.Helper()
	return must[workspace.Personality](t)(s.Personality(t.Context(), account, agent)).SoulMD
}

func pending(t testing.TB, s *env) string {
	t.Helper()
	return fmt.Sprint(must[[]workspace.Document](t)(s.store.Pending(t.Context(), s.db, account, agent)))
}

// passMinute makes every version a minute older.
func passMinute(t testing.TB, s *env) {
	t.Helper()
	inTx(t, s, func(tx *database.Tx) error {
		_, err := tx.ExecContext(t.Context(), `UPDATE documents SET created_at = created_at - 60000`)
		return err
	})
}

// TestEditsOfOneMinuteAreOneVersion: an agent that writes again and again does not fill the
// database. Versions of callers stay as they are.
func TestEditsOfOneMinuteAreOneVersion(t *testing.T) {
	s, h := newDelivered(t)
	edit := func(content string) workspace.Absorbed {
		h["SOUL.md"] = content
		return absorb(t, s, h)
	}
	numbers := func() []int64 {
		var all []int64
		for before := int64(0); ; {
			page := must[workspace.Page](t)(s.Versions(t.Context(), account, agent, workspace.Soul, before, workspace.MaxPage))
			for _, v := range page.Versions {
				all = append(all, v.Number)
			}
			if before = page.Next; before == 0 {
				return all
			}
		}
	}
	events := len(kinds(t, s))
	for i := range 5 {
		if a := edit(fmt.Sprint("edit ", i)); len(a.Accepted) != 1 || a.Accepted[0].Number != 2 || soul(t, s) != fmt.Sprint("edit ", i) {
			t.Fatalf("edit %d: %+v", i, a)
		}
	}
	if got := numbers(); !slices.Equal(got, []int64{2, 1}) || len(kinds(t, s)) != events+1 || pending(t, s) != "[]" {
		t.Errorf("versions %v, events %v, pending %s", got, kinds(t, s), pending(t, s))
	}
	changed(t)(s.SetSoul(t.Context(), actor, agent, "of the API", ""))
	if a := edit("set aside"); len(a.SetAside) != 1 || a.SetAside[0].Number != 4 {
		t.Errorf("%+v", a)
	}
	if a := edit("set aside again"); len(a.SetAside) != 1 || a.SetAside[0].Number != 4 || soul(t, s) != "of the API" {
		t.Errorf("%+v", a)
	}
	h.deliver(t, s)
	for i := range 105 {
		passMinute(t, s)
		edit(fmt.Sprint("later edit ", i))
	}
	got := numbers()
	if len(got) != 102 || got[0] != 109 || !slices.Equal(got[100:], []int64{3, 1}) || soul(t, s) != "later edit 104" {
		t.Errorf("%d versions: %v", len(got), got)
	}
}

// full is a quota that is used up.
type full struct{}

// CheckStorage implements workspace.Quota.
func (full) CheckStorage(context.Context, database.Reader, identity.AccountID, int64) error {
	return fault.New(fault.PlanLimit, "The plan allows no more.")
}

func TestStorageIsLimited(t *testing.T) {
	s, h := newDelivered(t)
	before := soul(t, s)
	s.store.LimitStorage(full{})
	_, _, err := s.SetSoul(t.Context(), actor, agent, "of the API", "")
	wantFault(t, err, fault.PlanLimit)
	_, _, err = s.Restore(t.Context(), actor, agent, workspace.Soul, 1)
	wantFault(t, err, fault.PlanLimit)
	h["SOUL.md"], h["rules/new.md"] = "of the agent", "a rule"
	a := absorb(t, s, h)
	if len(a.Refused) != 2 || len(a.Accepted) > 0 || !strings.Contains(a.Refused[0].Reason, "plan allows") || soul(t, s) != before {
		t.Errorf("%+v", a)
	}
}

func TestAbsorbWithoutEditsChangesNothing(t *testing.T) {
	s, h := newDelivered(t)
	a := absorb(t, s, h)
	if len(a.Accepted)+len(a.SetAside)+len(a.Refused) > 0 || pending(t, s) != "[]" {
		t.Errorf("%+v, pending %s", a, pending(t, s))
	}
	if a := absorb(t, s, home{}); len(a.Accepted)+len(a.SetAside)+len(a.Refused) > 0 {
		t.Errorf("from an empty home: %+v", a)
	}
}

func TestEditBecomesAVersion(t *testing.T) {
	s, h := newDelivered(t)
	h["SOUL.md"] = "I am somebody now"
	h["rules/refunds.md"] = "pay at once"
	h["rules/found-out.md"] = "a rule of my own"
	a := absorb(t, s, h)
	if len(a.Accepted) != 3 || len(a.SetAside)+len(a.Refused) > 0 || a.Accepted[0].Actor != identity.ByAgent(account, agent) {
		t.Fatalf("%+v", a)
	}
	if soul(t, s) != "I am somebody now" || pending(t, s) != "[]" {
		t.Error(soul(t, s), pending(t, s))
	}
	if r := must[workspace.Version](t)(s.Rule(t.Context(), account, agent, "found-out")); r.Content != "a rule of my own" {
		t.Errorf("%+v", r)
	}
	if again := absorb(t, s, h); len(again.Accepted) > 0 {
		t.Errorf("absorbed twice: %+v", again)
	}
	want := "[agent.rule_updated key_1 agent.personality_updated agent agent.rule_updated agent agent.rule_updated agent]"
	if got := fmt.Sprint(kinds(t, s)); got != want {
		t.Error(got)
	}
}

func TestAgentMayRestoreAnEarlierContent(t *testing.T) {
	s, h := newDelivered(t)
	first := h["SOUL.md"]
	for _, content := range []string{"two", first, "two"} {
		h["SOUL.md"] = content
		if a := absorb(t, s, h); len(a.Accepted) != 1 {
			t.Fatalf("%q: %+v", content, a)
		}
		passMinute(t, s)
	}
	if v := must[workspace.Version](t)(s.Version(t.Context(), account, agent, workspace.Soul, 4)); !v.Current || v.Content != "two" {
		t.Errorf("%+v", v)
	}
}

func TestEditThatConflictsWithANewerChangeIsSetAside(t *testing.T) {
	s, h := newDelivered(t)
	changed(t)(s.SetSoul(t.Context(), actor, agent, "of the API", ""))
	h["SOUL.md"] = "of the agent"
	a := absorb(t, s, h)
	if len(a.SetAside) != 1 || len(a.Accepted) > 0 || a.SetAside[0].Number != 3 {
		t.Fatalf("%+v", a)
	}
	if soul(t, s) != "of the API" || pending(t, s) != "[SOUL.md]" {
		t.Error(soul(t, s), pending(t, s))
	}
	passMinute(t, s)
	h["SOUL.md"] = "of the agent again"
	if a := absorb(t, s, h); len(a.SetAside) != 1 {
		t.Fatalf("%+v", a)
	}
	h.deliver(t, s)
	if a := absorb(t, s, h); len(a.Accepted)+len(a.SetAside) > 0 || h["SOUL.md"] != "of the API" || pending(t, s) != "[]" {
		t.Fatalf("%+v %q", a, h["SOUL.md"])
	}
	if v := changed(t)(s.Restore(t.Context(), actor, agent, workspace.Soul, 3)); v.Content != "of the agent" || v.Number != 5 {
		t.Errorf("%+v", v)
	}
	if got := kinds(t, s); got[2] != "agent.edit_set_aside agent" {
		t.Error(got)
	}
}

// The agent may write the content of a version that was set aside: that is an edit.
func TestEditThatWasSetAsideMayBeMadeAgain(t *testing.T) {
	s, h := newDelivered(t)
	changed(t)(s.SetSoul(t.Context(), actor, agent, "of the API", ""))
	h["SOUL.md"] = "of the agent"
	if a := absorb(t, s, h); len(a.SetAside) != 1 {
		t.Fatalf("%+v", a)
	}
	h.deliver(t, s)
	h["SOUL.md"] = "of the agent"
	if a := absorb(t, s, h); len(a.Accepted) != 1 || soul(t, s) != "of the agent" || pending(t, s) != "[]" {
		t.Errorf("%+v: %q is current, pending %s", a, soul(t, s), pending(t, s))
	}
}

func TestEditOfARestoredVersionIsNoConflict(t *testing.T) {
	s, h := newDelivered(t)
	changed(t)(s.SetSoul(t.Context(), actor, agent, "tried", ""))
	changed(t)(s.Restore(t.Context(), actor, agent, workspace.Soul, 1))
	if pending(t, s) != "[]" {
		t.Error(pending(t, s))
	}
	h["SOUL.md"] = "of the agent"
	if a := absorb(t, s, h); len(a.Accepted) != 1 {
		t.Errorf("%+v", a)
	}
}

func TestMissingFileIsDeliveredAgain(t *testing.T) {
	s, h := newDelivered(t)
	before := h["SOUL.md"]
	delete(h, "SOUL.md")
	delete(h, "rules/refunds.md")
	if a := absorb(t, s, h); len(a.Accepted)+len(a.SetAside)+len(a.Refused) > 0 {
		t.Errorf("%+v", a)
	}
	h.deliver(t, s)
	if h["SOUL.md"] != before || h["rules/refunds.md"] != "pay" {
		t.Errorf("%v", h)
	}
}

func TestCrashBeforeMarkDeliveredIsNoEdit(t *testing.T) {
	s, h := newDelivered(t)
	changed(t)(s.SetSoul(t.Context(), actor, agent, "two", ""))
	changed(t)(s.PutRule(t.Context(), actor, agent, "new", "rule", ""))
	h.write(must[workspace.Content](t)(s.store.Content(t.Context(), s.db, account, agent)))
	changed(t)(s.SetSoul(t.Context(), actor, agent, "three", ""))
	changed(t)(s.DeleteRule(t.Context(), actor, agent, "new"))
	if a := absorb(t, s, h); len(a.Accepted)+len(a.SetAside) > 0 || soul(t, s) != "three" {
		t.Fatalf("%+v", a)
	}
	if pending(t, s) != "[SOUL.md rules/new.md]" {
		t.Error(pending(t, s))
	}
	h.deliver(t, s)
	if _, found := h["rules/new.md"]; found || h["SOUL.md"] != "three" || pending(t, s) != "[]" {
		t.Error(h)
	}
}

func TestDeletedRuleIsRemovedFromTheHomeAndItsEditIsSetAside(t *testing.T) {
	s, h := newDelivered(t)
	h["rules/refunds.md"] = "pay twice"
	changed(t)(s.DeleteRule(t.Context(), actor, agent, "refunds"))
	if a := absorb(t, s, h); len(a.SetAside) != 1 || len(a.Accepted) > 0 {
		t.Fatalf("%+v", a)
	}
	h.deliver(t, s)
	if _, found := h["rules/refunds.md"]; found {
		t.Error("the rule is still in the home")
	}
	h["rules/refunds.md"] = "a new one"
	if a := absorb(t, s, h); len(a.Accepted) != 1 || a.Accepted[0].Number != 4 {
		t.Errorf("%+v", a)
	}
}

func TestUnknownHomeIsComparedWithEveryVersion(t *testing.T) {
	s, h := newDelivered(t)
	changed(t)(s.SetSoul(t.Context(), actor, agent, "two", ""))
	inTx(t, s, func(tx *database.Tx) error { // as if the home came from a backup
		_, err := database.Exec(t.Context(), tx, `DELETE FROM home_documents WHERE account_id = $1 AND agent_id = $2`, account, agent)
		return err
	})
	h["IDENTITY.md"] = "- Name: Unknown"
	a := absorb(t, s, h)
	if len(a.Accepted) > 0 || len(a.SetAside) != 1 || a.SetAside[0].Document != workspace.Identity || soul(t, s) != "two" {
		t.Errorf("%+v", a)
	}
	if pending(t, s) != "[IDENTITY.md SOUL.md]" {
		t.Error(pending(t, s))
	}
}

func TestRefusalsAreRecordedOnce(t *testing.T) {
	s, h := newDelivered(t)
	h["SOUL.md"] = strings.Repeat("x", workspace.MaxCharacters+1)
	h["IDENTITY.md"] = "\xff"
	h["WORKFLOW.md"] = strings.Repeat("x", workspace.MaxWorkflowBytes+1)
	h["rules/Refunds.md"] = "same but for the case"
	h["rules/what is this.md"] = "x"
	h["rules/notes.txt"] = "my own"
	for range 3 {
		a := absorb(t, s, h)
		if len(a.Refused) != 5 || len(a.Accepted)+len(a.SetAside) > 0 {
			t.Fatalf("%+v", a)
		}
		for _, r := range a.Refused {
			if r.Reason == "" || r.Path == "" {
				t.Errorf("%+v", r)
			}
		}
	}
	events := must[[]event.Event](t)(s.events.List(t.Context(), account, event.Filter{Kind: "agent.edits_refused", Limit: 10}))
	if len(events) != 1 || events[0].Data["count"] != 5.0 || events[0].Actor.Kind != identity.Agent {
		t.Errorf("%+v", events)
	}
	h.deliver(t, s)
	for path := range h {
		if strings.HasPrefix(path, "rules/") && path != "rules/refunds.md" {
			delete(h, path)
		}
	}
	if a := absorb(t, s, h); len(a.Refused) > 0 {
		t.Errorf("%+v", a)
	}
	h["SOUL.md"] = ""
	absorb(t, s, h)
	events = must[[]event.Event](t)(s.events.List(t.Context(), account, event.Filter{Kind: "agent.edits_refused", Limit: 10}))
	if len(events) != 2 {
		t.Errorf("%d events", len(events))
	}
}

func TestAbsorbCannotExceedMaxRules(t *testing.T) {
	s, h := newDelivered(t)
	for i := range 1000 {
		h[fmt.Sprintf("rules/r%04d.md", i)] = "x"
	}
	a := absorb(t, s, h)
	rules := must[[]workspace.Version](t)(s.Rules(t.Context(), account, agent))
	if len(rules) != workspace.MaxRules || len(a.Accepted) != workspace.MaxRules-1 {
		t.Errorf("%d rules, %d accepted, %d refused", len(rules), len(a.Accepted), len(a.Refused))
	}
}

func TestConcurrentAbsorbsAcceptAnEditOnce(t *testing.T) {
	s, h := newDelivered(t)
	h["SOUL.md"] = "edited"
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := s.store.Absorb(t.Context(), account, agent, workspace.SelfEditOn, h); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	p := must[workspace.Page](t)(s.Versions(t.Context(), account, agent, workspace.Soul, 0, 0))
	if len(p.Versions) != 2 {
		t.Errorf("%d versions", len(p.Versions))
	}
}

// changingHome is a home that changes while Absorb reads it.
type changingHome struct {
	home
	change func()
}

func (l *changingHome) ReadDir(path string) ([]runtime.Entry, error) {
	l.change()
	return l.home.ReadDir(path)
}

func TestEditOfADeliveryDuringAbsorbIsLeftToTheNextAbsorb(t *testing.T) {
	s, h := newDelivered(t)
	changed(t)(s.SetSoul(t.Context(), actor, agent, "two", ""))
	l := &changingHome{home: h, change: func() {
		h.deliver(t, s)
		h["SOUL.md"] = "two and a half"
	}}
	if a := absorb(t, s, l); len(a.Accepted)+len(a.SetAside) > 0 {
		t.Errorf("%+v", a)
	}
	if a := absorb(t, s, h); len(a.Accepted) != 1 || soul(t, s) != "two and a half" {
		t.Errorf("%+v", a)
	}
}

// disk is a folder on disk, opened as drivers open it.
type disk struct{ *os.Root }

func (d disk) ReadFile(path string, limit int64) ([]byte, error) {
	content, err := d.Root.ReadFile(path)
	if err == nil && int64(len(content)) > limit {
		return nil, runtime.ErrTooLarge
	}
	return content, err
}

func (d disk) ReadDir(path string) ([]runtime.Entry, error) {
	found, err := fs.ReadDir(d.FS(), path)
	var all []runtime.Entry
	for _, e := range found {
		all = append(all, runtime.Entry{Name: e.Name(), Dir: e.IsDir()})
	}
	return all, err
}

func TestLinksAndFoldersAreRefused(t *testing.T) {
	s := newEnv(t)
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside.md")
	if err := errors.Join(
		os.WriteFile(outside, []byte("not the agent's"), 0o600),
		os.MkdirAll(filepath.Join(dir, "workspace", "rules", "folder.md"), 0o700),
		os.Symlink(outside, filepath.Join(dir, "workspace", "SOUL.md")),
		os.Mkdir(filepath.Join(dir, "workspace", "IDENTITY.md"), 0o700),
		os.WriteFile(filepath.Join(dir, "workspace", "rules", "own.md"), []byte("own"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	root := must[*os.Root](t)(os.OpenRoot(dir))
	defer func() { _ = root.Close() }()
	a := absorb(t, s, workspace.Within(disk{root}, "workspace"))
	if len(a.Refused) != 2 || a.Refused[0].Err == nil || len(a.Accepted) != 1 || a.Accepted[0].Document != "rules/own.md" {
		t.Errorf("%+v", a)
	}
}

func FuzzAbsorb(f *testing.F) {
	f.Add("SOUL.md", "x")
	f.Add("rules/a.md", "# a")
	f.Add("rules/../SOUL.md", "\x00")
	f.Add("IDENTITY.md", "- Name:")
	s := newEnv(f)
	f.Fuzz(func(t *testing.T, path, content string) {
		if _, err := s.store.Absorb(t.Context(), account, agent, workspace.SelfEditOn, home{path: content}); err != nil {
			t.Fatal(err)
		}
		rules, err := s.Rules(t.Context(), account, agent)
		if err != nil || len(rules) > workspace.MaxRules {
			t.Fatal(len(rules), err)
		}
	})
}

func FuzzRuleDocument(f *testing.F) {
	for _, name := range []string{"a", "a.md", ".md", "../x", "A_-9", "a\n", strings.Repeat("x", 65), "a.md.md"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		d, err := workspace.RuleDocument(name)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatal(err)
			}
			return
		}
		if d.Rule() != strings.TrimSuffix(name, ".md") || filepath.Clean(string(d)) != string(d) || filepath.Dir(string(d)) != "rules" {
			t.Fatalf("%q gives %q", name, d)
		}
		again, err := workspace.RuleDocument(d.Rule())
		if err != nil || again != d {
			t.Fatalf("%q, then %q, %v", d, again, err)
		}
	})
}
