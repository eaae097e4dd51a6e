//go:build !linux

package process

func lowerPriority() {}

func processorsWanted() bool { return false }
