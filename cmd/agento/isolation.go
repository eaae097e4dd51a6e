package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/database"
)

// decideIsolation stores how the agents of the data directory run, and refuses to run
// them otherwise: without a sandbox where they have one, or in a directory of dev.
func (f serveFlags) decideIsolation(ctx context.Context, db *database.DB, dev devSettings) error {
	wanted := database.Isolated
	if dev.unsandboxed {
		wanted = database.Development
	}
	stored, err := db.DecideIsolation(ctx, wanted)
	switch isDev := dev.addr.IsValid(); {
	case err != nil:
		return err
	case stored == database.Development && !isDev:
		return fmt.Errorf("%s is for development: agento dev has run agents there without a sandbox, and serve never uses it: choose another --data", f.Data)
	case stored == database.Isolated && dev.unsandboxed:
		return fmt.Errorf("the agents in %s run in a sandbox, which this machine cannot make: choose another --data, or run agento doctor", f.Data)
	}
	return nil
}

// ordinaryUser is the user that dev becomes if root cannot isolate agents: the one that
// has called sudo, or nobody.
type ordinaryUser struct {
	name, home string
	uid, gid   int
}

func findOrdinaryUser() (ordinaryUser, error) {
	found, err := user.LookupId(os.Getenv("SUDO_UID"))
	bySudo := err == nil && found.Uid != "0"
	if !bySudo {
		if found, err = user.Lookup("nobody"); err != nil {
			return ordinaryUser{}, err
		}
	}
	u := ordinaryUser{name: found.Username, home: found.HomeDir}
	if u.uid, err = strconv.Atoi(found.Uid); err != nil {
		return u, err
	}
	if u.gid, err = strconv.Atoi(found.Gid); err != nil {
		return u, err
	}
	if u.uid == 0 {
		return u, fmt.Errorf("the user %s is root", u.name)
	}
	if !bySudo { // it has no directory
		u.home = filepath.Join(os.TempDir(), "agento-"+u.name)
		err = u.makeHome()
	}
	return u, err
}

// makeHome makes the user's directory. It refuses one that another user has made.
func (u ordinaryUser) makeHome() error {
	err := os.Mkdir(u.home, 0o700)
	if err == nil {
		return os.Lchown(u.home, u.uid, u.gid)
	}
	st, statErr := os.Lstat(u.home)
	if statErr != nil {
		return err
	}
	if owner, ok := st.Sys().(*syscall.Stat_t); !ok || !st.IsDir() || int(owner.Uid) != u.uid {
		return fmt.Errorf("%s is not a directory of the user %s: remove it", u.home, u.name)
	}
	return nil
}

// environ returns the environment of the user.
func (u ordinaryUser) environ() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{"HOME", "USER", "LOGNAME"}, name) || strings.HasPrefix(name, "XDG_") || strings.HasPrefix(name, "SUDO_")
	})
	return append(env, "HOME="+u.home, "USER="+u.name, "LOGNAME="+u.name)
}

// becomeOrdinaryUser executes this program again as an ordinary user, with the same
// arguments. It returns only if that fails.
func becomeOrdinaryUser() error {
	u, err := findOrdinaryUser()
	if err != nil {
		return fmt.Errorf("find an ordinary user: %w", err)
	}
	goruntime.LockOSThread() // exec keeps this thread alone
	if err := syscall.Setgroups([]int{u.gid}); err != nil {
		return fmt.Errorf("become the user %s: %w", u.name, err)
	}
	if err := syscall.Setgid(u.gid); err != nil {
		return fmt.Errorf("become the user %s: %w", u.name, err)
	}
	if err := syscall.Setuid(u.uid); err != nil {
		return fmt.Errorf("become the user %s: %w", u.name, err)
	}
	if unix.Access(".", unix.R_OK|unix.X_OK) != nil {
		if err := os.Chdir(u.home); err != nil {
			return err
		}
	}
	// The path of the program may be in a directory that the user cannot enter.
	err = syscall.Exec("/proc/self/exe", os.Args, u.environ()) //nolint:gosec // it is this program, with its own arguments
	return fmt.Errorf("start again as the user %s: %w", u.name, err)
}
