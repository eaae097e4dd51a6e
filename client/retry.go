package client

import (
	"context"
	"crypto/rand"
	"errors"
	"math"
	"net"
	"net/http"
	"time"
)

const (
	// defaultRetries is how often a request is repeated if Client.Retries is 0.
	defaultRetries = 3
	// firstPause is the pause before the first repetition; each further one is twice as long,
	// up to maxPause.
	firstPause = 500 * time.Millisecond
	maxPause   = 8 * time.Second
	// maxRetryAfter is the longest pause that the server may ask for. With a longer one the
	// error is returned, which names it.
	maxRetryAfter = time.Minute
)

// retries returns how often a request is repeated at most.
func (c *Client) retries() int {
	if c.Retries == 0 {
		return defaultRetries
	}
	return max(c.Retries, 0)
}

// newIdempotencyKey returns the key of a POST whose caller has named none: one that is never
// repeated by chance.
func newIdempotencyKey() string { return "auto-" + rand.Text() }

// canRepeat reports whether a request that failed may be sent again: it changed nothing, or a
// repetition has the same result. safe says so of any failure: a GET, or a POST with an
// Idempotency-Key.
func canRepeat(err error, safe bool) bool {
	var e *Error
	if !errors.As(err, &e) {
		var dial *net.OpError
		return safe || errors.As(err, &dial) && dial.Op == "dial" // nothing was sent
	}
	switch e.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return e.Header.Get("Idempotency-Replayed") == "" // a kept response stays as it is
	case http.StatusBadGateway:
		return safe && e.Header.Get("Idempotency-Replayed") == ""
	}
	return false
}

// pause waits before the n-th repetition, counted from 0, for as long as the server asks for.
// It returns false if ctx ends first, or if the server asks for too long.
func pause(ctx context.Context, n int, err error) bool {
	d := min(time.Duration(float64(firstPause)*math.Pow(2, float64(n))), maxPause)
	d += time.Duration(float64(d) * jitter())
	var e *Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		if d = e.RetryAfter; d > maxRetryAfter {
			return false
		}
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// jitter returns a number from 0 to 0.25, so that clients that failed together do not come
// back together.
func jitter() float64 {
	var b [1]byte
	_, _ = rand.Read(b[:]) // never fails
	return float64(b[0]) / 1024
}
