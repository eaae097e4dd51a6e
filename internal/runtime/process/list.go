package process

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// Gateway is a running gateway that the files in a directory of agents name.
type Gateway struct {
	ID           identity.AgentID
	Installation string // that has started it
	Own          bool   // its home is in the directory; else it is the gateway of another directory, which is left alone
	PID          int    // of its shim
	Place        runtime.Place
	StartedAt    time.Time
	MemoryBytes  int64 // with all children
}

// Gateways lists the running gateways that the files in Settings.Dir name. It needs no
// driver and changes nothing. A directory that does not exist has none. Gateways that
// it cannot read are missing from the list and in the error.
func Gateways(dir string) ([]Gateway, error) {
	var all []Gateway
	err := eachAgent(dir, func(a agent) error {
		r, err := a.record()
		if err != nil {
			return err
		}
		if pid, ok := a.readShimFile("pid", r); ok && isShim(pid, r.Nonce) {
			all = append(all, newGateway(a.id, true, stranger{PID: pid, Place: string(r.Place), At: r.At, Owner: r.Installation}))
		}
		others, err := a.strangers()
		for _, s := range others {
			all = append(all, newGateway(a.id, false, s))
		}
		return err
	})
	slices.SortFunc(all, func(a, b Gateway) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.PID, b.PID)) })
	return all, err
}

func newGateway(id identity.AgentID, own bool, s stranger) Gateway {
	return Gateway{
		ID: id, Installation: s.Owner, Own: own, PID: s.PID, Place: runtime.Place(s.Place), StartedAt: s.At,
		MemoryBytes: usageOf(processTree(s.PID)).memory,
	}
}

// eachAgent calls do for every agent's directory in dir, whosever it is. An error with
// one does not keep it from the others.
func eachAgent(dir string, do func(agent) error) error {
	dir, err := resolve(dir)
	if err != nil {
		return err
	}
	var failed error
	for _, id := range agentDirs(dir) {
		path := filepath.Join(dir, string(id))
		if !validID.MatchString(string(id)) {
			continue
		}
		if err := do(agent{id: id, dir: path, home: filepath.Join(path, "home")}); err != nil {
			failed = errors.Join(failed, fmt.Errorf("agent %s: %w", id, err))
		}
	}
	return failed
}

// Quarantined is an agent's directory in quarantine.
type Quarantined struct {
	ID    identity.AgentID
	Since time.Time
	Path  string
}

// ListQuarantine lists what Quarantine has moved away from Settings.Dir, oldest first.
func ListQuarantine(dir string) ([]Quarantined, error) {
	dir, err := resolve(dir)
	if err != nil {
		return nil, err
	}
	var all []Quarantined
	for _, aside := range quarantineDirs(dir) {
		entries, e := os.ReadDir(aside)
		err = errors.Join(err, ignoreMissing(e))
		for _, e := range entries {
			cut := max(0, strings.LastIndexByte(e.Name(), '-'))
			since, err := time.Parse("-"+quarantineTime, e.Name()[cut:])
			if err == nil && e.IsDir() {
				all = append(all, Quarantined{ID: identity.AgentID(e.Name()[:cut]), Since: since, Path: filepath.Join(aside, e.Name())})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Quarantined) int { return a.Since.Compare(b.Since) })
	return all, err
}

// resolve returns the path that makeDataDir would, but makes no directory.
func resolve(dir string) (string, error) {
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	return filepath.Abs(dir)
}
