//go:build !linux

package process

func countsByNamespace() bool { return false }

func setNoNewPrivileges() error { return nil }
