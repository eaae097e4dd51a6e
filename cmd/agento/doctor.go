package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/admin"
	"agento.host/agento/internal/openclaw/install"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/docker"
)

type installCommand struct {
	RuntimeDir string `help:"Directory of the agent runtime. Default: in the user's cache directory." type:"path"`
}

// Run installs the agent runtime if it is missing.
func (c installCommand) Run(ctx context.Context, t *terminal) error {
	r, err := install.Install(ctx, install.Settings{Dir: c.RuntimeDir, Progress: t.err})
	if err != nil {
		return err
	}
	return t.print(map[string]any{"version": install.OpenClawVersion, "node": r.Node, "openclaw": r.Entry}, "OpenClaw "+install.OpenClawVersion+" is installed: "+r.Entry)
}

type doctorCommand struct {
	vaultFlags
	Runtime    string       `help:"The --runtime of serve. With docker, only what agents in containers need is checked." enum:"process,docker" default:"process"`
	Docker     docker.Flags `embed:""`
	RuntimeDir string       `help:"Directory of the agent runtime. Default: in the user's cache directory." type:"path"`
	Listen     string       `help:"Address of the API, to see whether it is free." default:"127.0.0.1:8080"`
	Wake       bool         `help:"Say how agents can sleep on this machine, and measure how long their next message takes, with a gateway of its own in a temporary directory: about two minutes. Nothing else is checked."`
	Running    bool         `help:"Check what every running agent really has, and nothing else: namespaces, user, capabilities, filter of system calls, control group, descriptors."`
}

// finding is the result of one check.
type finding struct {
	Part  string `json:"part"`
	State string `json:"state"`
	OK    bool   `json:"ok"`
	Fix   string `json:"fix,omitempty"`

	Warning bool `json:"warning,omitempty"` // it is OK, and will not stay so
}

// Run checks everything that agents need. It fails if something must be fixed; warnings
// alone are no failure.
func (c doctorCommand) Run(ctx context.Context, t *terminal) error {
	if c.Running {
		return c.examine(ctx, t)
	}
	if c.Wake {
		return c.wake(ctx, t)
	}
	found := c.machine()
	found = append(append(found, c.data(), c.database(ctx)), c.secrets(ctx)...)
	found = append(found, c.resources(ctx)...)
	found = append(found, slices.Concat(c.installation(ctx), c.plans(ctx), c.gateways(), c.quarantine(ctx), c.unknown(), c.checkpoints(ctx), []finding{c.lastBackup(ctx)})...)
	bad := countBad(found)
	if err := c.show(t, found); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d parts need a fix", bad, len(found))
	}
	return nil
}

func countBad(found []finding) int {
	bad := 0
	for _, f := range found {
		if !f.OK {
			bad++
		}
	}
	return bad
}

// examine shows what the running agents have. It fails if it is less than promised.
func (c doctorCommand) examine(ctx context.Context, t *terminal) error {
	found := []finding{}
	err := c.withAdmin(ctx, reading, nil, func(api *admin.Client) error {
		all, err := api.Examine(ctx)
		for _, e := range all {
			f := finding{Part: e.Check, State: "agent " + e.Agent + ": " + e.State, OK: e.OK}
			if !e.OK {
				f.Fix = "stop the agent, and find out who or what has changed its processes; a restart makes a new sandbox"
			}
			found = append(found, f)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := c.show(t, found); err != nil {
		return err
	}
	if bad := countBad(found); bad > 0 {
		return fmt.Errorf("%d of %d checks found less than promised", bad, len(found))
	}
	return nil
}

// examineGateways returns what a driver finds out about the gateways that it runs.
func examineGateways(d runtime.Driver) func(context.Context) ([]admin.Examined, error) {
	return func(ctx context.Context) ([]admin.Examined, error) {
		e, ok := d.(runtime.Examiner)
		if !ok {
			return nil, errors.New("this driver cannot examine the gateways that it runs")
		}
		return examinedOf(e.Examine(ctx))
	}
}

func examinedOf(found []runtime.Examination, err error) ([]admin.Examined, error) {
	var all []admin.Examined
	for _, e := range found {
		for _, c := range e.Checks {
			all = append(all, admin.Examined{Agent: string(e.ID), Check: c.Name, State: c.State, OK: c.OK})
		}
	}
	return all, err
}

func (c doctorCommand) show(t *terminal, found []finding) error {
	if t.json {
		return t.printJSON(found)
	}
	var err error
	for _, f := range found {
		mark := "ok  "
		switch {
		case !f.OK:
			mark = "FIX "
		case f.Warning:
			mark = "WARN"
		}
		_, e := fmt.Fprintf(t.out, "%s %-14s %s\n", mark, f.Part, f.State)
		if f.Fix != "" {
			_, e2 := fmt.Fprintf(t.out, "     %-14s -> %s\n", "", f.Fix)
			e = errors.Join(e, e2)
		}
		err = errors.Join(err, e)
	}
	return err
}

func (c doctorCommand) openclaw() finding {
	s := install.Inspect(install.Settings{Dir: c.RuntimeDir})
	if s.Installed {
		return finding{Part: "agent runtime", State: s.Version + " in " + s.Dir, OK: true}
	}
	return finding{Part: "agent runtime", State: s.Version + " is not installed", Fix: s.Fix}
}

// machine returns what each driver finds on this machine; in containers agents need only theirs.
func (c doctorCommand) machine() []finding {
	kinds := driverFlags{Docker: c.Docker}.kinds()
	found := []finding{c.openclaw()}
	if c.Runtime == runtimeDocker {
		found = []finding{{Part: "containers", State: "agents can be isolated in them", OK: true}}
		if err := kinds[runtimeDocker].CheckIsolation(); err != nil {
			found[0] = finding{Part: "containers", State: err.Error(), Fix: "agents are not started until then; see docs/containers.md"}
		}
		kinds = map[string]driverKind{runtimeDocker: kinds[runtimeDocker]}
	}
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		for _, c := range kinds[name].Check() {
			found = append(found, finding{Part: c.Name, State: c.State, OK: c.OK, Fix: c.Fix})
		}
	}
	return found
}

func (c doctorCommand) data() finding {
	f := finding{Part: "data directory", State: c.Data, OK: true}
	info, err := os.Stat(c.Data)
	switch {
	case errors.Is(err, os.ErrNotExist):
		f.State += " (made at the first start)"
		return f
	case err == nil && !info.IsDir():
		err = fmt.Errorf("%s is not a directory", c.Data)
	case err == nil:
		err = unix.Access(c.Data, unix.W_OK) // a file to try it would be a change
	}
	if err != nil {
		f.OK, f.State, f.Fix = false, err.Error(), "make "+filepath.Clean(c.Data)+" writable, or choose another --data"
	}
	return f
}

// database opens the database as a command that reads does.
func (c doctorCommand) database(ctx context.Context) finding {
	f := finding{Part: "database", OK: true}
	if _, err := os.Stat(c.databasePath()); errors.Is(err, os.ErrNotExist) {
		f.State = "none (made at the first start)"
		return f
	}
	err := c.withAdmin(ctx, reading, nil, func(api *admin.Client) error {
		copies, err := api.Garbage(ctx)
		f.State = fmt.Sprintf("opens; agento gc would remove %d of its copies", len(copies))
		return err
	})
	if err != nil {
		f.OK, f.State = false, reportOf(err).Message // which says what to do
	}
	return f
}
