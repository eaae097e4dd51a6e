package main

import (
	"fmt"

	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
)

// driverFlags choose the driver that runs gateways. Each driver brings its own flags.
type driverFlags struct {
	Runtime string        `help:"What runs gateways." enum:"process" default:"process"`
	Process process.Flags `embed:""`
}

// driverKind makes and checks one kind of driver. The flags of each driver implement
// it.
type driverKind interface {
	Open(s runtime.Settings) (runtime.Driver, error)
	Check() []runtime.Check
}

// kinds returns the drivers by the values of --runtime.
func (f driverFlags) kinds() map[string]driverKind {
	return map[string]driverKind{"process": f.Process}
}

func (f driverFlags) open(s runtime.Settings) (runtime.Driver, error) {
	kind, ok := f.kinds()[f.Runtime]
	if !ok { // the enum of the flag prevents it
		return nil, fmt.Errorf("--runtime: there is no driver %q", f.Runtime)
	}
	return kind.Open(s)
}
