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

// testHome is the home of an agent on disk.
type testHome struct {
	*home.Dir
	path string
}

func newHome(t *testing.T) testHome {
	t.Helper()
	top := t.TempDir()
	path, trash := filepath.Join(top, "home"), filepath.Join(top, "trash")
	if err := os.Mkdir(trash, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := home.Open(t.Context(), home.Settings{Dir: path, Trash: trash})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return testHome{d, path}
}

func (d testHome) list(t *testing.T) []string {
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

func (d testHome) write(t *testing.T, path, text string) {
	t.Helper()
	if err := d.WriteFile(path, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func (d testHome) read(t *testing.T, path string) string {
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

func (e env) sync(t *testing.T, d testHome) {
	t.Helper()
	if err := e.store.SyncHome(t.Context(), d, account, agentID); err != nil {
		t.Fatal(err)
	}
}

const dir = skillsDir + "/greeter/"

func (e env) upload(t *testing.T, version, body string, more ...string) {
	t.Helper()
	if _, err := e.Upload(t.Context(), actor, custom("greeter", version), tree("greeter", body, more...)); err != nil {
		t.Fatal(err)
	}
}

func TestSyncHomeWritesAndRemovesOnlyFilesOfSkills(t *testing.T) {
	e, d := newEnv(t), newHome(t)
	e.upload(t, "1.0.0", "one", "lib/a.txt", "lib/deep/b.txt")
	e.install(t, "greeter", skill.Custom)
	d.write(t, "workspace/SOUL.md", "soul")
	d.write(t, skillsDir+"/own/SKILL.md", "the agent's own skill")
	before := d.list(t)
	e.sync(t, d)
	if got := d.read(t, dir+"lib/deep/b.txt"); got != "content of lib/deep/b.txt" {
		t.Errorf("file: %s", got)
	}
	d.write(t, dir+"notes.txt", "the agent's own file")
	d.write(t, dir+"lib/a.txt", "changed by the agent")
	e.sync(t, d)
	if got := d.read(t, dir+"lib/a.txt"); got != "content of lib/a.txt" {
		t.Errorf("the file is not the one that was scanned: %s", got)
	}
	d.write(t, dir+"lib/a.txt", "changed again")
	if _, err := e.Uninstall(t.Context(), actor, agentID, "greeter"); err != nil {
		t.Fatal(err)
	}
	e.sync(t, d)
	want := slices.Sorted(slices.Values(append(before, strings.TrimSuffix(dir, "/")+"/", dir+"notes.txt")))
	if got := d.list(t); !slices.Equal(got, want) {
		t.Errorf("remaining files: %v, want %v", got, want)
	}
	// a file that the agent writes at the path of a removed file belongs to the agent
	d.write(t, dir+"SKILL.md", "the agent's own skill of that name")
	e.sync(t, d)
	if got := d.read(t, dir+"SKILL.md"); got != "the agent's own skill of that name" {
		t.Errorf("the agent's file: %s", got)
	}
}

func TestSyncHomeRemovesEmptyFolders(t *testing.T) {
	e, d := newEnv(t), newHome(t)
	e.upload(t, "1.0.0", "one", "lib/deep/b.txt")
	c := e.install(t, "greeter", skill.Custom)
	e.sync(t, d)
	if _, err := e.Uninstall(t.Context(), actor, agentID, c.ID); err != nil {
		t.Fatal(err)
	}
	e.sync(t, d)
	if got := d.list(t); !slices.Equal(got, []string{"workspace/", "workspace/skills/"}) {
		t.Errorf("remaining files: %v", got)
	}
}

func TestSyncHomeFollowsUpgradeAndEnable(t *testing.T) {
	e, d := newEnv(t), newHome(t)
	digest := func() string {
		h, err := e.store.Digest(t.Context(), e.db, account, agentID)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	empty := digest()
	e.upload(t, "1.0.0", "one", "old.txt")
	e.install(t, "greeter", skill.Custom)
	first := digest()
	e.sync(t, d)
	if digest() != first || first == empty {
		t.Error("the digest does not depend on the desired files alone")
	}
	e.upload(t, "1.1.0", "two", "new.txt")
	if _, err := e.upgrade(t, "greeter", "latest"); err != nil {
		t.Fatal(err)
	}
	e.sync(t, d)
	if d.read(t, dir+"old.txt") != "(none)" || d.read(t, dir+"new.txt") == "(none)" || !strings.Contains(d.read(t, dir+"SKILL.md"), "two") {
		t.Errorf("after the upgrade: %v", d.list(t))
	}
	for _, enabled := range []bool{false, true, false} {
		c, err := e.setEnabled(t, "greeter", enabled)
		if err != nil || c.Enabled != enabled || !c.Changed {
			t.Fatalf("%+v, %v", c, err)
		}
		e.sync(t, d)
		if there := d.read(t, dir+"SKILL.md") != "(none)"; there != enabled {
			t.Errorf("enabled %v, in the home %v", enabled, there)
		}
	}
	if digest() != empty {
		t.Error("the digest includes a disabled skill")
	}
	// disabled, then uninstalled: a file that the agent wrote in between belongs to the agent
	d.write(t, dir+"new.txt", "mine")
	if _, err := e.Uninstall(t.Context(), actor, agentID, "greeter"); err != nil {
		t.Fatal(err)
	}
	e.sync(t, d)
	if d.read(t, dir+"new.txt") != "mine" {
		t.Error("the agent's file is gone")
	}
}

// TestSyncHomeRemovesFilesAfterCrashAndRestore: a crash between the transaction and
// SyncHome, or an old snapshot of the home, must not leave files of an uninstalled skill,
// which the model would see.
func TestSyncHomeRemovesFilesAfterCrashAndRestore(t *testing.T) {
	e, d := newEnv(t), newHome(t)
	e.upload(t, "1.0.0", "one", "lib/a.txt")
	e.install(t, "greeter", skill.Custom)
	files, err := e.store.DesiredFiles(t.Context(), e.db, account, agentID)
	if err != nil {
		t.Fatal(err)
	}
	for path, data := range files { // written, but the server crashed before it saved that
		d.write(t, path, string(data))
	}
	if _, err := e.Uninstall(t.Context(), actor, agentID, "greeter"); err != nil {
		t.Fatal(err)
	}
	e.sync(t, d)
	if got := d.list(t); len(got) != 2 {
		t.Errorf("remaining after a crash: %v", got)
	}
	for path, data := range files { // an old snapshot is restored
		d.write(t, path, string(data))
	}
	e.sync(t, d)
	if got := d.list(t); len(got) != 2 {
		t.Errorf("remaining after a restore: %v", got)
	}
}

// TestSyncHomeSucceedsAfterUninstall: an agent may replace the folder of a skill by
// anything. After the skill is uninstalled SyncHome must succeed, since the agent could
// otherwise never be started again.
func TestSyncHomeSucceedsAfterUninstall(t *testing.T) {
	folder, skills := strings.TrimSuffix(dir, "/"), skillsDir
	for name, replace := range map[string]func(home string) error{
		"file instead of the folder": func(h string) error {
			return errors.Join(os.RemoveAll(filepath.Join(h, folder)), os.WriteFile(filepath.Join(h, folder), nil, 0o600))
		},
		"link to itself instead of the folder": func(h string) error {
			return errors.Join(os.RemoveAll(filepath.Join(h, folder)), os.Symlink("greeter", filepath.Join(h, folder)))
		},
		"link to /etc instead of all skills": func(h string) error {
			return errors.Join(os.RemoveAll(filepath.Join(h, skills)), os.Symlink("/etc", filepath.Join(h, skills)))
		},
		"file instead of all skills": func(h string) error {
			return errors.Join(os.RemoveAll(filepath.Join(h, skills)), os.WriteFile(filepath.Join(h, skills), nil, 0o600))
		},
	} {
		e, d := newEnv(t), newHome(t)
		e.upload(t, "1.0.0", "one", "a.txt")
		e.install(t, "greeter", skill.Custom)
		e.sync(t, d)
		if err := replace(d.path); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Uninstall(t.Context(), actor, agentID, "greeter"); err != nil {
			t.Fatal(err)
		}
		if err := e.store.SyncHome(t.Context(), d, account, agentID); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSyncHomeNeverWritesOutside: an agent may replace the files of its skills by links.
func TestSyncHomeNeverWritesOutside(t *testing.T) {
	e, d := newEnv(t), newHome(t)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("outside"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.upload(t, "1.0.0", "one", "a.txt")
	e.install(t, "greeter", skill.Custom)
	e.sync(t, d)
	for _, name := range []string{"SKILL.md", "a.txt"} {
		at := filepath.Join(d.path, dir, name)
		if err := errors.Join(os.Remove(at), os.Symlink(outside, at)); err != nil {
			t.Fatal(err)
		}
	}
	_ = e.store.SyncHome(t.Context(), d, account, agentID) // it may fail
	if _, err := e.Uninstall(t.Context(), actor, agentID, "greeter"); err != nil {
		t.Fatal(err)
	}
	_ = e.store.SyncHome(t.Context(), d, account, agentID) // as above
	if data, err := os.ReadFile(outside); err != nil || string(data) != "outside" {
		t.Errorf("outside: %q, %v", data, err)
	}
}
