package repository

import (
	"os"

	"golang.org/x/sys/unix"
)

// Sync writes everything of the file system that a directory is on to the disk.
func Sync(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return unix.Syncfs(int(f.Fd()))
}
