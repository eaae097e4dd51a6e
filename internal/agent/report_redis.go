package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisReports are Reports that several servers share. Redis being down must not
// slow anybody down: after a failure it is left alone for a moment.
type RedisReports struct {
	client *redis.Client

	mu    sync.Mutex
	until time.Time // it is left alone; guarded by mu
}

const (
	// redisTime bounds every exchange with Redis. One takes below a millisecond.
	redisTime = 500 * time.Millisecond
	// redisPause is how long Redis is left alone after a failure.
	redisPause = 5 * time.Second
)

// errRedisPause says that Redis failed a moment ago.
var errRedisPause = errors.New("Redis failed a moment ago")

// OpenRedisReports returns Reports in the Redis of a URL such as
// redis://:password@host:6379/0. Nothing is dialled yet. Close ends it.
func OpenRedisReports(url string) (*RedisReports, error) {
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("redis URL: %w", err)
	}
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = redisTime, redisTime, redisTime
	options.MaxRetries, options.DialerRetries = -1, 1
	return &RedisReports{client: redis.NewClient(options)}, nil
}

// Close closes the connections.
func (r *RedisReports) Close() error { return r.client.Close() }

// Put implements Reports.
func (r *RedisReports) Put(ctx context.Context, reports map[string]Report, fresh time.Duration) error {
	if len(reports) == 0 {
		return nil
	}
	return r.ask(func() error {
		_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for id, report := range reports {
				data, err := json.Marshal(report)
				if err != nil {
					return err
				}
				p.Set(ctx, reportKey(id), data, fresh)
			}
			return nil
		})
		return err
	})
}

// Get implements Reports.
func (r *RedisReports) Get(ctx context.Context, agentID string) (report Report, ok bool, err error) {
	err = r.ask(func() error {
		data, err := r.client.Get(ctx, reportKey(agentID)).Bytes()
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

func (r *RedisReports) ask(f func() error) error {
	r.mu.Lock()
	paused := time.Now().Before(r.until)
	r.mu.Unlock()
	if paused {
		return errRedisPause
	}
	err := f()
	if err != nil && !errors.Is(err, context.Canceled) {
		r.mu.Lock()
		r.until = time.Now().Add(redisPause)
		r.mu.Unlock()
	}
	if err != nil {
		return fmt.Errorf("reports in Redis: %w", err)
	}
	return nil
}

func reportKey(agentID string) string { return "agento:report:" + agentID }
