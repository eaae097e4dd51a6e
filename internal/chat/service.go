package chat

import (
	"agento.host/agento/internal/identity"

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
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/openclaw"
)

// viaAPI is the channel of sessions that callers of the API have.
const viaAPI = "api"

// maxSessions is how many sessions a list shows; the contract's number.
const maxSessions = 100

// Settings are what conversations need.
type Settings struct {
	DB       *database.DB
	Events   *event.Log
	Agents   *agent.Service
	Gateways *gateway.Manager
	Log      *slog.Logger
	// DraftEvery is how often an answer is saved while it grows; 0: two seconds.
	DraftEvery time.Duration
}

// Service holds conversations with agents.
type Service struct {
	Settings
	lanes   *lanes
	answers sync.Map // session id to *answer, of turns that run
}

// New makes the service. Recover comes before its first turn, KeepDrafts runs
// beside its turns.
func New(s Settings) *Service {
	if s.DraftEvery == 0 {
		s.DraftEvery = draftEvery
	}
	return &Service{Settings: s, lanes: newLanes()}
}

// Turn is one message that is ready to be sent.
type Turn struct {
	agent   agent.Agent
	session Session
	message string
	context string
}

// Prepare checks a message and finds its session, making it if it is the owner's
// first. Faults: Invalid, naming every broken field; NotFound, for the agent or the
// session; NotRunning.
func (s *Service) Prepare(ctx context.Context, who access.Principal, agentID string, in client.ChatRequest) (Turn, error) {
	a, err := s.findAgent(ctx, who, agentID)
	if err != nil {
		return Turn{}, err
	}
	text, err := check(in)
	if err != nil {
		return Turn{}, err
	}
	if err := a.CheckRunning(); err != nil {
		return Turn{}, err
	}
	session, err := s.session(ctx, who, a, in)
	return Turn{a, session, in.Message, text}, err
}

func (s *Service) session(ctx context.Context, who access.Principal, a agent.Agent, in client.ChatRequest) (Session, error) {
	if in.SessionID != "" {
		found, err := find(ctx, s.DB, who.AccountID, string(a.ID), in.SessionID, in.PeerID)
		if err == nil && found.Channel != viaAPI {
			err = fault.New(fault.Conflict, "The session came through %s: answer there.", found.Channel)
		}
		return found, err
	}
	fresh := newSession(who, a, in.PeerID)
	found, err := newest(ctx, s.DB, who.AccountID, string(a.ID), fresh.Owner)
	if !errors.Is(err, sql.ErrNoRows) {
		return found, err
	}
	err = s.DB.Tx(ctx, func(tx *database.Tx) (err error) {
		// Two first messages at once share the session that the first one makes.
		if found, err = newest(ctx, tx, who.AccountID, string(a.ID), fresh.Owner); !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		found = fresh
		return insert(ctx, tx, found)
	})
	return found, err
}

func (s *Service) findAgent(ctx context.Context, who access.Principal, id string) (agent.Agent, error) {
	return s.Agents.Find(ctx, identity.AccountID(who.AccountID), identity.AgentID(id))
}

func newSessionID() string { return "sess_" + strings.ToLower(rand.Text()) }

func newSession(who access.Principal, a agent.Agent, peer string) Session {
	v := Session{
		ID: newSessionID(), AccountID: string(a.AccountID), AgentID: string(a.ID),
		Owner: "key:" + who.KeyID, PeerID: peer, Entry: openclaw.EntryFor(peer), Channel: viaAPI, StartedAt: time.Now().UTC().Truncate(time.Millisecond),
	}
	if peer != "" {
		v.Owner = "peer:" + peer
	}
	if a.Config.SharedMode() {
		v.Entry = openclaw.Guest
	}
	v.GatewayKey = openclaw.SessionKey(v.Entry, peer, v.ID)
	return v
}

// Run sends the message to the agent and hands every piece of the answer to emit
// as it comes. Messages of one session are answered in the order in which they
// came. If ctx ends or emit fails, the agent's run is aborted; what was said until
// then is kept.
// Faults: NotRunning; Upstream, if the model or the gateway fails.
func (s *Service) Run(ctx context.Context, t Turn, emit func(text string) error) error {
	leave, err := s.lanes.enter(ctx, t.session.ID)
	if err != nil {
		return err
	}
	defer leave()
	gateway, err := s.Gateways.Connect(ctx, t.agent.ID)
	if err != nil {
		return err
	}
	if err := s.asked(ctx, t.session, t.message); err != nil {
		return err
	}
	said := s.answering(t.session)
	defer s.conclude(ctx, said)
	_, err = gateway.Turn(ctx, openclaw.TurnRequest{
		Entry: t.session.Entry, SessionKey: t.session.GatewayKey, System: t.context, Message: t.message,
	}, func(text string) error {
		said.add(text)
		return emit(text)
	})
	return outcome(ctx, err)
}

// asked records what the caller said.
func (s *Service) asked(ctx context.Context, v Session, message string) error {
	return s.DB.Tx(ctx, func(tx *database.Tx) error {
		_, err := add(ctx, tx, v, Message{Role: "user", Content: message, At: time.Now().UTC()}, "")
		return err
	})
}

// outcome puts a failed turn into the caller's terms.
func outcome(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var failed *openclaw.TurnError
	if errors.As(err, &failed) {
		return failed.Fault()
	}
	return err
}

// Split implements modelproxy.Settings.Split: the peer and the session that a
// model call belongs to. A peer that is not speaking is named by its tag.
func (s *Service) Split(sessionKey string) (peer, session string) {
	v, ok := openclaw.ParseSessionKey(sessionKey)
	if !ok {
		return "", sessionKey
	}
	found, _ := s.answers.Load(v.Conversation)
	if a, ok := found.(*answer); ok {
		return a.session.PeerID, v.Conversation
	}
	return v.Peer, v.Conversation
}

// History returns the last limit messages after since, of one session if it is
// named, oldest first, and how many there are.
// Faults: NotFound, for the agent or the session.
func (s *Service) History(ctx context.Context, who access.Principal, agentID, sessionID string, since time.Time, limit int) ([]Message, int, error) {
	if _, err := s.findAgent(ctx, who, agentID); err != nil {
		return nil, 0, err
	}
	if sessionID != "" {
		if _, err := find(ctx, s.DB, who.AccountID, agentID, sessionID, ""); err != nil {
			return nil, 0, err
		}
	}
	return history(ctx, s.DB, who.AccountID, agentID, sessionID, since, limit)
}

// Sessions returns the last sessions of an agent by their start, newest first, and
// how many there are. Faults: NotFound.
func (s *Service) Sessions(ctx context.Context, who access.Principal, agentID string) ([]Session, int, error) {
	if _, err := s.findAgent(ctx, who, agentID); err != nil {
		return nil, 0, err
	}
	return list(ctx, s.DB, who.AccountID, agentID, maxSessions)
}

// NewSession starts a conversation afresh: the owner's next message that names no
// session goes to it, and the agent remembers nothing of the one before.
// Faults: Invalid; NotFound; NotRunning.
func (s *Service) NewSession(ctx context.Context, who access.Principal, agentID, peer string) (Session, error) {
	a, err := s.findAgent(ctx, who, agentID)
	if err != nil {
		return Session{}, err
	}
	wrong := fault.Fields{}
	if checkPeer(wrong, peer); wrong.Err() != nil {
		return Session{}, wrong.Err()
	}
	if err := a.CheckRunning(); err != nil {
		return Session{}, err
	}
	v := newSession(who, a, peer)
	err = s.DB.Tx(ctx, func(tx *database.Tx) error {
		before, err := newest(ctx, tx, v.AccountID, v.AgentID, v.Owner)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("find session: %w", err)
		}
		if !v.StartedAt.After(before.StartedAt) { // two within a millisecond: the later one must be the newest
			v.StartedAt = before.StartedAt.Add(time.Millisecond)
		}
		if err := insert(ctx, tx, v); err != nil {
			return err
		}
		return s.Events.Append(ctx, tx, identity.ParseActor(identity.AccountID(v.AccountID), who.KeyID), event.Event{Topic: event.Topic("agent/" + v.AgentID), Kind: "session.created", Data: map[string]any{"session": v.ID}})
	})
	return v, err
}
