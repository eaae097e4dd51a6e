package access

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

const (
	// checkInterval is how often the keys of open streams are looked up. A key that this
	// process revokes is looked up at once.
	checkInterval = 2 * time.Second
	// checkBatch bounds the parameters of one query.
	checkBatch = 500
)

// openStreams are the contexts of WhileValid.
type openStreams struct {
	mu    sync.Mutex
	byKey map[identity.KeyID]map[*openStream]struct{} // guarded by mu
}

type openStream struct {
	scopes Scopes // when it was opened
	secret int64  // the number of the key's secret that it was opened with
	end    context.CancelCauseFunc
}

// validKey is what is left of a key; nothing, if it is the zero value.
type validKey struct {
	scopes Scopes
	oldest int64 // the number of its oldest secret that is valid
}

func (o *openStreams) add(key identity.KeyID, stream *openStream) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.byKey == nil {
		o.byKey = map[identity.KeyID]map[*openStream]struct{}{}
	}
	if o.byKey[key] == nil {
		o.byKey[key] = map[*openStream]struct{}{}
	}
	o.byKey[key][stream] = struct{}{}
}

func (o *openStreams) remove(key identity.KeyID, stream *openStream) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.byKey[key], stream)
	if len(o.byKey[key]) == 0 {
		delete(o.byKey, key)
	}
}

// keys returns the keys that have streams.
func (o *openStreams) keys() []identity.KeyID {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := make([]identity.KeyID, 0, len(o.byKey))
	for key := range o.byKey {
		all = append(all, key)
	}
	return all
}

// endUnless ends the streams of a key that were opened with a scope that it does not have
// any more, or with a secret that is not valid any more.
func (o *openStreams) endUnless(key identity.KeyID, left validKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for stream := range o.byKey[key] {
		if !stream.scopes.Without(left.scopes).Empty() || stream.secret < left.oldest {
			stream.end(fault.New(fault.Unauthorized, "This API key is not valid any more, or has lost a scope."))
		}
	}
}

// WhileValid returns a context that ends with ctx, and at most seconds after the caller's
// key or its secret has ended, the key has lost a scope, or its account was disabled; its cause
// is then an Unauthorized fault. Run must run. The caller of WhileValid calls the function. An
// operator has no key to lose.
func (s *Service) WhileValid(ctx context.Context, who Principal) (context.Context, context.CancelFunc) {
	if who.Operator {
		return context.WithCancel(ctx)
	}
	ctx, end := context.WithCancelCause(ctx)
	stream := &openStream{scopes: who.Scopes, secret: who.SecretNumber, end: end}
	s.streams.add(who.KeyID, stream)
	return ctx, func() {
		s.streams.remove(who.KeyID, stream)
		end(nil)
	}
}

// endStreams ends the streams of those keys that are not valid any more.
func (s *Service) endStreams(ctx context.Context, keys []identity.KeyID) {
	valid, err := s.validKeys(ctx, keys)
	if err != nil {
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "look up the keys of open streams", "error", err)
		}
		return
	}
	for _, key := range keys {
		s.streams.endUnless(key, valid[key])
	}
}

// endStreamsOf is endStreams for the keys of topics, as far as they have streams. An account
// may have any of them.
func (s *Service) endStreamsOf(ctx context.Context, topics []event.Topic) {
	var keys []identity.KeyID
	open := s.streams.keys()
	if slices.ContainsFunc(topics, func(t event.Topic) bool { return strings.HasPrefix(string(t), AccountTopicPrefix) }) {
		s.endStreams(ctx, open)
		return
	}
	for _, topic := range topics {
		if key := identity.KeyID(topic.ID()); slices.Contains(open, key) {
			keys = append(keys, key)
		}
	}
	s.endStreams(ctx, keys)
}

// EndedKeys returns those keys that were revoked, have expired or do not exist, and those of
// accounts that are disabled or deleted.
func (s *Service) EndedKeys(ctx context.Context, keys []identity.KeyID) ([]identity.KeyID, error) {
	valid, err := s.validKeys(ctx, keys)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(keys), func(key identity.KeyID) bool {
		_, ok := valid[key]
		return ok
	}), nil
}

// validKeys returns those keys that are valid. Like identify, its query has
// no account in its condition: whoever names these keys was authenticated with them.
func (s *Service) validKeys(ctx context.Context, keys []identity.KeyID) (map[identity.KeyID]validKey, error) {
	valid, at := map[identity.KeyID]validKey{}, now()
	for batch := range slices.Chunk(keys, checkBatch) {
		args := make([]any, len(batch))
		places := make([]string, len(batch))
		for i, key := range batch {
			args[i], places[i] = key, fmt.Sprintf("$%d", i+1)
		}
		found, err := database.AllReadable(ctx, s.db, scanCandidate, damagedCandidate,
			`SELECT k.hash, `+candidateColumns+` WHERE k.id IN (`+strings.Join(places, ", ")+`)`, args...)
		if err != nil {
			return nil, fmt.Errorf("look up keys: %w", err)
		}
		for _, c := range found {
			if !c.valid(at) || c.closed {
				continue
			}
			v := validKey{scopes: c.who.Scopes, oldest: c.who.SecretNumber}
			if at.Before(c.previousUntil) {
				v.oldest--
			}
			valid[c.who.KeyID] = v
		}
	}
	return valid, nil
}
