package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What doctor asks of the disk: below the first the server stores nothing more, below the
// second it will soon.
const (
	leastFree  = 64 << 20
	littleFree = 1 << 30
	fewInodes  = 10_000
)

// gatewayMemory is about what a gateway needs. Source: docs/openclaw.md.
const gatewayMemory = 1100 << 20

// oldestClock is before any build of this program.
const oldestClock = "2026-01-01T00:00:00Z"

// resources checks what the machine has for a server and its agents.
func (c doctorCommand) resources(ctx context.Context) []finding {
	running, err := c.dialServer(ctx)
	server := finding{Part: "server", OK: true, State: "none runs on this data directory"}
	switch {
	case err != nil:
		server.OK, server.State, server.Fix = false, err.Error(), "run agento doctor as the server's user or as root"
	case running != nil:
		server.State = "runs on this data directory"
	}
	return []finding{server, c.port(running != nil), c.disk(), memoryFinding(driverFlags{Runtime: "process"}), clockFinding(time.Now())}
}

// port checks that the address of the API can be listened on.
func (c doctorCommand) port(running bool) finding {
	f := finding{Part: "port", OK: true, State: c.Listen + " is free"}
	l, err := net.Listen("tcp", c.Listen)
	switch {
	case err == nil:
		_ = l.Close()
	case errors.Is(err, syscall.EADDRINUSE) && running:
		f.State = c.Listen + " is in use, as it is while a server runs"
	case errors.Is(err, syscall.EADDRINUSE):
		f.OK, f.State, f.Fix = false, c.Listen+" is in use by another program", "find it with: ss -ltnp; or choose another address: agento serve --listen"
	default:
		f.OK, f.State, f.Fix = false, err.Error(), "choose another address: agento serve --listen 127.0.0.1:8080"
	}
	return f
}

// disk checks the file system of the data directory, or of the directory that it will be
// made in.
func (c doctorCommand) disk() finding {
	dir := filepath.Clean(c.Data)
	for dir != filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return finding{Part: "disk", State: err.Error(), Fix: "choose another --data"}
	}
	free := int64(fs.Bavail) * int64(fs.Bsize) //nolint:unconvert // the types differ between systems
	f := finding{Part: "disk", OK: true, State: fmt.Sprintf("%.1f GiB free", float64(free)/(1<<30))}
	if fs.Files > 0 { // some file systems have no fixed number
		f.State += fmt.Sprintf(", %d inodes free", fs.Ffree)
	}
	f.Fix = "delete files on the file system of " + dir + ": see du -xh --max-depth=2 " + dir + "; agento gc removes what agento keeps until you remove it"
	switch few := fs.Files > 0 && fs.Ffree < fewInodes; {
	case free < leastFree || fs.Files > 0 && fs.Ffree == 0:
		f.OK = false
	case free < littleFree || few:
		f.Warning = true
	default:
		f.Fix = ""
	}
	return f
}

// memoryFinding says how many gateways fit.
func memoryFinding(d driverFlags) finding {
	f := finding{Part: "memory", OK: true}
	total, err := d.machineMemory()
	if err != nil {
		f.Warning, f.State, f.Fix = true, err.Error(), "set what agents may use together: agento serve --memory MIB"
		return f
	}
	n := total / gatewayMemory
	f.State = fmt.Sprintf("%.1f GiB for agents: about %d run at once, further ones wait", float64(total)/(1<<30), n)
	if n == 0 {
		f.OK, f.Fix = false, "an agent needs about 1.1 GiB beside the 512 MiB of the server: use a machine with 2 GiB or more"
	}
	return f
}

// clockFinding checks that the clock can be right, and that something keeps it so: keys
// expire and leases end by it.
func clockFinding(now time.Time) finding {
	f := finding{Part: "clock", OK: true, State: now.UTC().Format(time.RFC3339)}
	oldest, err := time.Parse(time.RFC3339, oldestClock)
	if err != nil || now.Before(oldest) {
		f.OK, f.Fix = false, "set the clock: timedatectl set-ntp true, or chronyd -q 'server pool.ntp.org iburst'"
		return f
	}
	if synchronized, known := clockSynchronized(); known && !synchronized {
		f.Warning, f.Fix = true, "nothing synchronizes the clock: timedatectl set-ntp true"
	}
	return f
}
