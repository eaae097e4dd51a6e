package agentarchive

import (
	"log/slog"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/knowledge"
	"agento.host/agento/internal/skill"
	"agento.host/agento/internal/workspace"
)

const (
	// maxImports is how many archives are imported at the same time, one of each account.
	maxImports = 2
	// importWait is how long a request waits for its turn to import.
	importWait = 20 * time.Second
)

// Settings of a Service.
type Settings struct {
	DB        *database.DB
	Events    *event.Log
	Agents    *agent.Service
	Documents *workspace.Store
	Workspace *workspace.Service
	Skills    *skill.Service
	Knowledge *knowledge.Service
	Chat      *chat.Service
	Version   string // of agento
	Log       *slog.Logger
}

// Service exports and imports agents.
type Service struct {
	Settings

	imports *budget.Budget // holders are accounts
}

// New returns a Service.
func New(s Settings) *Service {
	return &Service{Settings: s, imports: budget.New(budget.Settings{
		Resource: "imports of agents", Total: maxImports, Each: 1, Wait: importWait, Log: s.Log, Refusal: "This account imports an agent already. Send one import after the other.",
	})}
}
