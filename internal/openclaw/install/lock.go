package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// fileLock is held by this process and by every child process that has inherited its
// file. The kernel releases it when the last of them ends, in whatever way.
type fileLock struct{ file *os.File }

// lockPollInterval is the pause between attempts to get the lock.
const lockPollInterval = 100 * time.Millisecond

// acquireLock waits for the lock.
func acquireLock(ctx context.Context, name string, p *progress) (*fileLock, error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the install lock: %w", err)
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return &fileLock{file: file}, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = file.Close()
			return nil, fmt.Errorf("lock the runtime folder: %w", err)
		}
		p.setPhase("waiting for another install", "")
		select {
		case <-ctx.Done():
			_ = file.Close()
			return nil, ctx.Err()
		case <-time.After(lockPollInterval):
		}
	}
}

func (l *fileLock) release() { _ = l.file.Close() }
