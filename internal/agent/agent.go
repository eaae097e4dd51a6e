// Package agent owns agents: the record of each, with its desired and its observed
// state, the SQL of the agents table, and the service that callers change agents
// through. A call that changes the desired state only writes it; package reconciler
// makes the observed state follow.
package agent

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/power"
	"agento.host/agento/internal/runtime"
)

// DesiredState is what an agent's gateway should be.
type DesiredState string

// The desired states.
const (
	DesiredRunning DesiredState = "running"
	DesiredStopped DesiredState = "stopped"
	DesiredDeleted DesiredState = "deleted"
)

// ErrorCategory names who can fix an agent's last error.
type ErrorCategory string

// The categories of an agent's last error.
const (
	CategoryCredentials ErrorCategory = "credentials" // a key or token is missing or refused
	CategoryModel       ErrorCategory = "model"       // the model or its provider fails
	CategoryChannel     ErrorCategory = "channel"     // a channel is not connected
	CategoryConfig      ErrorCategory = "config"      // the agent's configuration is refused
	CategoryCapacity    ErrorCategory = "capacity"    // no server has room: the agent waits for it
	CategoryDisk        ErrorCategory = "disk"        // the agent has too many or too large files
	CategoryRuntime     ErrorCategory = "runtime"     // the gateway fails
	CategoryRecord      ErrorCategory = "record"      // the agent's record or secrets are damaged
)

// Agent is the record of one agent: its desired and its observed state.
type Agent struct {
	ID        identity.AgentID
	AccountID identity.AccountID
	Name      string
	Region    string
	AvatarURL string
	Config    Config
	SwarmID   identity.SwarmID // empty: none
	Revision  int64            // counts the changes of Config and SwarmID

	DesiredState       DesiredState
	Generation         int64 // counts the requests to start, stop, restart and delete
	ObservedGeneration int64 // the generation whose outcome Status shows
	RestartGeneration  int64 // the last generation that asked for a new gateway
	GatewayGeneration  int64 // the generation that the present gateway was started for

	Status        client.AgentStatus
	LastError     string
	ErrorCategory ErrorCategory
	Server        string        // where the home is; empty: there is none yet. It outlives a stop
	Place         runtime.Place // where the gateway runs or is being started; empty: nowhere
	SpecDigest    string        // of the spec that the present gateway was started with; empty: it must not be adopted

	// Damage says what of the record cannot be decoded; empty: nothing. Those fields are
	// zero, and Status is error. Only a deletion may change such an agent.
	Damage string

	Power Power
	Sleep Sleep
	Lease Lease
	Retry Retry

	CreatedAt  time.Time
	StartedAt  time.Time
	StoppedAt  time.Time
	LastUsedAt time.Time // when a turn last started, to a minute
}

// Power says how much of a running agent's gateway is in memory.
type Power string

// The powers.
const (
	PowerAwake  Power = "awake"  // the gateway runs as a process
	PowerAsleep Power = "asleep" // the gateway is suspended, or has no process; a message wakes the agent
	PowerFrozen Power = "frozen" // the gateway's processes stand still, in memory; a message wakes the agent
)

// Sleep is what is known of an agent's sleep.
type Sleep struct {
	Suspension string        // names the suspend for the gateway
	WakeWanted time.Time     // when the first message came that waits for the agent to wake, or is tried again; zero: none waits
	WokeAt     time.Time     // when the agent was last awake again; zero: it has never slept
	WakeTook   time.Duration // how long that took
	Wakes      int64         // how often the agent was woken
}

// State returns what the operator sees of an agent in one word: its power while it runs, such as
// asleep, and otherwise its status.
func (a Agent) State() string { return stateOf(a.Status, a.Power) }

func stateOf(s client.AgentStatus, p Power) string {
	if s == client.Running {
		return string(p)
	}
	return string(s)
}

// IsAsleep reports whether the agent should run, and sleeps: it is asleep or frozen.
func (a Agent) IsAsleep() bool { return a.sleeps() && a.IsRunning() }

func (a Agent) sleeps() bool { return a.Power == PowerAsleep || a.Power == PowerFrozen }

// NextWake returns when an agent that sleeps is to be woken; zero: for nothing that is known yet.
func (a Agent) NextWake() time.Time { return power.NextWake(power.Wakes{Message: a.Sleep.WakeWanted}) }

// Lease says who may act on an agent. Each write of a holder names the holder and the
// number, so a holder that comes too late changes nothing.
type Lease struct {
	Holder string    // empty: nobody
	Number int64     // counts how often the lease was taken
	Until  time.Time // when others may take it
}

// Retry is what is counted of the failures of an agent's gateway. It begins anew with
// each generation: earlier failures do not count for a new request.
type Retry struct {
	Failures           []time.Time   // oldest first
	Unready            time.Duration // spent on boots since the gateway was last ready
	NextTryAt          time.Time     // when the gateway may be booted again
	MissedHealthChecks int           // in a row
}

// HasFailed reports whether the agent is in error and stays so until its desired
// state changes.
func (a Agent) HasFailed() bool {
	return a.Status == client.Errored && a.ObservedGeneration == a.Generation
}

// IsRunning reports whether the agent should run and does.
func (a Agent) IsRunning() bool {
	return a.DesiredState == DesiredRunning && a.Status == client.Running && a.Place != ""
}

// HasCurrentGateway reports whether the agent's gateway runs and is the one that
// the last restart asked for.
func (a Agent) HasCurrentGateway() bool {
	return a.Status == client.Running && a.GatewayGeneration >= a.RestartGeneration
}

// CheckRunning returns nil for an agent that runs or is being started.
// Faults: NotRunning, with the reason.
func (a Agent) CheckRunning() error {
	switch {
	case a.Damage != "":
		return fault.New(fault.NotRunning, "%s", damageText(a.Damage)).With("status", string(a.Status)).With("errorCategory", string(a.ErrorCategory))
	case a.DesiredState != DesiredRunning:
		return fault.New(fault.NotRunning, "The agent is stopped. Start it with POST /v1/agents/%s/start.", a.ID).With("status", string(a.Status))
	case a.HasFailed():
		return fault.New(fault.NotRunning, "The agent is in error. Fix the cause, then start it with POST /v1/agents/%s/start: %s", a.ID, a.LastError).
			With("status", string(a.Status)).With("errorCategory", string(a.ErrorCategory))
	}
	return nil
}

// WaitsForRoom reports whether the agent should run, and starts or wakes as soon as there is room.
func (a Agent) WaitsForRoom() bool {
	return a.DesiredState == DesiredRunning && a.ErrorCategory == CategoryCapacity && (a.Status == client.Starting || a.Status == client.Provisioning || a.IsAsleep())
}

// startFault returns the fault for a caller that waited for an agent which failed.
func (a Agent) startFault() error {
	code := fault.Upstream
	if a.ErrorCategory == CategoryDisk {
		code = fault.Conflict
	}
	f := fault.New(code, "%s", a.LastError).With("agentId", string(a.ID)).With("errorCategory", string(a.ErrorCategory))
	switch a.ErrorCategory {
	case CategoryCredentials, CategoryModel, CategoryConfig: // the account's own
		return f.Expected()
	}
	return f
}

func validateName(problems fault.Fields, name string) {
	if n := utf8.RuneCountInString(name); n < 1 || n > 100 {
		problems.Add("name", "must have 1-100 characters, it has %d", n)
	}
	if fault.IsBlank(name) {
		problems.Add("name", "must not consist of blanks")
	}
	if !isPrintable(name) {
		problems.Add("name", "must be one line of readable text")
	}
}

// contractRegions are the regions where nobody says which there are.
var contractRegions = []string{DefaultRegion, "us"}

// validateRegion adds a problem that lists the regions unless there is the region.
func (s *Service) validateRegion(ctx context.Context, problems fault.Fields, region string) error {
	known := contractRegions
	if s.regions != nil {
		var err error
		if known, err = s.regions(ctx); err != nil {
			return err
		}
	}
	if !slices.Contains(known, region) {
		problems.Add("region", "must be one of %s", strings.Join(known, ", "))
	}
	return nil
}

// isPrintable reports whether s has neither control characters, which would break
// the agent's files, nor bytes that are not UTF-8.
func isPrintable(s string) bool {
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return false
		}
	}
	return true
}

func validateAvatar(problems fault.Fields, avatar string) {
	u, err := url.Parse(avatar)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || len(avatar) > 2048 {
		problems.Add("avatarUrl", "must be an http or https URL of at most 2048 characters, or null to remove it")
	}
}
