package skill_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"agento.host/agento/internal/runtime/home"
	"agento.host/agento/internal/skill"
)

// dwelling is an agent's home on disk.
type dwelling struct {
	*home.Dir
	path string
}

func newHome(t *testing.T) dwelling {
	t.Helper()
	top := t.TempDir()
	path, trash := filepath.Join(top, "home"), filepath.Join(top, "trash")
	if err := os.Mkdir(trash, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := home.Open(home.Settings{Dir: path, Trash: trash})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return dwelling{d, path}
}

func (d dwelling) list(t *testing.T) []string {
	t.Helper()
	all := []string{}
	err := filepath.WalkDir(d.path, func(p string, e fs.DirEntry, err error) error {
		if err == nil && p != d.path {
			rel, _ := filepath.Rel(d.path, p)
			if e.IsDir() {
				rel += "/"
			}
			all = append(all, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func (d dwelling) put(t *testing.T, path, text string) {
	t.Helper()
	if err := d.WriteFile(path, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func (d dwelling) get(t *testing.T, path string) string {
	t.Helper()
	data, err := d.ReadFile(path, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return "(none)"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (w world) sync(t *testing.T, d dwelling) {
	t.Helper()
	if err := w.Sync(t.Context(), d, acct, agent); err != nil {
		t.Fatal(err)
	}
}

const dir = skill.DefaultDir + "/greeter/"

func (w world) upload(t *testing.T, version, body string, more ...string) {
	t.Helper()
	if _, err := w.Upload(t.Context(), acct, key, custom("greeter", version), tree("greeter", body, more...)); err != nil {
		t.Fatal(err)
	}
}

func TestSyncBringsAndRemovesOnlyItsOwn(t *testing.T) {
	w, d := newWorld(t), newHome(t)
	w.upload(t, "1.0.0", "one", "lib/a.txt", "lib/deep/b.txt")
	w.install(t, "greeter", skill.Custom)
	d.put(t, "workspace/SOUL.md", "soul")
	d.put(t, skill.DefaultDir+"/own/SKILL.md", "the agent's own skill")
	before := d.list(t)
	w.sync(t, d)
	if got := d.get(t, dir+"lib/deep/b.txt"); got != "content of lib/deep/b.txt" {
		t.Errorf("file: %s", got)
	}
	d.put(t, dir+"notes.txt", "the agent's own file")
	d.put(t, dir+"lib/a.txt", "changed by the agent")
	w.sync(t, d)
	if got := d.get(t, dir+"lib/a.txt"); got != "content of lib/a.txt" {
		t.Errorf("what was scanned is not what is there: %s", got)
	}
	d.put(t, dir+"lib/a.txt", "changed again")
	if _, err := w.Uninstall(t.Context(), acct, key, agent, "greeter"); err != nil {
		t.Fatal(err)
	}
	w.sync(t, d)
	want := slices.Sorted(slices.Values(append(before, strings.TrimSuffix(dir, "/")+"/", dir+"notes.txt")))
	if got := d.list(t); !slices.Equal(got, want) {
		t.Errorf("left behind: %v, want %v", got, want)
	}
	// a file that the agent makes where ours was, is its own
	d.put(t, dir+"SKILL.md", "the agent's own skill of that name")
	w.sync(t, d)
	if got := d.get(t, dir+"SKILL.md"); got != "the agent's own skill of that name" {
		t.Errorf("the agent's file: %s", got)
	}
}

func TestSyncLeavesNoEmptyFolder(t *testing.T) {
	w, d := newWorld(t), newHome(t)
	w.upload(t, "1.0.0", "one", "lib/deep/b.txt")
	c := w.install(t, "greeter", skill.Custom)
	w.sync(t, d)
	if _, err := w.Uninstall(t.Context(), acct, key, agent, c.ID); err != nil {
		t.Fatal(err)
	}
	w.sync(t, d)
	if got := d.list(t); !slices.Equal(got, []string{"workspace/", "workspace/skills/"}) {
		t.Errorf("left behind: %v", got)
	}
}

func TestSyncFollowsUpgradeAndEnable(t *testing.T) {
	w, d := newWorld(t), newHome(t)
	hash := func() string {
		h, err := w.Hash(t.Context(), w.DB, acct, agent)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	empty := hash()
	w.upload(t, "1.0.0", "one", "old.txt")
	w.install(t, "greeter", skill.Custom)
	first := hash()
	w.sync(t, d)
	if hash() != first || first == empty {
		t.Error("the hash does not follow what is wanted")
	}
	w.upload(t, "1.1.0", "two", "new.txt")
	if _, err := w.Upgrade(t.Context(), acct, key, agent, "greeter", ""); err != nil {
		t.Fatal(err)
	}
	w.sync(t, d)
	if d.get(t, dir+"old.txt") != "(none)" || d.get(t, dir+"new.txt") == "(none)" || !strings.Contains(d.get(t, dir+"SKILL.md"), "two") {
		t.Errorf("after the upgrade: %v", d.list(t))
	}
	for _, enabled := range []bool{false, true, false} {
		c, err := w.SetEnabled(t.Context(), acct, key, agent, "greeter", enabled)
		if err != nil || c.Enabled != enabled || !c.Changed {
			t.Fatalf("%+v, %v", c, err)
		}
		w.sync(t, d)
		if there := d.get(t, dir+"SKILL.md") != "(none)"; there != enabled {
			t.Errorf("enabled %v, there %v", enabled, there)
		}
	}
	if hash() != empty {
		t.Error("a hidden skill counts")
	}
	// hidden, then gone: what the agent made meanwhile is its own
	d.put(t, dir+"new.txt", "mine")
	if _, err := w.Uninstall(t.Context(), acct, key, agent, "greeter"); err != nil {
		t.Fatal(err)
	}
	w.sync(t, d)
	if d.get(t, dir+"new.txt") != "mine" {
		t.Error("the agent's file is gone")
	}
}

// A crash between the transaction and the home, or an old snapshot of the home,
// must not leave an uninstalled skill where the model sees it.
func TestSyncRepairs(t *testing.T) {
	w, d := newWorld(t), newHome(t)
	w.upload(t, "1.0.0", "one", "lib/a.txt")
	w.install(t, "greeter", skill.Custom)
	files, err := w.Files(t.Context(), w.DB, acct, agent)
	if err != nil {
		t.Fatal(err)
	}
	for path, data := range files { // written, but the server died before it could note that
		d.put(t, path, string(data))
	}
	if _, err := w.Uninstall(t.Context(), acct, key, agent, "greeter"); err != nil {
		t.Fatal(err)
	}
	w.sync(t, d)
	if got := d.list(t); len(got) != 2 {
		t.Errorf("left after a crash: %v", got)
	}
	for path, data := range files { // an old snapshot comes back
		d.put(t, path, string(data))
	}
	w.sync(t, d)
	if got := d.list(t); len(got) != 2 {
		t.Errorf("left after a snapshot: %v", got)
	}
}

// Whatever an agent puts in the way of a skill, uninstalling it gets a home that can
// be filled again: without that the agent could never be started.
func TestAfterUninstallingNothingIsInTheWay(t *testing.T) {
	folder, skills := strings.TrimSuffix(dir, "/"), skill.DefaultDir
	for what, plant := range map[string]func(home string) error{
		"a file for the folder": func(h string) error {
			return errors.Join(os.RemoveAll(filepath.Join(h, folder)), os.WriteFile(filepath.Join(h, folder), nil, 0o600))
		},
		"a loop for the folder": func(h string) error {
			return errors.Join(os.RemoveAll(filepath.Join(h, folder)), os.Symlink("greeter", filepath.Join(h, folder)))
		},
		"a way out for all skills": func(h string) error {
			return errors.Join(os.RemoveAll(filepath.Join(h, skills)), os.Symlink("/etc", filepath.Join(h, skills)))
		},
		"a file for all skills": func(h string) error {
			return errors.Join(os.RemoveAll(filepath.Join(h, skills)), os.WriteFile(filepath.Join(h, skills), nil, 0o600))
		},
	} {
		w, d := newWorld(t), newHome(t)
		w.upload(t, "1.0.0", "one", "a.txt")
		w.install(t, "greeter", skill.Custom)
		w.sync(t, d)
		if err := plant(d.path); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Uninstall(t.Context(), acct, key, agent, "greeter"); err != nil {
			t.Fatal(err)
		}
		if err := w.Sync(t.Context(), d, acct, agent); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// An agent that puts links or folders where its skills belong harms itself alone.
func TestSyncInAHostileHome(t *testing.T) {
	w, d := newWorld(t), newHome(t)
	outside := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(outside, []byte("victim"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.upload(t, "1.0.0", "one", "a.txt")
	w.install(t, "greeter", skill.Custom)
	w.sync(t, d)
	for _, name := range []string{"SKILL.md", "a.txt"} {
		at := filepath.Join(d.path, dir, name)
		if err := errors.Join(os.Remove(at), os.Symlink(outside, at)); err != nil {
			t.Fatal(err)
		}
	}
	_ = w.Sync(t.Context(), d, acct, agent) // it may refuse
	if _, err := w.Uninstall(t.Context(), acct, key, agent, "greeter"); err != nil {
		t.Fatal(err)
	}
	_ = w.Sync(t.Context(), d, acct, agent) // as above
	if data, err := os.ReadFile(outside); err != nil || string(data) != "victim" {
		t.Errorf("outside: %q, %v", data, err)
	}
}
