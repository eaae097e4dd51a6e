//go:build race && linux

package relay_test

func init() { raceEnabled = true }
