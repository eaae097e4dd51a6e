package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

const (
	// looksAtOnce bounds how many gateways are looked at at the same time.
	looksAtOnce = 8
	// fresh is how many rounds a report lasts: one may be late or lost.
	fresh = 3
	// restShare is how many times as long as it worked a sampler rests, at least.
	restShare = 4
)

// sampler looks at every running gateway again and again, and keeps reports.
type sampler struct {
	*Service
	last map[string]sample // by agent, of the round before
}

// sample is one look at a gateway.
type sample struct {
	place string
	state runtime.State
	at    time.Time
}

// report is what two looks at a gateway come to; before may be the zero sample.
func (now sample) report(before sample) Report {
	r := Report{Place: now.place, Phase: now.state.Phase, MemoryBytes: now.state.MemoryBytes, MemoryLimit: now.state.MemoryLimit, At: now.at}
	took := now.at.Sub(before.at)
	if before.place == now.place && before.state.StartedAt.Equal(now.state.StartedAt) && took > 0 {
		r.CPU = 100 * float64(max(0, now.state.CPU-before.state.CPU)) / float64(took)
	}
	return r
}

// run samples until ctx ends.
func (s *sampler) run(ctx context.Context) {
	for working, pause := true, s.Timing.Report; ; {
		began := time.Now()
		err := s.round(ctx, fresh*pause)
		if ctx.Err() != nil {
			return
		}
		if err != nil && working { // once, not every round
			s.Log.WarnContext(ctx, "reporting on gateways failed", "error", err)
		}
		working = err == nil
		// Where looking is slow, more of it must not slow everything down.
		pause = max(s.Timing.Report, restShare*time.Since(began))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// round makes one look at each gateway; its reports are fresh for that long.
func (s *sampler) round(ctx context.Context, fresh time.Duration) error {
	places, err := running(ctx, s.DB)
	if err != nil {
		return fmt.Errorf("list running agents: %w", err)
	}
	seen, err := s.lookAll(ctx, places)
	reports := make(map[string]Report, len(seen))
	for id, now := range seen {
		if before, known := s.last[id]; known { // without two looks there is no CPU share
			reports[id] = now.report(before)
		}
	}
	s.last = seen
	for _, to := range s.reports {
		err = errors.Join(err, to.Put(ctx, reports, fresh))
	}
	return err
}

// lookAll looks at gateways by agent; those that cannot be looked at are left out.
func (s *Service) lookAll(ctx context.Context, places map[string]string) (map[string]sample, error) {
	var looks errgroup.Group
	looks.SetLimit(looksAtOnce)
	var mu sync.Mutex
	seen := make(map[string]sample, len(places)) // guarded by mu
	var failed error                             // guarded by mu
	for id, place := range maps.All(places) {
		looks.Go(func() error {
			v, err := s.sample(ctx, id, place)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err // one is enough to tell
				return nil
			}
			seen[id] = v
			return nil
		})
	}
	_ = looks.Wait() // each keeps its error
	return seen, failed
}

func (s *Service) sample(ctx context.Context, id, place string) (sample, error) {
	state, err := s.Driver.Inspect(ctx, runtime.Place(place), identity.AgentID(id))
	if err != nil {
		return sample{}, fmt.Errorf("look at gateway: %w", err)
	}
	return sample{place: place, state: state, at: time.Now()}, nil
}
