package database

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"agento.host/agento/internal/fault"
)

// Problem is why the database, or the disk that it is on, cannot be used. Its text is a
// sentence that says what to do, without paths: callers see it.
type Problem string

// The problems.
const (
	DiskFull  Problem = "The disk of the server is full, so nothing new is stored. Stop and delete work: delete what is not needed, or free space on the disk, then try again."
	NoInodes  Problem = "The disk of the server can take no more files: it has no free inodes. Stop and delete work: delete agents or files that are not needed, then try again."
	ReadOnly  Problem = "The disk of the server is read-only, so nothing is stored. The operator must repair the file system, mount it writable and restart the server; then try again."
	Locked    Problem = "Another program has locked the database of the server, so nothing is stored. The operator must end that program; then try again."
	DiskError Problem = "The disk of the server does not read or write. The operator must check it and read the server's log; then try again."
)

// retryAfter is when a caller should try again after a Problem.
const retryAfter = 10 * time.Second

// Error implements error.
func (p Problem) Error() string { return string(p) }

// Diagnose returns the problem in the chain of an error. ok is false if the error has
// another cause. The error may come from SQLite or from a file system.
func Diagnose(err error) (p Problem, ok bool) {
	if errors.As(err, &p) {
		return p, true
	}
	if failed := (*sqlite.Error)(nil); errors.As(err, &failed) {
		switch failed.Code() & 0xff { // the rest of an extended code is the detail
		case sqlite3.SQLITE_FULL:
			return DiskFull, true
		case sqlite3.SQLITE_READONLY:
			return ReadOnly, true
		case sqlite3.SQLITE_BUSY:
			return Locked, true
		case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN:
			return DiskError, true
		}
		return "", false
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return DiskFull, true
	case errors.Is(err, syscall.EROFS):
		return ReadOnly, true
	case errors.Is(err, syscall.EIO):
		return DiskError, true
	}
	return "", false
}

// Explain returns the fault of an error's problem, with the error as its cause for the
// log. It returns err itself if that has no problem, or is a fault already.
func Explain(err error) error {
	p, ok := Diagnose(err)
	if f := (*fault.Fault)(nil); !ok || errors.As(err, &f) {
		return err
	}
	return p.fault(err)
}

// fault returns the fault that callers see.
func (p Problem) fault(cause error) *fault.Fault {
	f := fault.New(fault.Unavailable, "%s", string(p))
	f.RetryAfter = retryAfter
	return f.Because(fmt.Errorf("%w: %w", cause, p))
}
