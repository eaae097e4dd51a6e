//go:build !linux

package process

func (d *Driver) freezeProbe() error { return errNoGroup }

func freeSwap() (int64, error) { return 0, nil }
