package process

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime/home"
)

const (
	// systemd assigns no ids from here to 2^31 ("Users, Groups, UIDs and GIDs on
	// systemd systems").
	firstAgentUser = 0x70000000
	agentUserCount = 1 << 28
)

// userRange is the range of user ids of agents if the server is root. Each agent
// has its own user, so that a process that escapes its sandbox still has no
// permissions.
type userRange struct {
	first, count uint32 // count 0: agents run as the server's user
}

// findUserRange chooses a range of user ids that exist in this user namespace.
func findUserRange() userRange {
	if os.Getuid() != 0 {
		return userRange{}
	}
	f, err := os.Open("/proc/self/uid_map")
	if err != nil {
		return userRange{}
	}
	defer func() { _ = f.Close() }()
	var best userRange
	for s := bufio.NewScanner(f); s.Scan(); {
		var inside, outside, count uint32
		if _, err := fmt.Sscan(s.Text(), &inside, &outside, &count); err != nil {
			continue
		}
		if count > best.count {
			best = userRange{first: inside, count: count}
		}
	}
	return best.choose()
}

func (r userRange) choose() userRange {
	switch {
	case uint64(r.first)+uint64(r.count) >= firstAgentUser+agentUserCount && r.first <= firstAgentUser:
		return userRange{first: firstAgentUser, count: agentUserCount}
	case r.count < 1000:
		return userRange{}
	}
	// A container with few users: the upper half, so that agents do not share users
	// with its image.
	half := r.count / 2
	return userRange{first: r.first + half, count: min(half, 65534-1)}
}

// userFile is the file in an agent's directory that has the id of its user. These files
// together are the table of users: only the server can write them, and an agent's user is
// free again when its directory is gone.
const userFile = "user"

// ownerOf returns the user of the agent with that directory. Before its first start, it is
// the one that assignUser tries first.
func (r userRange) ownerOf(id identity.AgentID, dir string) home.Owner {
	if r.count == 0 {
		return home.Owner{}
	}
	uid, ok := r.recorded(dir)
	if !ok {
		uid = r.preferred(id)
	}
	return home.Owner{UID: int(uid), GID: int(uid)}
}

// recorded returns the user that is stored in an agent's directory.
func (r userRange) recorded(dir string) (uid uint32, ok bool) {
	text, err := os.ReadFile(filepath.Join(dir, userFile))
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 32)
	uid = uint32(n)
	return uid, err == nil && uid-r.first < r.count
}

// preferred returns a user that depends on nothing but the agent's id.
func (r userRange) preferred(id identity.AgentID) uint32 {
	sum := sha256.Sum256([]byte(id))
	return r.first + binary.BigEndian.Uint32(sum[:])%r.count
}

// assignUser stores a user for an agent that is about to start, unless it has one: the
// preferred one, or the next that no other agent has.
func (d *Driver) assignUser(a agent) (home.Owner, error) {
	r := d.users
	d.assignMu.Lock()
	defer d.assignMu.Unlock()
	if _, ok := r.recorded(a.dir); ok || r.count == 0 {
		return r.ownerOf(a.id, a.dir), nil
	}
	entries, err := os.ReadDir(d.settings.Dir)
	if err != nil {
		return home.Owner{}, fmt.Errorf("read the users of agents: %w", err)
	}
	taken := map[int]bool{}
	for _, e := range entries {
		if e.IsDir() && e.Name() != string(a.id) {
			taken[r.ownerOf(identity.AgentID(e.Name()), filepath.Join(d.settings.Dir, e.Name())).UID] = true
		}
	}
	if len(taken) >= int(r.count) {
		return home.Owner{}, fmt.Errorf("there are only %d users for agents here, and other agents have all of them", r.count)
	}
	uid := r.preferred(a.id)
	for taken[int(uid)] {
		uid = r.first + (uid-r.first+1)%r.count
	}
	temp := a.path(userFile + ".new")
	err = os.WriteFile(temp, []byte(strconv.FormatUint(uint64(uid), 10)+"\n"), 0o600)
	if err == nil {
		err = os.Rename(temp, a.path(userFile))
	}
	if err != nil {
		return home.Owner{}, fmt.Errorf("store the user of the agent: %w", err)
	}
	return home.Owner{UID: int(uid), GID: int(uid)}, nil
}

// chownHome makes the agent's user the owner of a home that belongs to another
// user: it comes from an archive, or from a server that ran as another user. The
// gateway does not run, so nothing changes the home meanwhile.
func (a agent) chownHome(ctx context.Context) error {
	st, err := os.Lstat(a.home)
	if os.IsNotExist(err) || a.owner == (home.Owner{}) {
		return nil
	}
	if err != nil {
		return err
	}
	if owner, ok := st.Sys().(*syscall.Stat_t); ok && int(owner.Uid) == a.owner.UID {
		return nil
	}
	root, err := os.OpenRoot(a.home)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	// The home itself last, so that an interrupted change is repeated.
	err = fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || path == "." {
			return err
		}
		return root.Lchown(path, a.owner.UID, a.owner.GID)
	})
	if err == nil {
		err = root.Lchown(".", a.owner.UID, a.owner.GID)
	}
	if err != nil {
		return fmt.Errorf("change the owner of the home: %w", err)
	}
	return nil
}
