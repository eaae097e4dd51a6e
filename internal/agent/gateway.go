package agent

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/runtime"
)

// Gateway is the way to a running agent's gateway.
type Gateway struct {
	*openclaw.Gateway
	agents *Service
	agent  Agent
}

// Gateway returns a running agent's gateway, waiting for one that is on its way.
// The caller has found the agent in its account.
// Faults: NotFound; NotRunning, if the agent is stopped or in error.
func (s *Service) Gateway(ctx context.Context, id string) (*Gateway, error) {
	a, err := s.await(ctx, id, settledDown)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fault.New(fault.NotFound, "The agent was deleted in the meantime.")
	}
	if err != nil {
		return nil, err
	}
	if err := MayRun(a); err != nil {
		return nil, err
	}
	l, err := s.body.link(ctx, a)
	if err != nil {
		return nil, err
	}
	return &Gateway{l.Gateway, s, a}, nil
}

// settledDown says that an agent is not on its way to running.
func settledDown(a Agent) bool {
	return MayRun(a) != nil || a.Status == client.Running && a.Booted >= a.Fresh
}

// MayRun returns nil for an agent that runs or is on its way to.
// Faults: NotRunning, saying why.
func MayRun(a Agent) error {
	switch {
	case a.Wanted != WantRunning:
		return fault.New(fault.NotRunning, "The agent is stopped. Start it with POST /v1/agents/%s/start.", a.ID).With("status", string(a.Status))
	case gaveUp(a):
		return fault.New(fault.NotRunning, "The agent is in error. Start it with POST /v1/agents/%s/start when the cause is mended: %s", a.ID, a.LastError).
			With("status", string(a.Status)).With("errorCategory", string(a.ErrorCategory))
	}
	return nil
}

// Turn is openclaw.Gateway.Turn. If the gateway had died before it was given the
// message, the message goes to the one that takes its place.
func (g *Gateway) Turn(ctx context.Context, r openclaw.TurnRequest, emit func(delta string) error) (openclaw.TurnResult, error) {
	result, err := g.Gateway.Turn(ctx, r, emit)
	if !errors.Is(err, runtime.ErrNotRunning) {
		return result, err
	}
	next, e := g.successor(ctx)
	if e != nil {
		return result, errors.Join(err, e)
	}
	return next.Gateway.Turn(ctx, r, emit)
}

// noticeTime bounds how long the reconciler may take to see that a gateway died.
const noticeTime = 10 * time.Second

// successor waits for the gateway that comes after g, which was found dead.
func (g *Gateway) successor(ctx context.Context) (*Gateway, error) {
	noticing, cancel := context.WithTimeout(ctx, noticeTime)
	defer cancel()
	g.agents.reconciler.Nudge(g.agent.ID)
	_, err := g.agents.await(noticing, g.agent.ID, func(a Agent) bool {
		return !runs(a) || a.Place != g.agent.Place || !a.StartedAt.Equal(g.agent.StartedAt)
	})
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	return g.agents.Gateway(ctx, g.agent.ID)
}

// link keeps the connections to the gateway at a place.
type link struct {
	*openclaw.Gateway
	place string
}

// link returns the way to the gateway at a's place, keeping its connections for
// the next caller.
func (b *body) link(ctx context.Context, a Agent) (*link, error) {
	b.mu.Lock()
	l := b.links[a.ID]
	b.mu.Unlock()
	if l != nil && l.place == a.Place {
		return l, nil
	}
	token, err := b.Vault.Token(ctx, b.DB, a.account(), a.owner(), gatewayToken)
	if err != nil {
		return nil, fmt.Errorf("gateway token: %w", err)
	}
	dial := func(ctx context.Context) (net.Conn, error) { return b.Driver.Dial(ctx, a.Place, a.ID) }
	l = &link{openclaw.NewGateway(dial, token), a.Place}
	b.mu.Lock()
	defer b.mu.Unlock()
	if other := b.links[a.ID]; other != nil {
		if other.place == a.Place {
			return other, nil // another caller was faster
		}
		other.Close()
	}
	b.links[a.ID] = l
	return l, nil
}

// hangUp closes the connections to every gateway, which go on running.
func (b *body) hangUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, l := range b.links {
		l.Close()
		delete(b.links, id)
	}
}

// forget closes the connections to an agent's gateway, and no longer trusts what
// its home was given.
func (b *body) forget(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l := b.links[id]; l != nil {
		l.Close()
	}
	delete(b.links, id)
	delete(b.delivered, id)
}
