package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
)

// agentsDir is the directory of the agents in a data directory.
const agentsDir = "agents"

// gatewaysCommand works without a server and without the database.
type gatewaysCommand struct {
	List gatewaysList `cmd:"" help:"List the gateways that run as processes of this machine."`
	Stop gatewaysStop `cmd:"" help:"Stop gateways of this machine while no server runs."`
}

type gatewaysList struct{ dataFlags }

// Run lists the gateways. A server may be running.
func (c gatewaysList) Run(t *terminal) error {
	found, err := process.Gateways(filepath.Join(c.Data, agentsDir))
	rows := make([]map[string]any, len(found))
	for i, g := range found {
		rows[i] = gatewayRow(g)
	}
	return errors.Join(err, t.table(rows, "id", "pid", "since", "place", "memory", "whose"))
}

func gatewayRow(g process.Gateway) map[string]any {
	whose := "ours"
	if !g.Own {
		whose = "another directory's"
	}
	return map[string]any{
		"id": g.ID, "pid": g.PID, "since": formatTime(g.StartedAt), "place": g.Place, "memory": formatMiB(g.MemoryBytes), "whose": whose,
		"installation": g.Installation,
	}
}

type gatewaysStop struct {
	dataFlags
	All   bool          `help:"Stop all gateways of the data directory."`
	Grace time.Duration `help:"How long a gateway may take to end before it is killed." default:"10s"`
	IDs   []string      `arg:"" optional:"" name:"id" help:"Ids of agents."`
}

// Run stops gateways of the data directory, but none of another one that its files name.
func (c gatewaysStop) Run(ctx context.Context, t *terminal) error {
	if c.All == (len(c.IDs) > 0) {
		return errors.New("name the agents whose gateways are to stop, or use --all")
	}
	dir := filepath.Join(c.Data, agentsDir)
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("%s is not a data directory with agents: %w", c.Data, err)
	}
	unlock, err := lockData(ctx, c.Data)
	if err != nil {
		return fmt.Errorf("%w\nWith a running server, use agento agents stop", err)
	}
	defer func() { _ = unlock() }()
	found, err := process.Gateways(dir)
	if err != nil && !c.All {
		return err
	}
	chosen, missing := c.choose(found)
	stopped, stopErr := c.stop(ctx, t, dir, chosen)
	rows := make([]map[string]any, len(stopped))
	for i, g := range stopped {
		rows[i] = map[string]any{"id": g.ID, "pid": g.PID}
	}
	return errors.Join(err, missing, stopErr, t.table(rows, "id", "pid"))
}

// choose returns the gateways to stop, and an error for the ids that have none.
func (c gatewaysStop) choose(found []process.Gateway) (chosen []process.Gateway, missing error) {
	for _, g := range found {
		if g.Own && (c.All || slices.Contains(c.IDs, string(g.ID))) {
			chosen = append(chosen, g)
		}
	}
	for _, id := range c.IDs {
		is := func(g process.Gateway) bool { return string(g.ID) == id }
		if slices.ContainsFunc(chosen, is) {
			continue
		}
		if i := slices.IndexFunc(found, is); i >= 0 {
			missing = errors.Join(missing, fmt.Errorf("the gateway of %s with pid %d belongs to another directory: stop it with the --data of that one", id, found[i].PID))
			continue
		}
		missing = errors.Join(missing, fmt.Errorf("no gateway of %s runs", id))
	}
	return chosen, missing
}

// parallelStops is how many gateways are stopped at the same time.
const parallelStops = 16

// stop stops gateways and returns those that have ended.
func (c gatewaysStop) stop(ctx context.Context, t *terminal, dir string, chosen []process.Gateway) (stopped []process.Gateway, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	drivers := map[string]runtime.Driver{} // by installation, which has its own control groups and secrets
	for _, g := range chosen {
		if drivers[g.Installation] != nil {
			continue
		}
		d, err := process.Flags{}.Open(runtime.Settings{Installation: g.Installation, Dir: dir, Command: []string{self}, Log: logger(t, "error")})
		if err != nil {
			return nil, err
		}
		drivers[g.Installation] = d
	}
	var mu sync.Mutex
	var running sync.WaitGroup
	slots := make(chan struct{}, parallelStops)
	for _, g := range chosen {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			e := drivers[g.Installation].Stop(ctx, g.Place, g.ID, c.Grace)
			mu.Lock()
			defer mu.Unlock()
			if err = errors.Join(err, e); e == nil {
				stopped = append(stopped, g)
			}
		})
	}
	running.Wait()
	return stopped, err
}

// gateways reports the gateways of other directories that the files of this one name.
func (c doctorCommand) gateways() []finding {
	found, err := process.Gateways(filepath.Join(c.Data, agentsDir))
	var out []finding
	if err != nil {
		out = append(out, finding{Part: "gateways", State: err.Error()})
	}
	for _, g := range found {
		if !g.Own {
			out = append(out, finding{
				Part:  "gateways",
				State: fmt.Sprintf("a gateway of agent %s with pid %d belongs to another directory, of which this one is a copy", g.ID, g.PID),
				Fix:   fmt.Sprintf("if it is not wanted, run agento gateways stop with the --data of that one, or kill %d", g.PID),
			})
		}
	}
	return out
}
