package gateway

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/vault"
)

// Connection is the client of a running agent's gateway.
type Connection struct {
	*openclaw.Gateway
	manager *Manager
	agent   agent.Agent // as it was when it was connected to
	life    int         // of the gateway; see activity
}

// Connect returns a running agent's gateway. It waits for an agent that is being
// started, and wakes one that sleeps. The caller has found the agent in its account.
// Faults: NotFound; NotRunning, if the agent is stopped or in error; Unavailable, if there
// has been no room for it for a minute.
func (m *Manager) Connect(ctx context.Context, id identity.AgentID) (*Connection, error) {
	end := m.waits.begin(id)
	a, err := m.store.AwaitUnlessFull(ctx, id, func(a agent.Agent) bool {
		m.waits.note(a)
		if wake := a.NextWake(); a.IsAsleep() && (wake.IsZero() || wake.After(time.Now())) {
			_ = m.store.WantAwake(ctx, id, time.Now()) // what fails is tried again at the next look
		}
		return a.CheckRunning() != nil || a.HasCurrentGateway() && !a.IsAsleep()
	})
	if err == nil {
		err = a.CheckRunning()
	}
	if err != nil {
		m.stopWaiting(ctx, id, end)
	} else {
		end()
	}
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fault.New(fault.NotFound, "The agent was deleted in the meantime.")
	}
	if err != nil {
		return nil, err
	}
	return m.connectTo(ctx, a)
}

// ConnectTo is Connect for an agent that was read a moment ago. It reads it again only to
// wait for its gateway: that of a stale record is found dead by the message.
func (m *Manager) ConnectTo(ctx context.Context, a agent.Agent) (*Connection, error) {
	if a.CheckRunning() != nil || !a.HasCurrentGateway() || a.IsAsleep() {
		return m.Connect(ctx, a.ID)
	}
	return m.connectTo(ctx, a)
}

// ConnectAwake is Connect for a caller that does not wake the agent. Faults: NotRunning, also if the
// agent sleeps or is being started.
func (m *Manager) ConnectAwake(ctx context.Context, id identity.AgentID) (*Connection, error) {
	a, err := m.store.FindByID(ctx, m.db, id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fault.New(fault.NotFound, "The agent was deleted in the meantime.")
	}
	if err != nil {
		return nil, err
	}
	if err := a.CheckRunning(); err != nil {
		return nil, err
	}
	if !a.HasCurrentGateway() || a.IsAsleep() {
		return nil, fault.New(fault.NotRunning, "The agent sleeps or is being started.")
	}
	return m.connectTo(ctx, a)
}

func (m *Manager) connectTo(ctx context.Context, a agent.Agent) (*Connection, error) {
	life := m.activity.life(a.ID)
	g, err := m.Client(ctx, a)
	if isKeyDamaged(err) {
		return nil, fault.New(fault.NotRunning, "The data key of the agent is damaged. GET /v1/agents/%s says what to do.", a.ID).Because(err)
	}
	if err != nil {
		return nil, err
	}
	return &Connection{Gateway: g, manager: m, agent: a, life: life}, nil
}

// Config returns the agent's config as it was when it was connected to.
func (c *Connection) Config() agent.Config { return c.agent.Config }

// Turn is openclaw.Gateway.Turn. If the gateway died before it got the message, the
// message goes to its successor. It waits while the gateway is held.
func (c *Connection) Turn(ctx context.Context, r openclaw.TurnRequest, emit func(delta string) error) (openclaw.TurnResult, error) {
	if err := c.manager.store.MarkUsed(ctx, c.agent, time.Now()); err != nil && ctx.Err() == nil { // no reason to refuse the message
		c.manager.log.ErrorContext(ctx, "recording that an agent is used failed", "agent", c.agent.ID, "error", err)
	}
	awake, leave, err := c.enter(ctx)
	if err != nil {
		return openclaw.TurnResult{}, err
	}
	defer leave()
	result, err := awake.turn(ctx, r, emit)
	if !errors.Is(err, runtime.ErrNotRunning) {
		return result, err
	}
	leave()
	next, nextErr := awake.successor(ctx)
	if nextErr == nil {
		next, leave, nextErr = next.enter(ctx)
	}
	if nextErr != nil {
		return result, errors.Join(err, nextErr)
	}
	defer leave()
	return next.turn(ctx, r, emit)
}

// turn is Turn for the gateway of c. A turn begins only while this server holds no gateway of the
// agent back. So who has suspended one that refuses the message is a server that was killed
// meanwhile: the gateway goes on, and gets the message again.
func (c *Connection) turn(ctx context.Context, r openclaw.TurnRequest, emit func(delta string) error) (openclaw.TurnResult, error) {
	result, err := c.Gateway.Turn(ctx, r, emit)
	if !errors.Is(err, openclaw.ErrSuspended) {
		return result, err
	}
	if ended := c.manager.endSuspension(ctx, c.agent); ended != nil {
		return result, errors.Join(err, ended)
	}
	return c.Gateway.Turn(ctx, r, emit)
}

// enter begins a turn. If the gateway was suspended since c was connected, the turn goes to the
// gateway that the agent wakes with.
func (c *Connection) enter(ctx context.Context) (*Connection, func(), error) {
	for {
		life, leave, err := c.manager.activity.enter(ctx, c.agent.ID)
		if err != nil || life == c.life {
			return c, leave, err
		}
		leave()
		if c, err = c.manager.Connect(ctx, c.agent.ID); err != nil {
			return nil, nil, err
		}
	}
}

// detectTimeout bounds how long the reconciler may take to see that a gateway died.
const detectTimeout = 10 * time.Second

// successor waits for the gateway that replaces c's, which was found dead.
func (c *Connection) successor(ctx context.Context) (*Connection, error) {
	limited, cancel := context.WithTimeout(ctx, detectTimeout)
	defer cancel()
	c.manager.events.Notify(event.ReconcileTopic(c.agent.ID))
	_, err := c.manager.store.Await(limited, c.agent.ID, func(a agent.Agent) bool {
		return !a.IsRunning() || a.IsAsleep() || a.Place != c.agent.Place || !a.StartedAt.Equal(c.agent.StartedAt)
	})
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	return c.manager.Connect(ctx, c.agent.ID)
}

// gatewayClient keeps the connections to the gateway at a place.
type gatewayClient struct {
	*openclaw.Gateway
	place runtime.Place
}

// Client returns the client of the gateway at a's place. It is kept, with its
// connections, for the next caller.
func (m *Manager) Client(ctx context.Context, a agent.Agent) (*openclaw.Gateway, error) {
	m.mu.Lock()
	c := m.clients[a.ID]
	m.mu.Unlock()
	if c != nil && c.place == a.Place {
		return c.Gateway, nil
	}
	tokens, err := m.vault.HeldTokens(ctx, m.db, a.AccountID, vault.OfAgent(a.ID), purposeGateway)
	if err != nil {
		return nil, fmt.Errorf("gateway token: %w", err)
	}
	dial := func(ctx context.Context) (net.Conn, error) { return m.driver.Dial(ctx, a.Place, a.ID) }
	c = &gatewayClient{openclaw.NewGateway(dial, tokens[0], tokens[1:]...), a.Place}
	c.LimitMemory(m.memory, string(a.ID))
	m.mu.Lock()
	defer m.mu.Unlock()
	if other := m.clients[a.ID]; other != nil {
		if other.place == a.Place {
			return other.Gateway, nil // another caller was faster
		}
		other.Close()
	}
	m.clients[a.ID] = c
	return c.Gateway, nil
}
