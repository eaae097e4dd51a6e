package image

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// relayName is the relay's program beside ours.
const relayName = "agento-relay"

// relay returns the relay's program. Errors: if there is none, or if it cannot run in the image.
func relay(given, architecture string) (*entry, error) {
	file, err := relayFile(given)
	if err != nil {
		return nil, err
	}
	size, err := checkRelay(file, architecture)
	if err != nil {
		return nil, err
	}
	return onDisk(file, size, 0o755), nil
}

// relayFile returns the program of the relay.
func relayFile(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	beside := filepath.Join(filepath.Dir(self), relayName)
	if _, err := os.Stat(beside); errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("the program %s is not beside agento (%s): put it there, or name it with --relay; make image builds it", relayName, beside)
	} else if err != nil {
		return "", fmt.Errorf("find the relay: %w", err)
	}
	return beside, nil
}

// checkRelay returns the size of the relay's program. Errors: if it cannot run in the image.
func checkRelay(name, architecture string) (int64, error) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, fmt.Errorf("the relay: %w", err)
	}
	program, err := elf.Open(name)
	if err != nil {
		return 0, fmt.Errorf("the relay %s is no program for Linux: %w", name, err)
	}
	defer func() { _ = program.Close() }()
	if want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[architecture]; program.Machine != want {
		return 0, fmt.Errorf("the relay %s is for another architecture than %s", name, architecture)
	}
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			return 0, fmt.Errorf("the relay %s is not static: build it with CGO_ENABLED=0", name)
		}
	}
	return info.Size(), nil
}
