//go:build !linux

package process

import (
	"context"
	"os"

	"agento.host/agento/internal/runtime"
)

// criu is the program that makes checkpoints.
type criu struct{ err error }

func findCRIU(Settings) criu { return criu{err: &runtime.SuspendError{Missing: "criu needs Linux"}} }

// CheckSuspend implements runtime.Suspender.
func (d *Driver) CheckSuspend() error {
	return &runtime.SuspendError{Missing: "criu needs Linux"}
}

func availableMemory() (int64, error) { return 0, nil }

func stateOf(string) (fileState, error) { return fileState{}, os.ErrNotExist }

func (d *Driver) dump(context.Context, agent, record, int) error { return d.CheckSuspend() }

func (d *Driver) restore(context.Context, agent, record, checkpoint, *os.File) error {
	return d.CheckSuspend()
}

func (d *Driver) continueAll([]int) {}
