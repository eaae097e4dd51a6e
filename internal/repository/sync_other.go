//go:build !linux

package repository

import "golang.org/x/sys/unix"

// Sync writes everything to the disk.
func Sync(string) error { return unix.Sync() }
