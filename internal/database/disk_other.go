//go:build !linux

package database

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// readOnlyFlag is the flag of a file system that is mounted read-only.
const readOnlyFlag = unix.MNT_RDONLY

// tryFile makes a file in a directory and deletes it.
func tryFile(dir string) error {
	f, err := os.CreateTemp(dir, ".try-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// fallocate fails with EOPNOTSUPP, so that the blocks are written.
func fallocate(int, int64) error { return unix.EOPNOTSUPP }
