package agentstatus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

const (
	// maxInspections bounds how many gateways are inspected at the same time.
	maxInspections = 8
	// ttlRounds is how many rounds a report lasts: one may be late or lost.
	ttlRounds = 3
	// pauseShare is how many times as long as it worked a sampler pauses, at least.
	pauseShare = 4
)

// sampler samples every running gateway again and again, and puts reports.
type sampler struct {
	service *Service
	last    map[identity.AgentID]sample // of the round before
	told    map[identity.AgentID]Report // that Settings.Moved was told about
}

// sample is the state of a gateway at one time.
type sample struct {
	place runtime.Place
	state runtime.State
	at    time.Time
	cpu   float64 // percent of one core, since the sample before
}

// usedAt returns when the driver has measured what the gateway uses.
func (now sample) usedAt() time.Time {
	if now.state.UsageAt.IsZero() {
		return now.at
	}
	return now.state.UsageAt
}

// since returns the sample with its share of the CPU since another one of the same gateway. It is that of
// the other one if nothing was measured meanwhile.
func (now sample) since(before sample) sample {
	if before.place != now.place || !before.state.StartedAt.Equal(now.state.StartedAt) {
		return now
	}
	if now.cpu = before.cpu; now.usedAt().After(before.usedAt()) {
		now.cpu = 100 * float64(max(0, now.state.CPU-before.state.CPU)) / float64(now.usedAt().Sub(before.usedAt()))
	}
	return now
}

// report returns the report that a sample makes.
func (now sample) report() Report {
	return Report{Place: now.place, Phase: now.state.Phase, MemoryBytes: now.state.MemoryBytes, MemoryLimit: now.state.MemoryLimit, CPU: now.cpu, At: now.at}
}

// run samples until ctx ends.
func (s *sampler) run(ctx context.Context) {
	for working, pause := true, s.service.interval; ; {
		began := time.Now()
		err := s.round(ctx, ttlRounds*pause)
		if ctx.Err() != nil {
			return
		}
		if err != nil && working { // logged once, not every round
			s.service.log.WarnContext(ctx, "reporting on gateways failed", "error", err)
		}
		working = err == nil
		// Where inspecting is slow, more of it must not slow everything down.
		pause = max(s.service.interval, pauseShare*time.Since(began))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// round samples each gateway once and puts reports that last for ttl.
func (s *sampler) round(ctx context.Context, ttl time.Duration) error {
	places, err := s.service.store.ListGateways(ctx, s.service.db)
	if err != nil {
		return fmt.Errorf("list running agents: %w", err)
	}
	samples, err := s.service.sampleAll(ctx, places)
	reports := make(map[identity.AgentID]Report, len(samples))
	for id, now := range samples {
		if before, ok := s.last[id]; ok { // a CPU share needs two samples
			now = now.since(before)
			samples[id], reports[id] = now, now.report()
		}
	}
	s.last = samples
	defer s.tell(reports)
	for _, to := range s.service.reports {
		err = errors.Join(err, to.Put(ctx, reports, ttl))
	}
	return err
}

// tell tells Settings.Moved which agents' gateways use much more or less.
func (s *sampler) tell(reports map[identity.AgentID]Report) {
	if s.service.moved == nil {
		return
	}
	told := make(map[identity.AgentID]Report, len(reports))
	for id, now := range reports {
		before, ok := s.told[id]
		if told[id] = before; ok && !now.movedFrom(before) {
			continue
		}
		told[id] = now
		s.service.moved(id)
	}
	s.told = told
}

// What is worth to be told: an eighth of the memory, or a quarter of a core.
const (
	movedMemory = 8
	movedCPU    = 25
)

func (r Report) movedFrom(before Report) bool {
	return max(r.MemoryBytes-before.MemoryBytes, before.MemoryBytes-r.MemoryBytes) > before.MemoryBytes/movedMemory || math.Abs(r.CPU-before.CPU) > movedCPU
}

// sampleAll samples gateways by agent. Those that cannot be inspected are not in the
// result; the error is that of one of them.
func (s *Service) sampleAll(ctx context.Context, places map[identity.AgentID]runtime.Place) (map[identity.AgentID]sample, error) {
	var inspections errgroup.Group
	inspections.SetLimit(maxInspections)
	var mu sync.Mutex
	samples := make(map[identity.AgentID]sample, len(places)) // guarded by mu
	var failed error                                          // guarded by mu
	for id, place := range maps.All(places) {
		inspections.Go(func() error {
			v, err := s.sample(ctx, id, place)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
				return nil
			}
			samples[id] = v
			return nil
		})
	}
	_ = inspections.Wait() // every error is in failed
	return samples, failed
}

func (s *Service) sample(ctx context.Context, id identity.AgentID, place runtime.Place) (sample, error) {
	state, err := s.driver.Inspect(ctx, place, id)
	if err != nil {
		return sample{}, fmt.Errorf("inspect gateway: %w", err)
	}
	return sample{place: place, state: state, at: time.Now()}, nil
}
