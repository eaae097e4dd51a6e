package docker

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/relay"
)

// filesIdle is how long the container that serves an agent's files is kept after the last use.
const filesIdle = 10 * time.Second

// files is the session with the container that serves the files of an agent whose gateway does not run.
type files struct {
	turn chan struct{} // has a token while nobody makes the container

	mu      sync.Mutex
	session *relay.Session // guarded by mu; nil: there is none
	users   int            // open homes; guarded by mu
	idle    *time.Timer    // ends the container; guarded by mu; nil: it is in use
}

// filesRecord is what the driver writes before it makes the container.
type filesRecord struct {
	Installation string             `json:"installation"`
	Place        runtime.Place      `json:"place"` // of the relay; no gateway has it
	Key          ed25519.PrivateKey `json:"key"`
}

func (d *Driver) filesOf(a agent) *files {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[a.id]
	if f == nil {
		f = &files{turn: make(chan struct{}, 1)}
		f.turn <- struct{}{}
		d.files[a.id] = f
	}
	return f
}

// filesSession returns a session that serves the agent's files, with what gives it back. Errors:
// ErrForeign.
func (d *Driver) filesSession(ctx context.Context, a agent) (s *relay.Session, release func(), err error) {
	if foreign, err := d.isForeign(ctx, a); foreign || err != nil {
		if foreign {
			err = runtime.ErrForeign
		}
		return nil, nil, err
	}
	c, err := d.gateway(ctx, a)
	if err != nil {
		return nil, nil, err
	}
	if runs(c) && !c.State.Paused {
		s, err := d.session(ctx, a, runtime.Place(c.Config.Labels[labelPlace]))
		if err == nil {
			return s, func() {}, nil
		}
		if ctx.Err() != nil {
			return nil, nil, err
		}
		d.settings.Log.DebugContext(ctx, "the files of an agent are not read through its gateway's relay", "agent", a.id, "error", err)
	}
	return d.filesOf(a).use(ctx, d, a)
}

// use returns the session with the container, which is made if there is none.
func (f *files) use(ctx context.Context, d *Driver, a agent) (*relay.Session, func(), error) {
	select {
	case <-f.turn:
		defer func() { f.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	if s := f.take(nil); s != nil {
		return s, f.releaser(d, a), nil
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	s, err := d.connectFiles(ctx, a)
	if err != nil {
		return nil, nil, err
	}
	return f.take(s), f.releaser(d, a), nil
}

// take returns the session for one more user; made is the next one. It returns nil if there is none.
func (f *files) take(made *relay.Session) *relay.Session {
	f.mu.Lock()
	defer f.mu.Unlock()
	if made != nil {
		f.session = made
	}
	if f.session == nil || isLost(f.session) {
		return nil
	}
	f.users++
	if f.idle != nil {
		f.idle.Stop()
		f.idle = nil
	}
	return f.session
}

// releaser returns what gives back the session for one user. After the last one the container ends.
func (f *files) releaser(d *Driver, a agent) func() {
	return sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.users--; f.users == 0 {
			f.idle = time.AfterFunc(filesIdle, func() { f.expire(d, a) })
		}
	})
}

// expire ends the container if it is still not in use.
func (f *files) expire(d *Driver, a agent) {
	ctx, cancel := context.WithTimeout(context.Background(), changeTimeout)
	defer cancel()
	unlock, err := a.lock(ctx)
	if err != nil {
		return // its relay ends by itself
	}
	defer unlock()
	f.mu.Lock()
	used := f.users > 0 || f.session == nil
	f.mu.Unlock()
	d.mu.Lock()
	current := d.files[a.id] == f
	d.mu.Unlock()
	if used || !current {
		return
	}
	if err := d.endFiles(ctx, a); err != nil {
		d.settings.Log.Warn("removing the container that has served the files of an agent failed: it ends by itself", "agent", a.id, "error", err)
	}
}

// end ends the session, if there is one.
func (f *files) end() {
	f.mu.Lock()
	s := f.session
	f.session = nil
	f.mu.Unlock()
	if s != nil {
		_ = s.Close() // its end is all that matters
	}
}

// endFiles ends the container that serves the agent's files, whoever has made it. The caller holds the
// lock of the agent.
func (d *Driver) endFiles(ctx context.Context, a agent) error {
	d.mu.Lock()
	f := d.files[a.id]
	delete(d.files, a.id)
	d.mu.Unlock()
	if f != nil {
		f.end()
	}
	c, err := d.findContainer(ctx, a, a.filesContainer(), roleFiles)
	if err != nil || c == nil {
		return err
	}
	return d.removeContainer(ctx, c.ID)
}

// connectFiles connects to the container that serves the agent's files. It makes one if there is none to
// which it has the key. The caller holds the lock of the agent.
func (d *Driver) connectFiles(ctx context.Context, a agent) (*relay.Session, error) {
	var rec filesRecord
	if err := readJSON(a.path(filesName), &rec); err != nil {
		return nil, err
	}
	c, err := d.findContainer(ctx, a, a.filesContainer(), roleFiles)
	if err != nil {
		return nil, err
	}
	if runs(c) && !c.State.Paused && rec.Installation == a.installation && len(rec.Key) == ed25519.PrivateKeySize {
		s, err := d.connect(ctx, c.ID, rec.identity(a))
		if err == nil || ctx.Err() != nil {
			return s, err
		}
	}
	if c != nil {
		if err := d.removeContainer(ctx, c.ID); err != nil {
			return nil, err
		}
	}
	key, err := relay.NewKey()
	if err != nil {
		return nil, err
	}
	rec = filesRecord{Installation: a.installation, Place: newPlace(d.settings.Server, "files-"+strings.ToLower(rand.Text())), Key: key}
	if err := a.save(filesName, rec); err != nil {
		return nil, err
	}
	containerID, err := d.createFiles(ctx, a, rec)
	if err != nil {
		return nil, err
	}
	return d.connect(ctx, containerID, rec.identity(a))
}

func (r filesRecord) identity(a agent) relay.Identity {
	return relay.Identity{Agent: a.id, Place: r.Place, Key: r.Key}
}

func (d *Driver) createFiles(ctx context.Context, a agent, rec filesRecord) (containerID string, err error) {
	volume, err := d.makeHome(ctx, a)
	if err != nil {
		return "", err
	}
	_, createErr := call(ctx, d.engine, changeTimeout, func(ctx context.Context, c *client.Client) (client.ContainerCreateResult, error) {
		return c.ContainerCreate(ctx, d.filesConfig(a, rec.identity(a), volume))
	})
	// The answer may be lost: what has the name now is it, since the caller has the lock.
	c, err := d.findContainer(ctx, a, a.filesContainer(), roleFiles)
	if c == nil || err != nil {
		return "", errors.Join(d.explainCreate(ctx, createErr), err)
	}
	if c.State.Status == container.StateCreated {
		_, err = call(ctx, d.engine, changeTimeout, func(ctx context.Context, cl *client.Client) (client.ContainerStartResult, error) {
			return cl.ContainerStart(ctx, c.ID, client.ContainerStartOptions{})
		})
	}
	return c.ID, err
}
