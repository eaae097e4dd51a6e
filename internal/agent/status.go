package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/runtime"
)

// sample is one look at a gateway's use of the machine.
type sample struct {
	place string
	state runtime.State
	at    time.Time
}

// span is the least time between two looks that a CPU share is measured over.
const span = 200 * time.Millisecond

// samples are the last looks at each gateway.
type samples struct {
	mu   sync.Mutex
	last map[string]sample // by agent; guarded by mu
}

func newSamples() *samples { return &samples{last: map[string]sample{}} }

func (s *samples) get(id, place string) (sample, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.last[id]
	return v, ok && v.place == place
}

func (s *samples) put(id string, v sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for other, old := range s.last { // those of agents that are gone or stopped
		if v.at.Sub(old.at) > time.Hour {
			delete(s.last, other)
		}
	}
	s.last[id] = v
}

// Status looks at an agent now. Faults: NotFound.
func (s *Service) Status(ctx context.Context, who access.Principal, id string) (client.LiveStatus, error) {
	a, err := find(ctx, s.DB, who.AccountID, id)
	if err != nil {
		return client.LiveStatus{}, err
	}
	live := client.LiveStatus{Status: a.Status, ContainerStatus: string(runtime.Gone), Source: "runtime"}
	if a.Place == "" {
		return live, nil
	}
	before, now, err := s.look(ctx, a)
	if err != nil {
		return live, err
	}
	live.ContainerStatus = string(now.state.Phase)
	if live.Live = now.state.Phase == runtime.Running; live.Live {
		live.Resources = &client.Resources{MemoryUsage: memoryText(now.state), CPUPercent: cpuText(before, now)}
	}
	return live, nil
}

// look takes two looks at a gateway, of which the first may be an earlier one.
func (s *Service) look(ctx context.Context, a Agent) (before, now sample, err error) {
	before, ok := s.samples.get(a.ID, a.Place)
	if !ok || time.Since(before.at) > time.Minute {
		if before, err = s.sample(ctx, a); err != nil {
			return before, now, err
		}
	}
	if wait := span - time.Since(before.at); wait > 0 && before.state.Phase == runtime.Running {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return before, now, ctx.Err()
		}
	}
	now, err = s.sample(ctx, a)
	if err == nil {
		s.samples.put(a.ID, now)
	}
	return before, now, err
}

func (s *Service) sample(ctx context.Context, a Agent) (sample, error) {
	state, err := s.Driver.Inspect(ctx, a.Place, a.ID)
	if err != nil {
		return sample{}, fmt.Errorf("look at gateway: %w", err)
	}
	return sample{place: a.Place, state: state, at: time.Now()}, nil
}

func memoryText(s runtime.State) string {
	used := fmt.Sprintf("%dMiB", s.MemoryBytes>>20)
	if s.MemoryLimit == 0 {
		return used
	}
	return fmt.Sprintf("%s / %dMiB", used, s.MemoryLimit>>20)
}

// cpuText is the share of one core between two looks.
func cpuText(before, now sample) string {
	d := now.at.Sub(before.at)
	if d <= 0 {
		return "0.00%"
	}
	used := max(0, now.state.CPU-before.state.CPU)
	return fmt.Sprintf("%.2f%%", 100*float64(used)/float64(d))
}
