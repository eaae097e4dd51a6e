package multi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// Stop implements runtime.Driver.
func (d *Driver) Stop(ctx context.Context, place runtime.Place, id identity.AgentID, grace time.Duration) error {
	driver, inner, err := d.at(ctx, place, id)
	if err != nil {
		return err
	}
	return driver.Stop(ctx, inner, id, grace)
}

// Remove implements runtime.Driver. The server where the home is must be reached. A container that
// another server may have kept is ended when that server returns.
func (d *Driver) Remove(ctx context.Context, place runtime.Place, id identity.AgentID) error {
	driver, inner, err := d.at(ctx, place, id)
	if err != nil {
		return err
	}
	return driver.Remove(ctx, inner, id)
}

// Quarantine implements runtime.Driver. The records need not know the agent: it is looked for on every
// server.
func (d *Driver) Quarantine(ctx context.Context, id identity.AgentID) error {
	return d.each(ctx, func(server string, driver runtime.Driver) error {
		found, err := driver.List(ctx)
		if err != nil {
			return err
		}
		for _, f := range found {
			if f.ID != id {
				continue
			}
			if err := driver.Quarantine(ctx, id); err != nil {
				return fmt.Errorf("on %s: %w", server, err)
			}
		}
		return nil
	})
}

// List implements runtime.Driver. What a server has that cannot be reached is not listed, which says
// nothing about it: the log names the server.
func (d *Driver) List(ctx context.Context) ([]runtime.Found, error) {
	var all []runtime.Found
	err := d.each(ctx, func(server string, driver runtime.Driver) error {
		found, err := driver.List(ctx)
		if err != nil {
			if server == Local || ctx.Err() != nil {
				return err
			}
			d.log.WarnContext(ctx, "what a server has of agents cannot be listed", "server", server, "error", err)
			return nil
		}
		for _, f := range found {
			if f.Place != "" {
				f.Place = PlaceOn(server, f.Place)
			}
			all = append(all, f)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// each calls do for every server that can be reached, Local first. A failure on one does not keep it
// from the others.
func (d *Driver) each(ctx context.Context, do func(server string, driver runtime.Driver) error) error {
	failed := do(Local, d.local)
	names, err := d.servers.Names(ctx)
	if err != nil {
		return errors.Join(failed, fmt.Errorf("list the servers: %w", err))
	}
	for _, name := range names {
		driver, err := d.servers.Driver(ctx, name)
		if err != nil {
			d.log.DebugContext(ctx, "a server is left out", "server", name, "error", err)
			continue
		}
		failed = errors.Join(failed, do(name, driver))
	}
	return failed
}

// Examine implements runtime.Examiner.
func (d *Driver) Examine(ctx context.Context) ([]runtime.Examination, error) {
	var all []runtime.Examination
	err := d.each(ctx, func(_ string, driver runtime.Driver) error {
		e, ok := driver.(runtime.Examiner)
		if !ok {
			return nil
		}
		found, err := e.Examine(ctx)
		all = append(all, found...)
		return err
	})
	return all, err
}

// Run implements runtime.Runner, for the local driver: those of other servers are run by whoever makes
// them.
func (d *Driver) Run(ctx context.Context) error {
	if r, ok := d.local.(runtime.Runner); ok {
		return r.Run(ctx)
	}
	<-ctx.Done()
	return nil
}
