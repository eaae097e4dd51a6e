package workspace_test

import (
	"agento.host/agento/internal/identity"

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

// deliver does what the reconciler does: writes what should be there, removes
// what should not, and notes it.
func (h home) deliver(t testing.TB, s *workspace.Service) {
	t.Helper()
	c := must[workspace.Content](t)(s.Content(t.Context(), s.DB, account, agent))
	h.write(c)
	inTx(t, s, func(tx *database.Tx) error { return s.Delivered(t.Context(), tx, account, agent, c) })
}

func (h home) write(c workspace.Content) {
	for path, content := range c.Files() {
		h[path] = string(content)
	}
	for _, path := range c.Gone {
		delete(h, path)
	}
}

func delivered(t testing.TB) (*workspace.Service, home) {
	t.Helper()
	s, h := newService(t), home{}
	must[workspace.Version](t)(s.PutRule(t.Context(), account, agent, key, "refunds", "pay", ""))
	h.deliver(t, s)
	return s, h
}

func absorb(t testing.TB, s *workspace.Service, h workspace.Folder) workspace.Absorbed {
	t.Helper()
	return must[workspace.Absorbed](t)(s.Absorb(t.Context(), account, agent, h))
}

func soul(t testing.TB, s *workspace.Service) string {
	t.Helper()
	return must[workspace.Personality](t)(s.Personality(t.Context(), account, agent)).SoulMD
}

func pending(t testing.TB, s *workspace.Service) string {
	t.Helper()
	return fmt.Sprint(must[[]workspace.Document](t)(s.Pending(t.Context(), s.DB, account, agent)))
}

func TestNothingIsAbsorbedFromAnUntouchedHome(t *testing.T) {
	s, h := delivered(t)
	a := absorb(t, s, h)
	if len(a.Taken)+len(a.Aside)+len(a.Refused) > 0 || pending(t, s) != "[]" {
		t.Errorf("%+v, pending %s", a, pending(t, s))
	}
	if a := absorb(t, s, home{}); len(a.Taken)+len(a.Aside)+len(a.Refused) > 0 {
		t.Errorf("from an empty home: %+v", a)
	}
}

func TestAnEditOfTheAgentBecomesAVersion(t *testing.T) {
	s, h := delivered(t)
	h["SOUL.md"] = "I am somebody now"
	h["rules/refunds.md"] = "pay at once"
	h["rules/found-out.md"] = "a rule of my own"
	a := absorb(t, s, h)
	if len(a.Taken) != 3 || len(a.Aside)+len(a.Refused) > 0 || a.Taken[0].Actor != workspace.ByAgent {
		t.Fatalf("%+v", a)
	}
	if soul(t, s) != "I am somebody now" || pending(t, s) != "[]" {
		t.Error(soul(t, s), pending(t, s))
	}
	if r := must[workspace.Version](t)(s.Rule(t.Context(), account, agent, "found-out")); r.Content != "a rule of my own" {
		t.Errorf("%+v", r)
	}
	if again := absorb(t, s, h); len(again.Taken) > 0 {
		t.Errorf("absorbed twice: %+v", again)
	}
	want := "[agent.rule_updated key_1 agent.personality_updated agent agent.rule_updated agent agent.rule_updated agent]"
	if got := fmt.Sprint(kinds(t, s)); got != want {
		t.Error(got)
	}
}

func TestTheAgentMayTurnBack(t *testing.T) {
	s, h := delivered(t)
	first := h["SOUL.md"]
	for _, content := range []string{"two", first, "two"} {
		h["SOUL.md"] = content
		if a := absorb(t, s, h); len(a.Taken) != 1 {
			t.Fatalf("%q: %+v", content, a)
		}
	}
	if v := must[workspace.Version](t)(s.Version(t.Context(), account, agent, workspace.Soul, 4)); !v.Live || v.Content != "two" {
		t.Errorf("%+v", v)
	}
}

func TestAnEditThatMeetsANewerChangeIsKeptAside(t *testing.T) {
	s, h := delivered(t)
	must[workspace.Version](t)(s.SetSoul(t.Context(), account, agent, key, "of the API", ""))
	h["SOUL.md"] = "of the agent"
	a := absorb(t, s, h)
	if len(a.Aside) != 1 || len(a.Taken) > 0 || a.Aside[0].Number != 3 {
		t.Fatalf("%+v", a)
	}
	if soul(t, s) != "of the API" || pending(t, s) != "[SOUL.md]" {
		t.Error(soul(t, s), pending(t, s))
	}
	h["SOUL.md"] = "of the agent again"
	if a := absorb(t, s, h); len(a.Aside) != 1 {
		t.Fatalf("%+v", a)
	}
	h.deliver(t, s)
	if a := absorb(t, s, h); len(a.Taken)+len(a.Aside) > 0 || h["SOUL.md"] != "of the API" || pending(t, s) != "[]" {
		t.Fatalf("%+v %q", a, h["SOUL.md"])
	}
	if v := must[workspace.Version](t)(s.Restore(t.Context(), account, agent, key, workspace.Soul, 3)); v.Content != "of the agent" || v.Number != 5 {
		t.Errorf("%+v", v)
	}
	if got := kinds(t, s); got[2] != "agent.edit_set_aside agent" {
		t.Error(got)
	}
}

// The agent may write again what was kept aside once: that is an edit like any other.
func TestAnEditThatWasKeptAsideMayBeMadeAgain(t *testing.T) {
	s, h := delivered(t)
	must[workspace.Version](t)(s.SetSoul(t.Context(), account, agent, key, "of the API", ""))
	h["SOUL.md"] = "of the agent"
	if a := absorb(t, s, h); len(a.Aside) != 1 {
		t.Fatalf("%+v", a)
	}
	h.deliver(t, s)
	h["SOUL.md"] = "of the agent"
	if a := absorb(t, s, h); len(a.Taken) != 1 || soul(t, s) != "of the agent" || pending(t, s) != "[]" {
		t.Errorf("%+v: %q is live, pending %s", a, soul(t, s), pending(t, s))
	}
}

func TestAnEditOfWhatWasRestoredIsNoConflict(t *testing.T) {
	s, h := delivered(t)
	must[workspace.Version](t)(s.SetSoul(t.Context(), account, agent, key, "tried", ""))
	must[workspace.Version](t)(s.Restore(t.Context(), account, agent, key, workspace.Soul, 1))
	if pending(t, s) != "[]" {
		t.Error(pending(t, s))
	}
	h["SOUL.md"] = "of the agent"
	if a := absorb(t, s, h); len(a.Taken) != 1 {
		t.Errorf("%+v", a)
	}
}

func TestAMissingFileComesBack(t *testing.T) {
	s, h := delivered(t)
	before := h["SOUL.md"]
	delete(h, "SOUL.md")
	delete(h, "rules/refunds.md")
	if a := absorb(t, s, h); len(a.Taken)+len(a.Aside)+len(a.Refused) > 0 {
		t.Errorf("%+v", a)
	}
	h.deliver(t, s)
	if h["SOUL.md"] != before || h["rules/refunds.md"] != "pay" {
		t.Errorf("%v", h)
	}
}

func TestACrashBeforeDeliveredIsNoEdit(t *testing.T) {
	s, h := delivered(t)
	must[workspace.Version](t)(s.SetSoul(t.Context(), account, agent, key, "two", ""))
	must[workspace.Version](t)(s.PutRule(t.Context(), account, agent, key, "new", "rule", ""))
	h.write(must[workspace.Content](t)(s.Content(t.Context(), s.DB, account, agent)))
	must[workspace.Version](t)(s.SetSoul(t.Context(), account, agent, key, "three", ""))
	must[string](t)(s.DeleteRule(t.Context(), account, agent, key, "new"))
	if a := absorb(t, s, h); len(a.Taken)+len(a.Aside) > 0 || soul(t, s) != "three" {
		t.Fatalf("%+v", a)
	}
	if pending(t, s) != "[SOUL.md rules/new.md]" {
		t.Error(pending(t, s))
	}
	h.deliver(t, s)
	if _, there := h["rules/new.md"]; there || h["SOUL.md"] != "three" || pending(t, s) != "[]" {
		t.Error(h)
	}
}

func TestADeletedRuleLeavesTheHomeAndItsEditIsKept(t *testing.T) {
	s, h := delivered(t)
	h["rules/refunds.md"] = "pay twice"
	must[string](t)(s.DeleteRule(t.Context(), account, agent, key, "refunds"))
	if a := absorb(t, s, h); len(a.Aside) != 1 || len(a.Taken) > 0 {
		t.Fatalf("%+v", a)
	}
	h.deliver(t, s)
	if _, there := h["rules/refunds.md"]; there {
		t.Error("the rule is still there")
	}
	h["rules/refunds.md"] = "a fresh one"
	if a := absorb(t, s, h); len(a.Taken) != 1 || a.Taken[0].Number != 4 {
		t.Errorf("%+v", a)
	}
}

func TestForgottenHomeIsComparedWithEveryVersion(t *testing.T) {
	s, h := delivered(t)
	must[workspace.Version](t)(s.SetSoul(t.Context(), account, agent, key, "two", ""))
	inTx(t, s, func(tx *database.Tx) error { return s.Forget(t.Context(), tx, account, agent) })
	h["IDENTITY.md"] = "- Name: Unknown"
	a := absorb(t, s, h)
	if len(a.Taken) > 0 || len(a.Aside) != 1 || a.Aside[0].Document != workspace.Identity || soul(t, s) != "two" {
		t.Errorf("%+v", a)
	}
	if pending(t, s) != "[IDENTITY.md SOUL.md]" {
		t.Error(pending(t, s))
	}
}

func TestWhatCannotBeTakenIsToldOnce(t *testing.T) {
	s, h := delivered(t)
	h["SOUL.md"] = strings.Repeat("x", workspace.MaxCharacters+1)
	h["IDENTITY.md"] = "\xff"
	h["WORKFLOW.md"] = strings.Repeat("x", workspace.MaxWorkflowBytes+1)
	h["rules/Refunds.md"] = "same but for the case"
	h["rules/what is this.md"] = "x"
	h["rules/notes.txt"] = "my own"
	for range 3 {
		a := absorb(t, s, h)
		if len(a.Refused) != 5 || len(a.Taken)+len(a.Aside) > 0 {
			t.Fatalf("%+v", a)
		}
		for _, r := range a.Refused {
			if r.Reason == "" || r.Path == "" {
				t.Errorf("%+v", r)
			}
		}
	}
	events := must[[]event.Event](t)(s.Events.List(t.Context(), identity.AccountID(account), event.Filter{Kind: "agent.edits_refused", Limit: 10}))
	if len(events) != 1 || events[0].Data["count"] != 5.0 || events[0].Actor.String() != workspace.ByAgent {
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
	events = must[[]event.Event](t)(s.Events.List(t.Context(), identity.AccountID(account), event.Filter{Kind: "agent.edits_refused", Limit: 10}))
	if len(events) != 2 {
		t.Errorf("%d events", len(events))
	}
}

func TestAnAgentCannotHaveMoreRulesThanOthers(t *testing.T) {
	s, h := delivered(t)
	for i := range 1000 {
		h[fmt.Sprintf("rules/r%04d.md", i)] = "x"
	}
	a := absorb(t, s, h)
	rules := must[[]workspace.Version](t)(s.Rules(t.Context(), account, agent))
	if len(rules) != workspace.MaxRules || len(a.Taken) != workspace.MaxRules-1 {
		t.Errorf("%d rules, %d taken, %d refused", len(rules), len(a.Taken), len(a.Refused))
	}
}

func TestTwoAbsorbsTakeAnEditOnce(t *testing.T) {
	s, h := delivered(t)
	h["SOUL.md"] = "edited"
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := s.Absorb(t.Context(), account, agent, h); err != nil {
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

// latecomer is a home into which something is delivered, and then edited, after
// Absorb has asked what it is known to hold.
type latecomer struct {
	home
	meanwhile func()
}

func (l *latecomer) ReadDir(path string) ([]runtime.Entry, error) {
	l.meanwhile()
	return l.home.ReadDir(path)
}

func TestAnEditOfADeliveryDuringAbsorbIsLeftToTheNext(t *testing.T) {
	s, h := delivered(t)
	must[workspace.Version](t)(s.SetSoul(t.Context(), account, agent, key, "two", ""))
	l := &latecomer{home: h, meanwhile: func() {
		h.deliver(t, s)
		h["SOUL.md"] = "two and a half"
	}}
	if a := absorb(t, s, l); len(a.Taken)+len(a.Aside) > 0 {
		t.Errorf("%+v", a)
	}
	if a := absorb(t, s, h); len(a.Taken) != 1 || soul(t, s) != "two and a half" {
		t.Errorf("%+v", a)
	}
}

func TestContentHashFollowsTheDocuments(t *testing.T) {
	s := newService(t)
	hash := func() string {
		return must[workspace.Content](t)(s.Content(t.Context(), s.DB, account, agent)).Hash()
	}
	first := hash()
	must[workspace.Version](t)(s.PutRule(t.Context(), account, agent, key, "a", "x", ""))
	second := hash()
	must[string](t)(s.DeleteRule(t.Context(), account, agent, key, "a"))
	if second == first || hash() != first {
		t.Error("the hash does not follow")
	}
}

// disk is a real folder, opened as drivers do.
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

func TestLinksAndFoldersInPlaceOfFilesAreRefused(t *testing.T) {
	s := newService(t)
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
	if len(a.Refused) != 2 || a.Refused[0].Err == nil || len(a.Taken) != 1 || a.Taken[0].Document != "rules/own.md" {
		t.Errorf("%+v", a)
	}
}

func FuzzAbsorb(f *testing.F) {
	f.Add("SOUL.md", "x")
	f.Add("rules/a.md", "# a")
	f.Add("rules/../SOUL.md", "\x00")
	f.Add("IDENTITY.md", "- Name:")
	s := newService(f)
	f.Fuzz(func(t *testing.T, path, content string) {
		if _, err := s.Absorb(t.Context(), account, agent, home{path: content}); err != nil {
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
