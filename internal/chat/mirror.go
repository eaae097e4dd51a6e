package chat

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
)

const (
	// lookout is how often the mirror looks for agents that have come to run.
	lookout = 3 * time.Second
	// catchUp is how many sessions, and how many messages of each, are read when an
	// agent is met: what came while no server listened.
	catchUp = 200
)

// Mirror keeps in our own record what is said through agents' channels, such as
// Telegram: what came while no server ran is read when the agent is met again, the
// rest as it comes. Turns of the API are recorded by Service.Run itself.
type Mirror struct {
	*Service
	mu     sync.Mutex
	follow map[identity.AgentID]bool // agents that are listened to; guarded by mu
	all    sync.WaitGroup
}

// NewMirror makes the mirror of the agents' channels.
func NewMirror(s *Service) *Mirror { return &Mirror{Service: s, follow: map[identity.AgentID]bool{}} }

// Run listens to every running agent that has a channel, until ctx ends.
func (m *Mirror) Run(ctx context.Context) error {
	defer m.all.Wait()
	again := time.NewTicker(lookout)
	defer again.Stop()
	for {
		agents, err := m.Agents.ListWithChannels(ctx)
		if err != nil && ctx.Err() == nil {
			m.Log.ErrorContext(ctx, "looking for agents with channels failed", "error", err)
		}
		for _, a := range agents {
			m.meet(ctx, a)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// meet begins to listen to an agent, unless somebody does. When the connection
// ends, the next lookout begins again.
func (m *Mirror) meet(ctx context.Context, a agent.Agent) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.follow[a.ID] {
		return
	}
	m.follow[a.ID] = true
	m.all.Go(func() {
		defer func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			delete(m.follow, a.ID)
		}()
		if err := m.listen(ctx, a); err != nil && ctx.Err() == nil {
			m.Log.DebugContext(ctx, "listening to an agent's channels ended", "agent", a.ID, "error", err)
		}
	})
}

func (m *Mirror) listen(ctx context.Context, a agent.Agent) error {
	gateway, err := m.Gateways.Connect(ctx, a.ID)
	if err != nil {
		return err
	}
	news, err := gateway.Subscribe(ctx, openclaw.EventMessage) // first, so that nothing falls between
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	defer news.Close()
	if err := m.read(ctx, a, gateway); err != nil {
		return fmt.Errorf("catch up: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, open := <-news.C:
			if !open {
				return errors.Join(errors.New("the connection ended"), news.Err())
			}
			if said, ok := openclaw.ParseSessionMessage(e); ok {
				if err := m.keep(ctx, a, said.SessionKey, said.Message); err != nil {
					return err
				}
			}
		}
	}
}

// read takes over what the channels' sessions hold already.
func (m *Mirror) read(ctx context.Context, a agent.Agent, gateway *gateway.Connection) error {
	rows, err := gateway.Sessions(ctx, catchUp)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if _, ok := channelOf(row.Key); !ok {
			continue
		}
		messages, _, err := gateway.History(ctx, row.Key, catchUp, 0)
		if err != nil {
			return err
		}
		for _, said := range messages {
			if err := m.keep(ctx, a, row.Key, said); err != nil {
				return err
			}
		}
	}
	return nil
}

// channelOf reads the key of a session that came through a channel.
func channelOf(key string) (openclaw.Session, bool) {
	v, ok := openclaw.ParseSessionKey(key)
	return v, ok && v.Channel != viaAPI
}

// keep records one message of a channel, once.
func (m *Mirror) keep(ctx context.Context, a agent.Agent, key string, said openclaw.Message) error {
	v, ok := channelOf(key)
	if !ok || said.Internal || said.ID == "" {
		return nil
	}
	if said.Time.IsZero() {
		said.Time = time.Now().UTC()
	}
	return m.DB.Tx(ctx, func(tx *database.Tx) error {
		session, err := byKey(ctx, tx, a, key)
		if errors.Is(err, sql.ErrNoRows) {
			session = Session{
				ID: newSessionID(), AccountID: string(a.AccountID), AgentID: string(a.ID), Owner: "channel:" + key, PeerID: v.Peer, Entry: v.Entry,
				GatewayKey: key, Name: said.Sender, Channel: v.Channel, StartedAt: said.Time.Truncate(time.Millisecond),
			}
			err = insert(ctx, tx, session)
		}
		if err != nil {
			return fmt.Errorf("session of a channel: %w", err)
		}
		_, err = add(ctx, tx, session, Message{Role: said.Role, Content: said.Text, At: said.Time}, said.ID)
		return err
	})
}
