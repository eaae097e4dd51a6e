// Package knowledge keeps what agents should know: texts that are embedded,
// deduplicated, listed, deleted and searched, for one agent or for a swarm.
package knowledge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/knowledge/embed"
)

// The limits of the contract, in chunks, characters and entries.
const (
	MaxChunks     = 100
	MaxText       = 4000
	MaxSource     = 1000
	MaxMetadata   = 16 << 10 // bytes of JSON
	MaxQuery      = 2000
	MaxList       = 100
	DefaultList   = 50
	MaxSearch     = 50
	DefaultSearch = 10
)

// duplicateCosine is the similarity from which on the contract calls two texts
// duplicates.
const duplicateCosine = 0.95

// Kind says whose knowledge it is.
type Kind string

// Knowledge belongs to a swarm or, outside of swarms, to an agent.
const (
	Agent Kind = "agent"
	Swarm Kind = "swarm"
)

// Scope is the owner of a knowledge base. Two scopes never see each other.
type Scope struct {
	Kind Kind
	ID   string
}

// Scopes knows agents and swarms.
type Scopes interface {
	// Resolve returns the scope of a swarm, or of an agent, which is its swarm's if
	// it is in one. Exactly one id is given. Faults: NotFound.
	Resolve(ctx context.Context, accountID, agentID, swarmID string) (Scope, error)
}

// Target names an agent or a swarm; one of the two is empty.
type Target struct{ AgentID, SwarmID string }

// Entry is one text that is known.
type Entry struct {
	ID        string
	Text      string
	Source    string
	Metadata  map[string]any // nil: none
	CreatedAt time.Time
	UpdatedAt time.Time

	number int64
	seq    int64
}

// Type is the entry's metadata.type, or "" if that is no string.
func (e Entry) Type() string {
	s, _ := e.Metadata["type"].(string)
	return s
}

// Settings of a Service. All fields but the last two are needed.
type Settings struct {
	DB       *database.DB
	Events   *event.Log
	Scopes   Scopes
	Embedder embed.Embedder
	Log      *slog.Logger

	// IndexMemory bounds the memory of the vectors held ready for searching, in
	// bytes. 0 is 512 MiB, enough for two million entries of the built-in model.
	IndexMemory int64
	// IndexIdle is how long the vectors of a scope that nobody asks for are held.
	// 0 is ten minutes.
	IndexIdle time.Duration
}

// Service ingests, lists, deletes and searches knowledge. Methods take the
// account and, where they change something, the actor that events name.
type Service struct {
	Settings
	index Index
}

// New makes a service. Run keeps it tidy.
func New(s Settings) *Service {
	if s.IndexMemory == 0 {
		s.IndexMemory = 512 << 20
	}
	if s.IndexIdle == 0 {
		s.IndexIdle = 10 * time.Minute
	}
	return &Service{Settings: s, index: newExactIndex(s.IndexMemory, s.IndexIdle)}
}

// Run embeds entries that the service's embedder has not embedded yet, such as
// those from before it was chosen, and drops vectors from memory that nobody asks
// for, until ctx ends. Searches work meanwhile: what is not embedded yet is found
// by its words.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		if _, err := s.Reembed(ctx, s.Embedder, nil); err != nil && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "knowledge is not embedded; trying again in a minute", "model", s.Embedder.Name(), "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			s.index.Tidy(now)
		}
	}
}

// resolve returns the scope and the space in which it is searched. Of a swarm
// that was deleted without agents the knowledge is still there: it can be read
// and deleted under the swarm's id, but not added to.
func (s *Service) resolve(ctx context.Context, accountID string, t Target, reading bool) (Scope, space, error) {
	if (t.AgentID == "") == (t.SwarmID == "") {
		return Scope{}, space{}, fault.New(fault.Invalid, "Give either swarmId or agentId, and not both.")
	}
	scope, err := s.Scopes.Resolve(ctx, accountID, t.AgentID, t.SwarmID)
	switch {
	case err == nil:
		sp, err := s.space(ctx, accountID, scope)
		return scope, sp, err
	case t.SwarmID != "" && reading && fault.Is(err, fault.NotFound):
		scope = Scope{Swarm, t.SwarmID}
		left, spErr := s.space(ctx, accountID, scope)
		if spErr != nil {
			return Scope{}, space{}, spErr
		}
		if has, hasErr := hasEntries(ctx, s.DB, left); hasErr != nil || !has {
			return Scope{}, space{}, errors.Join(hasErr, err)
		}
		return scope, left, nil
	default:
		return Scope{}, space{}, err
	}
}

// space is the part of the tables that a search looks at: a scope's entries under
// one model. Number 0 is a scope in which nothing was ever stored.
type space struct {
	accountID string
	number    int64
	model     string
	dimension int
}

func (s *Service) space(ctx context.Context, accountID string, scope Scope) (space, error) {
	number, err := scopeNumber(ctx, s.DB, accountID, scope)
	if err != nil {
		return space{}, fmt.Errorf("find the knowledge of %s %s: %w", scope.Kind, scope.ID, err)
	}
	return space{accountID, number, s.Embedder.Name(), s.Embedder.Dimension()}, nil
}
