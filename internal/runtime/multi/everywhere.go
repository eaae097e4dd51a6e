package multi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
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

// Remove implements runtime.Driver. The server where the home is must be reached, and that of the place,
// which is another one if a gateway was found where the agent was before. A container that a third
// server may have kept is ended when that server returns.
func (d *Driver) Remove(ctx context.Context, place runtime.Place, id identity.AgentID) error {
	driver, inner, err := d.at(ctx, place, id)
	if err != nil {
		return err
	}
	if err := driver.Remove(ctx, inner, id); err != nil || place == "" {
		return err
	}
	home, err := d.homeOf(ctx, id)
	if err != nil || home == d.ServerOf(place) {
		return err
	}
	if driver, err = d.on(ctx, home); err != nil {
		return err
	}
	return driver.Remove(ctx, "", id)
}

// Quarantine implements runtime.Driver. The records need not know the agent: it is looked for on every
// server. Another installation may have an agent of the same id on one of them, if one of the two was
// restored from a backup.
func (d *Driver) Quarantine(ctx context.Context, id identity.AgentID) error {
	var mu sync.Mutex
	own, foreign := false, false
	err := d.each(ctx, func(server string, driver runtime.Driver) error {
		found, err := driver.List(ctx)
		if err != nil {
			return fmt.Errorf("on %s: %w", server, err)
		}
		i := slices.IndexFunc(found, func(f runtime.Found) bool { return f.ID == id })
		if i < 0 {
			return nil
		}
		mu.Lock()
		own, foreign = own || found[i].Owner != runtime.Foreign, foreign || found[i].Owner == runtime.Foreign
		mu.Unlock()
		if found[i].Owner == runtime.Foreign {
			return nil
		}
		if err := driver.Quarantine(ctx, id); err != nil {
			return fmt.Errorf("on %s: %w", server, err)
		}
		return nil
	})
	if err == nil && foreign && !own {
		return runtime.ErrForeign
	}
	return err
}

// List implements runtime.Driver. What a server has that cannot be reached is not listed, which says
// nothing about it: the log names the server.
func (d *Driver) List(ctx context.Context) ([]runtime.Found, error) {
	var mu sync.Mutex
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
		mu.Lock()
		defer mu.Unlock()
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

// each calls do for every server that can be reached, at the same time: a server that is slow does not
// hold up the others. A failure on one does not keep it from the others.
func (d *Driver) each(ctx context.Context, do func(server string, driver runtime.Driver) error) error {
	names, listErr := d.servers.Names(ctx)
	if listErr != nil {
		listErr = fmt.Errorf("list the servers: %w", listErr)
	}
	failed := make([]error, len(names))
	var calls sync.WaitGroup
	for i, name := range names {
		calls.Go(func() {
			driver, err := d.servers.Driver(ctx, name)
			if err != nil {
				d.log.DebugContext(ctx, "a server is left out", "server", name, "error", err)
				return
			}
			failed[i] = do(name, driver)
		})
	}
	local := do(Local, d.local)
	calls.Wait()
	return errors.Join(append(failed, local, listErr)...)
}

// Examine implements runtime.Examiner.
func (d *Driver) Examine(ctx context.Context) ([]runtime.Examination, error) {
	var mu sync.Mutex
	var all []runtime.Examination
	err := d.each(ctx, func(_ string, driver runtime.Driver) error {
		e, ok := driver.(runtime.Examiner)
		if !ok {
			return nil
		}
		found, err := e.Examine(ctx)
		mu.Lock()
		defer mu.Unlock()
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
