package skill

import (
	"context"
	"log/slog"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/skill/clawhub"
	"agento.host/agento/internal/skill/github"
)

// DefaultMinScore is the lowest score of a skill that is installed, unless the operator
// sets another one: a skill with one critical or two high findings scores less.
const DefaultMinScore = 50

// Agents is what the service needs of agents.
type Agents interface {
	// Exists returns nil if the account has the agent. Faults: NotFound.
	Exists(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID) error
	// Sync returns when a running agent has the installed skills, and reports whether the
	// agent must be restarted to use them.
	Sync(ctx context.Context, account identity.AccountID, agent identity.AgentID) (needsRestart bool, err error)
	// MissingHosts returns those of the hosts that the agent may not connect to.
	MissingHosts(ctx context.Context, account identity.AccountID, agent identity.AgentID, hosts []string) ([]string, error)
}

// Plans is what the service needs of package access.
type Plans interface {
	// PlanOf returns the plan of an account. Faults: NotFound.
	PlanOf(ctx context.Context, q database.Reader, account identity.AccountID) (access.Plan, error)
}

// Settings configure a Service.
type Settings struct {
	Store    *Store
	Events   *event.Log
	Catalog  *Catalog
	ClawHub  *clawhub.Client // nil: the installation does not offer community skills
	GitHub   *github.Client  // nil: the installation does not offer skills from GitHub
	Access   Plans
	Agents   Agents
	Scans    *budget.Budget // of skills, by account; nil: no limit
	MinScore int            // skills with a lower score are not installed; 0: all are
	Log      *slog.Logger   // nil: nothing is logged
}

// Service applies the rules of skills for callers. Its methods may be called
// concurrently.
type Service struct {
	store    *Store
	events   *event.Log
	catalog  *Catalog
	clawHub  *clawhub.Client
	gitHub   *github.Client
	plans    Plans
	agents   Agents
	scans    *budget.Budget
	minScore int
	log      *slog.Logger
}

// New returns a service.
func New(s Settings) *Service {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{
		store: s.Store, events: s.Events, catalog: s.Catalog, clawHub: s.ClawHub, gitHub: s.GitHub, plans: s.Access, agents: s.Agents,
		scans: s.Scans, minScore: s.MinScore, log: s.Log,
	}
}
