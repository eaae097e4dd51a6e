//go:build !linux

package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what an agent uses now.
type usage struct {
	memory    int64
	cpu       time.Duration
	processes int64
}

// isShim says whether a process is the shim of the start named nonce.
func isShim(pid int, nonce string) bool {
	out, err := exec.Command("ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.Contains(string(out), nonce)
}

// awaitExit returns when a process has ended or may have: the caller asks again.
func awaitExit(ctx context.Context, pid int, _ func() bool) error {
	if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return nil
	}
	return pause(ctx, 200*time.Millisecond)
}

// lives says whether a process exists.
func lives(pid int) bool { return pid > 0 && unix.Kill(pid, 0) == nil }

// row is a line of ps.
type row struct {
	parent int
	memory int64
	cpu    time.Duration
}

func processes() map[int]row {
	out, err := exec.Command("ps", "-axo", "pid=,ppid=,rss=,time=").Output()
	if err != nil {
		return nil
	}
	rows := map[int]row{}
	for text := range strings.Lines(string(out)) {
		f := strings.Fields(text)
		if len(f) < 4 {
			continue
		}
		pid, _ := strconv.Atoi(f[0])
		parent, _ := strconv.Atoi(f[1])
		kib, _ := strconv.ParseInt(f[2], 10, 64)
		rows[pid] = row{parent: parent, memory: kib << 10, cpu: clock(f[3])}
	}
	return rows
}

// clock reads ps's minutes:seconds, with hours or fractions where it has them.
func clock(text string) time.Duration {
	var seconds float64
	for part := range strings.SplitSeq(text, ":") {
		n, err := strconv.ParseFloat(part, 64)
		if err != nil {
			return 0
		}
		seconds = seconds*60 + n
	}
	return time.Duration(seconds * float64(time.Second))
}

// tree lists a process and all that descend from it, itself first; nothing if
// it is gone.
func tree(pid int) []int {
	rows := processes()
	if _, ok := rows[pid]; !ok {
		return nil
	}
	pids := []int{pid}
	for i := 0; i < len(pids); i++ {
		for child, r := range rows {
			if r.parent == pids[i] && child != pid {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// terminate asks the gateway below a shim to end. False if there is none yet.
func terminate(shim int, _ bool) bool {
	pids := tree(shim)
	return len(pids) > 1 && unix.Kill(pids[1], unix.SIGTERM) == nil
}

// strays finds processes that have left the tree of the shim, by the home in
// their environment.
func strays(home string) []int {
	out, err := exec.Command("ps", "-axEwwo", "pid=,command=").Output()
	if err != nil {
		return nil
	}
	var pids []int
	for text := range strings.Lines(string(out)) {
		f := strings.Fields(text)
		if len(f) == 0 || !strings.Contains(text+" ", " HOME="+home+" ") {
			continue
		}
		if pid, err := strconv.Atoi(f[0]); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

func usageOf(pids []int) usage {
	var u usage
	rows := processes()
	for _, pid := range pids {
		if r, ok := rows[pid]; ok {
			u.processes++
			u.memory += r.memory
			u.cpu += r.cpu
		}
	}
	return u
}

func listenerOf(int) (string, bool) { return "", false }

func holdsSocket([]int, string) bool { return true }

// growPipe makes room for n bytes.
func growPipe(_ *os.File, n int) error {
	if n <= 16<<10 {
		return nil
	}
	return fmt.Errorf("pipes hold 16 KiB here")
}

func isMemory(string) bool { return false }

func cutHead(*os.File, int64) error { return errors.ErrUnsupported }
