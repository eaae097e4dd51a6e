// Package idempotency makes requests with an Idempotency-Key safe to repeat: it keeps
// the response of a request and returns it to every equal one.
//
// A record belongs to an actor, a method, a path and a key. The first request makes the
// record and becomes its holder; equal requests wait for the response. The holder renews
// a lease, so that the record of a server that died can be taken over. The request is
// then executed again, with the same identity.RequestID: what it must not do twice is
// found by event.Log.Repeated.
package idempotency

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

const (
	keepTime        = 24 * time.Hour   // how long a record is kept
	leaseTime       = 10 * time.Second // how long a record stays held that its holder does not renew
	renewInterval   = leaseTime / 4
	pollInterval    = time.Second // how often a request that waits reads the record without a notification
	cleanupInterval = 10 * time.Minute
	maxKey          = 255 // bytes
)

// Settings configure a Service. All fields are required.
type Settings struct {
	DB     *database.DB
	Events *event.Log
	Vault  *vault.Vault
	Log    *slog.Logger
}

// Service executes requests with an idempotency key. It is safe for concurrent use.
type Service struct {
	db     *database.DB
	events *event.Log
	vault  *vault.Vault
	log    *slog.Logger
}

// New returns a Service.
func New(s Settings) *Service {
	return &Service{db: s.DB, events: s.Events, vault: s.Vault, log: s.Log}
}

// Request is a request with an idempotency key.
type Request struct {
	Actor        identity.Actor
	Method, Path string
	Key          string
	Query        string
	Body         []byte
}

// Response is the response to a Request.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// Execute executes a request and returns its response. Its context does not end with the
// request's: work that began is finished for the repetition, also if the client has
// disconnected.
type Execute func(context.Context, identity.RequestID) Response

// Do returns the response of an earlier, equal request, after waiting for it if it still
// runs. If there is none, Do calls execute. It keeps the response for 24 hours if the
// work began; see isKept.
// Faults: Invalid, naming the header, if the key is malformed; KeyReused, if the key was
// used with another query or body; Unavailable, if the account's data key is damaged.
func (s *Service) Do(ctx context.Context, r Request, execute Execute) (res Response, replayed bool, err error) {
	if err := checkKey(r.Key); err != nil {
		return Response{}, false, err
	}
	print, err := s.fingerprint(ctx, r)
	if err != nil {
		return Response{}, false, err
	}
	rec, err := s.acquire(ctx, r, print)
	if err != nil {
		return Response{}, false, err
	}
	if rec.response.Status != 0 {
		return rec.response, true, nil
	}
	return s.execute(context.WithoutCancel(ctx), r, rec, execute), false, nil
}

func checkKey(key string) error {
	wrong := fault.Fields{}
	if key == "" || len(key) > maxKey || strings.ContainsFunc(key, func(c rune) bool { return c < ' ' || c > '~' }) {
		wrong.Add("Idempotency-Key", "must be 1 to %d printable ASCII characters", maxKey)
	}
	return wrong.Err()
}

// fingerprint returns what distinguishes requests with the same key: an HMAC, with a key
// of the account, of the query and the body, which may contain secrets.
func (s *Service) fingerprint(ctx context.Context, r Request) ([]byte, error) {
	account, owner := r.Actor.AccountID, vault.OfAccount(r.Actor.AccountID)
	token, err := s.vault.Token(ctx, s.db, account, owner, "idempotency")
	if errors.Is(err, vault.ErrNoKey) {
		err = s.db.Tx(ctx, "idempotency.data_key", func(ctx context.Context, tx *database.Tx) error {
			if err := s.vault.Put(ctx, tx, account, owner, nil); err != nil {
				return err
			}
			token, err = s.vault.Token(ctx, tx, account, owner, "idempotency")
			return err
		})
	}
	if unreadable := (*vault.UnreadableError)(nil); errors.As(err, &unreadable) {
		return nil, fault.New(fault.Unavailable, "Requests with an Idempotency-Key cannot be accepted, because the data key of the account is damaged: ask the operator. Requests without one are executed.").Because(err)
	}
	if err != nil {
		return nil, fmt.Errorf("derive the key of request fingerprints: %w", err)
	}
	mac := hmac.New(sha256.New, []byte(token.Reveal()))
	_, _ = mac.Write([]byte(r.Query + "\x00")) // a Hash never fails
	_, _ = mac.Write(r.Body)
	return mac.Sum(nil), nil
}

// acquire returns the record of a request: with its response, or held by this request.
// It waits while another request holds it.
// Faults: KeyReused.
func (s *Service) acquire(ctx context.Context, r Request, print []byte) (record, error) {
	changed, unsubscribe := s.events.Subscribe(r.topic())
	defer unsubscribe()
	holder := rand.Text()
	for {
		rec, err := find(ctx, s.db, r)
		if err == nil && rec.next(print, time.Now()) == take {
			rec, err = s.take(ctx, r, print, holder)
		}
		if err != nil {
			return record{}, err
		}
		switch {
		case rec.holder == holder:
			return rec, nil
		case rec.next(print, time.Now()) == replay:
			return rec, nil
		case rec.next(print, time.Now()) == refuse:
			return record{}, fault.New(fault.KeyReused, "This Idempotency-Key was used for another request with a different body or query. Use a new key for each request.")
		}
		select {
		case <-changed:
		case <-time.After(pollInterval):
		case <-ctx.Done():
			return record{}, fmt.Errorf("wait for the request with the same idempotency key: %w", ctx.Err())
		}
	}
}

// take makes the request the holder of its record, unless another was faster. It returns
// the record as it then is.
func (s *Service) take(ctx context.Context, r Request, print []byte, holder string) (rec record, err error) {
	err = s.db.Tx(ctx, "idempotency.take", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockRequest, r.Actor.ID+" "+r.Key); err != nil {
			return err
		}
		now := time.Now()
		if rec, err = find(ctx, tx, r); err != nil || rec.next(print, now) != take {
			return err
		}
		if rec.id == "" || rec.expired(now) {
			if err := remove(ctx, tx, rec); err != nil {
				return err
			}
			rec = record{id: identity.RequestID("idem_" + strings.ToLower(rand.Text())), fingerprint: print, expiresAt: now.Add(keepTime)}
		}
		rec.holder, rec.leaseUntil = holder, now.Add(leaseTime)
		return save(ctx, tx, r, rec)
	})
	return rec, err
}

// execute calls f and stores the outcome. The record is given up if f panics.
func (s *Service) execute(ctx context.Context, r Request, rec record, f Execute) (res Response) {
	renewing, stop := context.WithCancel(ctx)
	var renewal sync.WaitGroup
	renewal.Go(func() { s.renew(renewing, rec) })
	defer func() {
		stop()
		renewal.Wait()
		if err := s.finish(ctx, r, rec, res); err != nil {
			s.log.ErrorContext(ctx, "the response to a request with an idempotency key was not stored", "request", rec.id, "error", err)
		}
	}()
	return f(ctx, rec.id)
}

// renew extends the lease until ctx ends.
func (s *Service) renew(ctx context.Context, rec record) {
	tick := time.NewTicker(renewInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			err := s.db.Tx(ctx, "idempotency.renew", func(ctx context.Context, tx *database.Tx) error { return extend(ctx, tx, rec, now.Add(leaseTime)) })
			if err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "the lease of a request with an idempotency key was not renewed", "request", rec.id, "error", err)
			}
		}
	}
}

// finish stores the outcome of an execution. It changes nothing if the request is no
// longer the holder.
func (s *Service) finish(ctx context.Context, r Request, rec record, res Response) error {
	return s.db.Tx(ctx, "idempotency.finish", func(ctx context.Context, tx *database.Tx) error {
		actor := r.Actor
		actor.Request = rec.id
		_, committed, err := s.events.Repeated(ctx, tx, actor)
		if err != nil {
			return err
		}
		s.events.NotifyAfterCommit(tx, r.topic())
		switch {
		case isKept(res.Status, committed):
			return complete(ctx, tx, rec, res)
		case committed:
			return release(ctx, tx, rec)
		}
		return remove(ctx, tx, rec)
	})
}

// isKept reports whether equal requests get the response with this status. All others
// are executed: a refused one as if it were new, one that committed something (503) with
// the same RequestID.
func isKept(status int, committed bool) bool {
	switch status {
	case http.StatusConflict:
		return true
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout:
		return committed
	}
	return status/100 == 2
}

// Recover gives up the records that a server held which has died. Call it before the
// server accepts requests, by the one server that has the lock of the data directory.
func (s *Service) Recover(ctx context.Context) error {
	if err := s.db.Tx(ctx, "idempotency.recover", func(ctx context.Context, tx *database.Tx) error { return releaseAll(ctx, tx) }); err != nil {
		return fmt.Errorf("recover requests with an idempotency key: %w", err)
	}
	return nil
}

// Run removes expired records until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(cleanupInterval)
	defer tick.Stop()
	for {
		err := s.db.Tx(ctx, "idempotency.clean", func(ctx context.Context, tx *database.Tx) error { return removeExpired(ctx, tx, time.Now()) })
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "expired idempotency keys were not removed", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// topic is notified when the record of a request has changed.
func (r Request) topic() event.Topic {
	return event.Topic("idempotency/" + r.Actor.ID + " " + r.Method + " " + r.Path + " " + r.Key)
}
