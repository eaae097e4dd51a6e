package process

import (
	"errors"
	"fmt"

	"agento.host/agento/internal/runtime"
)

// Names of the checks of CheckWake.
const (
	CheckpointCheck = "checkpoint"
	FreezeCheck     = "freeze"
	SwapCheck       = "swap"
)

// CheckWake checks by which ways gateways can sleep on this machine, and what is missing for the others.
// It dumps a small process with criu, and freezes one. That something is not possible is no failure.
func (f Flags) CheckWake() []runtime.Check {
	d, err := f.openTemporary()
	if err != nil {
		return []runtime.Check{{Name: CheckpointCheck, State: err.Error()}}
	}
	suspender := d.withCRIU()
	err = suspender.CheckSuspend()
	if err == nil {
		err = suspender.criu.tryDump()
	}
	return []runtime.Check{
		wayToSleep(CheckpointCheck, "criu can write gateways to checkpoints, which take no processor time and a quarter of the memory", err),
		wayToSleep(FreezeCheck, "control groups can freeze gateways, which take no processor time", d.CheckFreeze()),
		checkSwap(freeSwapAndMemory()),
	}
}

// wayToSleep returns the check of one way.
func wayToSleep(name, can string, err error) runtime.Check {
	missing := (*runtime.SuspendError)(nil)
	switch {
	case err == nil:
		return runtime.Check{Name: name, State: can, OK: true}
	case errors.As(err, &missing):
		state := "not possible: " + missing.Missing
		if missing.Cause != nil {
			state += ": " + missing.Cause.Error()
		}
		return runtime.Check{Name: name, State: state, OK: true, Fix: missing.Fix}
	}
	return runtime.Check{Name: name, State: err.Error()}
}

// checkSwap says where the memory of frozen gateways goes.
func checkSwap(swap, memory int64, err error) runtime.Check {
	switch {
	case err != nil:
		return runtime.Check{Name: SwapCheck, State: err.Error()}
	case swap > 0:
		return runtime.Check{Name: SwapCheck, State: fmt.Sprintf("%d MiB are free: after a minute, the memory of frozen gateways goes there", swap>>20), OK: true}
	}
	return runtime.Check{
		Name: SwapCheck, State: "none: frozen gateways stay in memory, about 1 GB each", OK: true,
		Fix: fmt.Sprintf("compressed memory as swap, until the next reboot: modprobe zram && dev=$(zramctl --find --size %dM --algorithm lz4) && mkswap $dev && swapon --priority 100 $dev", max(memory>>21, 1)),
	}
}
