// Package reconciler makes the observed state of agents follow the desired state: it
// starts, watches, restarts and stops their gateways, and puts what belongs to no agent
// into quarantine. Everything it does can be interrupted anywhere and is continued from the
// records, by this process or the next.
//
// Each agent that has something to do, or runs, has one loop of its own: everything
// that happens to one agent happens in order.
//
//	notification → step: read the record, observe, decide, do → wait → step …
//
// A loop ends when nothing can happen to its agent without a notification. A process
// acts on an agent only while it has the lease of it. All leases of a process are
// renewed with one statement.
package reconciler

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agentlog"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/power"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/multi"
	"agento.host/agento/internal/vault"
	"agento.host/agento/internal/workspace"
)

// Eraser removes what another package keeps of an agent, in the transaction that
// removes the agent.
type Eraser func(ctx context.Context, tx *database.Tx, actor identity.Actor, id identity.AgentID) error

// Emptier removes much of what another package keeps of an agent before that transaction,
// in many short ones: others must not wait for the deletion of an agent that has a lot.
type Emptier func(ctx context.Context, account identity.AccountID, id identity.AgentID) error

// defaultServer is the default of Settings.Server.
const defaultServer = multi.Local

// defaultMaxBoots is the default of Settings.MaxBoots.
const defaultMaxBoots = 2

// Settings are what a Reconciler needs.
type Settings struct {
	DB        *database.DB
	Store     *agent.Store
	Events    *event.Log
	Vault     *vault.Vault
	Workspace *workspace.Store
	Driver    runtime.Driver
	Gateways  *gateway.Manager
	Logs      *agentlog.Service // shown with errors
	Erasers   []Eraser
	Emptiers  []Emptier
	Log       *slog.Logger

	// Note keeps what an operator must know about agents that the records do not know,
	// until the next call. It is called when that has changed; an empty text means that
	// there is nothing. Nil: the log alone has it.
	Note func(text string) error

	// Asleep is told again and again of each agent that sleeps, by the process that has its lease. It
	// must not block. Nil means that nobody is told.
	Asleep func(agent.Agent)

	// Woke and Slept are called after each wake and each suspend. They must not block. Nil means that
	// nobody is told.
	Woke  func(Wake)
	Slept func(Sleep)

	// Booted is called after each boot. It must not block. Nil means that nobody is told.
	Booted func(Boot)

	Pool      Pool   // chooses servers, for a driver over several; nil: there is one
	Server    string // the name of the machine of this process, among those of Pool; empty: "local"
	Exclusive bool   // no other process uses the database, so the leases of those before have ended
	MaxBoots  int    // gateways that may boot at once; 0: 2
	Memory    int64  // that gateways may use together; 0: any
	Timing    Timing
}

// Boot is the end of the boot of a gateway, or of the wait for one that another server has
// booted.
type Boot struct {
	Agent identity.AgentID
	Ready bool // false: it failed
	Took  time.Duration
}

// WakeKind says what an agent was woken from.
type WakeKind string

// The kinds.
const (
	WakeFromCheckpoint WakeKind = "checkpoint"
	WakeFromFreeze     WakeKind = "freeze"
	WakeCold           WakeKind = "cold" // its gateway was started anew
)

// Wake is a wake of an agent.
type Wake struct {
	Agent identity.AgentID
	Kind  WakeKind
	Took  time.Duration // since something waited for the agent
}

// SleepResult says how a suspend ended.
type SleepResult string

// The results.
const (
	SleepDone   SleepResult = "done"
	SleepBusy   SleepResult = "busy" // the gateway has work
	SleepFailed SleepResult = "failed"
)

// Sleep is the end of a suspend.
type Sleep struct {
	Agent  identity.AgentID
	Result SleepResult
	Took   time.Duration
}

// Reconciler runs the loops. A server has one.
type Reconciler struct {
	db        *database.DB
	store     *agent.Store
	events    *event.Log
	vault     *vault.Vault
	workspace *workspace.Store
	driver    runtime.Driver
	gateways  *gateway.Manager
	logs      *agentlog.Service
	erasers   []Eraser
	emptiers  []Emptier
	log       *slog.Logger
	timing    Timing
	server    string
	exclusive bool
	note      func(text string) error // may be nil
	asleep    func(agent.Agent)
	woke      func(Wake)
	slept     func(Sleep)
	booted    func(Boot)
	holder    string     // the name of this process in leases
	admission *admission // of the gateways on this machine
	pool      Pool       // nil: all are on this machine
	maxBoots  int

	mu      sync.Mutex
	loops   map[identity.AgentID]*loop // guarded by mu
	halts   map[identity.AgentID]*halt // agents that must not run, although their record cannot say so; guarded by mu
	running sync.WaitGroup             // what Run has started

	uses      map[identity.AgentID]power.Gateway // what is known of gateways that run, and of suspends that failed; guarded by mu
	evictions map[identity.AgentID]eviction      // agents that should make room; guarded by mu
	told      map[identity.AgentID]telling       // when they were told so last; guarded by mu
	slots     map[string]*admission              // which gateways may boot on other servers; guarded by mu
	moves     map[identity.AgentID]bool          // checkpoints whose move to the disk has begun; guarded by mu

	reported     string    // the unknown agents that were logged last; used by the search for orphans only
	renewed      time.Time // when the leases were last renewed; guarded by mu
	renewedUntil time.Time // when they end by that; guarded by mu
}

// loop is the loop of one agent.
type loop struct {
	id   identity.AgentID
	wake chan struct{} // has an element if another step is scheduled

	// Guarded by Reconciler.mu.
	stepping   bool   // a step is running
	cancel     func() // interrupts the running step
	generation int64  // of the record that the running step works on; 0: it is still reading
	newest     int64  // the newest generation that a notification came with during the step
	early      *early // ends the gateway beside the step; nil: nothing does

	// Used by the loop's goroutine only.
	counted int64 // the generation that errors counts for
	errors  int   // steps in a row that failed
}

// next says when a loop makes its next step; the zero next is at once.
type next struct {
	after time.Duration
	place runtime.Place // if not empty, the step comes early if the gateway there ends
	park  bool          // only after a notification
}

// errInterrupted means that a step was interrupted and the record must be read again.
var errInterrupted = errors.New("interrupted")

// New returns the reconciler. It does nothing until Run.
func New(s Settings) *Reconciler {
	if s.MaxBoots == 0 {
		s.MaxBoots = defaultMaxBoots
	}
	if s.Server == "" {
		s.Server = defaultServer
	}
	if s.Asleep == nil {
		s.Asleep = func(agent.Agent) {}
	}
	if s.Woke == nil {
		s.Woke = func(Wake) {}
	}
	if s.Slept == nil {
		s.Slept = func(Sleep) {}
	}
	if s.Booted == nil {
		s.Booted = func(Boot) {}
	}
	return &Reconciler{
		db: s.DB, store: s.Store, events: s.Events, vault: s.Vault, workspace: s.Workspace, driver: s.Driver, gateways: s.Gateways,
		logs: s.Logs, erasers: s.Erasers, emptiers: s.Emptiers, note: s.Note, log: s.Log, timing: s.Timing.withDefaults(),
		server: s.Server, exclusive: s.Exclusive, asleep: s.Asleep, woke: s.Woke, slept: s.Slept, booted: s.Booted, holder: uuid.NewString(),
		admission: newAdmission(s.Memory, s.MaxBoots, suspends(s), func(id identity.AgentID) { s.Events.Notify(event.ReconcileTopic(id)) }), pool: s.Pool, maxBoots: s.MaxBoots, slots: map[string]*admission{}, loops: map[identity.AgentID]*loop{}, halts: map[identity.AgentID]*halt{},
		uses: map[identity.AgentID]power.Gateway{}, evictions: map[identity.AgentID]eviction{}, told: map[identity.AgentID]telling{}, moves: map[identity.AgentID]bool{},
	}
}

// suspends reports whether gateways are suspended when they are not used.
func suspends(s Settings) bool {
	d, ok := s.Driver.(runtime.Suspender)
	return ok && s.Timing.Linger > 0 && d.CheckSuspend() == nil
}

// Run reconciles every agent until ctx ends, and returns when all loops have ended.
// Gateways continue to run: the next Run adopts them.
func (r *Reconciler) Run(ctx context.Context) error {
	notifications := r.events.SubscribePrefix(event.ReconcilePrefix) // before the records are read: no change is missed
	defer notifications.Close()
	defer r.gateways.CloseAll() // no loop is left that could connect again
	defer r.releaseAll(ctx)
	defer r.running.Wait()
	if err := r.takeAll(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	ids, err := r.store.ListToReconcile(ctx, r.db)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list agents to reconcile: %w", err)
	}
	if err := r.occupyAll(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	for _, id := range ids {
		r.schedule(ctx, id)
	}
	r.running.Go(func() { r.renewRegularly(ctx) })
	r.running.Go(func() { r.collectOrphansRegularly(ctx) })
	r.running.Go(func() { r.keepDiskRegularly(ctx) })
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-notifications.Ready():
		}
		for _, topic := range notifications.Take() {
			r.notified(ctx, identity.AgentID(topic.ID()))
		}
	}
}

// notified schedules another step for an agent. It interrupts the running step only
// if that works on an older generation: other changes, such as of secrets or
// documents, must not delay it.
func (r *Reconciler) notified(ctx context.Context, id identity.AgentID) {
	l := r.schedule(ctx, id)
	if !r.isStepping(l) {
		return // the next step reads what has changed
	}
	a, err := r.store.FindByID(ctx, r.db, id)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case errors.Is(err, sql.ErrNoRows): // it has been removed
	case err != nil:
		if ctx.Err() == nil {
			r.log.ErrorContext(ctx, "reading an agent's generation failed", "agent", id, "error", err)
		}
		l.cancel() // the step would otherwise delay a change of the desired state
	default:
		l.newest = max(l.newest, a.Generation)
		if l.early != nil && l.early.generation < a.Generation {
			l.early.cancel() // a deletion does not wait for the grace period of a stop
		}
		if l.generation != 0 && l.generation < a.Generation {
			l.cancel()
			r.endEarly(ctx, l, a)
		}
	}
}

// schedule schedules another step for an agent, and starts its loop if it has none.
func (r *Reconciler) schedule(ctx context.Context, id identity.AgentID) *loop {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.loops[id]
	if l == nil {
		l = &loop{id: id, wake: make(chan struct{}, 1), cancel: func() {}}
		r.loops[id] = l
		r.running.Go(func() { r.runLoop(ctx, l) })
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return l
}

func (r *Reconciler) isStepping(l *loop) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return l.stepping
}

// runLoop makes steps until nothing can happen without a notification, or ctx ends.
func (r *Reconciler) runLoop(ctx context.Context, l *loop) {
	for {
		n, err := r.runStep(ctx, l)
		switch {
		case ctx.Err() != nil:
			r.exit(l)
			return
		case errors.Is(err, errInterrupted):
			continue
		case err != nil:
			l.errors++
			r.log.ErrorContext(ctx, "reconciling an agent failed", "agent", l.id, "error", err, "tries", l.errors)
			n = next{after: r.timing.backoff(l.errors)}
		default:
			l.errors = 0
		}
		if n.park {
			if r.park(l) {
				return
			}
			continue
		}
		r.wait(ctx, l, n)
	}
}

// runStep makes one step, which a notification can interrupt. Errors: errInterrupted.
func (r *Reconciler) runStep(ctx context.Context, l *loop) (next, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.mu.Lock()
	l.stepping, l.cancel, l.generation, l.newest = true, cancel, 0, 0
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		l.stepping = false
		r.mu.Unlock()
	}()
	select {
	case <-l.wake: // this step reads what it was for
	default:
	}
	r.awaitEarly(ctx, l)
	n, err := r.step(ctx, l)
	if ctx.Err() != nil || errors.Is(err, agent.ErrOutdated) {
		return n, errInterrupted
	}
	return n, err
}

// setGeneration records what generation the running step works on. It reports whether
// a newer one is known already.
func (r *Reconciler) setGeneration(l *loop, generation int64) (outdated bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.generation = generation
	return l.newest > generation
}

// wait waits until the next step is due.
func (r *Reconciler) wait(ctx context.Context, l *loop, n next) {
	ctx, cancel := context.WithTimeout(ctx, n.after)
	var ended <-chan struct{}
	if n.place != "" {
		ended = r.watch(ctx, n.place, l.id)
	}
	select {
	case <-l.wake:
	case <-ended:
	case <-ctx.Done():
	}
	cancel()
	if ended != nil {
		<-ended
	}
}

// watch returns a channel that is closed when the gateway at a place or ctx has ended.
// The caller waits for that, because a goroutine runs until then.
func (r *Reconciler) watch(ctx context.Context, place runtime.Place, id identity.AgentID) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if w, ok := r.driver.(runtime.Watcher); ok && w.Watch(ctx, place, id) == nil {
			return
		}
		r.poll(ctx, place, id)
	}()
	return ended
}

// pollInterval is how often a gateway is inspected whose driver cannot watch it.
const pollInterval = 2 * time.Second

// poll returns when the gateway at a place or ctx has ended.
func (r *Reconciler) poll(ctx context.Context, place runtime.Place, id identity.AgentID) {
	ticks := time.NewTicker(pollInterval)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		if state, err := r.driver.Inspect(ctx, place, id); err == nil && state.Phase != runtime.Running {
			return
		}
	}
}

// park ends a loop, unless another step has been scheduled meanwhile.
func (r *Reconciler) park(l *loop) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(l.wake) > 0 {
		return false
	}
	delete(r.loops, l.id)
	return true
}

// exit ends a loop because the server stops.
func (r *Reconciler) exit(l *loop) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.loops, l.id)
}
