package reconciler_test

import (
	"fmt"
	goruntime "runtime"
	"testing"
	"time"

	"agento.host/agento/internal/agenttest"
)

// BenchmarkSleepingAgents measures the memory of the server for each agent that sleeps, with a driver
// whose gateways take none: heap and stacks after a collection, compared to before the agents.
func BenchmarkSleepingAgents(b *testing.B) {
	const agents = 500
	for b.Loop() {
		e := agenttest.New(b, func(s *agenttest.Settings) { s.Timing.Linger = 100 * time.Millisecond })
		held := func() uint64 {
			goruntime.GC()
			goruntime.GC() // what has a finalizer
			var m goruntime.MemStats
			goruntime.ReadMemStats(&m)
			return m.HeapAlloc + m.StackInuse
		}
		before := held()
		for n := range agents {
			e.Create(fmt.Sprint("agent ", n))
		}
		e.Eventually("all sleep", func() bool { return e.Driver.RunningCount() == 0 })
		b.ReportMetric(float64(held()-before)/agents/1000, "kB/agent")
		b.ReportMetric(0, "ns/op")
	}
}
