package chat

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/channel"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/vault"
)

// apiChannel is the channel of sessions that callers of the API have.
const apiChannel = "api"

// maxSessions is how many sessions a list returns. It is in the API contract.
const maxSessions = 100

// Settings of a Service.
type Settings struct {
	DB       *database.DB
	Events   *event.Log
	Agents   *agent.Service
	Gateways *gateway.Manager
	Vault    *vault.Vault // seals the texts
	Keys     Keys
	Quota    Quota             // nil: no limit
	Channels *channel.Recorder // of the states of Slack; nil: they are not reported
	Log      *slog.Logger
}

// Quota limits what accounts store.
type Quota interface {
	// CheckStorage returns nil if the account may store so many bytes more.
	// Faults: PlanLimit.
	CheckStorage(ctx context.Context, q database.Reader, account identity.AccountID, more int64) error
}

// Keys knows the API keys that messages are sent with.
type Keys interface {
	// EndedKeys returns those keys that were revoked or do not exist.
	EndedKeys(ctx context.Context, keys []identity.KeyID) ([]identity.KeyID, error)
}

// Service holds conversations with agents.
type Service struct {
	db            *database.DB
	events        *event.Log
	agents        *agent.Service
	gateways      *gateway.Manager
	vault         *vault.Vault
	keys          Keys
	quota         Quota
	channels      *channel.Recorder
	log           *slog.Logger
	holder        string // names this server process in the leases of its turns
	runs          *runs
	pieces        chan struct{} // has an element if there are pieces to store
	piecesStored  atomic.Int64  // when pieces were last stored, in nanoseconds since 1970
	pieceInterval time.Duration // the constant, except in tests
}

// New returns a service. Call Recover before the first turn, and Run beside the turns: it also
// waits for them.
func New(s Settings) *Service {
	return &Service{
		db: s.DB, events: s.Events, agents: s.Agents, gateways: s.Gateways, vault: s.Vault, keys: s.Keys, quota: s.Quota, channels: s.Channels, log: s.Log,
		holder: "srv_" + strings.ToLower(rand.Text()), runs: newRuns(), pieces: make(chan struct{}, 1), pieceInterval: pieceInterval,
	}
}

func newSessionID() identity.SessionID {
	return identity.SessionID("sess_" + strings.ToLower(rand.Text()))
}

// newSession returns a new session of a peer or, if peer is empty, of the caller.
func newSession(caller Caller, a agent.Agent, peer string) Session {
	v := Session{
		ID: newSessionID(), AccountID: a.AccountID, AgentID: a.ID,
		Owner: string(caller.Kind) + ":" + caller.ID, PeerID: peer, Entry: openclaw.EntryFor(peer),
		Channel: apiChannel, StartedAt: time.Now().UTC().Truncate(time.Millisecond),
	}
	if peer != "" {
		v.Owner = "peer:" + peer
	}
	if !caller.Owner || a.Config.SharedMode() {
		v.Entry = openclaw.Guest
	}
	v.GatewayKey = openclaw.SessionKey(v.Entry, peer, string(v.ID))
	return v
}

// Attribute returns the peer and the session that a model call belongs to. The key is
// the session key that the gateway sends with the call. A peer whose turn is not
// running is named by its tag, because only the tag is in the key.
func (s *Service) Attribute(sessionKey string) (peer string, session identity.SessionID) {
	v, ok := openclaw.ParseSessionKey(sessionKey)
	if !ok {
		return "", identity.SessionID(sessionKey)
	}
	if r := s.runs.running(identity.SessionID(v.Conversation)); r != nil {
		return r.session.PeerID, identity.SessionID(v.Conversation)
	}
	return v.Peer, identity.SessionID(v.Conversation)
}

// CheckModelCall refuses a model call of a session of the API in which no turn runs on
// this server. After a restart, a gateway runs turns again that were interrupted, which
// nobody asked for. The key is the session key that the gateway sends with the call.
// Faults: Conflict.
func (s *Service) CheckModelCall(sessionKey string) error {
	v, ok := openclaw.ParseSessionKey(sessionKey)
	if !ok || v.Channel != apiChannel || s.runs.running(identity.SessionID(v.Conversation)) != nil {
		return nil
	}
	return fault.New(fault.Conflict, "No turn of this session is running.")
}

// History returns the last limit messages after since, oldest first, and how many
// there are in total. If session is empty, it returns those of all sessions.
// Faults: NotFound, for the agent or the session.
func (s *Service) History(ctx context.Context, caller Caller, agentID identity.AgentID, session identity.SessionID, since time.Time, limit int) ([]Message, int, error) {
	if err := s.checkSession(ctx, caller, agentID, session); err != nil {
		return nil, 0, err
	}
	key, err := s.textKey(ctx, s.db, caller.AccountID, agentID)
	if err != nil {
		return nil, 0, err
	}
	return listMessages(ctx, s.db, key, caller.AccountID, agentID, caller.visible(), session, since, limit)
}

// Sessions returns the agent's sessions that were started last, newest first, and how
// many there are in total. Faults: NotFound.
func (s *Service) Sessions(ctx context.Context, caller Caller, agentID identity.AgentID) ([]Session, int, error) {
	if _, err := s.agents.Find(ctx, caller.AccountID, agentID); err != nil {
		return nil, 0, err
	}
	return listSessions(ctx, s.db, caller.AccountID, agentID, caller.visible(), maxSessions)
}

// FindSession returns a session. Faults: NotFound, for the agent or the session.
func (s *Service) FindSession(ctx context.Context, caller Caller, agentID identity.AgentID, id identity.SessionID) (Session, error) {
	if _, err := s.agents.Find(ctx, caller.AccountID, agentID); err != nil {
		return Session{}, err
	}
	return findSession(ctx, s.db, caller, agentID, id, "")
}

// NewSession starts a session: the owner's next message that names no session belongs
// to it, and the agent remembers nothing of the earlier sessions.
// Faults: Invalid; NotFound; NotRunning.
func (s *Service) NewSession(ctx context.Context, caller Caller, agentID identity.AgentID, peer string) (Session, error) {
	a, err := s.agents.Find(ctx, caller.AccountID, agentID)
	if err != nil {
		return Session{}, err
	}
	fields := fault.Fields{}
	if checkPeer(fields, peer); fields.Err() != nil {
		return Session{}, fields.Err()
	}
	if err := a.CheckRunning(); err != nil {
		return Session{}, err
	}
	v := newSession(caller, a, peer)
	err = s.db.Tx(ctx, "chat.new_session", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockSession, string(v.AgentID)); err != nil {
			return err
		}
		if e, ok, err := s.events.Repeated(ctx, tx, caller.Actor); ok || err != nil {
			if err == nil { // an earlier execution of the request has started it
				id, _ := e.Data["session"].(string)
				v, err = findSession(ctx, tx, caller, v.AgentID, identity.SessionID(id), "")
			}
			return err
		}
		previous, err := latestSession(ctx, tx, v)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("find session: %w", err)
		}
		if !v.StartedAt.After(previous.StartedAt) { // two in one millisecond: the later one must sort last
			v.StartedAt = previous.StartedAt.Add(time.Millisecond)
		}
		if err := insertSession(ctx, tx, v); err != nil {
			return err
		}
		return s.events.Append(ctx, tx, caller.Actor, event.Event{Topic: event.AgentTopic(v.AgentID), Kind: "session.created", Data: map[string]any{"session": v.ID}})
	})
	return v, err
}
