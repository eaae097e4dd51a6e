package main

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
)

// needsChaos skips a test that boots too many gateways for make test.
func needsChaos(t *testing.T) {
	t.Helper()
	if os.Getenv("AGENTO_CHAOS") == "" {
		t.Skip("skipped: make chaos runs it")
	}
}

// fleet is a running server with two agents that have answered a message.
type fleet struct {
	*installation
	ada, bob string
}

func newFleet(t *testing.T, data string) *fleet {
	t.Helper()
	f := &fleet{installation: newInstallationIn(t, data, "acme")}
	f.start()
	var booting sync.WaitGroup
	for name, id := range map[string]*string{"ada": &f.ada, "bob": &f.bob} {
		booting.Go(func() {
			a, err := f.acme().CreateAgent(t.Context(), f.newAgent(name))
			if err != nil {
				t.Error(err)
			}
			*id = a.ID
		})
	}
	booting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, id := range []string{f.ada, f.bob} {
		f.checkAnswers(id)
	}
	return f
}

func (f *fleet) acme() *client.Client { return f.client("acme") }

// checkAnswers checks that an agent answers.
func (f *fleet) checkAnswers(id string) {
	f.t.Helper()
	if got := send(f.t, f.acme(), id, client.ChatRequest{Message: "echo hello"}); got != "hello" {
		f.t.Errorf("agent %s answers %q", id, got)
	}
}

// checkReads checks that what is stored can be read.
func (f *fleet) checkReads() {
	f.t.Helper()
	if all, err := f.acme().ListAgents(f.t.Context(), client.AgentQuery{}); err != nil || len(all.Data) == 0 {
		f.t.Errorf("list: %d agents, %v", len(all.Data), err)
	}
	if _, err := f.acme().Personality(f.t.Context(), f.ada); err != nil {
		f.t.Errorf("documents: %v", err)
	}
	f.checkHistory(f.ada)
}

// checkHistory checks that the first message of an agent and its answer are stored.
func (f *fleet) checkHistory(id string) {
	f.t.Helper()
	history, err := f.acme().History(f.t.Context(), id, client.HistoryQuery{})
	if err != nil || len(history) < 2 || history[0].Content != "echo hello" || history[1].Content != "hello" {
		f.t.Errorf("history %+v, %v", history, err)
	}
}

// isRunning reports whether a process runs. One that nobody has waited for yet does not.
func isRunning(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(stat), ") ")
	return err == nil && !strings.HasPrefix(state, "Z")
}

// awaitReady waits until /readyz answers 200, or 503 with a problem's sentence.
func (f *fleet) awaitReady(want database.Problem) {
	f.t.Helper()
	waitUntil(f.t, "/readyz says "+string(want), func() bool {
		r, err := http.Get(f.url + "/readyz")
		if err != nil {
			f.t.Fatal(err)
		}
		defer func() { _ = r.Body.Close() }()
		if want == "" {
			return r.StatusCode == http.StatusOK
		}
		var body client.ErrorEnvelope
		return json.NewDecoder(r.Body).Decode(&body) == nil && r.StatusCode == http.StatusServiceUnavailable && body.Error.Message == string(want)
	})
	if want != "" {
		waitUntil(f.t, "the log says "+string(want), func() bool { return strings.Contains(f.logs.String(), string(want)) })
	}
}

func (f *fleet) awaitStatus(id string, want client.AgentStatus) client.Agent {
	f.t.Helper()
	var a client.Agent
	waitUntil(f.t, "the agent is "+string(want), func() (ok bool) {
		var err error
		if a, err = f.acme().Agent(f.t.Context(), id); err != nil {
			f.t.Fatal(err)
		}
		return a.Status == want
	})
	return a
}

// checkUnavailable checks that a request was refused with what to do.
func checkUnavailable(t testing.TB, what string, err error, want database.Problem) {
	t.Helper()
	var refused *client.Error
	if !errors.As(err, &refused) || refused.Code != "unavailable" || !strings.Contains(refused.Message, string(want)) {
		t.Errorf("%s: %v, want unavailable: %s", what, err, want)
	}
}

// checkIntegrity checks the database of a server that may run.
func (f *fleet) checkIntegrity() {
	f.t.Helper()
	db := f.openDatabase()
	defer func() { _ = db.Close() }()
	var result string
	if err := db.QueryRowContext(f.t.Context(), `PRAGMA integrity_check`).Scan(&result); err != nil || result != "ok" {
		f.t.Errorf("the database is damaged: %s, %v", result, err)
	}
}

// checkStopUnrecorded stops an agent of a database that takes no writes: its gateway
// ends, nothing is stored, and the caller learns what to do.
func (f *fleet) checkStopUnrecorded(id string, want database.Problem) {
	f.t.Helper()
	pid := gatewayPID(f.t, f.installation, id)
	_, err := f.acme().StopAgent(f.t.Context(), id)
	checkUnavailable(f.t, "stop", err, want)
	if isRunning(pid) {
		f.t.Error("the gateway of the stopped agent runs")
	}
}

// TestDiskFull fills the disk of a running fleet, takes all its inodes, locks the
// database, and sets the clock back by a day.
func TestDiskFull(t *testing.T) {
	needsChaos(t)
	disk := databasetest.NewDisk(t, "size=700m,nr_inodes=30000")
	f := newFleet(t, filepath.Join(disk.Dir, "data"))
	adaPID, bobPID := gatewayPID(t, f.installation, f.ada), gatewayPID(t, f.installation, f.bob)

	t.Log("a full disk")
	disk.Fill()
	f.awaitReady(database.DiskFull)
	f.checkReads()
	_, err := trySend(t.Context(), f.acme(), f.ada, client.ChatRequest{Message: "echo full"})
	t.Logf("a message on a full disk: %v", err)
	if !isRunning(adaPID) || !isRunning(bobPID) {
		t.Error("a gateway has ended")
	}
	f.kill() // a server that starts on the full disk adopts the fleet
	disk.Fill()
	f.start()
	f.awaitReady(database.DiskFull)
	f.checkReads()
	if gatewayPID(t, f.installation, f.ada) != adaPID || gatewayPID(t, f.installation, f.bob) != bobPID || !isRunning(adaPID) || !isRunning(bobPID) {
		t.Error("a gateway was not adopted")
	}
	if _, err := f.acme().StopAgent(t.Context(), f.ada); err != nil {
		t.Errorf("stop: %v", err)
	}
	if isRunning(adaPID) {
		t.Error("the gateway of the stopped agent runs")
	}
	disk.Fill()
	if _, err := f.acme().DeleteAgent(t.Context(), f.bob); err != nil {
		t.Errorf("delete: %v", err)
	}
	if found := f.gateways(); len(found) != 1 || string(found[0].ID) != f.ada || isRunning(bobPID) {
		t.Errorf("left: %+v", found)
	}
	disk.Free()
	f.awaitReady("")
	f.checkIntegrity()

	t.Log("no inodes")
	disk.UseInodes()
	f.awaitReady(database.NoInodes)
	f.checkReads()
	starting := make(chan error, 1)
	go func() {
		_, err := f.acme().StartAgent(t.Context(), f.ada)
		starting <- err
	}()
	waitUntil(t, "the agent shows why it does not start", func() bool {
		a, err := f.acme().Agent(t.Context(), f.ada)
		return err == nil && a.LastError != nil && strings.Contains(*a.LastError, string(database.NoInodes))
	})
	disk.Free()
	if err := <-starting; err != nil {
		t.Errorf("the agent did not start when there was room: %v", err)
	}
	f.awaitReady("")
	f.checkHistory(f.ada)
	f.checkAnswers(f.ada)

	t.Log("a locked database")
	unlock := databasetest.Lock(t, f.data)
	f.awaitReady(database.Locked)
	f.checkReads()
	_, err = f.acme().DeleteAgent(t.Context(), f.ada)
	checkUnavailable(t, "delete", err, database.Locked)
	f.checkStopUnrecorded(f.ada, database.Locked)
	unlock()
	f.awaitReady("")
	f.awaitStatus(f.ada, client.Stopped)
	if _, err := f.acme().StartAgent(t.Context(), f.ada); err != nil {
		t.Fatal(err)
	}
	f.checkAnswers(f.ada)

	t.Log("the clock is set back by a day")
	pid := gatewayPID(t, f.installation, f.ada)
	f.kill()
	f.shiftTimes(24 * time.Hour)
	f.start()
	f.checkAnswers(f.ada)
	if gatewayPID(t, f.installation, f.ada) != pid {
		t.Error("the gateway was not adopted")
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the gateway is started again", func() bool {
		now, err := readGatewayPID(f.installation, f.ada)
		return err == nil && now != pid
	})
	f.awaitStatus(f.ada, client.Running)
	f.checkAnswers(f.ada)
	f.checkHistory(f.ada)

	t.Log("migrations and starts that are killed")
	pid = gatewayPID(t, f.installation, f.ada)
	f.stop()
	for i := range 8 {
		f.undoLastMigration()
		cmd := f.program("serve", "--listen=127.0.0.1:0")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i*i) * 20 * time.Millisecond) // anywhere in the start, not for a condition
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	f.start()
	f.checkAnswers(f.ada)
	if gatewayPID(t, f.installation, f.ada) != pid || !isRunning(pid) {
		t.Error("the gateway was not adopted")
	}
	f.checkHistory(f.ada)
	f.checkIntegrity()
	f.stop()
}

// undoLastMigration leaves the database as the program before the newest migration did. A
// start that was killed may have left it so already; then it is older than this program, and stays.
func (f *fleet) undoLastMigration() {
	f.t.Helper()
	files, err := filepath.Glob("../../internal/database/migrations/*.sql")
	if err != nil || len(files) == 0 {
		f.t.Fatal("no migrations: ", err)
	}
	name := filepath.Base(files[len(files)-1])
	text, err := os.ReadFile(files[len(files)-1])
	if err != nil {
		f.t.Fatal(err)
	}
	undo := undoing(string(text))
	if len(undo) == 0 {
		f.t.Fatalf("%s makes nothing that this test can undo", name)
	}
	db := f.openDatabase()
	defer func() { _ = db.Close() }()
	var applied bool
	if err := db.QueryRowContext(f.t.Context(), `SELECT EXISTS (SELECT 1 FROM schema_migrations WHERE name = $1)`, name).Scan(&applied); err != nil {
		f.t.Fatal(err)
	}
	if !applied {
		return
	}
	statements := append([]string{"BEGIN"}, undo...)
	statements = append(statements, fmt.Sprintf("DELETE FROM schema_migrations WHERE name = '%s'", name), "COMMIT")
	if _, err := db.ExecContext(f.t.Context(), strings.Join(statements, ";")); err != nil {
		f.t.Fatalf("undo %s: %v", name, err)
	}
}

// undoing returns statements that remove what a migration has made, the last first.
func undoing(migration string) []string {
	made := regexp.MustCompile(`(?mi)^CREATE (?:UNIQUE )?(TABLE|INDEX|TRIGGER) (\w+)|^ALTER TABLE (\w+) ADD COLUMN (\w+)`)
	var undo []string
	for _, m := range made.FindAllStringSubmatch(migration, -1) {
		if m[1] != "" {
			undo = append(undo, "DROP "+m[1]+" IF EXISTS "+m[2]) // an index goes with its table
		} else {
			undo = append(undo, "ALTER TABLE "+m[3]+" DROP COLUMN "+m[4])
		}
	}
	slices.Reverse(undo)
	return undo
}

// shiftTimes adds to every time in the database, which is what a clock that was set back
// looks like.
func (f *fleet) shiftTimes(by time.Duration) {
	f.t.Helper()
	db := f.openDatabase()
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(f.t.Context(), `SELECT t.name, c.name FROM sqlite_master t JOIN pragma_table_info(t.name) c
		WHERE t.type = 'table' AND (c.name = 'at' OR c.name LIKE '%\_at' ESCAPE '\' OR c.name LIKE '%\_until' ESCAPE '\')`)
	if err != nil {
		f.t.Fatal(err)
	}
	columns, err := scanPairs(rows)
	if err != nil {
		f.t.Fatal(err)
	}
	if !slices.Contains(columns, [2]string{"agents", "lease_until"}) {
		f.t.Fatalf("the columns %v are not all", columns)
	}
	for _, c := range columns {
		if _, err := db.ExecContext(f.t.Context(), `UPDATE `+c[0]+` SET `+c[1]+` = `+c[1]+` + $1 WHERE `+c[1]+` > 0`, by.Milliseconds()); err != nil {
			f.t.Fatal(err)
		}
	}
}

func scanPairs(rows *sql.Rows) (pairs [][2]string, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var p [2]string
		if err := rows.Scan(&p[0], &p[1]); err != nil {
			return nil, err
		}
		pairs = append(pairs, p)
	}
	return pairs, rows.Err()
}

// TestDiskReadOnly makes the file system of a running fleet read-only, as Linux does
// after an error of the disk.
func TestDiskReadOnly(t *testing.T) {
	needsChaos(t)
	disk := databasetest.NewFailingDisk(t, 1500)
	f := newFleet(t, filepath.Join(disk.Dir, "data"))
	bobPID := gatewayPID(t, f.installation, f.bob)
	disk.Fail()
	f.awaitReady(database.ReadOnly)
	f.checkReads()
	_, err := f.acme().DeleteAgent(t.Context(), f.bob)
	checkUnavailable(t, "delete", err, database.ReadOnly)
	_, err = f.acme().SetPersonality(t.Context(), f.ada, client.SetPersonalityRequest{SoulMD: "new"})
	checkUnavailable(t, "a new document", err, database.ReadOnly)
	f.checkStopUnrecorded(f.ada, database.ReadOnly)
	if !isRunning(bobPID) {
		t.Error("the other gateway has ended")
	}

	f.kill()
	if err := unix.Kill(bobPID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the gateway has ended", func() bool { return !isRunning(bobPID) })
	disk.Repair()
	f.start()
	f.awaitReady("")
	for _, id := range []string{f.ada, f.bob} { // the stop was not stored
		f.awaitStatus(id, client.Running)
		f.checkHistory(id)
		f.checkAnswers(id)
	}
	f.checkIntegrity()
	f.stop()
}
