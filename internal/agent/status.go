package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/runtime"
)

// Sources of a LiveStatus.
const (
	fromRedis   = "redis"
	fromMemory  = "memory"
	fromRuntime = "runtime"
)

// reports are kept somewhere; source is how a LiveStatus calls that.
type reports struct {
	Reports
	source string
}

// Status says how an agent is doing: from a fresh report on its gateway, or by
// looking at it now. Faults: NotFound.
func (s *Service) Status(ctx context.Context, who access.Principal, id string) (client.LiveStatus, error) {
	a, err := find(ctx, s.DB, string(who.AccountID), id)
	if err != nil {
		return client.LiveStatus{}, err
	}
	if a.Place == "" {
		return client.LiveStatus{Status: a.Status, ContainerStatus: string(runtime.Gone), Source: fromRuntime}, nil
	}
	if r, source, ok := s.reported(ctx, a); ok {
		return live(a, r, source), nil
	}
	r, err := s.lookNow(ctx, a)
	if err != nil {
		return client.LiveStatus{}, err
	}
	return live(a, r, fromRuntime), nil
}

func live(a Agent, r Report, source string) client.LiveStatus {
	l := client.LiveStatus{Status: a.Status, ContainerStatus: string(r.Phase), Live: r.Phase == runtime.Running, Source: source}
	if l.Live {
		l.Resources = &client.Resources{MemoryUsage: r.memory(), CPUPercent: fmt.Sprintf("%.2f%%", r.CPU)}
	}
	return l
}

// reported finds a fresh report on the gateway that the agent has now.
func (s *Service) reported(ctx context.Context, a Agent) (r Report, source string, ok bool) {
	if !runs(a) {
		return Report{}, "", false
	}
	for _, from := range s.reports {
		r, ok, err := from.Get(ctx, a.ID)
		if err != nil && !errors.Is(err, errRedisPause) && ctx.Err() == nil {
			s.Log.WarnContext(ctx, "reading a report failed", "agent", a.ID, "source", from.source, "error", err)
		}
		if ok && r.Place == a.Place && r.At.After(a.StartedAt) {
			return r, from.source, true
		}
	}
	return Report{}, "", false
}

// span is the least time between two looks that a CPU share is measured over.
const span = 200 * time.Millisecond

// lookNow takes two looks at a gateway.
func (s *Service) lookNow(ctx context.Context, a Agent) (Report, error) {
	before, err := s.sample(ctx, a.ID, a.Place)
	if err != nil || before.state.Phase != runtime.Running {
		return before.report(sample{}), err
	}
	timer := time.NewTimer(span)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return Report{}, ctx.Err()
	}
	now, err := s.sample(ctx, a.ID, a.Place)
	return now.report(before), err
}

func (r Report) memory() string {
	used := fmt.Sprintf("%dMiB", r.MemoryBytes>>20)
	if r.MemoryLimit == 0 {
		return used
	}
	return fmt.Sprintf("%s / %dMiB", used, r.MemoryLimit>>20)
}
