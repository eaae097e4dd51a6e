// Package admin is what the operator's commands do with an installation: accounts, API
// keys, people, secrets of the installation, pool servers, and garbage. It is an HTTP API without
// authentication. A running server serves it on a Unix socket in its data directory,
// which only the server's own user and root can use. Without a server, a command calls
// the same handlers in its own process, so that both give the same results.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/pool"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/user"
	"agento.host/agento/internal/vault"
)

// maxBody is the largest body of a request, in bytes: more than a secret, so that one
// that is too long is refused as such.
const maxBody = 2 * vault.MaxInstallationSecret

// Account is a tenant.
type Account struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Plan       string    `json:"plan"`
	PlanSource string    `json:"planSource"` // where the plan is known from
	State      string    `json:"state"`      // active, disabled or deleted
	CreatedAt  time.Time `json:"createdAt"`
	DisabledAt time.Time `json:"disabledAt"` // zero: it is not disabled
}

// AccountDetails is an account with what it has.
type AccountDetails struct {
	Account
	Limits       Limits          `json:"limits"`
	Features     map[string]bool `json:"features"`
	Agents       int             `json:"agents"`
	Running      int             `json:"running"` // agents that should run
	StorageBytes int64           `json:"storageBytes"`
	Keys         int             `json:"keys"` // that are valid
}

// Limits are the limits of a plan, with the numbers of package access for none.
type Limits struct {
	MaxAgents         int   `json:"maxAgents"`
	MaxSkillsPerAgent int   `json:"maxSkillsPerAgent"`
	StorageBytes      int64 `json:"storageBytes"`
}

// AccountChange is a change of an account. It has one of the fields.
type AccountChange struct {
	Name  string `json:"name"`
	Plan  string `json:"plan"`
	State string `json:"state"` // active or disabled
}

// Installation is the installation itself.
type Installation struct {
	ID           string    `json:"id"`
	RestoredFrom string    `json:"restoredFrom,omitempty"` // the installation that its backup is of
	BackupAt     time.Time `json:"backupAt,omitzero"`      // when that was made
	QuietSince   time.Time `json:"quietSince,omitzero"`    // zero: it is active
}

// Plan is a plan with how many accounts have it.
type Plan struct {
	ID       string          `json:"id"`
	Name     string          `json:"name"`
	Source   string          `json:"source"` // where it is known from
	Default  bool            `json:"default"`
	Limits   Limits          `json:"limits"`
	Features map[string]bool `json:"features"`
	Accounts int             `json:"accounts"`
}

// Plans are the plans of the installation.
type Plans struct {
	All     []Plan `json:"all"`
	Problem string `json:"problem"` // what is wrong with them, and what to do; empty: nothing
}

// Key is an API key.
type Key struct {
	ID            string    `json:"id"`
	Label         string    `json:"label"`
	Hint          string    `json:"hint"`
	Scopes        []string  `json:"scopes"`
	RateLimit     int       `json:"rateLimit"`
	CreatedAt     time.Time `json:"createdAt"`
	ExpiresAt     time.Time `json:"expiresAt"`     // zero: never
	UsedAt        time.Time `json:"usedAt"`        // zero: never
	RevokedAt     time.Time `json:"revokedAt"`     // zero: not revoked
	PreviousUntil time.Time `json:"previousUntil"` // when the former secret ends; zero: there is none
	Secret        string    `json:"secret,omitempty"`
}

// NewKey is a request for a key.
type NewKey struct {
	Label     string    `json:"label"`
	Scopes    []string  `json:"scopes"`
	RateLimit int       `json:"rateLimit"`
	ExpiresAt time.Time `json:"expiresAt"` // zero: never
}

// KeyChanges are changes of a key; nil leaves a field as it is.
type KeyChanges struct {
	Label     *string    `json:"label"`
	Scopes    []string   `json:"scopes"`
	RateLimit *int       `json:"rateLimit"`
	ExpiresAt *time.Time `json:"expiresAt"` // the zero time: never
}

// Secret is a secret that the installation can have, without its value.
type Secret struct {
	Name  string    `json:"name"`
	Use   string    `json:"use"`
	SetAt time.Time `json:"setAt"` // zero: it is not set

	Unreadable bool `json:"unreadable,omitempty"` // it is set and cannot be decrypted
}

// Garbage is something that is kept, such as a copy of the database, until the operator
// removes it.
type Garbage struct {
	Kind  string    `json:"kind"`
	Name  string    `json:"name"` // unique among its kind
	Bytes int64     `json:"bytes"`
	Since time.Time `json:"since"`
}

// Collector finds and removes one kind of garbage.
type Collector struct {
	Kind   string
	List   func(ctx context.Context) ([]Garbage, error)
	Remove func(ctx context.Context, name string) error // no error if it is gone
}

// Checkpoints are what the checkpoints of sleeping agents take, by their form.
type Checkpoints struct {
	Fresh      CheckpointForm `json:"fresh"`      // in memory
	Compressed CheckpointForm `json:"compressed"` // in memory
	OnDisk     CheckpointForm `json:"onDisk"`
	Budget     int64          `json:"budget"` // bytes of the disk; 0: all stay in memory
	Plain      bool           `json:"plain"`  // those on the disk are not sealed
}

// CheckpointForm is what the checkpoints of one form take.
type CheckpointForm struct {
	Count int   `json:"count"`
	Bytes int64 `json:"bytes"`
}

// Examined is the result of one check of a running gateway.
type Examined struct {
	Agent string `json:"agent"`
	Check string `json:"check"`
	State string `json:"state"`
	OK    bool   `json:"ok"`
}

// Reembed is a request to embed all knowledge with an embedder, which is described by
// the flags of the command.
type Reembed struct {
	Embedder string `json:"embedder"`
	URL      string `json:"url"`
	Model    string `json:"model"`
	Size     int    `json:"size"`
	Batch    int    `json:"batch"` // most texts in a request; 0: the default
	Dir      string `json:"dir"`
	DropOld  bool   `json:"dropOld"` // delete the vectors of all other models then
}

// Reembedded is how far a Reembed has come.
type Reembedded struct {
	Embedder string `json:"embedder"` // the name of the embedder
	Done     int    `json:"done"`
	Total    int    `json:"total"`
}

// Backup is a request for a backup. It has one of Passphrase, Recipient and Plain.
type Backup struct {
	To         string `json:"to"` // a directory with its whole path, or a URL
	Passphrase string `json:"passphrase"`
	Recipient  string `json:"recipient"`
	Plain      bool   `json:"plain"`
	Keep       string `json:"keep"`    // rules of what is kept there; empty: everything
	Catalog    string `json:"catalog"` // the operator's own skills; a server has its own
}

// BackupProgress is how far a backup has come.
type BackupProgress struct {
	Agent string `json:"agent"` // whose home was copied; empty: the database is copied now
	Done  int    `json:"done"`
	Total int    `json:"total"`
	Bytes int64  `json:"bytes"`
}

// BackedUp is how a backup ended.
type BackedUp struct {
	ID          string    `json:"id"`
	To          string    `json:"to"`
	Began       time.Time `json:"began"`
	Ended       time.Time `json:"ended"`
	State       string    `json:"state"` // complete, loose, incomplete or failed
	Problem     string    `json:"problem,omitempty"`
	Agents      int       `json:"agents"`
	Bytes       int64     `json:"bytes"`
	StoredBytes int64     `json:"storedBytes"`
	HeldMillis  int64     `json:"heldMillis"` // the longest time that a gateway was held
	Removed     []string  `json:"removed"`    // the backups that were not kept
}

// TopAgent is an agent with what it uses.
type TopAgent struct {
	ID              string    `json:"id"`
	Name            string    `json:"name"`
	Account         string    `json:"account"`
	AccountName     string    `json:"accountName"`
	State           string    `json:"state"`           // awake, asleep or frozen if it runs, otherwise its status
	MemoryBytes     int64     `json:"memoryBytes"`     // of its gateway; 0: it has none, or that is not known yet
	CheckpointBytes int64     `json:"checkpointBytes"` // of what is kept of its gateway while it sleeps
	CPUPercent      float64   `json:"cpuPercent"`      // of one core
	LastUsedAt      time.Time `json:"lastUsedAt,omitzero"`
	WokeAt          time.Time `json:"wokeAt,omitzero"`
	Wakes           int64     `json:"wakes"`
	WakeMillis      int64     `json:"wakeMs"` // of the last one
}

// Top is what agents use, each and together.
type Top struct {
	Agents          []TopAgent `json:"agents"`
	MemoryBudget    int64      `json:"memoryBudget"` // 0: there is no limit
	MemoryBytes     int64      `json:"memoryBytes"`
	CheckpointBytes int64      `json:"checkpointBytes"`
	CPUPercent      float64    `json:"cpuPercent"` // of one core
	Cores           int        `json:"cores"`
}

// Settings configure New.
type Settings struct {
	Accounts   *access.Service
	People     *user.Service
	API        http.Handler // the public API for the operator; nil: there is no server
	AgentUsage func(ctx context.Context, account identity.AccountID) (agents, running int, err error)
	Secrets    *vault.Installation
	Servers    *pool.Service
	// ServerLinks are the connections to pool servers; nil: there is no server.
	ServerLinks *pool.Links

	Collectors []Collector
	Examine    func(ctx context.Context) ([]Examined, error) // what running gateways really have
	Top        func(ctx context.Context) (Top, error)        // nil: there is no server
	Describe   func(ctx context.Context) (Installation, error)
	Activate   func(ctx context.Context) error // ends that the installation is quiet
	Reembed    func(ctx context.Context, in Reembed, progress func(Reembedded)) (Reembedded, error)
	Backup     func(ctx context.Context, in Backup, progress func(BackupProgress)) (BackedUp, error)

	Checkpoints func(ctx context.Context) (Checkpoints, error)
}

type server struct{ Settings }

// New returns the handler of the admin API.
func New(s Settings) http.Handler {
	h := &server{s}
	mux := http.NewServeMux()
	routes := map[string]func(r *http.Request) (any, error){
		"GET /installation":  h.describe,
		"POST /installation": h.activate,

		"GET /accounts":   h.listAccounts,
		"POST /accounts":  h.createAccount,
		"GET /account":    h.showAccount,
		"PATCH /account":  h.changeAccount,
		"DELETE /account": h.deleteAccount,
		"GET /plans":      h.listPlans,
		"GET /keys":       h.listKeys,
		"POST /keys":      h.createKey,
		"PATCH /keys":     h.editKey,
		"POST /rotate":    h.rotateKey,
		"DELETE /keys":    h.revokeKey,
		"GET /users":      h.listUsers,
		"DELETE /users":   h.removeUser,
		"GET /secrets":    h.listSecrets,
		"PUT /secrets":    h.setSecret,
		"DELETE /secrets": h.deleteSecret,
		"GET /garbage":    h.listGarbage,
		"DELETE /garbage": h.removeGarbage,
		"GET /gateways":   h.examineGateways,
		"GET /top":        h.top,

		"GET /users/invitations":    h.listInvitations,
		"POST /users/invitations":   h.inviteUser,
		"DELETE /users/invitations": h.revokeInvitation,
		"PATCH /users":              h.setRole,
		"POST /users/resets":        h.resetUser,
		"POST /users/first-link":    h.firstLink,
		"POST /users/operators":     h.addOperator,

		"GET /checkpoints": h.checkpoints,
	}
	maps.Copy(routes, h.serverRoutes())
	for pattern, f := range routes {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			result, err := f(r)
			reply(w, result, err)
		})
	}
	mux.HandleFunc("POST /reembed", h.reembed)
	mux.HandleFunc("POST /backup", h.backup)
	if s.API != nil {
		mux.Handle("/v1/", s.API)
	}
	return mux
}

// failure is the body of a response to a request that failed. Code is empty if the
// failure is no fault. The operator may read every error.
type failure struct {
	Code    fault.Code        `json:"code"`
	Message string            `json:"message"`
	Details map[string]string `json:"details"`
}

func reply(w http.ResponseWriter, result any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err == nil {
		_ = json.NewEncoder(w).Encode(result) // fails if the command has ended
		return
	}
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(failureOf(err))
}

func failureOf(err error) *failure {
	var f *fault.Fault
	if errors.As(err, &f) && f.Code != fault.Internal {
		return &failure{Code: f.Code, Message: f.Message, Details: f.Details}
	}
	return &failure{Message: err.Error()}
}

func (f *failure) error() error {
	if f.Code == "" {
		return errors.New(f.Message)
	}
	return &fault.Fault{Code: f.Code, Message: f.Message, Details: f.Details}
}

func (s *server) top(r *http.Request) (any, error) {
	if s.Top == nil {
		return nil, fault.New(fault.Unavailable, "No server runs on this data directory, so no agent does: run agento serve.")
	}
	return s.Top(r.Context())
}

func (s *server) listSecrets(r *http.Request) (any, error) {
	all, err := s.Secrets.List(r.Context())
	secrets := make([]Secret, len(all))
	for i, sec := range all {
		secrets[i] = Secret{Name: string(sec.Name), Use: sec.Use, SetAt: sec.SetAt, Unreadable: sec.Unreadable}
	}
	return secrets, err
}

func (s *server) setSecret(r *http.Request) (any, error) {
	value, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	return nil, s.Secrets.Set(r.Context(), identity.ByOperator(vault.InstallationAccount), provider.SecretName(r.URL.Query().Get("name")), vault.NewSecret(string(value)))
}

func (s *server) deleteSecret(r *http.Request) (any, error) {
	return nil, s.Secrets.Delete(r.Context(), identity.ByOperator(vault.InstallationAccount), provider.SecretName(r.URL.Query().Get("name")))
}

func (s *server) describe(r *http.Request) (any, error) { return s.Describe(r.Context()) }

// activate ends that the installation is quiet, and returns what it was before.
func (s *server) activate(r *http.Request) (any, error) {
	before, err := s.Describe(r.Context())
	if err != nil {
		return nil, err
	}
	return before, s.Activate(r.Context())
}

func (s *server) listGarbage(r *http.Request) (any, error) {
	all := []Garbage{}
	for _, c := range s.Collectors {
		found, err := c.List(r.Context())
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func (s *server) removeGarbage(r *http.Request) (any, error) {
	i, err := s.Describe(r.Context())
	if err != nil {
		return nil, err
	}
	if !i.QuietSince.IsZero() {
		return nil, fault.New(fault.Conflict, "This installation was restored from a backup and removes nothing until it is activated: run agento activate first.")
	}
	for _, c := range s.Collectors {
		if c.Kind == r.URL.Query().Get("kind") {
			return nil, c.Remove(r.Context(), r.URL.Query().Get("name"))
		}
	}
	kinds := make([]string, len(s.Collectors))
	for i, c := range s.Collectors {
		kinds[i] = c.Kind
	}
	return nil, fault.New(fault.Invalid, "There is no garbage of the kind %q, only %s.", r.URL.Query().Get("kind"), strings.Join(kinds, ", "))
}

func (s *server) examineGateways(r *http.Request) (any, error) {
	found, err := s.Examine(r.Context())
	return append([]Examined{}, found...), err
}

func (s *server) checkpoints(r *http.Request) (any, error) { return s.Checkpoints(r.Context()) }

// reembedLine is a line of the response to a Reembed. The last one has Failure or is
// Ended.
type reembedLine struct {
	Reembedded
	Ended   bool     `json:"ended"`
	Failure *failure `json:"failure"`
}

func (s *server) reembed(w http.ResponseWriter, r *http.Request) {
	var in Reembed
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&in); err != nil {
		reply(w, nil, err)
		return
	}
	send := func(line reembedLine) {
		_ = json.NewEncoder(w).Encode(line) // fails if the command has ended, which ends the context
		_ = http.NewResponseController(w).Flush()
	}
	done, err := s.Reembed(r.Context(), in, func(p Reembedded) { send(reembedLine{Reembedded: p}) })
	if err != nil {
		send(reembedLine{Reembedded: done, Failure: failureOf(err)})
		return
	}
	send(reembedLine{Reembedded: done, Ended: true})
}

// backupLine is a line of the response to a Backup. The last one has Failure or Done.
type backupLine struct {
	BackupProgress
	Ended   *BackedUp `json:"ended"`
	Failure *failure  `json:"failure"`
}

func (s *server) backup(w http.ResponseWriter, r *http.Request) {
	var in Backup
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&in); err != nil {
		reply(w, nil, err)
		return
	}
	var sending sync.Mutex // agents are copied at the same time
	send := func(line backupLine) {
		sending.Lock()
		defer sending.Unlock()
		_ = json.NewEncoder(w).Encode(line) // fails if the command has ended, which ends the context
		_ = http.NewResponseController(w).Flush()
	}
	done, err := s.Backup(r.Context(), in, func(p BackupProgress) { send(backupLine{BackupProgress: p}) })
	if err != nil {
		send(backupLine{Failure: failureOf(err)})
		return
	}
	send(backupLine{Ended: &done})
}
