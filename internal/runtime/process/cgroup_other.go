//go:build !linux

package process

func probeCgroup(string) cgroup { return noCgroup{cause: "control groups need Linux"} }
