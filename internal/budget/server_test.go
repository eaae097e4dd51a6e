package budget

import "testing"

// TestServerLeavesRoom: whatever the machine has, the parts fit into it, each holder can send
// the largest request, and agents leave connections to callers.
func TestServerLeavesRoom(t *testing.T) {
	for _, s := range []ServerSettings{{}, {Memory: 512 << 20, Descriptors: 1024}, {Memory: 64 << 30, Descriptors: 1 << 20}} {
		b := NewServer(s)
		descriptors := s.Descriptors
		if descriptors == 0 {
			descriptors = defaultDescriptors
		}
		if open := int64(b.API.s.Total + b.Agents.s.Total); open > descriptors*3/4 || b.Agents.s.Total > b.API.s.Total {
			t.Errorf("%+v: %d and %d connections", s, b.API.s.Total, b.Agents.s.Total)
		}
		for _, c := range []*Connections{b.API, b.Agents} {
			if c.s.Unnamed < maxOfAgent || c.s.Group < c.s.Holder || c.s.Total < c.s.Group {
				t.Errorf("%+v: %+v", s, c.s)
			}
		}
		for _, m := range []*Budget{b.Memory, b.AgentMemory} {
			if m.s.Each < 32<<20 || m.s.Total < 2*m.s.Each || s.Memory > 1<<30 && m.s.Total > s.Memory/4 {
				t.Errorf("%+v: %d of %d bytes", s, m.s.Each, m.s.Total)
			}
		}
	}
}
