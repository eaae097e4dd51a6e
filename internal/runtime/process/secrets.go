package process

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime/home"
)

const secretsName = "secrets.json"

// secretStore stores the secrets files of running gateways, each in a directory of
// its own. The sandbox mounts the directory and not the file, because a mounted
// file would not show its replacement.
type secretStore struct {
	dir      string
	inMemory bool
}

// shortName returns a name for what belongs to a directory of agents but is elsewhere,
// in places that are shared with others: control groups and secrets files. A copy of the
// directory and another installation get other names; a directory that is moved keeps
// its name.
func shortName(dir, installation string) (string, error) {
	id, err := identify(dir)
	if err != nil {
		return "", fmt.Errorf("identify the agents' directory: %w", err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %s", id.Dev, id.Ino, installation))
	return hex.EncodeToString(sum[:6]), nil
}

func openSecretStore(runDir, dataDir, name string) (secretStore, error) {
	for _, dir := range runDirs(runDir, dataDir) {
		if err := privateDir(dir); err != nil {
			if runDir != "" {
				return secretStore{}, err
			}
			continue
		}
		store := filepath.Join(dir, name)
		if err := os.MkdirAll(store, 0o700); err != nil {
			return secretStore{}, fmt.Errorf("make directory for secrets: %w", err)
		}
		return secretStore{dir: store, inMemory: isMemory(store)}, nil
	}
	return secretStore{}, errors.New("no directory for secrets")
}

// runDirs lists the directories where secrets may be stored, best first.
func runDirs(runDir, dataDir string) []string {
	if runDir != "" {
		return []string{runDir}
	}
	var dirs []string
	if x := os.Getenv("XDG_RUNTIME_DIR"); x != "" && isMemory(x) {
		dirs = append(dirs, filepath.Join(x, "agento"))
	}
	if isMemory("/dev/shm") {
		dirs = append(dirs, fmt.Sprintf("/dev/shm/agento-%d", os.Getuid()))
	}
	return append(dirs, filepath.Join(dataDir, ".run"))
}

// privateDir creates a directory that only our user can enter. It checks the owner,
// because everybody can create directories in /dev/shm, also with our name.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory for secrets: %w", err)
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner, ok := st.Sys().(*syscall.Stat_t)
	if !st.IsDir() || !ok || int(owner.Uid) != os.Getuid() {
		return fmt.Errorf("directory for secrets: %s belongs to another user", dir)
	}
	return os.Chmod(dir, 0o700)
}

func (s secretStore) fileOf(id identity.AgentID) string {
	return filepath.Join(s.dirOf(id), secretsName)
}

func (s secretStore) dirOf(id identity.AgentID) string { return filepath.Join(s.dir, string(id)) }

// write replaces the secrets file of an agent atomically.
func (s secretStore) write(a agent, rec record, secrets []byte) error {
	dir := s.dirOf(a.id + rec.Variant)
	mode := os.FileMode(0o700)
	if a.owner != (home.Owner{}) {
		mode = 0o711 // the agent's user can enter; the directories above are closed to others
	}
	if err := errors.Join(os.MkdirAll(dir, mode), os.Chmod(dir, mode)); err != nil {
		return err
	}
	temp := filepath.Join(dir, "."+secretsName)
	err := os.WriteFile(temp, secrets, 0o600)
	if err == nil && a.owner != (home.Owner{}) {
		err = os.Chown(temp, a.owner.UID, a.owner.GID)
	}
	if err == nil {
		err = os.Rename(temp, filepath.Join(dir, secretsName))
	}
	if err != nil {
		_ = os.Remove(temp)
		return fmt.Errorf("write secrets: %w", err)
	}
	return nil
}

func (s secretStore) remove(id identity.AgentID) error { return os.RemoveAll(s.dirOf(id)) }

func (s secretStore) ids() []identity.AgentID { return agentDirs(s.dir) }

// agentDirs returns the names of the directories in dir, which are ids of agents.
func agentDirs(dir string) []identity.AgentID {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var ids []identity.AgentID
	for _, e := range entries {
		if e.IsDir() {
			ids = append(ids, identity.AgentID(e.Name()))
		}
	}
	return ids
}
