package dashboard

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

const (
	// gather is how long changes are gathered before pages are told, so that a busy account
	// causes a few notices a second at most.
	gather = 200 * time.Millisecond
	// heartbeat is the time between the comments on a silent stream: proxies end silent ones.
	heartbeat = 15 * time.Second
	// writeTimeout is how long a browser may not take what is written.
	writeTimeout = 10 * time.Second
	// maxTopics is how many topics of an account are remembered for pages that come back. A page
	// that was away for more is told to fetch everything anew.
	maxTopics = 5000
	// maxOwners is how many agents' accounts are remembered.
	maxOwners = 100_000
)

// activity follows what changes in each account, in an order with numbers, and tells the open
// pages. It knows topics only: what has changed, a page reads anew.
type activity struct {
	events  *event.Log
	ownerOf func(context.Context, identity.AgentID) (identity.AccountID, error)
	epoch   string // of this process: numbers of another one mean nothing

	mu       sync.Mutex
	number   int64                                   // guarded by mu
	accounts map[identity.AccountID]*account         // guarded by mu
	owners   map[identity.AgentID]identity.AccountID // guarded by mu
}

// account is what has changed in an account, and who watches it.
type account struct {
	since    int64                 // what was before is forgotten
	last     map[event.Topic]int64 // the number of the last change
	watchers map[chan struct{}]struct{}
}

func newActivity(events *event.Log, ownerOf func(context.Context, identity.AgentID) (identity.AccountID, error)) *activity {
	return &activity{events: events, ownerOf: ownerOf, epoch: rand.Text()[:8], accounts: map[identity.AccountID]*account{}, owners: map[identity.AgentID]identity.AccountID{}}
}

// run follows the event log until ctx ends.
func (a *activity) run(ctx context.Context) error {
	events, agents := a.events.SubscribePrefix(event.ActivityPrefix), a.events.SubscribePrefix(event.AgentPrefix)
	defer events.Close()
	defer agents.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-events.Ready():
			for _, t := range events.Take() {
				id, topic := event.ParseActivity(t)
				a.changed(id, topic)
			}
		case <-agents.Ready(): // observed states change without an event
			for _, t := range agents.Take() {
				if id := a.owner(ctx, identity.AgentID(t.ID())); id != "" {
					a.changed(id, t)
				}
			}
		}
	}
}

// owner returns the account of an agent, or "" if there is no such agent any more.
func (a *activity) owner(ctx context.Context, id identity.AgentID) identity.AccountID {
	a.mu.Lock()
	owner, ok := a.owners[id]
	a.mu.Unlock()
	if ok {
		return owner
	}
	owner, err := a.ownerOf(ctx, id)
	if err != nil {
		return ""
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.owners) >= maxOwners {
		clear(a.owners)
	}
	a.owners[id] = owner
	return owner
}

func (a *activity) changed(id identity.AccountID, t event.Topic) {
	a.mu.Lock()
	defer a.mu.Unlock()
	acct := a.account(id)
	if len(acct.last) >= maxTopics {
		clear(acct.last)
		acct.since = a.number
	}
	a.number++
	acct.last[t] = a.number
	for w := range acct.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// account returns the activity of an account. a.mu is held.
func (a *activity) account(id identity.AccountID) *account {
	acct, ok := a.accounts[id]
	if !ok {
		acct = &account{since: a.number, last: map[event.Topic]int64{}, watchers: map[chan struct{}]struct{}{}}
		a.accounts[id] = acct
	}
	return acct
}

// moment returns the moment that a page which is read from now on shows.
func (a *activity) moment(id identity.AccountID) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.account(id)
	return a.format(a.number)
}

func (a *activity) format(number int64) string { return a.epoch + "-" + strconv.FormatInt(number, 10) }

// watch returns a channel that receives when something changes in an account.
func (a *activity) watch(id identity.AccountID) (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	c <- struct{}{} // there may be something already
	a.mu.Lock()
	defer a.mu.Unlock()
	a.account(id).watchers[c] = struct{}{}
	return c, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.account(id).watchers, c)
	}
}

// after returns the topics of an account that have changed since a moment, and the moment now.
// all is true if the moment is not known any more: everything may have changed.
func (a *activity) after(id identity.AccountID, from string) (topics []event.Topic, now string, all bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	acct := a.account(id)
	now = a.format(a.number)
	text, ok := strings.CutPrefix(from, a.epoch+"-")
	number, err := strconv.ParseInt(text, 10, 64)
	if !ok || err != nil || number < acct.since || number > a.number {
		return nil, now, true
	}
	for t, n := range acct.last {
		if n > number {
			topics = append(topics, t)
		}
	}
	slices.Sort(topics)
	return topics, now, false
}

// live is the stream of an open page: what changes in the account of the session, by topic.
// One is enough for all pages of a browser. It ends when the person's rights change, and
// begins where the last one has ended, by ?from. With ?once it ends after the first news, or at
// the first heartbeat: proxies that keep responses until they are whole deliver that.
func (s *Server) live(v *visit) error {
	ctx, cancel := v.whileValid()
	defer cancel()
	defer context.AfterFunc(s.draining, cancel)()
	release, err := s.streams.hold(v)
	if err != nil {
		return err
	}
	defer release()
	id := identity.AccountID(v.Account)
	changed, stop := s.activity.watch(id)
	defer stop()
	h := v.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
	out := &stream{w: v.w, ctl: http.NewResponseController(v.w)}
	from, once := v.Query("from"), v.Query("once") != ""
	out.write(": open\n\n")
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for out.err == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
			out.write(": \n\n")
			if once {
				return nil
			}
		case <-changed:
			topics, now, all := s.activity.after(id, from)
			switch {
			case all:
				out.send("reset", now, []event.Topic{})
			case len(topics) > 0:
				out.send("changed", now, topics)
			}
			if once && (all || len(topics) > 0) {
				return nil
			}
			from = now
			pause(ctx, gather)
		}
	}
	return nil
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// stream writes server-sent events. After the first error it does nothing.
type stream struct {
	w   http.ResponseWriter
	ctl *http.ResponseController
	err error
}

func (s *stream) send(name, id string, data any) {
	text, err := json.Marshal(data)
	if err != nil {
		s.err = err
		return
	}
	s.write(fmt.Sprintf("id: %s\nevent: %s\ndata: %s\n\n", id, name, text))
}

func (s *stream) write(text string) {
	if s.err != nil {
		return
	}
	_ = s.ctl.SetWriteDeadline(time.Now().Add(writeTimeout)) // refused only by writers without a connection
	if _, s.err = s.w.Write([]byte(text)); s.err == nil {
		s.err = s.ctl.Flush()
	}
}

// streams counts the streams of each person.
type streams struct {
	mu   sync.Mutex
	open map[string]int // guarded by mu
}

// maxStreams is how many streams a person may have open: a browser needs one.
const maxStreams = 30

// hold takes a stream. Faults: RateLimited.
func (s *streams) hold(v *visit) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[v.Email] >= maxStreams {
		return nil, fault.New(fault.RateLimited, "You have %d pages open in browsers that need a stream each. Close some of them.", maxStreams)
	}
	s.open[v.Email]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open[v.Email]--; s.open[v.Email] == 0 {
			delete(s.open, v.Email)
		}
	}, nil
}
