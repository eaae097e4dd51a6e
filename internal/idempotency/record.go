package idempotency

import (
	"context"
	"crypto/hmac"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

// record is what is known of a request. The zero record is of a new request.
type record struct {
	id          identity.RequestID
	fingerprint []byte
	holder      string    // the execution that runs; empty: none
	leaseUntil  time.Time // of the holder
	response    Response  // Status 0: there is none yet
	expiresAt   time.Time
}

// step is what an equal request does next.
type step int

const (
	take   step = iota // become the holder and execute
	replay             // answer with the stored response
	wait               // another request executes now
	refuse             // the key belongs to another request
)

// next returns what a request with a fingerprint does about the record.
func (rec record) next(print []byte, now time.Time) step {
	switch {
	case rec.id == "" || rec.expired(now):
		return take
	case !hmac.Equal(rec.fingerprint, print):
		return refuse
	case rec.response.Status != 0:
		return replay
	case rec.held(now):
		return wait
	}
	return take
}

func (rec record) held(now time.Time) bool { return rec.holder != "" && rec.leaseUntil.After(now) }

func (rec record) expired(now time.Time) bool { return !rec.expiresAt.After(now) && !rec.held(now) }

// find returns the record of a request, or a zero one.
func find(ctx context.Context, q database.Reader, r Request) (record, error) {
	rec, err := database.One(ctx, q, scan,
		`SELECT id, fingerprint, holder, lease_until, status, header, body, expires_at FROM idempotent_requests
		 WHERE account_id = $1 AND actor = $2 AND method = $3 AND path = $4 AND key = $5`,
		r.Actor.AccountID, r.Actor.String(), r.Method, r.Path, r.Key)
	if errors.Is(err, sql.ErrNoRows) {
		return record{}, nil
	}
	if err != nil {
		return record{}, fmt.Errorf("find the record of an idempotency key: %w", err)
	}
	return rec, nil
}

func scan(row database.Row) (record, error) {
	var rec record
	var lease, expires int64
	var header string
	if err := row.Scan(&rec.id, &rec.fingerprint, &rec.holder, &lease, &rec.response.Status, &header, &rec.response.Body, &expires); err != nil {
		return record{}, err
	}
	rec.leaseUntil, rec.expiresAt = database.Time(lease), database.Time(expires)
	return rec, json.Unmarshal([]byte(header), &rec.response.Header)
}

// save stores a record that is new or was taken over.
func save(ctx context.Context, tx *database.Tx, r Request, rec record) error {
	_, err := database.Exec(ctx, tx,
		`INSERT INTO idempotent_requests (id, account_id, actor, method, path, key, fingerprint, holder, lease_until, expires_at)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		 ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, lease_until = excluded.lease_until`,
		rec.id, r.Actor.AccountID, r.Actor.String(), r.Method, r.Path, r.Key, rec.fingerprint, rec.holder,
		database.Millis(rec.leaseUntil), database.Millis(rec.expiresAt))
	return inRecord(err)
}

// The following functions change nothing if rec's holder is no longer the holder.

func extend(ctx context.Context, tx *database.Tx, rec record, until time.Time) error {
	_, err := database.Exec(ctx, tx, `UPDATE idempotent_requests SET lease_until = $1 WHERE id = $2 AND holder = $3`, database.Millis(until), rec.id, rec.holder)
	return inRecord(err)
}

func complete(ctx context.Context, tx *database.Tx, rec record, res Response) error {
	header, err := json.Marshal(res.Header)
	if err != nil {
		return inRecord(err)
	}
	_, err = database.Exec(ctx, tx,
		`UPDATE idempotent_requests SET holder = '', lease_until = 0, status = $1, header = $2, body = $3 WHERE id = $4 AND holder = $5`,
		res.Status, string(header), res.Body, rec.id, rec.holder)
	return inRecord(err)
}

func release(ctx context.Context, tx *database.Tx, rec record) error {
	_, err := database.Exec(ctx, tx, `UPDATE idempotent_requests SET holder = '', lease_until = 0 WHERE id = $1 AND holder = $2`, rec.id, rec.holder)
	return inRecord(err)
}

func remove(ctx context.Context, tx *database.Tx, rec record) error {
	_, err := database.Exec(ctx, tx, `DELETE FROM idempotent_requests WHERE id = $1 AND holder = $2`, rec.id, rec.holder)
	return inRecord(err)
}

// releaseAll gives up the record of every holder.
func releaseAll(ctx context.Context, tx *database.Tx) error {
	_, err := database.Exec(ctx, tx, `UPDATE idempotent_requests SET holder = '', lease_until = 0 WHERE holder <> ''`)
	return err
}

// removeExpired removes the records that are expired and not held.
func removeExpired(ctx context.Context, tx *database.Tx, now time.Time) error {
	_, err := database.Exec(ctx, tx, `DELETE FROM idempotent_requests WHERE expires_at <= $1 AND lease_until <= $1`, database.Millis(now))
	return err
}

func inRecord(err error) error {
	if err != nil {
		return fmt.Errorf("write the record of an idempotency key: %w", err)
	}
	return nil
}
