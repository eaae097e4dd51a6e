package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/admin"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agentstatus"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/reconciler"
)

// topInterval is the pause between two looks of top.
const topInterval = 2 * time.Second

// topSources are what the server shows in top. Nothing of it asks a gateway.
type topSources struct {
	db       *database.DB
	records  *agent.Store
	accounts *access.Service
	status   *agentstatus.Service
	memory   func() reconciler.Memory
}

// top returns the agents of every account with what they use.
func (s topSources) top(ctx context.Context) (admin.Top, error) {
	agents, err := s.records.ListAll(ctx, s.db)
	if err != nil {
		return admin.Top{}, err
	}
	accounts, err := s.accounts.Accounts(ctx)
	if err != nil {
		return admin.Top{}, err
	}
	names := map[identity.AccountID]string{}
	for _, a := range accounts {
		names[a.ID] = a.Name
	}
	memory := s.memory()
	all := admin.Top{Agents: []admin.TopAgent{}, MemoryBudget: memory.Budget, Cores: runtime.NumCPU()}
	for i := range agents {
		a := &agents[i]
		row := admin.TopAgent{
			ID: string(a.ID), Name: a.Name, Account: string(a.AccountID), AccountName: names[a.AccountID], State: a.State(),
			CheckpointBytes: memory.Checkpoints[a.ID], LastUsedAt: a.LastUsedAt, WokeAt: a.Sleep.WokeAt, Wakes: a.Sleep.Wakes, WakeMillis: a.Sleep.WakeTook.Milliseconds(),
		}
		if r, ok := s.status.Recent(ctx, *a); ok {
			row.MemoryBytes, row.CPUPercent = r.MemoryBytes, r.CPU
		}
		all.MemoryBytes += row.MemoryBytes
		all.CheckpointBytes += row.CheckpointBytes
		all.CPUPercent += row.CPUPercent
		all.Agents = append(all.Agents, row)
	}
	return all, nil
}

type topCommand struct {
	dataFlags
	Sort string `help:"What comes first: used (last), memory, cpu, wakes, wake (the slowest last wake), state, account or name." enum:"used,memory,cpu,wakes,wake,state,account,name" default:"used"`
	Once bool   `help:"Print once. Where the output is no terminal that is always so."`
}

// Run shows the agents of all accounts until it is interrupted.
func (c topCommand) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, reading, nil, func(api *admin.Client) error {
		if c.Once || t.json || !isTerminal(t.out) {
			return c.once(ctx, t, api)
		}
		return c.live(ctx, t, api)
	})
}

func (c topCommand) once(ctx context.Context, t *terminal, api *admin.Client) error {
	top, err := c.look(ctx, api)
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(top)
	}
	_, err = io.WriteString(t.out, topText(top, t.width(), 0))
	return err
}

// The sequences of a terminal that live uses.
const (
	openScreen  = "\x1b[?1049h\x1b[?25l" // another screen, without a cursor
	closeScreen = "\x1b[?25h\x1b[?1049l"
	toStart     = "\x1b[H"
	clearLine   = "\x1b[K"
	clearRest   = "\x1b[J"
)

// live shows the agents on a screen of its own, again and again, until ctx ends.
func (c topCommand) live(ctx context.Context, t *terminal, api *admin.Client) (err error) {
	if _, err := io.WriteString(t.out, openScreen); err != nil {
		return err
	}
	defer func() {
		_, closed := io.WriteString(t.out, closeScreen)
		err = errors.Join(err, closed)
	}()
	ticks := time.NewTicker(topInterval)
	defer ticks.Stop()
	for {
		top, err := c.look(ctx, api)
		if ctx.Err() != nil {
			return nil // the end that the user wants
		}
		if err != nil {
			return err
		}
		text := strings.ReplaceAll(topText(top, t.width(), height(t)), "\n", clearLine+"\r\n")
		if _, err := io.WriteString(t.out, toStart+strings.TrimSuffix(text, "\r\n")+clearRest); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
	}
}

// height returns how many lines the terminal has; 0: that cannot be told.
func height(t *terminal) int {
	if f, ok := t.out.(*os.File); ok {
		if _, lines, err := term.GetSize(int(f.Fd())); err == nil {
			return lines
		}
	}
	return 0
}

// look returns the agents, sorted.
func (c topCommand) look(ctx context.Context, api *admin.Client) (admin.Top, error) {
	top, err := api.Top(ctx)
	if err == nil {
		sortTop(top.Agents, c.Sort)
	}
	return top, err
}

// sortTop sorts agents. Of numbers and times the greatest comes first.
func sortTop(agents []admin.TopAgent, by string) {
	slices.SortStableFunc(agents, func(a, b admin.TopAgent) int {
		order := 0
		switch by {
		case "used":
			order = b.LastUsedAt.Compare(a.LastUsedAt)
		case "memory":
			order = cmp.Compare(b.MemoryBytes+b.CheckpointBytes, a.MemoryBytes+a.CheckpointBytes)
		case "cpu":
			order = cmp.Compare(b.CPUPercent, a.CPUPercent)
		case "wakes":
			order = cmp.Compare(b.Wakes, a.Wakes)
		case "wake":
			order = cmp.Compare(b.WakeMillis, a.WakeMillis)
		case "state":
			order = cmp.Compare(a.State, b.State)
		case "account":
			order = cmp.Compare(a.AccountName, b.AccountName)
		}
		return cmp.Or(order, cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
}

// topText returns the totals and the agents in lines of a width, at most so many lines as there
// are; 0: any number.
func topText(top admin.Top, width, lines int) string {
	var text strings.Builder
	for _, line := range topTotals(top) {
		text.WriteString(line + "\n")
	}
	text.WriteString("\n")
	rows := make([]map[string]any, len(top.Agents))
	for i, a := range top.Agents {
		rows[i] = topRow(a)
	}
	table := strings.SplitAfter(tableText(rows, []string{"name", "account", "state", "memory", "cpu", "usedAt", "wakes", "lastWake"}, width), "\n")
	table = table[:len(table)-1] // after the last line
	if room := lines - strings.Count(text.String(), "\n"); lines > 0 && len(table) > room {
		room = max(room-1, 1)
		hidden := len(table) - room
		table = append(table[:room:room], fmt.Sprintf("… and %d more\n", hidden))
	}
	return text.String() + strings.Join(table, "")
}

// topTotals returns what all agents use together.
func topTotals(top admin.Top) []string {
	states := map[string]int{}
	for _, a := range top.Agents {
		states[a.State]++
	}
	names := make([]string, 0, len(states))
	for s := range states {
		names = append(names, s)
	}
	slices.Sort(names)
	for i, s := range names {
		names[i] = fmt.Sprintf("%d %s", states[s], escapeLine(s))
	}
	agents := count(len(top.Agents), "agent", "agents")
	if len(names) > 0 {
		agents += ": " + strings.Join(names, ", ")
	}
	budget := "no limit"
	if top.MemoryBudget > 0 {
		budget = formatMiB(top.MemoryBudget)
	}
	return []string{
		agents,
		fmt.Sprintf("memory: %s gateways, %s checkpoints, of %s", formatMiB(top.MemoryBytes), formatMiB(top.CheckpointBytes), budget),
		fmt.Sprintf("CPU: %.0f%% of %d%%", top.CPUPercent, 100*top.Cores),
	}
}

func topRow(a admin.TopAgent) map[string]any {
	row := map[string]any{"name": a.Name, "account": cmp.Or(a.AccountName, a.Account), "state": a.State}
	if bytes := a.MemoryBytes + a.CheckpointBytes; bytes > 0 {
		row["memory"] = formatMiB(bytes)
	}
	if a.MemoryBytes > 0 {
		row["cpu"] = fmt.Sprintf("%.0f%%", a.CPUPercent)
	}
	if !a.LastUsedAt.IsZero() {
		row["usedAt"] = moment{a.LastUsedAt}
	}
	if a.Wakes > 0 {
		row["wakes"], row["lastWake"] = a.Wakes, fmt.Sprintf("%d ms", a.WakeMillis)
	}
	return row
}
