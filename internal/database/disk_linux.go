package database

import "golang.org/x/sys/unix"

// readOnlyFlag is the flag of a file system that is mounted read-only.
const readOnlyFlag = unix.ST_RDONLY

// tryFile makes a file without a name in a directory, which leaves nothing behind.
func tryFile(dir string) error {
	f, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	return unix.Close(f)
}

// fallocate gives an open file its blocks on the disk. It fails with EOPNOTSUPP where the
// file system cannot.
func fallocate(fd int, size int64) error { return unix.Fallocate(fd, 0, 0, size) }
