// Package docker runs each gateway in a container of a Docker engine, or of Podman, which it may
// reach over any connection. All that it knows is in the engine, in labels, and in a small record of
// each agent below Settings.Dir: a new driver finds every gateway that an earlier one started.
//
// A container has no network. The first process in it is agento-relay, and the driver reaches it by
// the engine: see package relay.
package docker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// Settings of a Driver.
type Settings struct {
	Installation string // whose agents these are. Empty: that of each agent's record, for programs that only look or stop
	Dir          string // the records of all agents; created if missing
	Server       string // the name of the pool server in places; empty: this machine

	Host string                                  // the engine: unix:///path or tcp://host:port; empty: DefaultHost
	Dial func(context.Context) (net.Conn, error) // connects to the engine instead; nil: Host is used

	Image   string   // that agents run
	Runtime string   // the engine's runtime, such as runsc; empty: its default
	Command []string // starts a gateway, in the image; Spec.Args are appended

	TempBytes   int64 // size of a gateway's /tmp; 0: 512 MiB
	LogMaxBytes int64 // size of a file of a gateway's log, of which the engine keeps three; 0: 10 MiB
	Log         *slog.Logger

	atPoint func(name string) // called between the steps of a start; for tests
}

// Driver implements runtime.Driver, runtime.Watcher, runtime.Freezer, runtime.Runner and
// runtime.Examiner. Gateways outlive it.
type Driver struct {
	settings  Settings
	engine    *engine
	isolation isolation

	mu       sync.Mutex
	links    map[identity.AgentID]*link    // guarded by mu
	files    map[identity.AgentID]*files   // guarded by mu
	samplers map[identity.AgentID]*sampler // guarded by mu
}

// DefaultHost is where an engine listens that was installed with its defaults.
const DefaultHost = "unix:///var/run/docker.sock"

const (
	defaultTempBytes = 512 << 20
	defaultLogBytes  = 10 << 20
)

// New returns a driver. It succeeds if the engine does not answer: CheckIsolation says so, and the
// driver goes on when it answers.
func New(s Settings) (*Driver, error) {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.TempBytes == 0 {
		s.TempBytes = defaultTempBytes
	}
	if s.LogMaxBytes == 0 {
		s.LogMaxBytes = defaultLogBytes
	}
	if s.Host == "" {
		s.Host = DefaultHost
	}
	switch {
	case s.Dir == "":
		return nil, errors.New("no directory for the records of agents")
	case s.Image == "":
		return nil, errors.New("no image that agents run")
	case s.Installation != "" && !validName.MatchString(s.Installation):
		return nil, fmt.Errorf("not an installation: %q", s.Installation)
	case s.Server != "" && !validName.MatchString(s.Server):
		return nil, fmt.Errorf("not a name of a server: %q", s.Server)
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the directory of agents: %w", err)
	}
	e, err := newEngine(s.Host, s.Dial)
	if err != nil {
		return nil, err
	}
	d := &Driver{
		settings: s, engine: e,
		links: map[identity.AgentID]*link{}, files: map[identity.AgentID]*files{}, samplers: map[identity.AgentID]*sampler{},
	}
	ctx, cancel := context.WithTimeout(context.Background(), isolationTimeout)
	defer cancel()
	if err := d.testIsolation(ctx); err != nil {
		s.Log.Error("no agent is started until agents can be isolated", "error", err)
	}
	return d, nil
}

// Close ends the connections to gateways, which run on. It is for tests: a driver that is not used any
// more ends with the program.
func (d *Driver) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.links {
		l.close()
	}
	for _, f := range d.files {
		f.end()
	}
}

func (d *Driver) agent(id identity.AgentID) (agent, error) {
	if !validName.MatchString(string(id)) {
		return agent{}, fmt.Errorf("not an agent id: %q", id)
	}
	a := agent{id: id, installation: d.settings.Installation, dir: filepath.Join(d.settings.Dir, string(id))}
	if a.installation != "" {
		return a, nil
	}
	var r record
	if err := readJSON(a.path(recordName), &r); err != nil {
		return a, err
	}
	a.installation = r.Installation
	return a, nil
}

// Place implements runtime.Driver.
func (d *Driver) Place(ctx context.Context, s runtime.Spec) (runtime.Place, error) {
	if _, err := d.agent(s.ID); err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	return newPlace(d.settings.Server, strings.ToLower(rand.Text())), nil
}

func isErrForeign(err error) bool { return errors.Is(err, runtime.ErrForeign) }
