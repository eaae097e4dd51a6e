package agentstatus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"agento.host/agento/internal/identity"
)

// RedisReports are Reports that several servers share. After a failure Redis is not
// called for a while: its failure must not slow down every request.
type RedisReports struct {
	client *redis.Client

	mu          sync.Mutex
	pausedUntil time.Time // guarded by mu
}

const (
	// redisTimeout bounds every exchange with Redis. One takes less than a millisecond.
	redisTimeout = 500 * time.Millisecond
	// redisPause is how long Redis is not called after a failure.
	redisPause = 5 * time.Second
)

// errRedisPaused means that Redis has failed less than redisPause ago.
var errRedisPaused = errors.New("Redis failed a moment ago")

// OpenRedisReports returns Reports in the Redis of a URL such as
// redis://:password@host:6379/0. It does not connect yet. The caller closes it.
func OpenRedisReports(url string) (*RedisReports, error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("redis URL: %w", err)
	}
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = redisTimeout, redisTimeout, redisTimeout
	options.MaxRetries, options.DialerRetries = -1, 1
	return &RedisReports{client: redis.NewClient(options)}, nil
}

// HasFailed reports whether Redis has failed a moment ago.
func (r *RedisReports) HasFailed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Before(r.pausedUntil)
}

// Close closes the connections.
func (r *RedisReports) Close() error { return r.client.Close() }

// Put implements Reports.
func (r *RedisReports) Put(ctx context.Context, reports map[identity.AgentID]Report, ttl time.Duration) error {
	if len(reports) == 0 {
		return nil
	}
	return r.call(func() error {
		_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for id, report := range reports {
				data, err := json.Marshal(report)
				if err != nil {
					return err
				}
				p.Set(ctx, redisKey(id), data, ttl)
			}
			return nil
		})
		return err
	})
}

// Get implements Reports.
func (r *RedisReports) Get(ctx context.Context, id identity.AgentID) (report Report, ok bool, err error) {
	err = r.call(func() error {
		data, err := r.client.Get(ctx, redisKey(id)).Bytes()
		if errors.Is(err, redis.Nil) {
			return nil
		}
		if err != nil {
			return err
		}
		ok = true
		return json.Unmarshal(data, &report)
	})
	return report, ok && err == nil, err
}

// call calls f, unless Redis is paused. Errors: errRedisPaused.
func (r *RedisReports) call(f func() error) error {
	r.mu.Lock()
	paused := time.Now().Before(r.pausedUntil)
	r.mu.Unlock()
	if paused {
		return errRedisPaused
	}
	err := f()
	if err != nil && !errors.Is(err, context.Canceled) {
		r.mu.Lock()
		r.pausedUntil = time.Now().Add(redisPause)
		r.mu.Unlock()
	}
	if err != nil {
		return fmt.Errorf("reports in Redis: %w", err)
	}
	return nil
}

func redisKey(id identity.AgentID) string { return "agento:report:" + string(id) }
