package process

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// MarkRestored makes the directories of agents in dir, which a backup has been unpacked into,
// those of an installation. Of each it keeps the home and the log: everything else is about
// gateways of the original. What is no directory of an agent it removes. No server uses dir.
func MarkRestored(dir, installation string) (agents int, err error) {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("mark the homes: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	entries, err := readNames(root, ".")
	for _, name := range entries {
		if err != nil {
			return 0, fmt.Errorf("mark the homes: %w", err)
		}
		info, e := root.Lstat(name)
		switch {
		case e != nil:
			err = e
		case !info.IsDir() || !validID.MatchString(name):
			err = root.RemoveAll(name)
		default:
			agents++
			err = markRestored(root, name, installation)
		}
	}
	return agents, err
}

// markRestored is MarkRestored for the directory of one agent.
func markRestored(root *os.Root, agent, installation string) error {
	names, err := readNames(root, agent)
	if err != nil {
		return fmt.Errorf("mark the home of agent %s: %w", agent, err)
	}
	kept := []string{"home", "log"}
	for _, name := range names {
		if !slices.Contains(kept, name) {
			err = errors.Join(err, root.RemoveAll(filepath.Join(agent, name)))
		}
	}
	f, openErr := root.OpenFile(filepath.Join(agent, markName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err = errors.Join(err, openErr); err == nil {
		_, err = io.Copy(f, strings.NewReader(installation+"\n"))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("mark the home of agent %s: %w", agent, err)
	}
	return nil
}

// readNames returns the names in a directory below root.
func readNames(root *os.Root, dir string) (_ []string, err error) {
	d, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.Readdirnames(-1)
}
