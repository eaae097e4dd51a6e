package process

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/runtime"
)

const (
	// beginning is how long a shim may take to its first line. Source: 1 ms when
	// quiet; a machine that needs seconds is not able to run gateways.
	beginning = 20 * time.Second
	// orphaned is how long a lock file may be held by nobody we know.
	orphaned = 2 * time.Second
	// ownProcesses is what stands around a gateway and is not counted against
	// it: the shim, two of bubblewrap and the last shell.
	ownProcesses = 4
	// glance is the pause between two looks at something that changes soon.
	glance = 2 * time.Millisecond
)

// Start implements runtime.Driver.
func (d *Driver) Start(ctx context.Context, place string, s runtime.Spec) error {
	a, err := d.agent(s.ID)
	if err != nil {
		return err
	}
	port, err := portOf(place)
	if err != nil {
		return err
	}
	defer d.lock(a.id)()
	if err := d.start(ctx, a, place, port, s); err != nil {
		return fmt.Errorf("start %s: %w", a.id, err)
	}
	return nil
}

func (d *Driver) start(ctx context.Context, a agent, place string, port int, s runtime.Spec) error {
	lock, err := d.claim(ctx, a, place)
	if err != nil || lock == nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if !d.ports.isFree(port) {
		return fmt.Errorf("port %d: %w", port, runtime.ErrPlaceTaken)
	}
	d.ports.keep(port, a.id)
	v := d.view(a, port)
	env, err := v.environment(s.Env, d.searchPath())
	if err != nil {
		return err
	}
	if err := d.furnish(a, s); err != nil {
		return err
	}
	groups, enter, err := d.limits.create(a.id, s.Limits)
	if err != nil {
		return err
	}
	rec := record{
		Place: place, Nonce: rand.Text(), At: time.Now().UTC(), Sandboxed: d.box.reason == "",
		MemoryLimit: s.Limits.MemoryBytes, Groups: groups,
	}
	if err := errors.Join(a.removeStale(), a.note(rec)); err != nil {
		return err
	}
	d.watchOver(a.id, true)
	bound := strconv.FormatInt(d.processBound(rec, s.Limits.Processes), 10)
	gateway := append([]string{"/bin/sh", "-c", inner, "agento-agent", bound}, d.set.Command...)
	return d.launch(a, rec, lock, env, enter, append(gateway, v.args(s.Args)...))
}

// claim takes the lock file of an agent whose gateway does not run. It returns
// nil if the gateway of that place runs.
func (d *Driver) claim(ctx context.Context, a agent, place string) (*os.File, error) {
	deadline, impatient := time.Now().Add(beginning), time.Now().Add(orphaned)
	for {
		rec, err := a.record()
		if err != nil {
			return nil, err
		}
		if _, alive := d.alive(a, rec); alive {
			if rec.Place != place {
				return nil, fmt.Errorf("it runs at place %s: stop it first", rec.Place)
			}
			return nil, nil
		}
		lock, err := a.tryLock()
		if err != nil {
			return nil, err
		}
		if lock != nil {
			return lock, d.sweep(ctx, a, rec)
		}
		// A shim is on its way, or the last gateway on its way out; or a sandbox
		// has lost its shim before it was bound to it.
		if time.Now().After(impatient) {
			d.kill(strays(a.home))
			impatient = time.Now().Add(orphaned)
		}
		if time.Now().After(deadline) {
			return nil, errors.New("something unknown holds its lock file")
		}
		if err := pause(ctx, glance); err != nil {
			return nil, err
		}
	}
}

// furnish writes what the gateway finds when it starts.
func (d *Driver) furnish(a agent, s runtime.Spec) error {
	if err := a.takeHome(); err != nil {
		return err
	}
	h, err := a.openHome()
	if err != nil {
		return err
	}
	for name, data := range s.Files {
		if err := h.WriteFile(name, data); err != nil {
			return errors.Join(err, h.Close())
		}
	}
	if err := h.Close(); err != nil {
		return err
	}
	if err := d.box.furnish(a); err != nil {
		return err
	}
	if s.Secrets == nil {
		s.Secrets = []byte("{}")
	}
	return d.secrets.put(a, s.Secrets)
}

// processBound is the limit that the last shell sets where there is no control
// group, but only where it counts the processes of this agent alone.
func (d *Driver) processBound(rec record, limit int64) int64 {
	if limit == 0 || len(rec.Groups) > 0 || !rec.Sandboxed || d.box.setpriv == "" && !countsByNamespace() {
		return 0
	}
	return limit + ownProcesses
}

func (d *Driver) launch(a agent, rec record, lock *os.File, env []byte, enter, gateway []string) error {
	environment, err := filledPipe(env)
	if err != nil {
		return err
	}
	defer func() { _ = environment.Close() }()
	filter, err := filledPipe(d.box.filter)
	if err != nil {
		return err
	}
	defer func() { _ = filter.Close() }()
	logFile, err := a.logFile()
	if err != nil {
		return err
	}
	defer func() { _ = logFile.Close() }()

	gateway = d.box.wrap(a, d.set, d.secrets.of(a.id), gateway)
	line := append([]string{"-c", shim, shimName, a.path("pid"), a.path("end"), rec.Nonce}, enter...)
	cmd := exec.Command("/bin/sh", append(append(line, "--"), gateway...)...)
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.ExtraFiles = []*os.File{lock, environment, filter}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}

	// Held until the child is known, so that reap cannot miss it.
	d.mu.Lock()
	err = cmd.Start()
	if err == nil {
		d.kids[cmd.Process.Pid] = true
	}
	d.mu.Unlock()
	if err != nil {
		return err
	}
	pid := cmd.Process.Pid
	if err := cmd.Process.Release(); err != nil {
		return err
	}
	return d.awaitBeginning(a, rec, pid)
}

// awaitBeginning waits for the shim's first line. It does not end with the
// caller's context: the process exists, and only its note makes it known.
func (d *Driver) awaitBeginning(a agent, rec record, pid int) error {
	for deadline := time.Now().Add(beginning); time.Now().Before(deadline); time.Sleep(glance) {
		if a.endedOrBegan(rec) {
			return nil
		}
		d.reap(pid)
		if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			return errors.New("its process ended before it began; the log says why")
		}
	}
	return errors.New("its process did not begin in time")
}

// view says what the gateway sees: in a sandbox the same paths for every agent.
func (d *Driver) view(a agent, port int) view {
	if d.box.reason == "" {
		return view{home: boxHome, temp: "/tmp", secrets: boxSecrets + "/" + secretsName, port: port}
	}
	return view{home: a.home, temp: a.path("tmp"), secrets: d.secrets.of(a.id) + "/" + secretsName, port: port}
}

func pause(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
