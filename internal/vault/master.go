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

// MasterKey reads the master key from a file of 64 hex digits. If there is no file, it
// creates one that only the file's owner can read. Two processes that start at the same
// time get the same key. Errors: other users can read the file.
func MasterKey(path string) ([]byte, error) {
	err := createMasterKey(path)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("create master key: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read master key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("other users can read the master key %s (mode %v): run chmod 600 on it", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return nil, fmt.Errorf("read master key: %w", err)
	}
	return ParseMasterKey(text)
}

// ParseMasterKey decodes 64 hex digits. White space around them is allowed.
func ParseMasterKey(text []byte) ([]byte, error) {
	key, err := hex.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(key) != 32 {
		return nil, errors.New("the master key must be 64 hex digits (32 bytes); create one with: openssl rand -hex 32")
	}
	return key, nil
}

// createMasterKey writes a temporary file and links it to path, so that a crash leaves
// no incomplete key. Errors: fs.ErrExist, also if another process was faster.
func createMasterKey(path string) error {
	if _, err := os.Stat(path); err == nil {
		return fs.ErrExist
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	f, err := os.CreateTemp(filepath.Dir(path), ".master-*") // created with mode 0600
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
