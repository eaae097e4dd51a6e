package botapi

import (
	"context"
	"net/http"
	"sync"
	"time"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/power"
)

const (
	// listenTime is the time-out of a call for updates while the agent sleeps.
	listenTime = 30 * time.Second
	// listenPause is the pause after something failed that is no call of Telegram.
	listenPause = 5 * time.Second
	// endedPause is the pause after a call for updates was ended: the record of an agent whose
	// gateway polls itself says soon that it is awake.
	endedPause = time.Second
)

// Sleepers knows the agents that sleep.
type Sleepers interface {
	// ResolveSleeping returns the bot of an agent that sleeps, if the holder still has the agent's
	// lease and nothing wakes the agent yet. Otherwise asleep is false. Faults: NotFound, if the
	// agent has no bot any more; Conflict, as of Resolver.
	ResolveSleeping(ctx context.Context, id identity.AgentID, holder string) (bot Bot, asleep bool, err error)
	// WakeAt asks for the wake of an agent at a time, if it still sleeps.
	WakeAt(ctx context.Context, id identity.AgentID, at time.Time) error
	// Changes returns a channel that has an element when ResolveSleeping may return something else.
	// The caller calls end.
	Changes(id identity.AgentID) (changed <-chan struct{}, end func())
}

// listeners are the agents that the proxy listens for while they sleep, one goroutine for each.
type listeners struct {
	mu      sync.Mutex
	run     context.Context                  // of Run; nil: it does not run; guarded by mu
	agents  map[identity.AgentID]*listener   // guarded by mu
	wakes   map[identity.AgentID]power.Tries // for what the gateway has not taken yet; guarded by mu
	running sync.WaitGroup
}

// listener is one of them.
type listener struct {
	holder string // of the agent's lease
	again  bool   // the agent sleeps again
}

func newListeners() *listeners {
	return &listeners{agents: map[identity.AgentID]*listener{}, wakes: map[identity.AgentID]power.Tries{}}
}

// Listen goes on asking for the updates of an agent's bot until the agent wakes. The caller has the
// agent's lease as holder, and may repeat the call. It does not block.
func (p *Proxy) Listen(id identity.AgentID, holder string) {
	if p.sleepers == nil {
		return
	}
	l := p.listeners
	l.mu.Lock()
	defer l.mu.Unlock()
	if one := l.agents[id]; one != nil {
		one.holder, one.again = holder, true
		return
	}
	one := &listener{holder: holder}
	l.agents[id] = one
	if l.run != nil {
		p.startListener(l.run, id, one)
	}
}

// Run listens for the agents that sleep, until ctx ends.
func (p *Proxy) Run(ctx context.Context) error {
	l := p.listeners
	l.mu.Lock()
	l.run = ctx
	for id, one := range l.agents {
		p.startListener(ctx, id, one)
	}
	l.mu.Unlock()
	<-ctx.Done()
	l.mu.Lock()
	l.run = nil
	clear(l.agents)
	l.mu.Unlock()
	l.running.Wait()
	return nil
}

// startListener starts the goroutine of an agent. The caller holds mu.
func (p *Proxy) startListener(ctx context.Context, id identity.AgentID, one *listener) {
	l := p.listeners
	l.running.Go(func() {
		for again := true; again; {
			p.listen(ctx, id)
			l.mu.Lock()
			if again = one.again && ctx.Err() == nil; !again && l.agents[id] == one {
				delete(l.agents, id)
			}
			one.again = false
			l.mu.Unlock()
		}
	})
}

// holderOf returns the holder of the lease of an agent that the proxy listens for.
func (l *listeners) holderOf(id identity.AgentID) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if one := l.agents[id]; one != nil {
		return one.holder
	}
	return ""
}

// listen keeps the updates of an agent's bot while the agent sleeps, and asks for its wake when
// one of them begins a turn, or no more can be kept.
func (p *Proxy) listen(ctx context.Context, id identity.AgentID) {
	changed, end := p.sleepers.Changes(id)
	defer end()
	s := session{proxy: p, id: id, changed: changed}
	for ctx.Err() == nil {
		holder := p.listeners.holderOf(id)
		bot, asleep, err := p.sleepers.ResolveSleeping(ctx, id, holder)
		switch {
		case fault.Is(err, fault.NotFound):
			if err = p.keeper.removeAll(ctx, id); err == nil {
				return
			}
		case fault.Is(err, fault.Conflict):
			p.watches.of(bot).unusable(fault.From(err).Message)
			s.pause(ctx, holdTime)
			continue
		case err == nil && !asleep:
			return
		case err == nil:
			asked := false
			if asked, err = p.wakeFor(ctx, bot, s.full); err == nil && asked {
				return
			}
			if err == nil {
				err = s.poll(ctx, bot, holder)
			}
		}
		if err != nil && ctx.Err() == nil {
			if !s.failed { // once, not at every try
				p.log.ErrorContext(ctx, "the messages of a bot cannot be kept while its agent sleeps; it is tried again", "agent", id, "error", err)
			}
			s.pause(ctx, listenPause)
		}
		s.failed = err != nil
	}
}

// wakeFor asks for the wake of an agent, if something is kept that wakes it, or full is true. asked
// is true if it is woken now. A gateway that does not take what it was woken for is woken again
// later and later.
func (p *Proxy) wakeFor(ctx context.Context, bot Bot, full bool) (asked bool, err error) {
	found, err := p.keeper.look(ctx, p.keeper.db, bot)
	if err != nil {
		return false, err
	}
	if found.waking < 0 && !full && !found.isFull() {
		p.listeners.setTries(bot.Agent, power.Tries{})
		return false, nil
	}
	now := time.Now()
	tries := p.listeners.triesOf(bot.Agent).Next(found.waking, bot.Wakes, now)
	if err := p.sleepers.WakeAt(ctx, bot.Agent, tries.At); err != nil {
		return false, err
	}
	p.listeners.setTries(bot.Agent, tries)
	return !tries.At.After(now), nil
}

func (l *listeners) triesOf(id identity.AgentID) power.Tries {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wakes[id]
}

// setTries keeps the tries of an agent; the zero Tries are none.
func (l *listeners) setTries(id identity.AgentID, t power.Tries) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wakes[id] = t; t.Count == 0 {
		delete(l.wakes, id)
	}
}

// session is what is known while an agent sleeps.
type session struct {
	proxy   *Proxy
	id      identity.AgentID
	changed <-chan struct{}
	number  string // of the bot
	offset  int64  // confirms what is kept; 0: that is done
	full    bool   // an update could not be kept
	failed  bool   // the last try has failed
}

// pause waits for a change, or for a time.
func (s *session) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.changed:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// poll makes one call for updates and keeps them. It ends when the agent wakes, is stopped, or gets
// another bot. What is not confirmed then comes again.
func (s *session) poll(ctx context.Context, bot Bot, holder string) error {
	p := s.proxy
	if s.number != bot.number() {
		s.number, s.offset, s.full = bot.number(), 0, false
	}
	call, done := p.polls.begin(ctx, bot.Agent)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer done()
	watching.Go(func() { s.endWithChange(call, done, bot, holder) })
	watch := p.watches.of(bot)
	at := watch.mayPollAt()
	sleepUntil(call, at, at)
	request := pollRequest{Offset: s.offset, Limit: maxKept, Timeout: int64(listenTime / time.Second), Allowed: allowedUpdates()}
	updates, failed, release, err := p.getUpdates(call, bot, request)
	defer release()
	switch {
	case call.Err() != nil: // another call has ended it, or a change
		s.pause(ctx, endedPause)
	case err != nil:
		watch.pollUnreachable(err)
	case failed != nil:
		watch.pollFailed(*failed)
		if failed.ErrorCode == http.StatusConflict && isWebhook(*failed) {
			p.deleteWebhook(call, bot)
		}
	default:
		watch.polledOnce()
		passed, last := p.filter(watch, updates)
		return s.keep(ctx, bot, passed, last)
	}
	return nil
}

// keep keeps updates of which the last has a number. The next call confirms them; if it were
// repeated after that, Telegram would not send a message whose number is lower, which it may have
// after a week without any.
func (s *session) keep(ctx context.Context, bot Bot, passed []update, last int64) error {
	kept, err := s.proxy.keeper.keep(ctx, bot, passed, time.Now())
	if err != nil {
		return err
	}
	if s.full = len(passed) > 0 && kept < passed[len(passed)-1].id; s.full {
		last = kept
	}
	s.offset = last + 1
	return nil
}

// endWithChange ends a call for updates when the bot that it is for is no longer to be asked for.
func (s *session) endWithChange(call context.Context, end func(), bot Bot, holder string) {
	for {
		select {
		case <-call.Done():
			return
		case <-s.changed:
		}
		now, asleep, err := s.proxy.sleepers.ResolveSleeping(call, s.id, holder)
		if err != nil || !asleep || now.Token.Reveal() != bot.Token.Reveal() {
			end()
			return
		}
	}
}
