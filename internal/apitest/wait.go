package apitest

import (
	"crypto/rand"
	"testing"
	"time"

	"agento.host/agento/internal/vault"
)

// NewVault returns a vault with a new master key.
func NewVault(t testing.TB) *vault.Vault {
	t.Helper()
	master := make([]byte, 32)
	_, _ = rand.Read(master)
	v, err := vault.New(master)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// WaitUntil waits until a condition holds.
func WaitUntil(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(WaitTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

// WaitClosed waits until a channel is closed.
func WaitClosed(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(WaitTimeout):
		t.Fatalf("timed out waiting for %s", what)
	}
}
