package vault

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// MasterKey reads the master key from a file of 64 hex digits, which it makes,
// readable to its owner alone, if there is none. Two processes that start at
// once end up with the same key. A file that others may read is refused.
func MasterKey(path string) ([]byte, error) {
	err := makeMasterKey(path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make master key: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read master key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("master key %s may be read by others (mode %v): chmod 600 it", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return nil, fmt.Errorf("read master key: %w", err)
	}
	return ParseMasterKey(text)
}

// ParseMasterKey decodes 64 hex digits, white space around them allowed.
func ParseMasterKey(text []byte) ([]byte, error) {
	key, err := hex.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(key) != 32 {
		return nil, errors.New("the master key must be 64 hex digits (32 bytes); make one with: openssl rand -hex 32")
	}
	return key, nil
}

// makeMasterKey writes the whole file aside and links it into place: a crash
// leaves no half key, and a second maker gets fs.ErrExist.
func makeMasterKey(path string) error {
	if _, err := os.Stat(path); err == nil {
		return fs.ErrExist
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	f, err := os.CreateTemp(filepath.Dir(path), ".master-*") // made with mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString(hex.EncodeToString(key) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), path)
}
