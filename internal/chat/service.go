package chat

import (
	"context"
	"crypto/rand"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/channel"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/modelturn"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/vault"
)

// apiChannel is the channel of sessions that callers of the API have.
const apiChannel = "api"

// Settings of a Service.
type Settings struct {
	DB       *database.DB
	Events   *event.Log
	Agents   *agent.Service
	Gateways *gateway.Manager
	Vault    *vault.Vault // seals the texts
	Keys     Keys
	Quota    Quota             // nil: no limit
	Limits   modelturn.Limits  // of a turn; the config of an agent can lower them
	Channels *channel.Recorder // of the states of Slack; nil: they are not reported
	Waiting  *budget.Budget    // bytes of messages that wait for a gateway; nil: no limit
	Log      *slog.Logger

	// Ended is called after each turn that this server ran. It must not block. Nil means that
	// nobody is told.
	Ended func(Ending)
}

// Ending is how a turn ended.
type Ending struct {
	State      State
	StopReason string
	FirstText  time.Duration // from the start of the turn; 0: it had no text
	Took       time.Duration // 0: it never ran
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
	limits        modelturn.Limits
	channelTurns  *channelTurns
	channels      *channel.Recorder
	waiting       *budget.Budget
	log           *slog.Logger
	ended         func(Ending)
	holder        string // names this server process in the leases of its turns
	runs          *runs
	readers       *readers
	pieces        chan struct{} // has an element if there are pieces to store
	piecesStored  atomic.Int64  // when pieces were last stored, in nanoseconds since 1970
	pieceInterval time.Duration // the constant, except in tests
}

// New returns a service. Call Recover before the first turn, and Run beside the turns: it also
// waits for them.
func New(s Settings) *Service {
	if s.Ended == nil {
		s.Ended = func(Ending) {}
	}
	return &Service{
		db: s.DB, events: s.Events, agents: s.Agents, gateways: s.Gateways, vault: s.Vault, keys: s.Keys, quota: s.Quota, channels: s.Channels, limits: s.Limits, channelTurns: newChannelTurns(), waiting: s.Waiting, log: s.Log, ended: s.Ended,
		holder: "srv_" + strings.ToLower(rand.Text()), runs: newRuns(), readers: newReaders(), pieces: make(chan struct{}, 1), pieceInterval: pieceInterval,
	}
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
