package docker

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/relay"
)

// createAttempts is how often a container is created whose name is taken by another start.
const createAttempts = 5

// keptContainers is how many ended containers of an agent are kept for their logs, besides the last one.
const keptContainers = 2

// validVariable is what an environment variable may be named.
var validVariable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Start implements runtime.Driver. Whatever a start that was interrupted has left, in the engine or in
// the record, the next one continues or replaces.
func (d *Driver) Start(ctx context.Context, place runtime.Place, s runtime.Spec) error {
	a, err := d.agent(s.ID)
	if err != nil {
		return err
	}
	if err := d.checkPlace(place); err != nil {
		return err
	}
	for name := range s.Env {
		if !validVariable.MatchString(name) {
			return fmt.Errorf("start %s: not a name of an environment variable: %q", a.id, name)
		}
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := d.start(ctx, a, place, s); err != nil {
		return fmt.Errorf("start %s: %w", a.id, err)
	}
	return nil
}

// start starts the gateway. The caller holds the lock of the agent.
func (d *Driver) start(ctx context.Context, a agent, place runtime.Place, s runtime.Spec) error {
	if foreign, err := d.isForeign(ctx, a); foreign || err != nil {
		if foreign {
			err = runtime.ErrForeign
		}
		return err
	}
	rec, err := a.record()
	if err != nil {
		return err
	}
	c, err := d.gateway(ctx, a)
	if err != nil {
		return err
	}
	if runs(c) && !c.State.Paused {
		ours := rec.Place == place && isAt(c, place) && rec.Epoch == epochOf(c.Config.Labels)
		switch {
		case ours && rec.Launched:
			return nil
		case ours: // the last start was interrupted
			return d.launch(ctx, a, c, rec, s)
		case rec.Launched && !isAt(c, place):
			return fmt.Errorf("it runs at place %s: stop it first", c.Config.Labels[labelPlace])
		}
	}
	if err := d.testIsolationNow(ctx); err != nil {
		return err
	}
	if err := d.makeWay(ctx, a, c); err != nil {
		return err
	}
	rec, err = d.newRecord(a, place, rec, c, s.Limits)
	if err != nil {
		return err
	}
	d.point("recorded")
	made, err := d.create(ctx, a, rec, s.Limits)
	if err != nil {
		return err
	}
	rec.Container = made.ID
	if err := a.saveRecord(rec); err != nil {
		return err
	}
	d.point("created")
	if _, err := call(ctx, d.engine, changeTimeout, func(ctx context.Context, c *client.Client) (client.ContainerStartResult, error) {
		return c.ContainerStart(ctx, made.ID, client.ContainerStartOptions{})
	}); err != nil {
		return fmt.Errorf("start the container: %w", err)
	}
	d.point("started")
	return d.launch(ctx, a, made, rec, s)
}

// point is a place in a start at which tests end it, as a crash would.
func (d *Driver) point(name string) {
	if d.settings.atPoint != nil {
		d.settings.atPoint(name)
	}
}

// newRecord saves the record of the next container, with a key of its own.
func (d *Driver) newRecord(a agent, place runtime.Place, last record, c *container.InspectResponse, l runtime.Limits) (record, error) {
	key, err := relay.NewKey()
	if err != nil {
		return record{}, err
	}
	epoch := last.Epoch
	if c != nil { // the record may be an older one than the container
		epoch = max(epoch, epochOf(c.Config.Labels))
	}
	rec := record{Installation: a.installation, Place: place, Epoch: epoch + 1, Key: key, DiskLimit: l.DiskBytes, FileLimit: l.Files}
	return rec, a.saveRecord(rec)
}

// makeWay ends what has the name of the next container. A container that has run is kept for its
// logs under another name.
func (d *Driver) makeWay(ctx context.Context, a agent, c *container.InspectResponse) error {
	d.link(a.id).close()
	if err := d.endFiles(ctx, a); err != nil {
		return err
	}
	if c == nil {
		return nil
	}
	if runs(c) {
		if err := d.kill(ctx, c.ID); err != nil {
			return err
		}
	}
	if c.State.Status == container.StateCreated || c.State.Status == container.StateRemoving || c.State.Status == container.StateDead {
		return d.removeContainer(ctx, c.ID)
	}
	_, err := call(ctx, d.engine, changeTimeout, func(ctx context.Context, cl *client.Client) (client.ContainerRenameResult, error) {
		return cl.ContainerRename(ctx, c.ID, client.ContainerRenameOptions{NewName: a.keptName(c.ID)})
	})
	if ignoreMissing(err) != nil {
		return fmt.Errorf("rename the last container: %w", err)
	}
	return d.removeKept(ctx, a)
}

// keptName returns the name of a container that is kept for its logs.
func (a agent) keptName(containerID string) string {
	return a.container() + "-" + containerID[:min(12, len(containerID))]
}

// removeKept removes all but the newest of the containers that are kept for their logs.
func (d *Driver) removeKept(ctx context.Context, a agent) error {
	all, err := d.gateways(ctx, a)
	if err != nil {
		return err
	}
	var kept []container.Summary
	for _, c := range all {
		if c.State == container.StateExited && !hasName(c, a.container()) {
			kept = append(kept, c)
		}
	}
	for _, c := range kept[:max(0, len(kept)-keptContainers)] {
		if err := d.removeContainer(ctx, c.ID); err != nil {
			return err
		}
	}
	return nil
}

func hasName(c container.Summary, name string) bool {
	for _, n := range c.Names {
		if n == name || n == "/"+name {
			return true
		}
	}
	return false
}

// create makes the container of a record. What has its name is ours and does not run, since the caller
// has the lock: it is the result of a call whose answer was lost.
func (d *Driver) create(ctx context.Context, a agent, rec record, l runtime.Limits) (*container.InspectResponse, error) {
	volume, err := d.makeHome(ctx, a)
	if err != nil {
		return nil, err
	}
	d.point("volume")
	for range createAttempts {
		_, err = call(ctx, d.engine, changeTimeout, func(ctx context.Context, c *client.Client) (client.ContainerCreateResult, error) {
			return c.ContainerCreate(ctx, d.gatewayConfig(a, rec, volume, l))
		})
		found, lookErr := d.gateway(ctx, a)
		switch {
		case lookErr != nil:
			return nil, errors.Join(err, lookErr)
		case found != nil && isAt(found, rec.Place) && epochOf(found.Config.Labels) == rec.Epoch:
			return found, nil // also if the answer was lost
		case found != nil && isConflict(err):
			if err := d.makeWay(ctx, a, found); err != nil {
				return nil, err
			}
		case err != nil:
			return nil, d.explainCreate(ctx, err)
		}
	}
	return nil, fmt.Errorf("create the container: %w", errors.Join(err, errors.New("its name is taken again and again")))
}

// launch has the relay of a container start the gateway.
func (d *Driver) launch(ctx context.Context, a agent, c *container.InspectResponse, rec record, s runtime.Spec) error {
	err := d.tryLaunch(ctx, a, c, rec, s)
	if err == nil {
		d.point("launched")
		rec.Launched = true
		return a.saveRecord(rec)
	}
	// Without a gateway the container is of no use. If this fails too, the next start does it.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
	defer cancel()
	d.link(a.id).close()
	if ended := d.kill(ending, c.ID); ended != nil {
		d.settings.Log.WarnContext(ctx, "ending a container without a gateway failed", "agent", a.id, "error", ended)
	}
	return err
}

func (d *Driver) tryLaunch(ctx context.Context, a agent, c *container.InspectResponse, rec record, s runtime.Spec) error {
	session, err := d.session(ctx, a, rec.Place)
	if errors.Is(err, runtime.ErrNotRunning) {
		return d.diedAtStart(ctx, c.ID, err)
	}
	if err != nil {
		return err
	}
	d.point("connected")
	limited, cancel := context.WithTimeout(ctx, launchTimeout)
	defer cancel()
	return session.Start(limited, relay.Launch{
		Command: d.settings.Command, Args: s.Args, Env: s.Env, Files: s.Files, Secrets: s.Secrets,
		Limits: runtime.Limits{DiskBytes: s.Limits.DiskBytes, Files: s.Limits.Files},
	})
}

// launchTimeout bounds the launch of a gateway: the files of an agent are measured before it. Source:
// a million files take 20 s on a slow disk.
const launchTimeout = 15 * time.Minute

// diedAtStart returns why a container has ended before anything was started in it.
func (d *Driver) diedAtStart(ctx context.Context, containerID string, err error) error {
	c, inspectErr := d.inspectContainer(ctx, containerID)
	if inspectErr != nil || c == nil {
		return errors.Join(err, inspectErr)
	}
	return fmt.Errorf("the container ended with code %d before the gateway was started: see the agent's log: %w", c.State.ExitCode, err)
}
