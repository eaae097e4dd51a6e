package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// killTimeout is how long the kernel may take to end killed processes. Source: a
// gateway of 1 GB is gone in 50 ms; a machine that swaps needs seconds.
const killTimeout = 30 * time.Second

// Stop implements runtime.Driver.
func (d *Driver) Stop(ctx context.Context, _ runtime.Place, id identity.AgentID, grace time.Duration) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	if owner, err := a.whose(); err != nil || owner == runtime.Foreign {
		return err
	}
	nonce, err := d.requestStop(ctx, a, grace)
	if err != nil {
		return fmt.Errorf("stop %s: %w", id, err)
	}
	rec, err := a.record()
	if err == nil && rec.Nonce == nonce { // before the lock, whoever holds that
		d.cgroup.forbidForks(d.groups(a, rec))
		d.kill(withoutShim(d.processes(a, rec), 0))
	}
	defer d.lock(id)()
	rec, err = a.record()
	if err == nil && rec.Nonce == nonce { // it was not started again meanwhile
		err = errors.Join(d.removeCheckpoint(a.id), d.cleanUp(ctx, a, rec))
	}
	if err != nil {
		return fmt.Errorf("stop %s: %w", id, err)
	}
	return nil
}

// requestStop sends SIGTERM to the gateway and waits until it has ended, at most for
// the grace period. It does not hold the agent's lock, so that a Stop with a shorter
// grace period or a Remove need not wait. It returns the nonce of the start that it
// has stopped.
func (d *Driver) requestStop(ctx context.Context, a agent, grace time.Duration) (string, error) {
	rec, err := d.awaitStartup(ctx, a)
	if err != nil || !rec.FrozenAt.IsZero() { // a frozen gateway has nothing to do, and cannot act on a signal
		return rec.Nonce, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, grace, errGraceEnded)
	defer cancel()
	for signalled := false; ; {
		pid, alive := d.alive(a, rec)
		if !alive {
			return rec.Nonce, nil
		}
		if !signalled {
			// While the sandbox is being set up there is no gateway to signal.
			signalled = terminate(pid, rec.Sandboxed)
		}
		if signalled {
			err = d.awaitEnd(ctx, a, rec)
		} else {
			err = pause(ctx, 5*pollInterval)
		}
		if errors.Is(context.Cause(ctx), errGraceEnded) {
			return rec.Nonce, nil
		}
		if err != nil {
			return "", err
		}
	}
}

var errGraceEnded = errors.New("the grace period has ended")

// awaitStartup waits until no start of the agent is under way, and returns its
// record. A start may be under way although no Start runs, if the server that began
// it was killed.
func (d *Driver) awaitStartup(ctx context.Context, a agent) (record, error) {
	for deadline := time.Now().Add(startTimeout); ; {
		rec, err := a.record()
		if err != nil || rec.Nonce == "" || a.shimRan(rec) || !a.isLocked() || time.Now().After(deadline) {
			return rec, err
		}
		if err := pause(ctx, pollInterval); err != nil {
			return rec, err
		}
	}
}

// Watch implements runtime.Watcher.
func (d *Driver) Watch(ctx context.Context, place runtime.Place, id identity.AgentID) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	rec, err := d.awaitStartup(ctx, a)
	if err != nil || rec.Place != place {
		return err
	}
	return d.awaitEnd(ctx, a, rec)
}

// awaitEnd waits until the gateway of a record has ended.
func (d *Driver) awaitEnd(ctx context.Context, a agent, rec record) error {
	for {
		pid, alive := d.alive(a, rec)
		if !alive {
			return nil
		}
		if err := awaitExit(ctx, pid, func() bool { return isShim(pid, rec.Nonce) }); err != nil {
			return err
		}
	}
}

// Remove implements runtime.Driver.
func (d *Driver) Remove(ctx context.Context, _ runtime.Place, id identity.AgentID) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	owner, err := a.whose()
	if err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	if owner == runtime.Foreign {
		d.settings.Log.WarnContext(ctx, "the home of a deleted agent is left alone: it belongs to another installation", "agent", id, "path", a.dir)
		return nil
	}
	if err := d.discard(ctx, a, func() error { return d.discardDir(ctx, a.dir) }); err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	return nil
}

// Quarantine implements runtime.Driver. It moves the agent's directory to "quarantine"
// beside Settings.Dir, under the agent's id and the time.
func (d *Driver) Quarantine(ctx context.Context, id identity.AgentID) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	switch owner, err := a.whose(); {
	case err != nil:
		return fmt.Errorf("quarantine %s: %w", id, err)
	case owner != runtime.Own:
		return fmt.Errorf("quarantine %s: %w", id, runtime.ErrForeign)
	}
	if err := d.discard(ctx, a, func() error { return d.quarantine(a) }); err != nil {
		return fmt.Errorf("quarantine %s: %w", id, err)
	}
	return nil
}

// discard kills the gateway of an agent, calls do for its directory, and forgets the
// agent.
func (d *Driver) discard(ctx context.Context, a agent, do func() error) error {
	// Kill before locking: a Stop that holds the lock and waits then returns.
	rec, err := d.awaitStartup(ctx, a)
	if err != nil {
		return err
	}
	d.kill(d.processes(a, rec))
	defer d.lock(a.id)()
	if rec, err = a.record(); err != nil {
		return err
	}
	if err := errors.Join(d.removeCheckpoint(a.id), d.cleanUp(ctx, a, rec)); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	d.supervise(a.id, false)
	d.forget(a.id)
	return nil
}

// forget drops the log of a removed agent, whose readers get EOF, and what is known of its
// files.
func (d *Driver) forget(id identity.AgentID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.logs, id)
	delete(d.disks, id)
}

// cleanUp kills all processes of a gateway and removes its control group, secrets,
// temporary files and trash. Nothing comes before the kill that can fail or take long.
func (d *Driver) cleanUp(ctx context.Context, a agent, rec record) error {
	oom := d.diedOfMemory(a, rec)
	if err := d.killAll(ctx, a, rec); err != nil {
		return err
	}
	if err := d.awaitUnlocked(ctx, a, rec); err != nil {
		return err
	}
	d.supervise(a.id, false)
	if oom { // the control group knows it, but is removed now
		rec.OOMKilled = true
		if err := a.saveRecord(rec); err != nil {
			d.settings.Log.WarnContext(ctx, "recording that a gateway died of its memory limit failed", "agent", a.id, "error", err)
		}
	}
	return errors.Join(
		d.cgroup.remove(d.groups(a, rec)),
		d.removeSecrets(a, rec),
		d.discardDir(ctx, a.path("tmp")),
		os.RemoveAll(a.path("etc")),
		d.discardDir(ctx, a.path("trash")),
	)
}

// diedOfMemory reports whether the kernel killed the gateway because of its memory, and
// the record does not say so yet.
func (d *Driver) diedOfMemory(a agent, rec record) bool {
	_, alive := d.alive(a, rec)
	return !alive && !rec.OOMKilled && rec.Nonce != "" && mayBeKilled(a.exitCode(rec)) && d.cgroup.oomKilled(rec.Groups)
}

// killAll kills every process of an agent and returns when none is left.
func (d *Driver) killAll(ctx context.Context, a agent, rec record) error {
	deadline := time.Now().Add(killTimeout)
	// When a sandbox ends, its processes are no longer found, although they may
	// still be ending: seen keeps them.
	seen := map[int]bool{}
	for round := 0; ; round++ {
		left := d.remainingProcesses(a, rec)
		for _, pid := range left {
			seen[pid] = true
		}
		maps.DeleteFunc(seen, func(pid int, _ bool) bool { return !isRunning(pid) })
		if len(left) == 0 && len(seen) == 0 {
			return nil
		}
		if round == 0 {
			d.cgroup.forbidForks(d.groups(a, rec))
		}
		d.kill(withoutShim(left, round))
		if !rec.FrozenAt.IsZero() { // with v1, a frozen process ends only when it goes on
			_ = d.cgroup.setFrozen(d.groups(a, rec), false) // the group may be gone
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v %v were killed but do not end", left, slices.Collect(maps.Keys(seen)))
		}
		if err := pause(ctx, pollInterval*time.Duration(min(round+1, 10))); err != nil {
			return err
		}
		if pid, ok := a.readShimFile("pid", rec); ok {
			d.reap(pid)
		}
	}
}

// remainingProcesses lists the processes of an agent. Without a control group it
// also searches for processes outside of the shim's tree.
func (d *Driver) remainingProcesses(a agent, rec record) []int {
	left := d.processes(a, rec)
	if len(left) > 0 || len(rec.Groups) > 0 || rec.Nonce == "" {
		return left
	}
	if found := a.escapedProcesses(rec); len(found) > 0 {
		return append([]int{0}, found...)
	}
	return nil
}

// withoutShim leaves out the shim, which is the first, in the first rounds, so that
// it can write how the gateway ended.
func withoutShim(pids []int, round int) []int {
	if round < 20 && len(pids) > 0 {
		return pids[1:]
	}
	return pids
}

// processes lists the processes of an agent. The first is the shim, or 0 if it does
// not run.
func (d *Driver) processes(a agent, rec record) []int {
	seen := map[int]bool{}
	var out []int
	if pid, alive := d.alive(a, rec); alive {
		out = processTree(pid)
	}
	if len(out) == 0 {
		out = []int{0}
	}
	for _, pid := range out {
		seen[pid] = true
	}
	others := d.cgroup.pids(d.groups(a, rec))
	if !rec.Sandboxed && rec.Nonce != "" {
		others = append(others, a.escapedProcesses(rec)...)
	}
	for _, pid := range others {
		if !seen[pid] {
			seen[pid] = true
			out = append(out, pid)
		}
	}
	if len(out) == 1 && out[0] == 0 {
		return nil
	}
	return out
}

// escapedProcesses finds processes of an agent that are no descendants of its shim any
// more. It recognises them by the path of the home, and sandboxes by the lock file. If the
// directory was moved since the start of rec, the path is that of then.
func (a agent) escapedProcesses(rec record) []int {
	path := cmp.Or(rec.Path, a.home)
	strange := map[int]bool{os.Getpid(): true}
	if found, err := a.strangers(); err == nil { // without the record nothing says that there are any
		for _, s := range found {
			for _, pid := range processTree(s.PID) {
				strange[pid] = true
			}
		}
	}
	found := append(processesWithHome(path), sandboxesWithLock(a.path("lock"))...)
	return slices.DeleteFunc(found, func(pid int) bool { return strange[pid] })
}

func (d *Driver) kill(pids []int) {
	for _, pid := range pids {
		if pid > 1 {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended already
		}
	}
}

// awaitUnlocked waits until the sandbox has released the lock file too. If a sandbox
// is killed while it is being set up, one of its processes may survive, because
// --die-with-parent has not taken effect yet: awaitUnlocked searches for it.
func (d *Driver) awaitUnlocked(ctx context.Context, a agent, rec record) error {
	if !fileExists(a.dir, "lock") {
		return nil
	}
	deadline := time.Now().Add(killTimeout)
	for round := 1; ; round++ {
		lock, err := a.tryLock()
		if err != nil {
			return err
		}
		if lock != nil {
			return lock.Close()
		}
		if round%20 == 0 {
			d.kill(a.escapedProcesses(rec))
		}
		if time.Now().After(deadline) {
			return errors.New("an unknown process holds its lock file")
		}
		if err := pause(ctx, pollInterval); err != nil {
			return err
		}
	}
}
