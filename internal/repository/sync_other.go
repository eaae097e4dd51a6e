//go:build !linux

package repository

import "golang.org/x/sys/unix"

// syncFileSystem writes everything to the disk.
func syncFileSystem(string) error { return unix.Sync() }
