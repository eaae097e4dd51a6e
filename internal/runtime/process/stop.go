package process

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/runtime/home"
)

// dying is how long the kernel may take to end killed processes. Source: a
// gateway of 1 GB is gone in 50 ms; a machine that swaps needs seconds.
const dying = 30 * time.Second

// Stop implements runtime.Driver.
func (d *Driver) Stop(ctx context.Context, _, id string, grace time.Duration) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	asked, err := d.ask(ctx, a, grace)
	if err != nil {
		return fmt.Errorf("stop %s: %w", id, err)
	}
	defer d.lock(id)()
	rec, err := a.record()
	if err == nil && rec.Nonce == asked {
		err = d.end(ctx, a, rec)
	}
	if err != nil {
		return fmt.Errorf("stop %s: %w", id, err)
	}
	return nil
}

// ask tells the gateway to end and waits for it, at most grace. It does not
// hold the agent's lock, so that a caller with less patience can come between.
// It returns the nonce of the start that was asked.
func (d *Driver) ask(ctx context.Context, a agent, grace time.Duration) (string, error) {
	rec, err := d.settle(ctx, a)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, grace, errGrace)
	defer cancel()
	for told := false; ; {
		pid, alive := d.alive(a, rec)
		if !alive {
			return rec.Nonce, nil
		}
		if !told {
			// Until the sandbox stands there is nobody to tell.
			told = terminate(pid, rec.Sandboxed)
		}
		if told {
			err = d.await(ctx, a, rec)
		} else {
			err = pause(ctx, 5*glance)
		}
		if errors.Is(context.Cause(ctx), errGrace) {
			return rec.Nonce, nil
		}
		if err != nil {
			return "", err
		}
	}
}

var errGrace = errors.New("the grace is over")

// settle returns the record of an agent once no start is under way, as when
// the server that began it was killed.
func (d *Driver) settle(ctx context.Context, a agent) (record, error) {
	for deadline := time.Now().Add(beginning); ; {
		rec, err := a.record()
		if err != nil || rec.Nonce == "" || a.endedOrBegan(rec) || !a.held() || time.Now().After(deadline) {
			return rec, err
		}
		if err := pause(ctx, glance); err != nil {
			return rec, err
		}
	}
}

// Watch implements runtime.Watcher.
func (d *Driver) Watch(ctx context.Context, place, id string) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	rec, err := d.settle(ctx, a)
	if err != nil || rec.Place != place {
		return err
	}
	return d.await(ctx, a, rec)
}

// await returns when the gateway of a record has ended.
func (d *Driver) await(ctx context.Context, a agent, rec record) error {
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
func (d *Driver) Remove(ctx context.Context, _, id string) error {
	a, err := d.agent(id)
	if err != nil {
		return err
	}
	// Before the lock: a Stop that waits ends at once.
	rec, err := d.settle(ctx, a)
	if err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	d.kill(d.members(a, rec))
	defer d.lock(id)()
	if err := d.remove(ctx, a); err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	d.watchOver(id, false)
	d.ports.drop(id)
	d.forget(id)
	return nil
}

func (d *Driver) remove(ctx context.Context, a agent) error {
	rec, err := a.record()
	if err == nil {
		err = d.end(ctx, a, rec)
	}
	if err != nil {
		return err
	}
	// The home last but for the records, so that a removal cut short is listed
	// and can be repeated.
	if err := errors.Join(home.Purge(a.path("trash")), home.Purge(a.home), home.Purge(a.path("log"))); err != nil {
		return err
	}
	return home.Purge(a.dir)
}

// forget drops the log of a removed agent; its readers see the end.
func (d *Driver) forget(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.logs, id)
}

// end kills whatever is left of a gateway and takes down what stood for it.
func (d *Driver) end(ctx context.Context, a agent, rec record) error {
	if err := d.noteOOM(a, rec); err != nil {
		return err
	}
	if err := d.sweep(ctx, a, rec); err != nil {
		return err
	}
	if err := d.awaitUnlocked(ctx, a); err != nil {
		return err
	}
	d.watchOver(a.id, false)
	return errors.Join(
		d.limits.remove(a.id, rec),
		d.secrets.remove(a.id),
		home.Purge(a.path("tmp")),
		home.Purge(a.path("etc")),
	)
}

// noteOOM keeps what the control group knows before it goes.
func (d *Driver) noteOOM(a agent, rec record) error {
	_, alive := d.alive(a, rec)
	code, noted := a.ending(rec)
	if alive || noted || rec.Nonce == "" || !wasKilled(code) || !d.limits.oomKilled(rec) {
		return nil
	}
	rec.OOMKilled = true
	return a.note(rec)
}

// wasKilled says whether an exit code may be that of a process killed; -1 is
// one that nobody was there to note.
func wasKilled(code int) bool { return code == killed || code == -1 }

// sweep kills every process of an agent and returns when none is left.
func (d *Driver) sweep(ctx context.Context, a agent, rec record) error {
	deadline := time.Now().Add(dying)
	known := map[int]bool{} // a sandbox that falls takes its processes out of sight before they are dead
	for round := 0; ; round++ {
		left := d.remains(a, rec)
		for _, pid := range left {
			known[pid] = true
		}
		maps.DeleteFunc(known, func(pid int, _ bool) bool { return !lives(pid) })
		if len(left) == 0 && len(known) == 0 {
			return nil
		}
		if round == 0 {
			d.limits.seal(a.id, rec)
		}
		d.kill(spareShim(left, round))
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v %v do not die", left, slices.Collect(maps.Keys(known)))
		}
		if err := pause(ctx, glance*time.Duration(min(round+1, 10))); err != nil {
			return err
		}
		if pid, ok := a.shimNote("pid", rec); ok {
			d.reap(pid)
		}
	}
}

// remains is members, and where no control group knows them all, whatever else
// can be found.
func (d *Driver) remains(a agent, rec record) []int {
	left := d.members(a, rec)
	if len(left) > 0 || len(rec.Groups) > 0 || rec.Nonce == "" {
		return left
	}
	if found := strays(a.home); len(found) > 0 {
		return append([]int{0}, found...)
	}
	return nil
}

// spareShim leaves the shim, which comes first, a moment to note the end.
func spareShim(pids []int, round int) []int {
	if round < 20 && len(pids) > 0 {
		return pids[1:]
	}
	return pids
}

// members lists the processes of an agent, the shim first if it lives, else 0.
func (d *Driver) members(a agent, rec record) []int {
	seen := map[int]bool{}
	var out []int
	if pid, alive := d.alive(a, rec); alive {
		out = tree(pid)
	}
	if len(out) == 0 {
		out = []int{0}
	}
	for _, pid := range out {
		seen[pid] = true
	}
	others := d.limits.members(a.id, rec)
	if !rec.Sandboxed && rec.Nonce != "" {
		others = append(others, strays(a.home)...)
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

func (d *Driver) kill(pids []int) {
	for _, pid := range pids {
		if pid > 1 {
			_ = unix.Kill(pid, unix.SIGKILL) // gone is what we want
		}
	}
}

// awaitUnlocked waits until the sandbox has let go of the lock file too. One
// that is killed while it is being built may leave a part that nothing binds to
// the shim yet: it is looked for.
func (d *Driver) awaitUnlocked(ctx context.Context, a agent) error {
	if !has(a.dir, "lock") {
		return nil
	}
	deadline := time.Now().Add(dying)
	for round := 1; ; round++ {
		lock, err := a.tryLock()
		if err != nil {
			return err
		}
		if lock != nil {
			return lock.Close()
		}
		if round%20 == 0 {
			d.kill(strays(a.home))
		}
		if time.Now().After(deadline) {
			return errors.New("something unknown holds its lock file")
		}
		if err := pause(ctx, glance); err != nil {
			return err
		}
	}
}

// overLimit ends a gateway as the kernel would.
func (d *Driver) overLimit(a agent, rec record) error {
	defer d.lock(a.id)()
	now, err := a.record()
	if err != nil || now.Nonce != rec.Nonce {
		return err
	}
	now.OOMKilled = true
	if err := a.note(now); err != nil {
		return err
	}
	d.kill(spareShim(d.members(a, now), 0))
	return nil
}
