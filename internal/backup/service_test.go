package backup_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/backup"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

func nothing(backup.Progress) {}

// TestResults: how backups ended is remembered, the last good one too if others follow, and is
// not shown to everybody.
func TestResults(t *testing.T) {
	e := newEnv(t, "one", "two")
	s := backup.NewService(e.src, backup.Schedule{Every: time.Hour, To: e.destination()})
	if newest, good, err := backup.Last(t.Context(), e.src.DB); newest.ID != "" || good.ID != "" || err != nil {
		t.Errorf("%+v, %+v, %v", newest, good, err)
	}
	if got := s.Degradation(t.Context()); got != "" {
		t.Errorf("before the first one: %s", got)
	}
	made, err := s.Make(t.Context(), e.destination(), backup.Keep{}, nothing)
	if err != nil || made.State != backup.Complete || made.Agents != 2 {
		t.Fatalf("%+v, %v", made, err)
	}
	newest, good, err := backup.Last(t.Context(), e.src.DB)
	if err != nil || newest.ID != good.ID || good.ID != made.ID || good.Bytes == 0 || good.Ended.IsZero() {
		t.Errorf("%+v, %+v, %v", newest, good, err)
	}
	dir := e.unpack(e.open(backup.Access{}), "")
	err = database.View(filepath.Join(dir, backup.DatabaseName), func(q database.Reader) error {
		newest, _, err := backup.Last(t.Context(), q)
		if newest.ID != "" {
			t.Errorf("the backup has its own result: %+v", newest)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}

	if err := os.RemoveAll(e.home("two")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(e.home("two"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Make(t.Context(), e.destination(), backup.Keep{Last: 1}, nothing); err != nil || r.State != backup.Incomplete || r.Good() || len(r.Removed) != 0 {
		t.Errorf("without a home: %+v, %v", r, err)
	}
	if got := s.Degradation(t.Context()); !strings.Contains(got, "incomplete") || strings.Contains(got, "two") || strings.Contains(got, e.to) {
		t.Errorf("%q", got)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Make(t.Context(), backup.Destination{URL: file, Plain: true}, backup.Keep{}, nothing); err == nil || r.State != backup.Failed {
		t.Errorf("into a file: %+v, %v", r, err)
	}
	newest, good, err = backup.Last(t.Context(), e.src.DB)
	if err != nil || newest.State != backup.Failed || newest.Problem == "" || good.ID != made.ID {
		t.Errorf("%+v, %+v, %v", newest, good, err)
	}
	if got := s.Degradation(t.Context()); !strings.Contains(got, "failed") || strings.Contains(got, file) {
		t.Errorf("%q", got)
	}
}

// TestOneBackupAtATime: a second one is refused while one is made.
func TestOneBackupAtATime(t *testing.T) {
	e := newEnv(t, "one")
	var s *backup.Service
	e.src.Hold = func(ctx context.Context, _ identity.AgentID) (func() (time.Duration, error), error) {
		if _, err := s.Make(ctx, e.destination(), backup.Keep{}, nothing); !errors.Is(err, backup.ErrRuns) {
			t.Errorf("%v", err)
		}
		return func() (time.Duration, error) { return 0, nil }, nil
	}
	s = backup.NewService(e.src, backup.Schedule{})
	if _, err := s.Make(t.Context(), e.destination(), backup.Keep{}, nothing); err != nil {
		t.Error(err)
	}
}

// TestRegularBackups: the first is made at once, the next ones when they are due, and a server
// that starts anew waits for the next one.
func TestRegularBackups(t *testing.T) {
	e := newEnv(t, "one")
	every := 300 * time.Millisecond
	run := func(until func(id string) bool) {
		t.Helper()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		done := make(chan error, 1)
		s := backup.NewService(e.src, backup.Schedule{Every: every, To: e.destination(), Keep: backup.Keep{Last: 2}})
		go func() { done <- s.Run(ctx) }()
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			_, good, err := backup.Last(t.Context(), e.src.DB)
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("%+v, %v", good, err)
			}
			if until(good.ID) {
				break
			}
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	seen := map[string]bool{}
	run(func(id string) bool { seen[id] = true; return len(seen) == 4 }) // none, and three
	all, err := e.open(backup.Access{}).List(t.Context())
	if err != nil || len(all) > 3 || len(all) == 0 {
		t.Fatalf("%d backups are kept, %v", len(all), err)
	}
	_, good, err := backup.Last(t.Context(), e.src.DB)
	if err != nil {
		t.Fatal(err)
	}
	every = time.Second
	run(func(id string) bool { return id != good.ID })
	if _, next, _ := backup.Last(t.Context(), e.src.DB); next.Began.Sub(good.Began) < every {
		t.Errorf("after a restart the next backup began after %s", next.Began.Sub(good.Began))
	}
}

// TestOldBackupIsTold: when no backup has succeeded for long.
func TestOldBackupIsTold(t *testing.T) {
	e := newEnv(t, "one")
	s := backup.NewService(e.src, backup.Schedule{Every: time.Hour, To: e.destination()})
	if _, err := s.Make(t.Context(), e.destination(), backup.Keep{}, nothing); err != nil {
		t.Fatal(err)
	}
	err := e.src.DB.Tx(t.Context(), "test", func(ctx context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE backups SET ended_at = $1`, database.Millis(time.Now().Add(-5*time.Hour)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	old := backup.NewService(e.src, backup.Schedule{Every: time.Hour, To: e.destination()})
	backup.Started(old, time.Now().Add(-3*time.Hour))
	if got := old.Degradation(t.Context()); !strings.Contains(got, "No backup has succeeded for 3h") {
		t.Errorf("%q", got)
	}
	if got := s.Degradation(t.Context()); got != "" {
		t.Errorf("of a server that has just started: %q", got)
	}
	if got := backup.NewService(e.src, backup.Schedule{}).Degradation(t.Context()); got != "" {
		t.Errorf("without regular backups: %q", got)
	}
}

// TestKilledBackup: what a backup has left that was killed is removed by the next server.
func TestKilledBackup(t *testing.T) {
	e := newEnv(t, "one")
	scratch := filepath.Join(e.src.Data, ".backup-scratch")
	if err := os.MkdirAll(filepath.Join(scratch, "home-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := backup.NewService(e.src, backup.Schedule{}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(scratch); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("scratch: %v", err)
	}
}
