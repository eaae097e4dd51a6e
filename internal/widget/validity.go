package widget

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

const (
	// checkInterval is how often the widgets of open streams are looked up. One that this process
	// changes is looked up at once.
	checkInterval = 2 * time.Second
	// checkBatch bounds the parameters of one query.
	checkBatch = 500
)

// openStreams are the contexts of WhileValid.
type openStreams struct {
	mu       sync.Mutex
	byWidget map[identity.WidgetID]map[*openStream]struct{} // guarded by mu
}

type openStream struct {
	visitor Visitor
	end     context.CancelCauseFunc
}

func (o *openStreams) add(s *openStream) {
	o.mu.Lock()
	defer o.mu.Unlock()
	id := s.visitor.Widget.ID
	if o.byWidget == nil {
		o.byWidget = map[identity.WidgetID]map[*openStream]struct{}{}
	}
	if o.byWidget[id] == nil {
		o.byWidget[id] = map[*openStream]struct{}{}
	}
	o.byWidget[id][s] = struct{}{}
}

func (o *openStreams) remove(s *openStream) {
	o.mu.Lock()
	defer o.mu.Unlock()
	id := s.visitor.Widget.ID
	delete(o.byWidget[id], s)
	if len(o.byWidget[id]) == 0 {
		delete(o.byWidget, id)
	}
}

func (o *openStreams) widgets() []identity.WidgetID {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := make([]identity.WidgetID, 0, len(o.byWidget))
	for id := range o.byWidget {
		all = append(all, id)
	}
	return all
}

// endUnless ends the streams of a widget whose visitors are not valid any more. ok is false if
// nothing is left of the widget.
func (o *openStreams) endUnless(id identity.WidgetID, w Widget, ok bool, at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for s := range o.byWidget[id] {
		switch {
		case !ok, s.visitor.keyNumber < w.oldestKey(at):
			s.end(unknownWidget())
		case s.visitor.Signed && s.visitor.secretNumber < w.oldestSecret(at):
			s.end(invalidToken("its signing secret is not valid any more"))
		}
	}
}

// WhileValid returns a context that ends with ctx, when the token of the visitor ends, and at most
// seconds after the widget was deleted or disabled, its key or signing secret has ended, or its
// account was disabled; its cause is then an Unauthorized fault. Run must run.
func (s *Service) WhileValid(ctx context.Context, v Visitor) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancelCause(ctx)
	stream := &openStream{visitor: v, end: end}
	s.streams.add(stream)
	expired := func() bool { return false }
	if !v.expires.IsZero() {
		timer := time.AfterFunc(time.Until(v.expires), func() { end(invalidToken("it has expired")) })
		expired = timer.Stop
	}
	return ctx, func() {
		expired()
		s.streams.remove(stream)
		end(nil)
	}
}

// Run ends the contexts of WhileValid, and counts the tokens of turns that have ended, until ctx
// ends.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	changed := s.events.SubscribePrefix(topicPrefix)
	defer changed.Close()
	accounts := s.events.SubscribePrefix(access.AccountTopicPrefix)
	defer accounts.Close()
	for {
		s.countTokens(ctx)
		select {
		case <-tick.C:
		case <-changed.Ready():
			changed.Take()
		case <-accounts.Ready():
			accounts.Take()
		case <-ctx.Done():
			return nil
		}
		s.endStreams(ctx)
	}
}

// endStreams ends the streams of those visitors that are not valid any more.
func (s *Service) endStreams(ctx context.Context) {
	ids := s.streams.widgets()
	if len(ids) == 0 {
		return
	}
	valid, err := s.validWidgets(ctx, ids)
	if err != nil {
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "look up the widgets of open streams", "error", err)
		}
		return
	}
	at := now()
	for _, id := range ids {
		w, ok := valid[id]
		s.streams.endUnless(id, w, ok, at)
	}
}

// validWidgets returns those widgets that serve visitors. Like findByKey, its query has no account
// in its condition: visitors of these widgets were identified.
func (s *Service) validWidgets(ctx context.Context, ids []identity.WidgetID) (map[identity.WidgetID]Widget, error) {
	valid, active, day := map[identity.WidgetID]Widget{}, map[identity.AccountID]bool{}, dayOf(now())
	for begin := 0; begin < len(ids); begin += checkBatch {
		args, places := []any{day}, []string{}
		for _, id := range ids[begin:min(begin+checkBatch, len(ids))] {
			args = append(args, id)
			places = append(places, fmt.Sprintf("$%d", len(args)))
		}
		found, err := database.AllReadable(ctx, s.db, scanToday(day), damaged, `SELECT `+columns+` FROM widgets WHERE id IN (`+strings.Join(places, ", ")+`)`, args...)
		if err != nil {
			return nil, fmt.Errorf("look up widgets: %w", err)
		}
		for _, w := range found {
			ok, known := active[w.AccountID]
			if !known {
				if ok, err = s.accounts.IsActive(ctx, s.db, w.AccountID); err != nil {
					return nil, err
				}
				active[w.AccountID] = ok
			}
			if ok && w.Enabled {
				valid[w.ID] = w
			}
		}
	}
	return valid, nil
}
