package fake

import (
	"slices"
	"time"
)

// FailPlace makes the next n calls of Place return err.
func (d *Driver) FailPlace(n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script.failPlace = faults{left: n, err: err}
}

// FailStart makes the next n calls of Start that would start something return
// err.
func (d *Driver) FailStart(n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script.failStart = faults{left: n, err: err}
}

// DelayStart makes each Start take a while.
func (d *Driver) DelayStart(t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script.startDelay = t
}

// DelayStop makes gateways use up to t of the grace that Stop gives them.
func (d *Driver) DelayStop(t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script.stopDelay = t
}

// ExitAfterStart makes the next n gateways of an id end with a code as soon as
// they have started.
func (d *Driver) ExitAfterStart(id string, n, code int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script.exits[id] = exits{left: n, code: code}
}

// Kill crashes the gateway of an id with an exit code, 137 as kill -9 does. It
// says whether one ran.
func (d *Driver) Kill(id string, code int) bool { return d.crash(id, code, false) }

// KillForMemory crashes the gateway of an id as the kernel does at its limit.
func (d *Driver) KillForMemory(id string) bool { return d.crash(id, 137, true) }

func (d *Driver) crash(id string, code int, oom bool) bool {
	g := d.Gateway(id)
	if g == nil {
		return false
	}
	g.end(code, oom)
	<-g.served
	return true
}

// Print adds a line to the log of an id.
func (d *Driver) Print(id, line string) { d.agentOrNew(id).lines().add(line) }

// SetUsage sets what Inspect says an agent uses.
func (d *Driver) SetUsage(id string, memoryBytes int64, cpu time.Duration) {
	a := d.agentOrNew(id)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.memory, a.cpu = memoryBytes, cpu
}

// Gateway returns the running gateway of an id, nil if there is none.
func (d *Driver) Gateway(id string) *Gateway {
	a := d.agent(id)
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.live()
}

// Running lists the ids whose gateways run, sorted.
func (d *Driver) Running() []string {
	var ids []string
	for _, a := range d.all() {
		a.mu.Lock()
		if a.live() != nil {
			ids = append(ids, a.id)
		}
		a.mu.Unlock()
	}
	slices.Sort(ids)
	return ids
}

// Live counts the gateways that run.
func (d *Driver) Live() int { return len(d.Running()) }

// Starts counts how often a gateway of an id was made to run.
func (d *Driver) Starts(id string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.starts[id]
}

// Violations lists what callers did against the contract: a second start while
// a gateway runs elsewhere, a start at a place never given out.
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
