package process

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
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

// ownerOf returns the user of an agent. It is always the same. Two agents may have
// the same user; then only the sandbox separates them, as with all agents of a
// server that is not root.
func (r userRange) ownerOf(id identity.AgentID) home.Owner {
	if r.count == 0 {
		return home.Owner{}
	}
	sum := sha256.Sum256([]byte(id))
	uid := int(r.first + binary.BigEndian.Uint32(sum[:])%r.count)
	return home.Owner{UID: uid, GID: uid}
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
