package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-runewidth"

	"agento.host/agento/internal/admin"
)

// topOf returns a state with agents of some names.
func topOf(names ...string) admin.Top {
	top := admin.Top{MemoryBudget: 16 << 30, MemoryBytes: 900 << 20, CheckpointBytes: 200 << 20, CPUPercent: 12, Cores: 2}
	for i, name := range names {
		top.Agents = append(top.Agents, admin.TopAgent{
			ID: fmt.Sprintf("018f0000-0000-7000-8000-%012d", i), Name: name, Account: "acct_1", AccountName: "Acme and all of its many subsidiaries in the world", State: "asleep",
			CheckpointBytes: 200 << 20, LastUsedAt: time.Now().Add(-time.Duration(i) * time.Hour), Wakes: int64(i), WakeMillis: 700,
		})
	}
	return top
}

// TestTopFitsATerminal: each line fits, what an agent is called does not control the terminal, and a
// low terminal shows what comes first.
func TestTopFitsATerminal(t *testing.T) {
	top := topOf("ada \x1b[2J\u202e", strings.Repeat("a long name ", 20), "", "日本語の名前をもつエージェントの名前です")
	for n := range 30 {
		top.Agents = append(top.Agents, admin.TopAgent{Name: fmt.Sprint("agent ", n), State: "awake", MemoryBytes: 700 << 20, CPUPercent: 99.6})
	}
	for _, lines := range []int{0, 10, 24} {
		text := topText(top, tableWidth, lines)
		if n := strings.Count(text, "\n"); lines > 0 && n != lines || lines == 0 && n < len(top.Agents) {
			t.Errorf("%d lines of %d:\n%s", n, lines, text)
		}
		for line := range strings.Lines(text) {
			if runewidth.StringWidth(strings.TrimSuffix(line, "\n")) > tableWidth || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), controls) {
				t.Errorf("%q", line)
			}
		}
		for _, want := range []string{"34 agents: 4 asleep, 30 awake", "memory: 900.0 MiB gateways, 200.0 MiB checkpoints, of 16384.0 MiB", "CPU: 12% of 200%", "NAME", "LAST WAKE", `\x1b[2J`} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
	}
	if text := topText(admin.Top{Cores: 2}, tableWidth, 24); !strings.Contains(text, "0 agents\n") || !strings.Contains(text, "of no limit") {
		t.Errorf("without agents:\n%s", text)
	}
}

func TestTopIsSorted(t *testing.T) {
	agents := []admin.TopAgent{
		{ID: "1", Name: "b", AccountName: "y", State: "awake", MemoryBytes: 5, CPUPercent: 1, Wakes: 1, WakeMillis: 3, LastUsedAt: time.Unix(3, 0)},
		{ID: "2", Name: "a", AccountName: "z", State: "stopped", Wakes: 3, WakeMillis: 2},
		{ID: "3", Name: "c", AccountName: "x", State: "asleep", CheckpointBytes: 9, CPUPercent: 2, Wakes: 2, WakeMillis: 9, LastUsedAt: time.Unix(9, 0)},
	}
	for by, want := range map[string]string{"used": "312", "memory": "312", "cpu": "312", "wakes": "231", "wake": "312", "state": "312", "account": "312", "name": "213"} {
		sortTop(agents, by)
		var got string
		for _, a := range agents {
			got += a.ID
		}
		if got != want {
			t.Errorf("by %s: %s, want %s", by, got, want)
		}
	}
}

// serveTop serves what a server says of its agents, on a data directory.
func serveTop(t *testing.T, top func(context.Context) (admin.Top, error)) (data string) {
	t.Helper()
	data = t.TempDir()
	l, err := admin.Listen(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: admin.New(admin.Settings{Top: top}), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return data
}

// TestTopPrintsOnce where nobody looks: into a pipe, and as JSON.
func TestTopPrintsOnce(t *testing.T) {
	data := serveTop(t, func(context.Context) (admin.Top, error) { return topOf("ada", "bob"), nil })
	if r := command(t, "", "top", "--data", data); r.code != 0 || !strings.Contains(r.out, "ada") || strings.Contains(r.out, "\x1b") {
		t.Errorf("%+v", r)
	}
	r := command(t, "", "top", "--data", data, "--json", "--sort", "wakes")
	var top admin.Top
	if err := json.Unmarshal([]byte(r.out), &top); err != nil || r.code != 0 || len(top.Agents) != 2 || top.Agents[0].Name != "bob" || top.Agents[0].WakeMillis != 700 {
		t.Errorf("%+v, %v", r, err)
	}
	if r := command(t, "", "top", "--data", data, "--sort", "size"); r.code != 2 || !strings.Contains(r.err, "memory") {
		t.Errorf("an unknown order: %+v", r)
	}
}

// TestTopWithoutAServer says what to do.
func TestTopWithoutAServer(t *testing.T) {
	data := t.TempDir()
	if r := command(t, "", "migrate", "--data", data); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if r := command(t, "", "top", "--data", data); r.code == 0 || r.out != "" || !strings.Contains(r.err, "agento serve") {
		t.Errorf("%+v", r)
	}
}
