package process

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"agento.host/agento/internal/runtime/home"
)

const (
	// systemd leaves the ids from here to 2^31 to nobody ("Users, Groups, UIDs
	// and GIDs on systemd systems").
	firstUser = 0x70000000
	manyUsers = 1 << 28
)

// userRange is the users that agents run as when the server is root: each its
// own, so that what escapes a sandbox is still nobody.
type userRange struct {
	first, count uint32 // count 0: agents run as the server's user
}

// usableUsers finds a range within those that this user namespace knows.
func usableUsers() userRange {
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
	return best.upper()
}

func (r userRange) upper() userRange {
	switch {
	case uint64(r.first)+uint64(r.count) >= firstUser+manyUsers && r.first <= firstUser:
		return userRange{first: firstUser, count: manyUsers}
	case r.count < 1000:
		return userRange{}
	}
	// A container with few users: the upper half, away from those of its image.
	half := r.count / 2
	return userRange{first: r.first + half, count: min(half, 65534-1)}
}

// ownerOf returns the user of an agent, the same in every life of the server.
// Two agents may meet in one; then only the sandbox stands between them, as it
// does for all agents of a server that is not root.
func (r userRange) ownerOf(id string) home.Owner {
	if r.count == 0 {
		return home.Owner{}
	}
	sum := sha256.Sum256([]byte(id))
	uid := int(r.first + binary.BigEndian.Uint32(sum[:])%r.count)
	return home.Owner{UID: uid, GID: uid}
}

// takeHome gives a home to the agent's user where it comes from another: from
// an archive, or from a server that ran as somebody else. The gateway is not
// running, so nothing moves underneath.
func (a agent) takeHome() error {
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
	// Itself last, so that a walk cut short is done again.
	err = fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		return root.Lchown(path, a.owner.UID, a.owner.GID)
	})
	if err == nil {
		err = root.Lchown(".", a.owner.UID, a.owner.GID)
	}
	if err != nil {
		return fmt.Errorf("give the home to its user: %w", err)
	}
	return nil
}
