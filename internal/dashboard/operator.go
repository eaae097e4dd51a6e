package dashboard

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"agento.host/agento/internal/fault"
)

// Installation is what operators see: accounts, plans, gateways, sizes and states. It has
// nothing of the content of an account.
type Installation struct {
	Accounts    []InstalledAccount // by name
	Plans       []InstalledPlan
	PlanProblem string // what is wrong with the plans; empty: nothing
	Gateways    []InstalledGateway

	MemoryBudget    int64 // of all gateways and checkpoints; 0: there is no limit
	MemoryBytes     int64
	CheckpointBytes int64
	CPUPercent      float64 // of one core
	Cores           int

	WaitForMemory, WaitForBoot int // agents

	Servers     []InstalledServer // this machine first; without pool servers it is alone
	Quarantine  []Quarantined
	LastBackup  Backup // zero: there is none
	GoodBackup  Backup // the last good one; zero: there is none
	BackupEvery time.Duration
}

// InstalledAccount is an account with what it has.
type InstalledAccount struct {
	ID, Name, Plan, State string
	CreatedAt             time.Time
	Agents, Awake         int
	StorageBytes          int64
}

// InstalledPlan is a plan with how many accounts have it. Limits have the numbers of package
// access for none.
type InstalledPlan struct {
	ID, Name, Source string
	Default          bool
	MaxAgents        int
	StorageBytes     int64
	Accounts         int
	Lacks            []string // features
}

// InstalledGateway is the gateway of an agent.
type InstalledGateway struct {
	Agent, Account, AccountName string
	State                       string // awake, asleep or frozen if the agent runs, otherwise its status
	MemoryBytes                 int64  // 0: it has none, or that is not known
	CheckpointBytes             int64
	CPUPercent                  float64
	LastUsedAt                  time.Time
	Wakes                       int64
	WakeTook                    time.Duration
}

// InstalledServer is a server that runs agents.
type InstalledServer struct {
	Name, Login string // the login is empty for this machine
	Regions     []string
	State       string // active, cordoned, draining or abandoned
	Up          bool   // its container engine answers
	Problem     string // why it is not up; empty: it is
	RoundTrip   time.Duration
	ReachedAt   time.Time // zero: never
	Agents      int
	MaxAgents   int   // 0: there is no limit
	MemoryBytes int64 // for agents; 0: there is no limit
	DiskFree    int64 // negative: not known
}

// Quarantined is the home of an agent that the database did not know.
type Quarantined struct {
	Name  string
	Since time.Time
}

// Backup is how a backup ended.
type Backup struct {
	ID, Destination, State, Problem string
	Began, Ended                    time.Time
	Bytes, StoredBytes              int64
}

// OperatorNeed is something that waits for operators.
type OperatorNeed struct {
	ID, Kind string
	Urgent   bool // something does not work
	Sentence string
	Since    time.Time // zero: not known
}

// operatorPage is the data of the operator's pages.
type operatorPage struct {
	Installation
	Needs  []OperatorNeed
	States []stateCount
	Pages  pager
	View   string
}

// stateCount is how many gateways are in a state.
type stateCount struct {
	State string
	Count int
}

// operatorRows is how many rows a page of the operator has.
const operatorRows = 100

// operated reads what a page of the operator shows.
func (v *visit) operated(view string) (*operatorPage, error) {
	if v.server.installation == nil {
		return nil, fault.New(fault.NotFound, "There is no such page.")
	}
	all, err := v.server.installation(v.Context())
	if err != nil {
		return nil, err
	}
	p := &operatorPage{Installation: all, View: view, Pages: v.page(operatorRows)}
	counts := map[string]int{}
	for _, g := range all.Gateways {
		counts[g.State]++
	}
	for s, n := range counts {
		p.States = append(p.States, stateCount{s, n})
	}
	slices.SortFunc(p.States, func(a, b stateCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.State, b.State))
	})
	return p, nil
}

// rowsOf returns the rows of a page of a list.
func rowsOf[T any](p *pager, all []T) []T {
	p.Total = len(all)
	from := min(p.Offset(), len(all))
	return all[from:min(from+p.Size, len(all))]
}

func (s *Server) operatorOverview(v *visit) error {
	p, err := v.operated("")
	if err != nil {
		return err
	}
	if p.Needs, err = s.waiting(v.Context()); err != nil {
		return err
	}
	return v.Render("operator", "Operator", p)
}

func (s *Server) operatorAccounts(v *visit) error {
	p, err := v.operated("accounts")
	if err != nil {
		return err
	}
	search, plan := strings.ToLower(strings.TrimSpace(v.Query("search"))), v.Query("plan")
	p.Accounts = rowsOf(&p.Pages, slices.DeleteFunc(p.Accounts, func(a InstalledAccount) bool {
		return !strings.Contains(strings.ToLower(a.Name+" "+a.ID), search) || plan != "" && a.Plan != plan
	}))
	return v.Render("operator", "Accounts and plans", p)
}

func (s *Server) operatorGateways(v *visit) error {
	p, err := v.operated("gateways")
	if err != nil {
		return err
	}
	state, account := v.Query("state"), v.Query("account")
	p.Gateways = slices.DeleteFunc(p.Gateways, func(g InstalledGateway) bool {
		return state != "" && g.State != state || account != "" && g.Account != account
	})
	slices.SortStableFunc(p.Gateways, func(a, b InstalledGateway) int {
		switch v.Query("sort") {
		case "cpu":
			return cmp.Compare(b.CPUPercent, a.CPUPercent)
		case "used":
			return b.LastUsedAt.Compare(a.LastUsedAt)
		case "wake":
			return cmp.Compare(b.WakeTook, a.WakeTook)
		}
		return cmp.Compare(b.MemoryBytes+b.CheckpointBytes, a.MemoryBytes+a.CheckpointBytes)
	})
	p.Gateways = rowsOf(&p.Pages, p.Gateways)
	return v.Render("operator", "Gateways", p)
}

func (s *Server) operatorServers(v *visit) error {
	p, err := v.operated("servers")
	if err != nil {
		return err
	}
	p.Servers = rowsOf(&p.Pages, p.Servers)
	return v.Render("operator", "Servers", p)
}

// Lost returns how many servers do not answer.
func (p operatorPage) Lost() (n int) {
	for _, s := range p.Servers {
		if !s.Up {
			n++
		}
	}
	return n
}

// Share returns how many percent of the memory are used.
func (p operatorPage) Share() int {
	return shareOf("", "", "", p.MemoryBytes+p.CheckpointBytes, p.MemoryBudget, noByteLimit, "").Percent
}

// Used returns the memory of gateways and checkpoints.
func (p operatorPage) Used() int64 { return p.MemoryBytes + p.CheckpointBytes }

// Running returns how many agents run.
func (p operatorPage) Running() (n int) {
	for _, s := range p.States {
		if slices.Contains([]string{"awake", "asleep", "frozen"}, s.State) {
			n += s.Count
		}
	}
	return n
}

// BackupWorries reports whether the last backup failed.
func (p operatorPage) BackupWorries() bool {
	return p.LastBackup.ID != "" && p.LastBackup.ID != p.GoodBackup.ID
}

// ClassOf returns the class of the badge of a gateway's state.
func (operatorPage) ClassOf(state string) string {
	switch state {
	case "awake":
		return "good"
	case "error":
		return "bad"
	case "asleep", "frozen", "stopped", "disabled", "deleted":
		return "off"
	case "active":
		return "good"
	}
	return "busy"
}

// CountLimit returns a limit of a plan as people read it.
func (operatorPage) CountLimit(n int) string {
	if n >= noCountLimit {
		return "no limit"
	}
	return number(n)
}

// BytesLimit is CountLimit for bytes.
func (operatorPage) BytesLimit(n int64) string {
	if n >= noByteLimit {
		return "no limit"
	}
	return bytesText(n)
}

// Every returns how often a backup is made, such as 24h or 1h30m.
func (p operatorPage) Every() string {
	text := p.BackupEvery.String()
	if short, ok := strings.CutSuffix(text, "m0s"); ok {
		text = short + "m"
	}
	if short, ok := strings.CutSuffix(text, "h0m"); ok {
		text = short + "h"
	}
	return text
}

// Millis returns a duration as people read it.
func (operatorPage) Millis(d time.Duration) string {
	if d == 0 {
		return ""
	}
	if d < 10*time.Millisecond {
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
