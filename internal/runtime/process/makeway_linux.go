package process

import (
	"os"
	goruntime "runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// workNice is the priority of the work on checkpoints among the threads of the server.
const workNice = 10

// lowerPriority makes the goroutine that calls it yield to others of the server. It must not unlock
// its thread, which ends with it.
func lowerPriority() {
	goruntime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, workNice) // without it the work goes on as others do
}

// processorsWanted reports whether the machine has more threads that can run than processors.
func processorsWanted() bool {
	data, err := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(data))
	if err != nil || len(fields) < 4 {
		return false
	}
	running, _, _ := strings.Cut(fields[3], "/")
	n, err := strconv.Atoi(running)
	return err == nil && n > goruntime.NumCPU() // this thread is one of them
}
