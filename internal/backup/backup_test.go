package backup_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"agento.host/agento/internal/backup"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/repository"
	"agento.host/agento/internal/vault"
)

// env is an installation with agents.
type env struct {
	t      *testing.T
	src    backup.Source
	events *event.Log
	agents []identity.AgentID
	to     string
}

func newEnv(t *testing.T, agents ...identity.AgentID) *env {
	t.Helper()
	data := t.TempDir()
	e := &env{t: t, agents: agents, to: filepath.Join(t.TempDir(), "backups")}
	db := databasetest.Open(t, filepath.Join(data, backup.DatabaseName))
	if _, err := vault.Open(t.Context(), db, vault.KeySource{File: filepath.Join(data, backup.MasterKeyName)}); err != nil {
		t.Fatal(err)
	}
	e.events = event.NewLog(db)
	e.src = backup.Source{
		DB: db, Data: data, Version: "1.2.3", Log: slog.New(slog.DiscardHandler),
		Agents: func(context.Context, database.Reader) ([]identity.AgentID, error) { return e.agents, nil },
	}
	for _, id := range agents {
		e.write(id, "SOUL.md", "I am "+string(id))
	}
	return e
}

func (e *env) home(id identity.AgentID) string {
	return filepath.Join(e.src.Data, "agents", string(id), "home")
}

func (e *env) write(id identity.AgentID, name, text string) {
	e.t.Helper()
	err := os.MkdirAll(e.home(id), 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(e.home(id), name), []byte(text), 0o600)
	}
	if err != nil {
		e.t.Fatal(err)
	}
}

// change appends an event of an agent, as every change of its records does.
func (e *env) change(id identity.AgentID) {
	e.t.Helper()
	err := e.src.DB.Tx(e.t.Context(), "test", func(ctx context.Context, tx *database.Tx) error {
		return e.events.Append(ctx, tx, identity.ByOperator("acct_1"), event.Event{Topic: event.AgentTopic(id), Kind: "agent.updated"})
	})
	if err != nil {
		e.t.Fatal(err)
	}
}

var phrase = vault.NewSecret("a passphrase for tests")

func (e *env) destination() backup.Destination { return backup.Destination{URL: e.to, Plain: true} }

func (e *env) backup(d backup.Destination) backup.Manifest {
	e.t.Helper()
	m, err := backup.Make(e.t.Context(), e.src, d, func(backup.Progress) {})
	if err != nil {
		e.t.Fatal(err)
	}
	time.Sleep(2 * time.Millisecond) // the ids of backups differ
	return m
}

func (e *env) open(a backup.Access) *backup.Store {
	e.t.Helper()
	s, err := backup.Open(e.t.Context(), e.to, a)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { _ = s.Close() })
	return s
}

func (e *env) unpack(s *backup.Store, id string) string {
	e.t.Helper()
	dir := filepath.Join(e.t.TempDir(), "data")
	if _, err := backup.Unpack(e.t.Context(), s, id, dir); err != nil {
		e.t.Fatal(err)
	}
	return dir
}

func (e *env) check(dir string, id identity.AgentID, name, want string) {
	e.t.Helper()
	if got, err := os.ReadFile(filepath.Join(dir, "agents", string(id), "home", name)); err != nil || string(got) != want {
		e.t.Errorf("%s of %s: %q, %v; not %q", name, id, got, err, want)
	}
}

// TestProtections: a backup comes back whole, however it is protected, and with no other key
// than its own.
func TestProtections(t *testing.T) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		to         backup.Destination
		with       backup.Access
		wrong      backup.Access
		wrongError string
	}{
		"passphrase": {backup.Destination{Passphrase: phrase}, backup.Access{Passphrase: phrase}, backup.Access{Passphrase: vault.NewSecret("another passphrase")}, "not that of the repository"},
		"plain":      {backup.Destination{Plain: true}, backup.Access{}, backup.Access{Passphrase: phrase}, "has no passphrase"},
		"recipient":  {backup.Destination{Recipient: key.Recipient().String()}, backup.Access{Identity: vault.NewSecret(key.String())}, backup.Access{Identity: vault.NewSecret(other.String())}, "not that of the recipient"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, "one", "two")
			e.src.Catalog = t.TempDir()
			if err := os.WriteFile(filepath.Join(e.src.Catalog, "skill.md"), []byte("a skill"), 0o600); err != nil {
				t.Fatal(err)
			}
			e.change("one")
			checkpoints := filepath.Join(e.src.Data, "checkpoints") // of gateways: they stay on this machine
			if err := errors.Join(os.Mkdir(checkpoints, 0o700), os.WriteFile(filepath.Join(checkpoints, "one"), []byte("memory"), 0o600)); err != nil {
				t.Fatal(err)
			}
			c.to.URL = e.to
			made := e.backup(c.to)
			if made.State() != backup.Complete || made.Installation != e.src.DB.Installation() || !made.MasterKey.Included || len(made.Agents) != 2 || made.Schema == 0 {
				t.Errorf("%+v", made)
			}
			s := e.open(c.with)
			all, err := s.List(t.Context())
			if err != nil || len(all) != 1 || all[0].ID != made.ID || !all[0].Began.Equal(made.Began.Truncate(time.Millisecond)) && !all[0].Began.Equal(made.Began) {
				t.Errorf("%+v, %v", all, err)
			}
			dir := e.unpack(s, "")
			e.check(dir, "one", "SOUL.md", "I am one")
			e.check(dir, "two", "SOUL.md", "I am two")
			if _, err := os.Stat(filepath.Join(dir, "checkpoints")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("checkpoints were restored: %v", err)
			}
			e.check(dir, "one", "../installation", made.Installation+"\n")
			if got, err := os.ReadFile(filepath.Join(dir, "catalog", "skill.md")); err != nil || string(got) != "a skill" {
				t.Errorf("the catalog: %q, %v", got, err)
			}
			db, err := database.Open(t.Context(), database.Settings{Path: filepath.Join(dir, backup.DatabaseName)})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			if n, err := event.Last(t.Context(), db); n != 1 || err != nil || db.Installation() != made.Installation {
				t.Errorf("the database has %d events, %v", n, err)
			}
			if _, err := vault.Open(t.Context(), db, vault.KeySource{File: filepath.Join(dir, backup.MasterKeyName)}); err != nil {
				t.Error(err)
			}
			if v, err := backup.Verify(t.Context(), s, made.ID, t.TempDir()); err != nil || v.Files != 4 {
				t.Errorf("%+v, %v", v, err)
			}
			wrong, err := backup.Open(t.Context(), e.to, c.wrong)
			if err == nil {
				_, err = backup.Unpack(t.Context(), wrong, "", t.TempDir())
			}
			if err == nil || !strings.Contains(err.Error(), c.wrongError) {
				t.Errorf("with the wrong key: %v", err)
			}
			if left, err := os.ReadDir(e.src.Data); err != nil || slices.ContainsFunc(left, func(d os.DirEntry) bool { return strings.HasPrefix(d.Name(), ".backup") }) {
				t.Errorf("the data directory has %v, %v", left, err)
			}
		})
	}
}

// TestIncremental: a second backup stores what has changed, and both can be unpacked.
func TestIncremental(t *testing.T) {
	e := newEnv(t, "one")
	e.write("one", "large", strings.Repeat("0123456789abcdef", 1000)+string(make([]byte, 1<<20)))
	first := e.backup(e.destination())
	e.write("one", "SOUL.md", "I have changed")
	second := e.backup(e.destination())
	if second.Stored*2 > first.Stored || second.Bytes < 1<<20 {
		t.Errorf("the first backup stored %d bytes, the second %d of %d", first.Stored, second.Stored, second.Bytes)
	}
	s := e.open(backup.Access{})
	e.check(e.unpack(s, first.ID), "one", "SOUL.md", "I am one")
	e.check(e.unpack(s, ""), "one", "SOUL.md", "I have changed")
	if _, err := backup.Unpack(t.Context(), s, "20200101T000000.000Z", t.TempDir()); !errors.Is(err, backup.ErrNone) {
		t.Errorf("a backup that does not exist: %v", err)
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Unpack(t.Context(), s, "", full); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("into a directory that is not empty: %v", err)
	}
}

// TestOneMoment: if records of an agent change after its home was copied, the home is copied
// again, so that both are from one moment. That ends, also if they change all the time.
func TestOneMoment(t *testing.T) {
	e := newEnv(t, "one", "two")
	var holds atomic.Int64
	e.src.Hold = func(_ context.Context, id identity.AgentID) (func() (time.Duration, error), error) {
		return func() (time.Duration, error) {
			if id == "one" && holds.Add(1) == 1 {
				e.write("one", "SOUL.md", "together with the record")
				e.change("one")
			}
			return time.Millisecond, nil
		}, nil
	}
	m := e.backup(e.destination())
	if m.State() != backup.Complete || holds.Load() != 2 || m.Held() <= 0 {
		t.Errorf("%s %s after %d holds of %s", m.State(), m.Problem(), holds.Load(), m.Held())
	}
	e.check(e.unpack(e.open(backup.Access{}), ""), "one", "SOUL.md", "together with the record")

	e.src.Hold = func(_ context.Context, id identity.AgentID) (func() (time.Duration, error), error) {
		return func() (time.Duration, error) { e.change(id); return time.Millisecond, nil }, nil
	}
	if m := e.backup(e.destination()); m.State() != backup.Loose || !strings.Contains(m.Problem(), "records have changed") {
		t.Errorf("%s %s", m.State(), m.Problem())
	}
}

// TestMissingHome: a home that cannot be copied keeps no other from being copied, and the
// backup says that it is missing. An agent that never ran has none.
func TestMissingHome(t *testing.T) {
	e := newEnv(t, "good", "bad")
	if err := errors.Join(os.RemoveAll(e.home("bad")), os.WriteFile(e.home("bad"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	e.agents = append(e.agents, "new")
	m := e.backup(e.destination())
	if m.State() != backup.Incomplete || !strings.Contains(m.Problem(), "bad (its home cannot be copied") || strings.Contains(m.Problem(), "new") {
		t.Errorf("%s %s", m.State(), m.Problem())
	}
	dir := e.unpack(e.open(backup.Access{}), "")
	e.check(dir, "good", "SOUL.md", "I am good")
	if found, err := os.ReadDir(filepath.Join(dir, "agents")); err != nil || len(found) != 1 {
		t.Errorf("%v, %v", found, err)
	}
}

// TestHomeElsewhere: a backup says which homes it does not have because they are on other servers.
func TestHomeElsewhere(t *testing.T) {
	e := newEnv(t, "here", "there")
	e.src.Elsewhere = func(_ context.Context, id identity.AgentID) (string, error) {
		if id == "there" {
			return "on the pool server alpha", nil
		}
		return "", nil
	}
	m := e.backup(e.destination())
	if m.State() != backup.Incomplete || !strings.Contains(m.Problem(), "there (its home cannot be copied: it is on the pool server alpha") || strings.Contains(m.Problem(), " here (") {
		t.Errorf("%s %s", m.State(), m.Problem())
	}
	e.check(e.unpack(e.open(backup.Access{}), ""), "here", "SOUL.md", "I am here")
}

// TestEndedBackup: a backup that ends early is none, and the next one is whole.
func TestEndedBackup(t *testing.T) {
	e := newEnv(t, "one", "two")
	for _, d := range []backup.Destination{e.destination(), {URL: t.TempDir(), Recipient: "age1lvyvwawkr0mcnnnncaghunadrqkmuf9e6507x9y920xxpp866cnql7dp2z"}} {
		ctx, cancel := context.WithCancel(t.Context())
		e.src.Hold = func(context.Context, identity.AgentID) (func() (time.Duration, error), error) {
			cancel()
			return func() (time.Duration, error) { return 0, nil }, nil
		}
		if _, err := backup.Make(ctx, e.src, d, func(backup.Progress) {}); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if files, _ := filepath.Glob(d.URL + "/*.age"); len(files) > 0 {
			t.Errorf("it left %q", files)
		}
	}
	e.src.Hold = nil
	if all, err := e.open(backup.Access{}).List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	e.backup(e.destination())
	if _, err := backup.Verify(t.Context(), e.open(backup.Access{}), "", t.TempDir()); err != nil {
		t.Error(err)
	}
}

// TestDamagedRepository: Verify and Unpack tell a chunk that is missing or was changed, and the next backup
// stores a missing one again.
func TestDamagedRepository(t *testing.T) {
	for name, damage := range map[string]func(file string) error{
		"missing": os.Remove,
		"changed": func(file string) error {
			data, err := os.ReadFile(file)
			if err == nil {
				data[len(data)-1] ^= 1
				err = os.WriteFile(file, data, 0o600)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, "one")
			m := e.backup(e.destination())
			s := e.open(backup.Access{})
			chunk := m.Agents[0].Table[0].Chunk
			if err := damage(filepath.Join(e.to, "chunks", "one", chunk[:2], chunk)); err != nil {
				t.Fatal(err)
			}
			if _, err := backup.Verify(t.Context(), s, "", t.TempDir()); !errors.Is(err, repository.ErrDamaged) && !errors.Is(err, repository.ErrNotFound) {
				t.Errorf("%v", err)
			}
			if name == "missing" {
				e.backup(e.destination())
				if _, err := backup.Verify(t.Context(), s, "", t.TempDir()); err != nil {
					t.Errorf("after the next backup: %v", err)
				}
			}
		})
	}
}

// TestPrune: what the rules do not keep goes, with the key of an agent that no backup has
// any more, and what is kept can be unpacked.
func TestPrune(t *testing.T) {
	e := newEnv(t, "kept", "deleted")
	first := e.backup(e.destination())
	e.agents = e.agents[:1]
	e.write("kept", "SOUL.md", "second")
	second := e.backup(e.destination())
	if p, err := backup.Prune(t.Context(), e.destination(), backup.Keep{}); err != nil || len(p.Backups) != 0 {
		t.Errorf("without rules: %v, %v", p, err)
	}
	p, err := backup.Prune(t.Context(), e.destination(), backup.Keep{Last: 1})
	if err != nil || !slices.Equal(p.Backups, []string{first.ID}) {
		t.Errorf("%v, %v", p, err)
	}
	if _, err := os.Stat(filepath.Join(e.to, "keys", "deleted")); err == nil {
		t.Error("the key of a deleted agent is there")
	}
	s := e.open(backup.Access{})
	if all, err := s.List(t.Context()); err != nil || len(all) != 1 || all[0].ID != second.ID {
		t.Errorf("%v, %v", all, err)
	}
	e.check(e.unpack(s, ""), "kept", "SOUL.md", "second")
}

func TestKeep(t *testing.T) {
	ids := []string{
		"20251231T100000.000Z", "20260105T100000.000Z", "20260131T100000.000Z", "20260209T100000.000Z", "20260210T090000.000Z", "20260210T100000.000Z",
		"20260211T100000.000Z", "20260211T110000.000Z", "not one of ours",
	}
	for rules, want := range map[string]string{
		"":                  "",
		"all":               "",
		"last=1":            "20251231 20260105 20260131 20260209 20260210 20260210 20260211",
		"last=3":            "20251231 20260105 20260131 20260209 20260210",
		"daily=2":           "20251231 20260105 20260131 20260209 20260210 20260211",
		"daily=2,monthly=3": "20260105 20260209 20260210 20260211",
		"weekly=3,last=2":   "20251231 20260209 20260210 20260210",
	} {
		k, err := backup.ParseKeep(rules)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, id := range backup.Dropped(k, ids) {
			got = append(got, id[:8])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q drops %q, not %q", rules, got, want)
		}
	}
	for _, rules := range []string{"last", "last=0", "last=-1", "hourly=2", "last=x", "last=3,,daily=2"} {
		if _, err := backup.ParseKeep(rules); err == nil || !strings.Contains(err.Error(), "last=3") {
			t.Errorf("%q: %v", rules, err)
		}
	}
}

func TestDestination(t *testing.T) {
	for _, c := range []struct {
		to   backup.Destination
		want string
	}{
		{backup.Destination{URL: "x"}, "say --plain"},
		{backup.Destination{URL: "x", Plain: true, Passphrase: phrase}, "one of"},
		{backup.Destination{Plain: true}, "name where"},
		{backup.Destination{URL: "x", Recipient: "age1x"}, "age-keygen"},
		{backup.Destination{URL: "x", Passphrase: phrase}, ""},
	} {
		err := c.to.Check()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, not %q", err, c.want)
		}
	}
}

// TestKeyElsewhere: a master key that is not in the data directory is not in the backup, which
// names it.
func TestKeyElsewhere(t *testing.T) {
	e := newEnv(t, "one")
	wanted := e.backup(e.destination()).MasterKey.Fingerprint
	if err := os.Remove(filepath.Join(e.src.Data, backup.MasterKeyName)); err != nil {
		t.Fatal(err)
	}
	m := e.backup(e.destination())
	if m.MasterKey.Included || m.MasterKey.Fingerprint != wanted || wanted == "" {
		t.Errorf("%+v, not %s", m.MasterKey, wanted)
	}
	dir := e.unpack(e.open(backup.Access{}), "")
	if _, err := os.Stat(filepath.Join(dir, backup.MasterKeyName)); err == nil {
		t.Error("the backup has a master key")
	}
	if _, err := backup.Verify(t.Context(), e.open(backup.Access{}), "", t.TempDir()); err != nil {
		t.Error(err)
	}
}
