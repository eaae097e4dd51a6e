//go:build !linux

package process

func (c criu) tryDump() error { return c.err }

func freeSwapAndMemory() (swap, memory int64, err error) { return 0, 0, nil }
