package backup_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/backup"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

const (
	benchHomes = 100
	benchRoom  = 6 << 30 // of the disk: homes, repository, and what is being copied
)

// BenchmarkHundredHomes backs up 100 homes of 20 MB twice. In between, each agent has changed
// files and a database, as a day of work does. It prints the seconds, what the repository takes
// and the longest time that a gateway would be held. TMPDIR chooses the disk.
func BenchmarkHundredHomes(b *testing.B) {
	data := b.TempDir()
	var disk unix.Statfs_t
	if err := unix.Statfs(data, &disk); err != nil || int64(disk.Bavail)*int64(disk.Bsize) < benchRoom {
		b.Skipf("skipped: it needs %d GiB of free disk, %v", benchRoom>>30, err)
	}
	db := databasetest.Open(b, filepath.Join(data, backup.DatabaseName))
	if _, err := vault.Open(b.Context(), db, vault.KeySource{File: filepath.Join(data, backup.MasterKeyName)}); err != nil {
		b.Fatal(err)
	}
	var ids []identity.AgentID
	for i := range benchHomes {
		ids = append(ids, identity.AgentID(fmt.Sprintf("agent-%03d", i)))
	}
	template := makeTemplate(b)
	for _, id := range ids {
		if err := os.CopyFS(filepath.Join(data, "agents", string(id), "home"), os.DirFS(template)); err != nil {
			b.Fatal(err)
		}
	}
	time.Sleep(2100 * time.Millisecond) // until the times of files tell later changes
	var held longest
	src := backup.Source{
		DB: db, Data: data, Version: "bench", Log: slog.New(slog.DiscardHandler), Hold: held.hold,
		Agents: func(context.Context, database.Reader) ([]identity.AgentID, error) { return ids, nil },
	}
	to := backup.Destination{URL: filepath.Join(b.TempDir(), "to"), Passphrase: phrase}
	for b.Loop() {
		for _, name := range []string{"first", "second"} {
			began := time.Now()
			m, err := backup.Make(b.Context(), src, to, nothing)
			if err != nil || m.State() != backup.Complete {
				b.Fatalf("%s %s, %v", m.State(), m.Problem(), err)
			}
			b.ReportMetric(time.Since(began).Seconds(), name+"-s")
			b.ReportMetric(float64(m.Stored)/(1<<20), name+"-MiB")
			b.ReportMetric(float64(m.Bytes)/(1<<20), "homes-MiB")
			b.ReportMetric(float64(held.reset().Milliseconds()), name+"-held-ms")
			for _, id := range ids {
				work(b, filepath.Join(data, "agents", string(id), "home"))
			}
		}
	}
	b.ReportMetric(0, "ns/op")
}

// longest is the longest hold.
type longest struct {
	mu   sync.Mutex
	time time.Duration // guarded by mu
}

func (l *longest) hold(context.Context, identity.AgentID) (func() (time.Duration, error), error) {
	began := time.Now()
	return func() (time.Duration, error) {
		held := time.Since(began)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.time = max(l.time, held)
		return held, nil
	}, nil
}

func (l *longest) reset() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := l.time
	l.time = 0
	return held
}

// makeTemplate makes a home of 20 MB: 8 MB of texts, 10 MB of a database, 2 MB that cannot be
// compressed.
func makeTemplate(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	words := strings.Fields("the agent reads its notes before it answers a question about the order of a customer and writes what it has learned")
	random := rand.New(rand.NewPCG(1, 2))
	text := func(n int) string {
		var s strings.Builder
		for s.Len() < n {
			s.WriteString(words[random.IntN(len(words))])
			fmt.Fprintf(&s, " %d ", random.IntN(1000))
		}
		return s.String()
	}
	for i := range 400 {
		writeFile(b, filepath.Join(dir, fmt.Sprintf("notes/%02d/%d.md", i%20, i)), text(20<<10))
	}
	picture := make([]byte, 2<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(picture)
	writeFile(b, filepath.Join(dir, "picture.jpg"), string(picture))
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "state.sqlite")+"?_pragma=journal_mode(WAL)")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.Exec(`CREATE TABLE messages (id INTEGER PRIMARY KEY, body TEXT)`); err != nil {
		b.Fatal(err)
	}
	for range 2500 {
		if _, err := db.Exec(`INSERT INTO messages (body) VALUES (?)`, text(4<<10)); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

func writeFile(b *testing.B, name, text string) {
	b.Helper()
	err := os.MkdirAll(filepath.Dir(name), 0o700)
	if err == nil {
		err = os.WriteFile(name, []byte(text), 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// work changes a home.
func work(b *testing.B, home string) {
	b.Helper()
	for i := range 5 {
		writeFile(b, filepath.Join(home, fmt.Sprintf("notes/new-%d.md", i)), strings.Repeat(fmt.Sprint(rand.Uint64()), 500))
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(home, "state.sqlite")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for range 50 {
		if _, err := db.Exec(`INSERT INTO messages (body) VALUES (?)`, strings.Repeat(fmt.Sprint(rand.Uint64()), 100)); err != nil {
			b.Fatal(err)
		}
	}
}
