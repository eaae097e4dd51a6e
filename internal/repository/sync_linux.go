package repository

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncFileSystem writes everything of a directory's file system to the disk.
func syncFileSystem(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return unix.Syncfs(int(f.Fd()))
}
