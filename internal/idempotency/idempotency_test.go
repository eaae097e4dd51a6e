package idempotency_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/idempotency"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// env has a service and what tests look at beside it.
type env struct {
	*idempotency.Service
	t      *testing.T
	db     *database.DB
	events *event.Log
	runs   atomic.Int64 // executions
}

func newEnv(t *testing.T) *env {
	t.Helper()
	master := make([]byte, 32)
	_, _ = rand.Read(master)
	v, err := vault.New(master)
	if err != nil {
		t.Fatal(err)
	}
	e := &env{t: t, db: databasetest.New(t)}
	e.events = event.NewLog(e.db)
	e.Service = idempotency.New(idempotency.Settings{DB: e.db, Events: e.events, Vault: v, Log: slog.New(slog.DiscardHandler)})
	return e
}

func (e *env) exec(query string, args ...any) {
	e.t.Helper()
	err := e.db.Tx(e.t.Context(), "test", func(_ context.Context, tx *database.Tx) error {
		_, err := tx.ExecContext(e.t.Context(), query, args...)
		return err
	})
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e *env) records() int {
	e.t.Helper()
	n, err := database.One(e.t.Context(), e.db, database.Scalar[int], `SELECT count(*) FROM idempotent_requests`)
	if err != nil {
		e.t.Fatal(err)
	}
	return n
}

// commit appends an event, as a service does that changes something.
func (e *env) commit(ctx context.Context, id identity.RequestID) {
	e.t.Helper()
	err := e.db.Tx(ctx, "test", func(ctx context.Context, tx *database.Tx) error {
		actor := request().Actor
		actor.Request = id
		return e.events.Append(ctx, tx, actor, event.Event{Topic: "agent/1", Kind: "agent.created"})
	})
	if err != nil {
		e.t.Error(err)
	}
}

func request() idempotency.Request {
	return idempotency.Request{Actor: identity.ByKey("acct_1", "key_1"), Method: "POST", Path: "/v1/agents", Key: "k", Body: []byte(`{"secret":"hunter2"}`)}
}

// respond returns an execution that answers with a status, after committing something
// if commits is true. ids receives the id of the request.
func (e *env) respond(status int, commits bool, ids *[]identity.RequestID) idempotency.Execute {
	return func(ctx context.Context, id identity.RequestID) idempotency.Response {
		e.runs.Add(1)
		*ids = append(*ids, id)
		if commits {
			e.commit(ctx, id)
		}
		return idempotency.Response{Status: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte("answer")}
	}
}

func TestWhichResponsesAreKept(t *testing.T) {
	for _, c := range []struct {
		status        int
		commits, kept bool
	}{
		{200, true, true}, {200, false, true}, {201, true, true}, {202, true, true}, {409, false, true}, {409, true, true},
		{500, true, true}, {502, true, true}, {504, true, true},
		{500, false, false}, {502, false, false}, {504, false, false},
		{400, false, false}, {401, false, false}, {403, false, false}, {404, false, false}, {404, true, false},
		{413, false, false}, {415, false, false}, {429, false, false}, {503, false, false}, {503, true, false},
	} {
		e := newEnv(t)
		var ids []identity.RequestID
		first, replayed, err := e.Do(t.Context(), request(), e.respond(c.status, c.commits, &ids))
		if err != nil || replayed || first.Status != c.status {
			t.Fatalf("%+v: %+v %v %v", c, first, replayed, err)
		}
		second, replayed, err := e.Do(t.Context(), request(), e.respond(c.status, false, &ids))
		if err != nil || second.Status != c.status || string(second.Body) != "answer" || second.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%+v: the repetition is answered with %+v, %v", c, second, err)
		}
		if replayed != c.kept || (len(ids) == 1) != c.kept {
			t.Errorf("%+v: replayed %v, executed %d times", c, replayed, len(ids))
		}
		if len(ids) == 2 && (ids[0] == ids[1]) != c.commits {
			t.Errorf("%+v: a request that committed something, and no other, is executed again under its id: %v", c, ids)
		}
		if !c.kept && !c.commits && e.records() != 0 {
			t.Errorf("%+v: a record of nothing is left", c)
		}
	}
}

func TestKeyBelongsToActorMethodAndPath(t *testing.T) {
	e := newEnv(t)
	var ids []identity.RequestID
	do := func(change func(*idempotency.Request)) (bool, error) {
		r := request()
		change(&r)
		_, replayed, err := e.Do(t.Context(), r, e.respond(200, true, &ids))
		return replayed, err
	}
	for name, change := range map[string]func(*idempotency.Request){
		"first":           func(*idempotency.Request) {},
		"another key":     func(r *idempotency.Request) { r.Key = "K" },
		"another actor":   func(r *idempotency.Request) { r.Actor.ID = "key_2" },
		"another account": func(r *idempotency.Request) { r.Actor = identity.ByKey("acct_2", "key_3") },
		"another method":  func(r *idempotency.Request) { r.Method = "PUT" },
		"another path":    func(r *idempotency.Request) { r.Path = "/v1/swarms" },
	} {
		if replayed, err := do(change); replayed || err != nil {
			t.Errorf("%s: replayed %v, %v", name, replayed, err)
		}
		if replayed, err := do(change); !replayed || err != nil {
			t.Errorf("%s again: replayed %v, %v", name, replayed, err)
		}
	}
	for name, change := range map[string]func(*idempotency.Request){
		"another body":  func(r *idempotency.Request) { r.Body = []byte("{}") },
		"no body":       func(r *idempotency.Request) { r.Body = nil },
		"another query": func(r *idempotency.Request) { r.Query = "dryRun=true" },
	} {
		if _, err := do(change); !fault.Is(err, fault.KeyReused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMalformedKeysAreRefused(t *testing.T) {
	e := newEnv(t)
	var ids []identity.RequestID
	for key, ok := range map[string]bool{
		"": false, "a": true, "a b~!": true, strings.Repeat("x", 255): true, strings.Repeat("x", 256): false, "ü": false, "a\tb": false, "\x7f": false,
	} {
		r := request()
		r.Key = key
		_, _, err := e.Do(t.Context(), r, e.respond(200, false, &ids))
		if f := fault.From(err); ok != (err == nil) || !ok && (f.Code != fault.Invalid || f.Details["Idempotency-Key"] == "") {
			t.Errorf("key %q: %v", key, err)
		}
	}
}

// TestEqualRequestsWait: requests that arrive while the first runs get its response, and
// the first is finished although its client has disconnected.
func TestEqualRequestsWait(t *testing.T) {
	e := newEnv(t)
	ctx, disconnect := context.WithCancel(t.Context())
	began, finish := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		_, _, err := e.Do(ctx, request(), func(ctx context.Context, id identity.RequestID) idempotency.Response {
			e.runs.Add(1)
			close(began)
			<-finish
			e.commit(ctx, id) // fails if ctx has ended
			return idempotency.Response{Status: 201, Body: []byte("answer")}
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-began
	disconnect()
	for range 20 {
		all.Go(func() {
			var ids []identity.RequestID
			res, replayed, err := e.Do(t.Context(), request(), e.respond(500, true, &ids))
			if err != nil || !replayed || res.Status != 201 || string(res.Body) != "answer" {
				t.Errorf("%+v %v %v", res, replayed, err)
			}
		})
	}
	if _, _, err := e.Do(ctx, request(), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a waiting request whose client has disconnected: %v", err)
	}
	other := request()
	other.Body = nil
	if _, _, err := e.Do(t.Context(), other, nil); !fault.Is(err, fault.KeyReused) {
		t.Errorf("another body while the first runs: %v", err)
	}
	close(finish)
	all.Wait()
	if n := e.runs.Load(); n != 1 {
		t.Errorf("executed %d times", n)
	}
}

// TestRecordOfADeadServerIsTakenOver: by the next server at once, by any other after the
// lease. The dead one, should it still live, changes nothing any more.
func TestRecordOfADeadServerIsTakenOver(t *testing.T) {
	for name, die := range map[string]func(*env){
		"restart": func(e *env) {
			if err := e.Recover(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"lost lease": func(e *env) { e.exec(`UPDATE idempotent_requests SET lease_until = 1`) },
	} {
		e := newEnv(t)
		var ids []identity.RequestID
		first, replayed, err := e.Do(t.Context(), request(), func(ctx context.Context, id identity.RequestID) idempotency.Response {
			ids = append(ids, id)
			e.commit(ctx, id)
			die(e)
			if _, replayed, err := e.Do(ctx, request(), e.respond(201, false, &ids)); replayed || err != nil {
				t.Errorf("%s: %v %v", name, replayed, err)
			}
			return idempotency.Response{Status: 502}
		})
		if err != nil || replayed || first.Status != 502 || len(ids) != 2 || ids[0] != ids[1] {
			t.Errorf("%s: %+v, the ids are %v, %v", name, first, ids, err)
		}
		if last, replayed, err := e.Do(t.Context(), request(), nil); err != nil || !replayed || last.Status != 201 {
			t.Errorf("%s: the late holder changed the record: %+v %v", name, last, err)
		}
	}
}

func TestPanicGivesTheRecordUp(t *testing.T) {
	e := newEnv(t)
	func() {
		defer func() { _ = recover() }()
		_, _, _ = e.Do(t.Context(), request(), func(context.Context, identity.RequestID) idempotency.Response { panic("broken") })
	}()
	var ids []identity.RequestID
	if _, replayed, err := e.Do(t.Context(), request(), e.respond(200, false, &ids)); replayed || err != nil {
		t.Errorf("%v %v", replayed, err)
	}
}

func TestRecordsExpire(t *testing.T) {
	e := newEnv(t)
	var ids []identity.RequestID
	do := func() bool {
		_, replayed, err := e.Do(t.Context(), request(), e.respond(200, true, &ids))
		if err != nil {
			t.Fatal(err)
		}
		return replayed
	}
	do()
	left, err := database.One(t.Context(), e.db, database.Scalar[int64], `SELECT expires_at FROM idempotent_requests`)
	if hours := time.Until(database.Time(left)).Hours(); err != nil || hours < 23.9 || hours > 24 {
		t.Errorf("a record is kept for %v hours, %v", hours, err)
	}
	expire := func() { e.exec(`UPDATE idempotent_requests SET expires_at = $1`, database.Millis(time.Now())) }
	expire()
	if do() || ids[0] == ids[1] {
		t.Errorf("an expired key is not a new one: %v", ids)
	}
	expire()
	ctx, stop := context.WithCancel(t.Context())
	var loop sync.WaitGroup
	loop.Go(func() {
		if err := e.Run(ctx); err != nil {
			t.Errorf("the loop ended with %v", err)
		}
	})
	for deadline := time.Now().Add(30 * time.Second); e.records() > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	stop()
	loop.Wait()
	if e.records() != 0 {
		t.Error("the expired record was not removed")
	}
}

func TestBodiesAreNotStored(t *testing.T) {
	e := newEnv(t)
	var ids []identity.RequestID
	if _, _, err := e.Do(t.Context(), request(), e.respond(200, true, &ids)); err != nil {
		t.Fatal(err)
	}
	var print, body []byte
	var header string
	if err := e.db.QueryRowContext(t.Context(), `SELECT fingerprint, header, body FROM idempotent_requests`).Scan(&print, &header, &body); err != nil {
		t.Fatal(err)
	}
	if len(print) != 32 || bytes.Contains(append(append(print, header...), body...), []byte("hunter2")) {
		t.Errorf("the record is %q %q %q", print, header, body)
	}
	r := request() // the same body in another account
	r.Actor = identity.ByKey("acct_2", "key_2")
	if _, _, err := e.Do(t.Context(), r, e.respond(200, true, &ids)); err != nil {
		t.Fatal(err)
	}
	n, err := database.One(t.Context(), e.db, database.Scalar[int], `SELECT count(DISTINCT fingerprint) FROM idempotent_requests`)
	if err != nil || n != 2 {
		t.Errorf("two accounts have %d fingerprints, %v", n, err)
	}
}
