package chat

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
)

const (
	// pollInterval is how often Run lists the running agents with channels.
	pollInterval = 3 * time.Second
	// catchUpLimit is how many sessions, and how many messages of each, are read when
	// the reader connects: those that came while it was not connected.
	catchUpLimit = 200
)

// ChannelReader saves the messages that agents exchange through channels such as
// Telegram. When it connects to an agent's gateway it first reads the messages that
// came while no server ran. It reads only the channels of which its server has the
// lease, and saves nothing once it has lost the lease. Turns of the API are saved by
// Service.
type ChannelReader struct {
	chat    *Service
	mu      sync.Mutex
	reading map[identity.AgentID]context.CancelFunc // guarded by mu
	readers sync.WaitGroup
}

// NewChannelReader returns a reader that saves messages in the service's record.
func NewChannelReader(s *Service) *ChannelReader {
	return &ChannelReader{chat: s, reading: map[identity.AgentID]context.CancelFunc{}}
}

// Run reads the channels of every running agent that has one, until ctx ends. Then it
// gives its leases back.
func (c *ChannelReader) Run(ctx context.Context) error {
	defer c.release(context.WithoutCancel(ctx))
	defer c.readers.Wait()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		c.chat.report(ctx, "renewing the leases of channels failed", c.renew(ctx))
		agents, err := c.chat.agents.ListWithChannels(ctx)
		c.chat.report(ctx, "listing agents with channels failed", err)
		for _, a := range agents {
			c.start(ctx, a)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// renew extends the leases of the channels that are read, and stops reading those whose
// lease is lost.
func (c *ChannelReader) renew(ctx context.Context) error {
	c.mu.Lock()
	idle := len(c.reading) == 0
	c.mu.Unlock()
	if idle {
		return nil
	}
	var held []identity.AgentID
	err := c.chat.db.Tx(ctx, "chat.renew_readers", func(ctx context.Context, tx *database.Tx) (err error) {
		held, err = renewReaders(ctx, tx, c.chat.holder, now())
		return err
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, stop := range c.reading {
		if !slices.Contains(held, id) {
			stop()
		}
	}
	return nil
}

// release gives the leases back, so that another server can take them at once.
func (c *ChannelReader) release(ctx context.Context) {
	err := c.chat.db.Tx(ctx, "chat.release_readers", func(ctx context.Context, tx *database.Tx) error {
		return endReaders(ctx, tx, c.chat.holder, false)
	})
	if err != nil {
		c.chat.log.WarnContext(ctx, "giving back the leases of channels failed; they expire", "error", err)
	}
}

// start reads an agent's channels in the background, unless they are being read, here or
// by another server. When the connection or the lease ends, the next poll starts again.
func (c *ChannelReader) start(ctx context.Context, a agent.Agent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reading[a.ID] != nil {
		return
	}
	ctx, stop := context.WithCancel(ctx)
	c.reading[a.ID] = stop
	c.readers.Go(func() {
		defer func() {
			stop()
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.reading, a.ID)
		}()
		if err := c.takeAndRead(ctx, a); err != nil && ctx.Err() == nil {
			c.chat.log.DebugContext(ctx, "reading an agent's channels ended", "agent", a.ID, "error", err)
		}
	})
}

// takeAndRead reads an agent's channels if no other server does.
func (c *ChannelReader) takeAndRead(ctx context.Context, a agent.Agent) error {
	var lease readerLease
	var ok bool
	err := c.chat.db.Tx(ctx, "chat.take_reader", func(ctx context.Context, tx *database.Tx) (err error) {
		lease, ok, err = takeReader(ctx, tx, a, c.chat.holder, now())
		return err
	})
	if err != nil || !ok {
		return err
	}
	return c.read(ctx, a, lease)
}

// read saves the messages of an agent's channels until the connection or ctx ends.
func (c *ChannelReader) read(ctx context.Context, a agent.Agent, lease readerLease) error {
	conn, err := c.chat.gateways.ConnectAwake(ctx, a.ID) // reading does not wake
	if err != nil {
		return err
	}
	// Subscribed before catching up, so that no message is missed in between.
	events, err := conn.Subscribe(ctx, openclaw.EventMessage)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	defer events.Close()
	if err := c.catchUp(ctx, a, lease, conn); err != nil {
		return fmt.Errorf("catch up: %w", err)
	}
	if err := conn.ClearOptions(ctx, catchUpLimit, isChannelKey); err != nil && ctx.Err() == nil {
		c.chat.log.WarnContext(ctx, "clearing the options of channel sessions failed; it is tried again with the next connection", "agent", a.ID, "error", err)
	}
	look := time.NewTicker(slackInterval)
	defer look.Stop()
	c.reportSlack(ctx, a, conn)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
			c.reportSlack(ctx, a, conn)
		case e, open := <-events.C:
			if !open {
				return errors.Join(errors.New("the connection ended"), events.Err())
			}
			if m, ok := openclaw.ParseSessionMessage(e); ok {
				if err := c.save(ctx, a, lease, m.SessionKey, m.Message); err != nil {
					return err
				}
			}
		}
	}
}

// catchUp saves the messages that the gateway's channel sessions already have.
func (c *ChannelReader) catchUp(ctx context.Context, a agent.Agent, lease readerLease, conn *gateway.Connection) error {
	keys, err := conn.SessionKeys(ctx, catchUpLimit)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if _, ok := parseChannelKey(key); !ok {
			continue
		}
		messages, _, err := conn.History(ctx, key, catchUpLimit, 0)
		if err != nil {
			return err
		}
		for _, m := range messages {
			if err := c.save(ctx, a, lease, key, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// errReaderLost is the error of a reader whose lease another server has taken.
var errReaderLost = errors.New("another server reads the agent's channels")

// parseChannelKey parses the gateway's key of a channel's session. ok is false for any
// other key.
func parseChannelKey(key string) (v openclaw.Session, ok bool) {
	v, ok = openclaw.ParseSessionKey(key)
	return v, ok && v.Channel != apiChannel
}

func isChannelKey(key string) bool {
	_, ok := parseChannelKey(key)
	return ok
}

// save saves one message of a channel, unless it was saved before. It starts the
// session if it is the session's first message. It leaves out what the account may not
// store. Errors: errReaderLost.
func (c *ChannelReader) save(ctx context.Context, a agent.Agent, lease readerLease, key string, m openclaw.Message) error {
	v, ok := parseChannelKey(key)
	if !ok || m.Internal || m.ID == "" {
		return nil
	}
	if m.Time.IsZero() {
		m.Time = time.Now().UTC()
	}
	account, agentID := a.AccountID, a.ID
	if err := c.chat.checkQuota(ctx, account, len(m.Text)); fault.Is(err, fault.PlanLimit) {
		c.chat.log.DebugContext(ctx, "a message of a channel is not in the history: the account stores too much", "account", account, "agent", agentID)
		return nil
	} else if err != nil {
		return err
	}
	return c.chat.db.Tx(ctx, "chat.save_channel_message", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockSession, string(agentID)); err != nil {
			return err
		}
		if held, err := lease.isHeld(ctx, tx, now()); err != nil || !held {
			return cmp.Or(err, errReaderLost)
		}
		c.chat.events.NotifyActivity(tx, account, event.ChatTopic(agentID))
		texts, err := c.chat.textKey(ctx, tx, account, agentID)
		if err != nil {
			return err
		}
		session, err := sessionByGatewayKey(ctx, tx, account, agentID, key)
		if errors.Is(err, sql.ErrNoRows) {
			session = Session{
				ID: newSessionID(), AccountID: account, AgentID: agentID, Owner: "channel:" + key, PeerID: v.Peer, Entry: v.Entry,
				GatewayKey: key, Channel: v.Channel, StartedAt: m.Time.Truncate(time.Millisecond),
			}
			if session.name, err = texts.Seal(m.Sender, sessionPlace(session.ID, "name")...); err != nil {
				return err
			}
			if session.title, err = texts.Seal(titleOf(m.Text), sessionPlace(session.ID, "title")...); err != nil {
				return err
			}
			err = insertSession(ctx, tx, session)
		}
		if err != nil {
			return fmt.Errorf("find the session of a channel: %w", err)
		}
		_, err = insertMessage(ctx, tx, texts, session, Message{Role: m.Role, Content: m.Text, At: m.Time}, m.ID)
		return err
	})
}
