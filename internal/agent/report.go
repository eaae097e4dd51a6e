package agent

import (
	"context"
	"sync"
	"time"

	"agento.host/agento/internal/runtime"
)

// Report is what a gateway was seen to use of its machine.
type Report struct {
	Place       string        `json:"place"`
	Phase       runtime.Phase `json:"phase"`
	MemoryBytes int64         `json:"memoryBytes"`
	MemoryLimit int64         `json:"memoryLimit"` // 0: none
	CPU         float64       `json:"cpu"`         // percent of one core, since the look before
	At          time.Time     `json:"at"`
}

// Reports keep the last report on each gateway for as long as it is fresh. They are
// no records: losing them costs a look at the gateway.
type Reports interface {
	// Put keeps reports, by agent, for a time.
	Put(ctx context.Context, reports map[string]Report, fresh time.Duration) error
	// Get returns the report on an agent's gateway; ok is false if none is fresh.
	Get(ctx context.Context, agentID string) (r Report, ok bool, err error)
}

// MemoryReports are Reports of this server alone. The zero value is empty and ready.
type MemoryReports struct {
	mu   sync.Mutex
	kept map[string]keptReport // by agent; guarded by mu
}

type keptReport struct {
	Report
	until time.Time
}

// Put implements Reports.
func (m *MemoryReports) Put(_ context.Context, reports map[string]Report, fresh time.Duration) error {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kept == nil {
		m.kept = make(map[string]keptReport, len(reports))
	}
	for id, r := range m.kept {
		if !now.Before(r.until) {
			delete(m.kept, id)
		}
	}
	for id, r := range reports {
		m.kept[id] = keptReport{r, now.Add(fresh)}
	}
	return nil
}

// Get implements Reports.
func (m *MemoryReports) Get(_ context.Context, agentID string) (Report, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.kept[agentID]
	if !ok || !time.Now().Before(r.until) {
		return Report{}, false, nil
	}
	return r.Report, true, nil
}
