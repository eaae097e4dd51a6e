package agentstatus

import (
	"context"
	"fmt"
	"sync"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// Report is what a gateway was seen to use of its machine.
type Report struct {
	Place       runtime.Place `json:"place"`
	Phase       runtime.Phase `json:"phase"`
	MemoryBytes int64         `json:"memoryBytes"`
	MemoryLimit int64         `json:"memoryLimit"` // 0: none
	CPU         float64       `json:"cpu"`         // percent of one core, since the sample before
	At          time.Time     `json:"at"`
}

func (r Report) memoryUsage() string {
	used := fmt.Sprintf("%dMiB", r.MemoryBytes>>20)
	if r.MemoryLimit == 0 {
		return used
	}
	return fmt.Sprintf("%s / %dMiB", used, r.MemoryLimit>>20)
}

// Reports keep the last report on each gateway until it expires. Losing them does no
// harm: the gateway is then inspected.
type Reports interface {
	// Put keeps reports, by agent, for ttl.
	Put(ctx context.Context, reports map[identity.AgentID]Report, ttl time.Duration) error
	// Get returns the report on an agent's gateway; ok is false if there is none or it
	// has expired.
	Get(ctx context.Context, id identity.AgentID) (r Report, ok bool, err error)
}

// MemoryReports are Reports of this server alone. The zero value is empty and ready.
type MemoryReports struct {
	mu      sync.Mutex
	reports map[identity.AgentID]expiringReport // guarded by mu
}

type expiringReport struct {
	Report
	expires time.Time
}

// Put implements Reports.
func (m *MemoryReports) Put(_ context.Context, reports map[identity.AgentID]Report, ttl time.Duration) error {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reports == nil {
		m.reports = make(map[identity.AgentID]expiringReport, len(reports))
	}
	for id, r := range m.reports {
		if !now.Before(r.expires) {
			delete(m.reports, id)
		}
	}
	for id, r := range reports {
		m.reports[id] = expiringReport{r, now.Add(ttl)}
	}
	return nil
}

// Get implements Reports.
func (m *MemoryReports) Get(_ context.Context, id identity.AgentID) (Report, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.reports[id]
	if !ok || !time.Now().Before(r.expires) {
		return Report{}, false, nil
	}
	return r.Report, true, nil
}
