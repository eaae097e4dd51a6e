package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/vault"
)

const (
	defaultLogBytes = 1 << 20
	defaultLogKeep  = 23
	// Source: npm and pip unpack most packages in less.
	defaultTempBytes = 512 << 20
)

// Flags are the command line flags of this driver.
type Flags struct {
	AgentTmp             int64  `help:"Size limit of an agent's /tmp, and of its /dev/shm, in MiB. Both are in memory." default:"512"`
	CheckpointEncryption string `help:"How checkpoints of sleeping agents lie on the disk: auto, sealed with keys that are only in memory; off, in clear." enum:"auto,off" default:"auto"`
	CheckpointBudget     int64  `help:"Room for checkpoints of sleeping agents on the disk, in MiB; those of the agents used longest ago are given up for others. 0: a fifth of the file system of the data directory. -1: none, they stay in memory." default:"0"`

	Sandbox string `help:"What isolates agents: bubblewrap, or gvisor, which gives each agent a kernel of its own and costs memory and speed." enum:"bubblewrap,gvisor" default:"bubblewrap"`
}

// Open returns a driver with the flags' settings.
func (f Flags) Open(s runtime.Settings) (runtime.Driver, error) {
	var criu string
	var budget int64
	if s.Suspend {
		criu, budget = DefaultCRIU(), max(0, f.CheckpointBudget<<20)
		if f.CheckpointBudget == 0 {
			budget = defaultBudget(s.Dir)
		}
	}
	return New(Settings{CRIU: criu, CheckpointBudget: budget, PlainCheckpoints: f.CheckpointEncryption == encryptionOff, Installation: s.Installation, Dir: s.Dir, Command: s.Command, ReadOnly: s.ReadOnly, Sandbox: f.Sandbox, NoSandbox: s.Development, TempBytes: f.AgentTmp << 20, Log: s.Log, LogKey: s.LogKey})
}

// encryptionOff is the value of Flags.CheckpointEncryption with which checkpoints lie on the disk in
// clear.
const encryptionOff = "off"

// DefaultCRIU returns the criu that scripts/needs.sh has unpacked, or else the name of the
// machine's.
func DefaultCRIU() string {
	if cache, err := os.UserCacheDir(); err == nil {
		path := filepath.Join(cache, "agento", "criu", "criu")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return "criu"
}

// Settings of a Driver.
type Settings struct {
	Installation string        // to which the agents belong; empty: to any, for programs that only look or stop
	Dir          string        // holds everything of every agent; created if missing
	RunDir       string        // memory file system for secrets; empty: $XDG_RUNTIME_DIR/agento or /dev/shm/agento-<uid>
	Command      []string      // starts a gateway; Spec.Args are appended
	ReadOnly     []string      // files and directories that gateways may read, besides those of the system
	Sandbox      string        // Bubblewrap or GVisor; empty: Bubblewrap
	Bubblewrap   string        // the program that makes the sandbox; empty: bwrap on PATH
	CRIU         string        // the program that makes checkpoints; empty: gateways cannot be suspended
	Runsc        string        // the program of gVisor; empty: runsc beside this program, or on PATH
	NoSandbox    bool          // gateways are ordinary processes of the server's user, which must not be root
	NoGroups     bool          // do not use control groups
	TempBytes    int64         // size of an agent's /tmp, and of its /dev/shm; 0: 512 MiB
	LogMaxBytes  int64         // a longer log is rotated; 0: 1 MiB
	LogKeep      int           // rotated logs that are kept; 0: 23
	ProbeTimeout time.Duration // how long a test of the sandbox may take; 0: 30 s
	Log          *slog.Logger

	CheckpointBudget int64 // bytes that checkpoints may use of the disk; 0: they stay in memory
	PlainCheckpoints bool  // those on the disk are not sealed

	LogKey func(context.Context, identity.AgentID) (vault.TextKey, error) // see runtime.Settings
}

// complete sets the defaults, makes paths absolute and checks them.
func (s *Settings) complete() (err error) {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if len(s.Command) == 0 {
		return errors.New("no command that starts gateways")
	}
	if s.NoSandbox && os.Getuid() == 0 {
		return errors.New("without a sandbox, agents of root would be root")
	}
	if s.NoSandbox && s.Sandbox == GVisor {
		return errors.New("the sandbox of gVisor is asked for and switched off")
	}
	if s.Dir, err = makeDataDir(s.Dir); err != nil {
		return err
	}
	program, err := exec.LookPath(s.Command[0])
	if err == nil {
		program, err = filepath.Abs(program)
	}
	if err != nil {
		return fmt.Errorf("find the gateway's command: %w", err)
	}
	s.Command = append([]string{program}, s.Command[1:]...)
	if s.ReadOnly, err = resolveReadOnly(s.ReadOnly, s.Dir); err != nil {
		return err
	}
	s.TempBytes = cmp.Or(s.TempBytes, defaultTempBytes)
	s.LogMaxBytes = cmp.Or(s.LogMaxBytes, defaultLogBytes)
	s.Sandbox = cmp.Or(s.Sandbox, Bubblewrap)
	s.Bubblewrap = cmp.Or(s.Bubblewrap, "bwrap")
	s.ProbeTimeout = cmp.Or(s.ProbeTimeout, defaultProbeTimeout)
	s.LogKeep = cmp.Or(s.LogKeep, defaultLogKeep)
	return nil
}

// resolveReadOnly makes the paths that agents may read absolute. It fails if one
// of them contains dir, which holds the homes of all agents.
func resolveReadOnly(paths []string, dir string) ([]string, error) {
	out := make([]string, len(paths))
	for i, path := range paths {
		var err error
		if out[i], err = filepath.Abs(path); err != nil {
			return nil, err
		}
	}
	for _, path := range append([]string{"/usr"}, out...) {
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return nil, fmt.Errorf("read-only path of agents: %w", err)
		}
		if isWithin(dir, real) {
			return nil, fmt.Errorf("every agent may read %s, but it contains the homes of all agents: move one of the two", path)
		}
	}
	return out, nil
}

// makeDataDir creates a directory that only the server's user can enter, and
// returns its absolute path without symbolic links.
func makeDataDir(dir string) (string, error) {
	if dir == "" {
		return "", errors.New("no directory for the agents")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("create the agents' directory: %w", err)
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}

// isWithin reports whether path is dir or below it.
func isWithin(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
