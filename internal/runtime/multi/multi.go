// Package multi is a driver over several servers. Each has a driver of its own, and every call for an
// agent goes to the server where the agent's home is.
package multi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// Local is the name of the machine that the control plane itself runs on.
const Local = "local"

// Servers knows the servers and their drivers.
type Servers interface {
	// Driver returns the driver of a server other than Local. Errors: if there is no such server, or if
	// it cannot be reached.
	Driver(ctx context.Context, server string) (runtime.Driver, error)
	// Names returns all servers but Local that may have something of agents.
	Names(ctx context.Context) ([]string, error)
	// HomeOf returns the server where the home of an agent is; empty: it has none.
	HomeOf(ctx context.Context, id identity.AgentID) (server string, err error)
}

// Settings of a Driver.
type Settings struct {
	Local   runtime.Driver
	Servers Servers
	Log     *slog.Logger
}

// Driver implements runtime.Driver, runtime.Watcher, runtime.Suspender, runtime.Freezer,
// runtime.Examiner and runtime.Runner. Only the local driver's gateways are suspended; others are frozen.
type Driver struct {
	local   runtime.Driver
	servers Servers
	log     *slog.Logger
}

// New returns the driver over all servers.
func New(s Settings) *Driver {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	return &Driver{local: s.Local, servers: s.Servers, log: s.Log}
}

// placePrefix begins the places of other servers than Local. The places of Local are its driver's own,
// so that those stay valid that were stored before there were other servers.
const placePrefix = "server/"

// PlaceOn returns the place of a server's driver as one of this driver.
func PlaceOn(server string, inner runtime.Place) runtime.Place {
	if server == Local {
		return inner
	}
	return runtime.Place(placePrefix + server + "/" + string(inner))
}

// split returns the server of a place, and the place as the server's driver knows it.
func split(place runtime.Place) (server string, inner runtime.Place) {
	rest, ok := strings.CutPrefix(string(place), placePrefix)
	if !ok {
		return Local, place
	}
	server, in, _ := strings.Cut(rest, "/")
	return server, runtime.Place(in)
}

// ServerOf returns the server of a place.
func (d *Driver) ServerOf(place runtime.Place) string {
	server, _ := split(place)
	return server
}

// on returns the driver of a server.
func (d *Driver) on(ctx context.Context, server string) (runtime.Driver, error) {
	if server == Local {
		return d.local, nil
	}
	return d.servers.Driver(ctx, server)
}

// homeOf returns the server where an agent's home is, or is to be.
func (d *Driver) homeOf(ctx context.Context, id identity.AgentID) (string, error) {
	server, err := d.servers.HomeOf(ctx, id)
	if err != nil {
		return "", err
	}
	if server == "" {
		return Local, nil
	}
	return server, nil
}

// at returns the driver to call for an agent, and the place as that driver knows it. An empty place is
// where the home is.
func (d *Driver) at(ctx context.Context, place runtime.Place, id identity.AgentID) (runtime.Driver, runtime.Place, error) {
	server, inner := split(place)
	if place == "" {
		var err error
		if server, err = d.homeOf(ctx, id); err != nil {
			return nil, "", err
		}
	}
	driver, err := d.on(ctx, server)
	return driver, inner, err
}

// Place implements runtime.Driver. It chooses a place on Spec.Server; without one, where the home is.
func (d *Driver) Place(ctx context.Context, s runtime.Spec) (runtime.Place, error) {
	server := s.Server
	if server == "" {
		var err error
		if server, err = d.homeOf(ctx, s.ID); err != nil {
			return "", err
		}
	}
	driver, err := d.on(ctx, server)
	if err != nil {
		return "", err
	}
	inner, err := driver.Place(ctx, s)
	if err != nil {
		return "", err
	}
	return PlaceOn(server, inner), nil
}

// CheckIsolation implements runtime.Driver: it returns nil if gateways can be isolated on some server.
func (d *Driver) CheckIsolation() error {
	return d.checkAny(runtime.Driver.CheckIsolation)
}

// checkAny returns nil if a check finds nothing missing on some server, else what it finds on Local.
func (d *Driver) checkAny(check func(runtime.Driver) error) error {
	local := check(d.local)
	if local == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	names, err := d.servers.Names(ctx)
	if err != nil {
		return local
	}
	for _, name := range names {
		if driver, err := d.servers.Driver(ctx, name); err == nil && check(driver) == nil {
			return nil
		}
	}
	return local
}

// checkTimeout bounds a check. Of a server that was just connected it waits until that can be used; of
// the others it asks only what is known.
const checkTimeout = 5 * time.Second

// Start implements runtime.Driver.
func (d *Driver) Start(ctx context.Context, place runtime.Place, s runtime.Spec) error {
	driver, inner, err := d.at(ctx, place, s.ID)
	if err != nil {
		return err
	}
	return driver.Start(ctx, inner, s)
}

// Inspect implements runtime.Driver.
func (d *Driver) Inspect(ctx context.Context, place runtime.Place, id identity.AgentID) (runtime.State, error) {
	driver, inner, err := d.at(ctx, place, id)
	if err != nil {
		return runtime.State{}, err
	}
	return driver.Inspect(ctx, inner, id)
}

// Logs implements runtime.Driver.
func (d *Driver) Logs(ctx context.Context, place runtime.Place, id identity.AgentID, tail int, follow bool) (io.ReadCloser, error) {
	driver, inner, err := d.at(ctx, place, id)
	if err != nil {
		return nil, err
	}
	return driver.Logs(ctx, inner, id, tail, follow)
}

// Dial implements runtime.Driver.
func (d *Driver) Dial(ctx context.Context, place runtime.Place, id identity.AgentID) (net.Conn, error) {
	driver, inner, err := d.at(ctx, place, id)
	if err != nil {
		return nil, err
	}
	return driver.Dial(ctx, inner, id)
}

// Network implements runtime.Driver.
func (d *Driver) Network(ctx context.Context, place runtime.Place, id identity.AgentID) (*runtime.Network, error) {
	driver, inner, err := d.at(ctx, place, id)
	if err != nil {
		return nil, err
	}
	return driver.Network(ctx, inner, id)
}

// Home implements runtime.Driver.
func (d *Driver) Home(ctx context.Context, place runtime.Place, id identity.AgentID) (runtime.Home, error) {
	driver, inner, err := d.at(ctx, place, id)
	if err != nil {
		return nil, err
	}
	return driver.Home(ctx, inner, id)
}

// PutSecrets implements runtime.Driver.
func (d *Driver) PutSecrets(ctx context.Context, place runtime.Place, id identity.AgentID, secrets []byte) error {
	driver, inner, err := d.at(ctx, place, id)
	if err != nil {
		return err
	}
	return driver.PutSecrets(ctx, inner, id, secrets)
}

// Watch implements runtime.Watcher.
func (d *Driver) Watch(ctx context.Context, place runtime.Place, id identity.AgentID) error {
	driver, inner, err := d.at(ctx, place, id)
	if err != nil {
		return err
	}
	w, ok := driver.(runtime.Watcher)
	if !ok {
		return fmt.Errorf("watch the gateway of %s: %w", id, errors.ErrUnsupported)
	}
	return w.Watch(ctx, inner, id)
}
