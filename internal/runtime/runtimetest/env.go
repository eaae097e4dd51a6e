// Package runtimetest is the conformance suite of runtime drivers, with the small
// gateway that it starts.
package runtimetest

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/vault"
)

// waitTimeout limits every wait of the suite. Only failing tests reach it.
const waitTimeout = 60 * time.Second

// Env is a driver under test, with its data.
type Env struct {
	Driver runtime.Driver
	// Restart returns a new driver with the same data, as after a restart of the
	// server.
	Restart func(t *testing.T) runtime.Driver
	// SetOwner makes an agent whose gateway does not run another installation's, or
	// takes its mark away.
	SetOwner func(t *testing.T, id identity.AgentID, owner runtime.Owner)
	// NoUnmarked says why nothing of this driver can be without a mark. Empty: SetOwner takes it
	// away.
	NoUnmarked string
	// Break makes it impossible to isolate further gateways until repair is called. Nil:
	// the driver does not isolate them.
	Break func(t *testing.T) (repair func())
	// UsageIsLate is true if Inspect may tell what a gateway used some seconds ago.
	UsageIsLate bool
	// Processes is true if gateways are processes, for which Main is the program, also in
	// containers.
	Processes bool
}

// Spec returns the spec of a test gateway, for a driver whose command is the test
// binary.
func Spec(id identity.AgentID) runtime.Spec {
	return runtime.Spec{
		ID:   id,
		Args: []string{"gateway", "-port", runtime.Port, "-home", runtime.HomePath, "-secrets", runtime.SecretsPath},
		Env: map[string]vault.Secret{
			"AGENT":  vault.NewSecret(string(id)),
			"WHERE":  vault.NewSecret("home=" + runtime.HomePath + " port=" + runtime.Port),
			"SERVER": vault.NewSecret("http://" + runtime.ServerAddr),
			"QUOTES": vault.NewSecret(shellSyntax),
		},
		Files:   map[string][]byte{"conf/deep/app.json": []byte(`{"a":1}`), "conf/where": []byte("home=" + runtime.HomePath)},
		Secrets: []byte(`{"word":"first"}`),
	}
}

// shellSyntax is a value that a shell would change if it were not quoted.
const shellSyntax = "it's \"x\" $HOME `id` \\ ~ * \ttab\nline two\n"

// NewID returns a new agent id.
func NewID() identity.AgentID { return identity.AgentID(uuid.NewString()) }

// WaitUntil waits until a condition is true.
func WaitUntil(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(waitTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatalf("timed out: waited until %s", what)
		case <-tick.C:
		}
	}
}
