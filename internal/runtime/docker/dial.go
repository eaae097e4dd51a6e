package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/relay"
)

// requestTimeout bounds a request to a relay. Source: 1 ms, and a round trip over SSH. Whoever has paused
// the container by hand makes the relay silent.
const requestTimeout = 20 * time.Second

// suspectAfter is how long a relay may take for an answer until the driver looks whether its container
// runs.
const suspectAfter = time.Second

func isNotRunning(err error) bool { return errors.Is(err, runtime.ErrNotRunning) }

// Dial implements runtime.Driver.
func (d *Driver) Dial(ctx context.Context, place runtime.Place, id identity.AgentID) (net.Conn, error) {
	a, err := d.agent(id)
	if err != nil {
		return nil, err
	}
	var conn net.Conn
	err = d.withSession(ctx, a, place, func(ctx context.Context, s *relay.Session) error {
		var err error
		conn, err = s.Dial(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connect to the gateway of %s: %w", id, err)
	}
	return conn, nil
}

// withSession makes a request to the relay of a running gateway, which may be repeated. If the session is
// lost meanwhile, it makes the request again on a new one. Errors: ErrNotRunning.
func (d *Driver) withSession(ctx context.Context, a agent, place runtime.Place, do func(context.Context, *relay.Session) error) error {
	for again := true; ; again = false {
		s, err := d.session(ctx, a, place)
		if err != nil {
			return err
		}
		limited, cancel := context.WithTimeout(ctx, requestTimeout)
		look := time.AfterFunc(suspectAfter, func() {
			if _, _, e := d.running(limited, a, place); isNotRunning(e) {
				cancel()
			}
		})
		err = do(limited, s)
		look.Stop()
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if _, _, e := d.running(ctx, a, place); isNotRunning(e) {
			return e // which is why the request has failed
		}
		if !again || !failedBy(s, err) {
			return err
		}
	}
}
