package process

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// markName is the file in an agent's directory that names the installation that the
// directory belongs to.
const markName = "installation"

// newDirPrefix begins the names of agents' directories that are being made.
const newDirPrefix = ".new-"

// mark returns the installation that the agent's directory belongs to, or "" if
// nothing says so.
func (a agent) mark() (string, error) {
	data, err := os.ReadFile(a.path(markName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read whose home it is: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// whose returns whose the agent's directory is. To a driver without an installation
// every directory is its own.
func (a agent) whose() (runtime.Owner, error) {
	if a.installation == "" {
		return runtime.Own, nil
	}
	mark, err := a.mark()
	switch {
	case err != nil:
		return runtime.Unmarked, err
	case mark == a.installation:
		return runtime.Own, nil
	case mark != "":
		return runtime.Foreign, nil
	}
	_, err = os.Lstat(a.dir)
	if errors.Is(err, fs.ErrNotExist) {
		// Control groups and directories of secrets have names that only this
		// installation makes; see shortName.
		return runtime.Own, nil
	}
	return runtime.Unmarked, err
}

// makeDir makes the agent's directory, with its mark: a crash leaves no directory
// without one. A directory that has no mark gets it. Errors: runtime.ErrForeign.
func (a agent) makeDir() error {
	owner, err := a.whose()
	switch {
	case err != nil:
		return err
	case owner == runtime.Foreign:
		mark, err := a.mark()
		return errors.Join(fmt.Errorf("%s belongs to the installation %s and this is %s: %w", a.dir, mark, a.installation, runtime.ErrForeign), err)
	case owner == runtime.Unmarked:
		return replaceFile(a.path(markName), []byte(a.installation+"\n"))
	}
	if _, err := os.Lstat(a.dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return a.makeMarkedDir()
}

func (a agent) makeMarkedDir() error {
	if a.installation == "" {
		return os.MkdirAll(a.dir, 0o700)
	}
	temp := filepath.Join(filepath.Dir(a.dir), newDirPrefix+rand.Text())
	err := os.Mkdir(temp, 0o700)
	if err == nil {
		err = writeSynced(filepath.Join(temp, markName), a.installation+"\n")
	}
	if err == nil {
		err = os.Rename(temp, a.dir)
	}
	if err != nil {
		_ = os.RemoveAll(temp)
		if _, there := os.Lstat(a.dir); there == nil {
			return nil // another goroutine or process has made it
		}
		return fmt.Errorf("make the agent's directory: %w", err)
	}
	return nil
}

// writeSynced creates a file whose content is on the disk when it returns.
func writeSynced(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// unfinishedAge is the age from which makeMarkedDir is no longer making a directory.
const unfinishedAge = time.Minute

// probePrefix begins the names of the directories that the sandbox is tested with.
const probePrefix = ".probe-"

// removeUnfinishedDirs deletes what a crash during makeMarkedDir or a test of the
// sandbox has left.
func removeUnfinishedDirs(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, newDirPrefix+"*"))
	probes, probeErr := filepath.Glob(filepath.Join(dir, probePrefix+"*"))
	err = errors.Join(err, probeErr)
	for _, path := range append(left, probes...) {
		if st, statErr := os.Lstat(path); statErr == nil && time.Since(st.ModTime()) > unfinishedAge {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	return err
}

// fileID identifies a file or directory on this machine until it is deleted. A copy has
// another one, what is renamed keeps it.
type fileID struct {
	Dev uint64 `json:"dev"`
	Ino uint64 `json:"ino"`
}

// identify returns the identity of a file, following links.
func identify(path string) (fileID, error) {
	st, err := os.Stat(path)
	if err != nil {
		return fileID{}, err
	}
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, fmt.Errorf("%s has no inode", path)
	}
	return fileID{Dev: uint64(s.Dev), Ino: s.Ino}, nil //nolint:unconvert // the type of Dev differs between systems
}

// stranger is a running gateway that the files of an agent's directory name although it
// has another home: the directory is a copy, or a backup that was put in the place of
// the original. It is left alone.
type stranger struct {
	PID   int       `json:"pid"`
	Nonce string    `json:"nonce"`
	Place string    `json:"place"`
	At    time.Time `json:"at"`
	Owner string    `json:"installation"`
}

// strangers returns the strangers that still run.
func (a agent) strangers() ([]stranger, error) {
	r, err := a.savedRecord()
	if err != nil {
		return nil, err
	}
	found := r.Strangers
	if pid, ok := a.readShimFile("pid", r); ok && !a.owns(r) {
		found = append(found, stranger{PID: pid, Nonce: r.Nonce, Place: string(r.Place), At: r.At, Owner: r.Installation})
	}
	return slices.DeleteFunc(found, func(s stranger) bool { return !isShim(s.PID, s.Nonce) }), nil
}

// owns reports whether a record is about a gateway of this directory: this installation
// has started it, and with the home that is here now.
func (a agent) owns(r record) bool {
	installation := a.installation
	if installation == "" {
		installation = r.Installation
		if mark, err := a.mark(); err == nil && mark != "" {
			installation = mark
		}
	}
	if r.Installation != installation {
		return false
	}
	if id, err := identify(a.home); err != nil || r.Home != id {
		return false
	}
	pid, began := a.readShimFile("pid", r)
	return !began || hasHomeOpen(pid, r.Home) || !isShim(pid, r.Nonce)
}

// reportStrangers logs each stranger once.
func (d *Driver) reportStrangers(id identity.AgentID, found []stranger) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range found {
		if d.reported[s.Nonce] {
			continue
		}
		d.reported[s.Nonce] = true
		d.settings.Log.Warn("a gateway of another directory runs: it is left alone, and the agent gets a gateway of its own",
			"agent", id, "pid", s.PID, "place", s.Place, "installation", s.Owner, "fix", "agento gateways stop, with the --data that it belongs to, or kill the pid")
	}
}

// groups returns the directories of an agent's control group, without those of strangers.
func (d *Driver) groups(a agent, rec record) []string {
	dirs := slices.Clone(d.cgroup.find(a.id, rec.Groups))
	found, err := a.strangers()
	if err != nil || len(found) == 0 { // the caller has just read the same record
		return dirs
	}
	return slices.DeleteFunc(dirs, func(dir string) bool {
		pids := d.cgroup.pids([]string{dir})
		return slices.ContainsFunc(found, func(s stranger) bool { return slices.Contains(pids, s.PID) })
	})
}

// removeSecrets removes the secrets of an agent, but not those of strangers.
func (d *Driver) removeSecrets(a agent, rec record) error {
	found, err := a.strangers()
	if err == nil && (rec.Variant != "" || len(found) == 0) {
		err = d.secrets.remove(a.id + rec.Variant)
	}
	if err == nil && len(found) == 0 {
		err = d.secrets.remove(a.id)
	}
	return err
}

// checkStrangers returns an error if a stranger may use the agent's home: it has no
// sandbox and was started with the same path, or nothing is known of its home because a
// version of agento without this record has started it.
func (d *Driver) checkStrangers(a agent, found []stranger) error {
	for _, s := range found {
		if s.Owner == "" && d.settings.Installation != "" {
			return fmt.Errorf("process %d, a gateway that an earlier version of agento has started, may use this home: end it with kill %d", s.PID, s.PID)
		}
	}
	if !d.settings.NoSandbox || len(found) == 0 {
		return nil
	}
	users := processesWithHome(a.home)
	for _, s := range found {
		if slices.ContainsFunc(processTree(s.PID), func(pid int) bool { return slices.Contains(users, pid) }) {
			return fmt.Errorf("process %d, a gateway of a directory that was here before, uses this path without a sandbox: end it with kill %d", s.PID, s.PID)
		}
	}
	return nil
}

// quarantineName is the directory where Quarantine moves agents.
const quarantineName = "quarantine"

// quarantineTime is the format of the time in the names there.
const quarantineTime = "20060102T150405.000Z"

// quarantineDirs returns where agents of a directory go into quarantine, best first. The
// second is for a directory that is a file system of its own; no agent has such an id.
func quarantineDirs(dir string) []string {
	return []string{filepath.Join(filepath.Dir(dir), quarantineName), filepath.Join(dir, "."+quarantineName)}
}

// quarantine moves the directory of an agent whose processes have ended aside.
func (d *Driver) quarantine(a agent) error {
	if _, err := os.Lstat(a.dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	name := string(a.id) + "-" + time.Now().UTC().Format(quarantineTime)
	var err error
	for _, dir := range quarantineDirs(d.settings.Dir) {
		if err = os.MkdirAll(dir, 0o700); err == nil {
			err = os.Rename(a.dir, filepath.Join(dir, name))
		}
		if !errors.Is(err, syscall.EXDEV) {
			return err
		}
	}
	return err
}
