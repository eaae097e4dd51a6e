package process

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	goruntime "runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

const (
	// startTimeout is how long a shim may take until it writes its pid. Source:
	// 1 ms on an idle machine; one that needs seconds cannot run gateways.
	startTimeout = 20 * time.Second
	// orphanTimeout is how long an unknown process may hold a lock file before it
	// is searched for and killed.
	orphanTimeout = 2 * time.Second
	// overheadProcesses is the number of processes around a gateway, which its
	// limit does not include: the shim, two of bubblewrap and the last shell.
	overheadProcesses = 4
	// pollInterval is the pause between two checks of something that changes soon.
	pollInterval = 2 * time.Millisecond
)

// Start implements runtime.Driver.
func (d *Driver) Start(ctx context.Context, place runtime.Place, s runtime.Spec) error {
	a, err := d.agent(s.ID)
	if err != nil {
		return err
	}
	if err := checkPlace(place); err != nil {
		return err
	}
	defer d.lock(a.id)()
	err = d.endFrozen(ctx, a)
	if err == nil {
		err = d.start(ctx, a, place, s)
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", a.id, err)
	}
	return nil
}

func (d *Driver) start(ctx context.Context, a agent, place runtime.Place, s runtime.Spec) error {
	lock, err := d.lockForStart(ctx, a, place)
	if err != nil || lock == nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	b, err := d.probe()
	if err != nil {
		return err
	}
	if a.owner, err = d.assignUser(a); err != nil {
		return err
	}
	if os.Getuid() == 0 && a.owner.UID == 0 {
		return errors.New("the agent would be root")
	}
	if err := errors.Join(d.discardDir(ctx, a.path("trash")), d.removeCheckpoint(a.id), d.checkDisk(ctx, a, s.Limits)); err != nil {
		return err
	}
	others, err := a.strangers()
	if err != nil {
		return err
	}
	d.reportStrangers(a.id, others)
	if err := d.checkStrangers(a, others); err != nil {
		return err
	}
	b.suspendable = d.CheckSuspend() == nil
	rec := record{
		Suspendable: b.suspendable, ProcessLimit: s.Limits.Processes, CPULimit: s.Limits.CPUs, CPUWeight: s.Limits.CPUWeight,
		Place: place, Nonce: rand.Text(), At: time.Now().UTC(), Sandboxed: !b.off,
		MemoryLimit: s.Limits.MemoryBytes, DiskLimit: s.Limits.DiskBytes, FileLimit: s.Limits.Files, Installation: d.settings.Installation, Path: a.home, Strangers: others,
	}
	if len(others) > 0 {
		rec.Variant = identity.AgentID("~" + rec.Nonce[:8])
	}
	if rec.Ports, err = choosePorts(b); err != nil {
		return err
	}
	v := d.view(a, rec)
	env, err := v.environment(s.Env, d.searchPath())
	if err != nil {
		return err
	}
	s.Files = v.files(s.Files)
	if err := d.writeFiles(ctx, a, rec, b, s); err != nil {
		return err
	}
	if rec.Groups, err = d.cgroup.create(a.id+rec.Variant, b.limits(s.Limits)); err != nil {
		return err
	}
	if rec.Home, err = identify(a.home); err != nil {
		return err
	}
	if err := errors.Join(a.removeShimFiles(), a.saveRecord(rec)); err != nil {
		return err
	}
	d.supervise(a.id, true)
	limit := strconv.FormatInt(d.shellProcessLimit(rec, b, s.Limits.Processes), 10)
	gateway := append([]string{"/bin/sh", "-c", launcher, "agento-agent", limit}, d.settings.Command...)
	return d.launch(ctx, a, rec, b, lock, env, append(gateway, v.args(s.Args)...))
}

// lockForStart locks the lock file of an agent whose gateway does not run. It
// returns nil without an error if the gateway of that place runs.
func (d *Driver) lockForStart(ctx context.Context, a agent, place runtime.Place) (*os.File, error) {
	deadline, killAt := time.Now().Add(startTimeout), time.Now().Add(orphanTimeout)
	for {
		if err := a.makeDir(); err != nil {
			return nil, err
		}
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
			return lock, d.killAll(ctx, a, rec)
		}
		// Either a shim is starting, or the last gateway is ending, or a sandbox
		// lost its shim before --die-with-parent took effect.
		if time.Now().After(killAt) {
			d.kill(a.escapedProcesses(rec))
			killAt = time.Now().Add(orphanTimeout)
		}
		if time.Now().After(deadline) {
			return nil, errors.New("an unknown process holds its lock file")
		}
		if err := pause(ctx, pollInterval); err != nil {
			return nil, err
		}
	}
}

// writeFiles writes the files that the gateway needs when it starts.
func (d *Driver) writeFiles(ctx context.Context, a agent, rec record, b sandbox, s runtime.Spec) error {
	if err := a.chownHome(ctx); err != nil {
		return err
	}
	h, err := a.openHome(ctx)
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
	if err := b.prepare(a); err != nil {
		return err
	}
	if s.Secrets == nil {
		s.Secrets = []byte("{}")
	}
	return d.secrets.write(a, rec, s.Secrets)
}

// shellProcessLimit returns the limit of processes that the last shell sets, 0 for
// none. It sets one only if there is no control group, and if the kernel counts the
// processes of this agent alone.
func (d *Driver) shellProcessLimit(rec record, b sandbox, limit int64) int64 {
	if limit == 0 || len(rec.Groups) > 0 || !rec.Sandboxed || b.setpriv == "" && !countsByNamespace() {
		return 0
	}
	return limit + overheadProcesses
}

// launch starts the shim, makes its network ready and waits until it has written its pid.
func (d *Driver) launch(ctx context.Context, a agent, rec record, b sandbox, lock *os.File, env []byte, gateway []string) error {
	environment, err := filledPipe(env)
	if err != nil {
		return err
	}
	defer func() { _ = environment.Close() }()
	secrets := d.secrets.dirOf(a.id + rec.Variant)
	configuration, err := b.configuration(a, d.settings, secrets, gateway)
	if err != nil {
		return err
	}
	defer func() { _ = configuration.Close() }()
	logFile, err := a.openLog()
	if err != nil {
		return err
	}
	defer func() { _ = logFile.Close() }()

	homeDir, err := os.Open(a.home)
	if err != nil {
		return err
	}
	defer func() { _ = homeDir.Close() }()

	released, release, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _, _ = released.Close(), release.Close() }() // without a "go", the shim ends

	gateway, options, err := b.hideOptions(b.wrap(a, d.settings, secrets, gateway))
	if err != nil {
		return err
	}
	defer func() { _ = options.Close() }()
	args := append([]string{"-c", shim, shimName, a.dir, rec.Installation, rec.Nonce}, joinFiles(rec.Groups)...)
	cmd := exec.Command("/bin/sh", append(append(args, "--"), gateway...)...)
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	cmd.Dir = a.dir
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.ExtraFiles = []*os.File{lock, environment, configuration, homeDir, released, options}
	cmd.SysProcAttr = b.attributes()
	cmd.SysProcAttr.Setsid = true
	MarkCloseOnExec()

	// mu is held until the child is recorded, so that reap finds it.
	d.mu.Lock()
	if b.off {
		err = startWithoutNewPrivileges(cmd)
	} else {
		err = cmd.Start()
	}
	if err == nil {
		d.children[cmd.Process.Pid] = true
	}
	d.mu.Unlock()
	if err != nil {
		return err
	}
	pid := cmd.Process.Pid
	if err := cmd.Process.Release(); err != nil {
		return err
	}
	if !b.off {
		if _, err := (namespace{shim: pid}).do(ctx, namespaceRequest{Configure: true}); err != nil {
			return fmt.Errorf("prepare the network of the gateway: %w", err)
		}
	}
	if _, err := release.WriteString("go\n"); err != nil {
		return err
	}
	return d.awaitShim(a, rec, pid)
}

// startWithoutNewPrivileges starts a command that no program with more permissions, such
// as sudo, can give any: the sandbox does that otherwise. The thread that has the
// property ends with its goroutine.
func startWithoutNewPrivileges(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		goruntime.LockOSThread()
		err := setNoNewPrivileges()
		if err == nil {
			err = cmd.Start()
		}
		started <- err
	}()
	return <-started
}

// awaitShim waits until the shim has written its pid. It ignores the caller's
// context, because the process exists and only its pid file makes it known.
func (d *Driver) awaitShim(a agent, rec record, pid int) error {
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(pollInterval) {
		if a.shimRan(rec) {
			return nil
		}
		d.reap(pid)
		if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			return errors.New("its process ended before it could start the gateway: see the agent's log")
		}
	}
	return errors.New("its process did not start in time")
}

// view returns the paths that the gateway sees. In a sandbox they are the same for
// every agent.
func (d *Driver) view(a agent, rec record) view {
	port, server := rec.gatewayPort(), rec.serverPort()
	if !d.settings.NoSandbox {
		return view{home: sandboxHome, temp: "/tmp", secrets: sandboxSecrets + "/" + secretsName, port: port, server: server}
	}
	return view{home: a.home, temp: a.path("tmp"), secrets: d.secrets.dirOf(a.id+rec.Variant) + "/" + secretsName, port: port, server: server}
}

// pause waits. It returns ctx's error if ctx ends first.
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
