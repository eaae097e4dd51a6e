package docker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// An engine needs up to a second for statistics, because some measure once a second. So Inspect answers
// with those of its last calls, and has newer ones measured meanwhile.
const (
	// usageFresh is the age up to which statistics are not measured again.
	usageFresh = time.Second
	// usageStale is the age from which Inspect waits for newer ones.
	usageStale = 10 * time.Second
	// usageYoung is how long Inspect waits for no statistics after it has seen a container first.
	usageYoung = 3 * time.Second
	// maxStats bounds what is read of an answer with statistics. Source: 5 KB.
	maxStats = 1 << 20
)

// usage is what a container used at one moment.
type usage struct {
	memory, processes int64
	cpu               time.Duration
}

// sampler measures what the gateway of an agent uses.
type sampler struct {
	mu        sync.Mutex
	container string        // guarded by mu
	seenAt    time.Time     // the first time; guarded by mu
	last      usage         // guarded by mu
	at        time.Time     // of last; zero: nothing was measured yet; guarded by mu
	err       error         // of the last measuring; guarded by mu
	measuring chan struct{} // closed at the end of the one that is under way; guarded by mu; nil: none is
}

// errEnded means that a container has no processes.
var errEnded = errors.New("the container has ended")

func (d *Driver) sampler(a agent) *sampler {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.samplers[a.id]
	if s == nil {
		s = &sampler{}
		d.samplers[a.id] = s
	}
	return s
}

// usageOf returns what a container uses, or has used some seconds ago, and when that was measured. Both are
// zero for the first seconds.
// Errors: errEnded.
func (d *Driver) usageOf(ctx context.Context, a agent, c *container.InspectResponse) (u usage, at time.Time, err error) {
	s := d.sampler(a)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.container != c.ID {
		s.container, s.seenAt, s.last, s.at, s.err = c.ID, time.Now(), usage{}, time.Time{}, nil
	}
	age := time.Since(s.at)
	if age < usageFresh {
		return s.last, s.at, nil
	}
	if s.measuring == nil {
		s.measuring = make(chan struct{})
		go d.measure(s, c.ID, s.measuring) //nolint:gosec // later calls use its result
	}
	measured := !s.at.IsZero()
	if measured && (age < usageStale || c.State.Paused) || !measured && time.Since(s.seenAt) < usageYoung {
		return s.last, s.at, nil
	}
	done := s.measuring
	s.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
	}
	s.mu.Lock()
	if err := ctx.Err(); err != nil {
		return usage{}, at, err
	}
	if s.container != c.ID {
		return usage{}, at, errEnded
	}
	return s.last, s.at, s.err
}

// measure measures what a container uses.
func (d *Driver) measure(s *sampler, containerID string, done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	u, err := d.stats(ctx, containerID)
	s.mu.Lock()
	defer s.mu.Unlock()
	close(done)
	s.measuring = nil
	if s.container != containerID {
		return
	}
	if s.err = err; err == nil {
		s.last, s.at = u, time.Now()
	}
}

// stats returns what a container uses now. Errors: errEnded.
func (d *Driver) stats(ctx context.Context, containerID string) (usage, error) {
	r, err := call(ctx, d.engine, callTimeout, func(ctx context.Context, c *client.Client) (container.StatsResponse, error) {
		var s container.StatsResponse
		r, err := c.ContainerStats(ctx, containerID, client.ContainerStatsOptions{})
		if err != nil {
			return s, err
		}
		defer func() { _ = r.Body.Close() }()
		return s, json.NewDecoder(io.LimitReader(r.Body, maxStats)).Decode(&s)
	})
	if isNotFound(err) || err == nil && r.PidsStats.Current == 0 && r.MemoryStats.Usage == 0 {
		return usage{}, errEnded
	}
	return usage{
		memory: memoryOf(r.MemoryStats), processes: bounded(r.PidsStats.Current), cpu: time.Duration(bounded(r.CPUStats.CPUUsage.TotalUsage)),
	}, err
}

// memoryOf returns the memory that processes use, without the file cache that the kernel can take
// back, as the Docker CLI shows it.
func memoryOf(m container.MemoryStats) int64 {
	cache, ok := m.Stats["total_inactive_file"] // control groups v1
	if !ok {
		cache = m.Stats["inactive_file"]
	}
	if cache < m.Usage {
		return bounded(m.Usage - cache)
	}
	return bounded(m.Usage)
}

// bounded returns a number of the engine as a signed one.
func bounded(n uint64) int64 { return int64(min(n, 1<<62)) }
