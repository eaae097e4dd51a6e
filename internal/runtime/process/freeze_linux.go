package process

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// freezeProbe freezes and thaws a process in a control group of its own.
func (d *Driver) freezeProbe() (err error) {
	id := identity.AgentID(".probe-" + rand.Text())
	dirs, err := d.cgroup.create(id, runtime.Limits{})
	defer func() { err = errors.Join(err, d.cgroup.remove(d.cgroup.find(id, dirs))) }()
	if err != nil {
		return err
	}
	if !d.cgroup.freezes(dirs) {
		return errors.New("the control group has no freezer")
	}
	// The shell says that it has joined the group, and ends when its input does.
	const script = `for f; do echo $$ >"$f" || exit 1; done; echo; read x`
	cmd := exec.Command("/bin/sh", append([]string{"-c", script, "sh"}, joinFiles(dirs)...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	input, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = input.Close()
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		_ = cmd.Wait() // killed
	}()
	if _, err := output.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("enter control group: %w", err)
	}
	ctx := context.Background() // awaitFrozen has its own deadline
	err = d.awaitFrozen(ctx, dirs, true)
	return errors.Join(err, d.awaitFrozen(ctx, dirs, false))
}

// freeSwap returns how much swap the machine has left.
func freeSwap() (bytes int64, err error) { return meminfo("SwapFree") }
