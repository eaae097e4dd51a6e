package fake

import (
	"slices"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// FailPlace makes the next n calls of Place return err.
func (d *Driver) FailPlace(n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script.failPlace = failures{left: n, err: err}
}

// SetMissing sets what gateways lack to be isolated; empty: nothing.
func (d *Driver) SetMissing(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script.missing = what
}

// FailStart makes the next n calls of Start that would start a gateway return err.
func (d *Driver) FailStart(n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script.failStart = failures{left: n, err: err}
}

// DelayStart makes each Start take t.
func (d *Driver) DelayStart(t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script.startDelay = t
}

// DelayStop makes gateways take t to stop, at most the grace period of Stop.
func (d *Driver) DelayStop(t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script.stopDelay = t
}

// ExitAfterStart makes the next n gateways of an agent exit with a code as soon as
// they have started.
func (d *Driver) ExitAfterStart(id identity.AgentID, n, code int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script.exits[id] = exits{left: n, code: code}
}

// Kill crashes the gateway of an agent with an exit code; kill -9 makes it 137. It
// reports whether a gateway ran.
func (d *Driver) Kill(id identity.AgentID, code int) bool { return d.crash(id, code, false) }

// KillForMemory crashes the gateway of an agent as the kernel does at the memory
// limit. It reports whether a gateway ran.
func (d *Driver) KillForMemory(id identity.AgentID) bool { return d.crash(id, 137, true) }

func (d *Driver) crash(id identity.AgentID, code int, oom bool) bool {
	g := d.Gateway(id)
	if g == nil {
		return false
	}
	l := g.current()
	g.end(code, oom)
	<-l.served
	return true
}

// Print adds a line to the log of an agent.
func (d *Driver) Print(id identity.AgentID, line string) { d.addAgent(id).currentLog().add(line) }

// SetUsage sets what Inspect returns as the usage of an agent.
func (d *Driver) SetUsage(id identity.AgentID, memoryBytes int64, cpu time.Duration) {
	a := d.addAgent(id)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.memory, a.cpu = memoryBytes, cpu
}

// SetDisk sets what the files of an agent use. Its gateway ends if that exceeds its limits.
func (d *Driver) SetDisk(id identity.AgentID, used runtime.Disk) {
	a := d.addAgent(id)
	a.mu.Lock()
	a.disk = used
	a.mu.Unlock()
	if g := d.Gateway(id); g != nil && used.Exceeds(g.Spec.Limits) {
		d.Kill(id, 137)
	}
}

// Hang makes the gateways of an agent do nothing, or do something again: they write no log.
func (d *Driver) Hang(id identity.AgentID, hung bool) {
	a := d.addAgent(id)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hung = hung
}

// SetOwner sets whose an agent is; it is the driver's own until then.
func (d *Driver) SetOwner(id identity.AgentID, owner runtime.Owner) {
	a := d.addAgent(id)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.owner = owner
}

// Quarantined lists the agents whose homes are in quarantine, sorted.
func (d *Driver) Quarantined() []identity.AgentID {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(slices.Values(d.aside))
}

// Gateway returns the running gateway of an agent, or nil.
func (d *Driver) Gateway(id identity.AgentID) *Gateway {
	a := d.agent(id)
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.running()
}

// Running lists the agents whose gateways run, sorted.
func (d *Driver) Running() []identity.AgentID {
	var ids []identity.AgentID
	for _, a := range d.all() {
		a.mu.Lock()
		if a.running() != nil {
			ids = append(ids, a.id)
		}
		a.mu.Unlock()
	}
	slices.Sort(ids)
	return ids
}

// RunningCount returns the number of running gateways.
func (d *Driver) RunningCount() int { return len(d.Running()) }

// Starts returns how many gateways of an agent have been started.
func (d *Driver) Starts(id identity.AgentID) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.starts[id]
}

// Violations lists the calls that broke the contract: a second start while a
// gateway runs elsewhere, a start at a place that Place has not returned.
func (d *Driver) Violations() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.violations)
}

// Close ends every gateway.
func (d *Driver) Close() {
	for _, a := range d.all() {
		a.stop(0)
	}
}
