package chat

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
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
	Log      *slog.Logger
	// DraftInterval is how often a growing answer is saved. 0 means two seconds.
	DraftInterval time.Duration
}

// Service holds conversations with agents.
type Service struct {
	db            *database.DB
	events        *event.Log
	agents        *agent.Service
	gateways      *gateway.Manager
	log           *slog.Logger
	draftInterval time.Duration
	queue         *sessionQueue
	running       sync.Map // identity.SessionID to *runningTurn
}

// New returns a service. Call Recover before the first turn, and Run beside the turns.
func New(s Settings) *Service {
	if s.DraftInterval == 0 {
		s.DraftInterval = defaultDraftInterval
	}
	return &Service{
		db: s.DB, events: s.Events, agents: s.Agents, gateways: s.Gateways, log: s.Log,
		draftInterval: s.DraftInterval, queue: newSessionQueue(),
	}
}

// Turn is one message that is ready to be sent. Prepare returns it.
type Turn struct {
	session Session
	message string
	context string
}

// Prepare checks a message and finds its session. It starts the session if it is the
// owner's first.
// Faults: Invalid, with every invalid field; NotFound, for the agent or the session;
// Conflict, if the session belongs to a channel; NotRunning.
func (s *Service) Prepare(ctx context.Context, actor identity.Actor, agentID identity.AgentID, in client.ChatRequest) (Turn, error) {
	a, err := s.agents.Find(ctx, actor.AccountID, agentID)
	if err != nil {
		return Turn{}, err
	}
	contextText, err := checkRequest(in)
	if err != nil {
		return Turn{}, err
	}
	if err := a.CheckRunning(); err != nil {
		return Turn{}, err
	}
	session, err := s.sessionOf(ctx, actor, a, in)
	return Turn{session, in.Message, contextText}, err
}

// sessionOf returns the session that a message belongs to: the one that it names,
// otherwise the owner's latest, which is started if there is none.
func (s *Service) sessionOf(ctx context.Context, actor identity.Actor, a agent.Agent, in client.ChatRequest) (Session, error) {
	if in.SessionID != "" {
		found, err := findSession(ctx, s.db, actor.AccountID, a.ID, identity.SessionID(in.SessionID), in.PeerID)
		if err == nil && found.Channel != apiChannel {
			err = fault.New(fault.Conflict, "This session belongs to the channel %s. Reply in that channel.", found.Channel)
		}
		return found, err
	}
	initial := newSession(actor, a, in.PeerID)
	found, err := latestSession(ctx, s.db, initial.AccountID, initial.AgentID, initial.Owner)
	if !errors.Is(err, sql.ErrNoRows) {
		return found, err
	}
	err = s.db.Tx(ctx, "chat.first_session", func(ctx context.Context, tx *database.Tx) (err error) {
		// Concurrent first messages of an owner share the session that one of them starts.
		if found, err = latestSession(ctx, tx, initial.AccountID, initial.AgentID, initial.Owner); !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		found = initial
		return insertSession(ctx, tx, found)
	})
	return found, err
}

func newSessionID() identity.SessionID {
	return identity.SessionID("sess_" + strings.ToLower(rand.Text()))
}

// newSession returns a new session of a peer or, if peer is empty, of the actor.
func newSession(actor identity.Actor, a agent.Agent, peer string) Session {
	v := Session{
		ID: newSessionID(), AccountID: a.AccountID, AgentID: a.ID,
		Owner: string(actor.Kind) + ":" + actor.ID, PeerID: peer, Entry: openclaw.EntryFor(peer),
		Channel: apiChannel, StartedAt: time.Now().UTC().Truncate(time.Millisecond),
	}
	if peer != "" {
		v.Owner = "peer:" + peer
	}
	if a.Config.SharedMode() {
		v.Entry = openclaw.Guest
	}
	v.GatewayKey = openclaw.SessionKey(v.Entry, peer, string(v.ID))
	return v
}

// RunTurn sends the message to the agent and calls emit with each piece of the answer.
// Messages of one session are answered in the order in which they arrive. If ctx ends
// or emit fails, the agent's run is aborted. The answer up to then is saved.
// Faults: NotRunning; Upstream, if the model fails; Unavailable, if the gateway does.
func (s *Service) RunTurn(ctx context.Context, t Turn, emit func(text string) error) error {
	done, err := s.queue.wait(ctx, t.session.ID)
	if err != nil {
		return err
	}
	defer done()
	conn, err := s.gateways.Connect(ctx, t.session.AgentID)
	if err != nil {
		return err
	}
	if err := s.saveUserMessage(ctx, t); err != nil {
		return err
	}
	r := s.startTurn(t.session)
	defer s.finishTurn(ctx, r)
	_, err = conn.Turn(ctx, openclaw.TurnRequest{
		Entry: t.session.Entry, SessionKey: t.session.GatewayKey, System: t.context, Message: t.message,
	}, func(text string) error {
		r.append(text)
		return emit(text)
	})
	return turnFault(ctx, err)
}

func (s *Service) saveUserMessage(ctx context.Context, t Turn) error {
	return s.db.Tx(ctx, "chat.save_user_message", func(ctx context.Context, tx *database.Tx) error {
		_, err := insertMessage(ctx, tx, t.session, Message{Role: "user", Content: t.message, At: time.Now().UTC()}, "")
		return err
	})
}

// turnFault returns the fault that the caller sees for the error of a turn.
func turnFault(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var failed *openclaw.TurnError
	if errors.As(err, &failed) {
		return failed.Fault()
	}
	return err
}

// Attribute returns the peer and the session that a model call belongs to. The key is
// the session key that the gateway sends with the call. A peer whose turn is not
// running is named by its tag, because only the tag is in the key.
func (s *Service) Attribute(sessionKey string) (peer string, session identity.SessionID) {
	v, ok := openclaw.ParseSessionKey(sessionKey)
	if !ok {
		return "", identity.SessionID(sessionKey)
	}
	found, _ := s.running.Load(identity.SessionID(v.Conversation))
	if r, ok := found.(*runningTurn); ok {
		return r.session.PeerID, identity.SessionID(v.Conversation)
	}
	return v.Peer, identity.SessionID(v.Conversation)
}

// History returns the last limit messages after since, oldest first, and how many
// there are in total. If session is empty, it returns those of all sessions.
// Faults: NotFound, for the agent or the session.
func (s *Service) History(ctx context.Context, account identity.AccountID, agentID identity.AgentID, session identity.SessionID, since time.Time, limit int) ([]Message, int, error) {
	if _, err := s.agents.Find(ctx, account, agentID); err != nil {
		return nil, 0, err
	}
	if session != "" {
		if _, err := findSession(ctx, s.db, account, agentID, session, ""); err != nil {
			return nil, 0, err
		}
	}
	return listMessages(ctx, s.db, account, agentID, session, since, limit)
}

// Sessions returns the agent's sessions that were started last, newest first, and how
// many there are in total. Faults: NotFound.
func (s *Service) Sessions(ctx context.Context, account identity.AccountID, agentID identity.AgentID) ([]Session, int, error) {
	if _, err := s.agents.Find(ctx, account, agentID); err != nil {
		return nil, 0, err
	}
	return listSessions(ctx, s.db, account, agentID, maxSessions)
}

// NewSession starts a session: the owner's next message that names no session belongs
// to it, and the agent remembers nothing of the earlier sessions.
// Faults: Invalid; NotFound; NotRunning.
func (s *Service) NewSession(ctx context.Context, actor identity.Actor, agentID identity.AgentID, peer string) (Session, error) {
	a, err := s.agents.Find(ctx, actor.AccountID, agentID)
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
	v := newSession(actor, a, peer)
	err = s.db.Tx(ctx, "chat.new_session", func(ctx context.Context, tx *database.Tx) error {
		previous, err := latestSession(ctx, tx, v.AccountID, v.AgentID, v.Owner)
		if _, ok, repeatErr := s.events.Repeated(ctx, tx, actor); ok || repeatErr != nil {
			v = previous // an earlier execution of the request has started it
			return errors.Join(err, repeatErr)
		}
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("find session: %w", err)
		}
		if !v.StartedAt.After(previous.StartedAt) { // two in one millisecond: the later one must sort last
			v.StartedAt = previous.StartedAt.Add(time.Millisecond)
		}
		if err := insertSession(ctx, tx, v); err != nil {
			return err
		}
		return s.events.Append(ctx, tx, actor, event.Event{Topic: event.AgentTopic(v.AgentID), Kind: "session.created", Data: map[string]any{"session": v.ID}})
	})
	return v, err
}
