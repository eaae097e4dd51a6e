package runtimetest

import (
	"slices"
	"sync"
	"testing"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// Run tests that a driver fulfils the contract of package runtime. open returns a
// driver without any agents; it is called for each subtest.
func Run(t *testing.T, open func(t *testing.T) Env) {
	parts := []struct {
		name string
		run  func(t *testing.T, e Env)
	}{
		{"place, start, stop, start again", testLifeCycle},
		{"arguments, environment, files and secrets", testGatewayInput},
		{"invalid specs are rejected", testBadSpecs},
		{"start is idempotent", testRepeatedStart},
		{"start at a second place fails", testStartAtOtherPlace},
		{"concurrent starts make one gateway", testConcurrentStarts},
		{"concurrent start, stop and remove", testConcurrentCalls},
		{"calls for an agent without a gateway", testUnknownAgent},
		{"exit codes", testExitCodes},
		{"watch returns at the end", testWatch},
		{"secrets are replaced", testSecrets},
		{"logs", testLogs},
		{"logs follow over a restart", testLogsFollow},
		{"restart of the server", testServerRestart},
		{"what cannot be isolated is not started", testIsolation},
		{"list", testList},
		{"home", testHome},
		{"home stays inside its directory", testHomeStaysInside},
		{"remove", testRemove},
		{"quarantine", testQuarantine},
		{"what is another installation's is left alone", testForeign},
		{"what has no mark is marked when it is used", testUnmarked},
		{"two agents are separate", testTwoAgents},
		{"the server is reached by the gateway's own listener", testNetwork},
		{"a suspended gateway goes on", testSuspend},
		{"a checkpoint is used once", testCheckpointOnce},
		{"a checkpoint moves to the disk", testMoveToDisk},
		{"a checkpoint on the disk ends with its agent", testStoredEnds},
		{"a suspended gateway is stopped, started and removed", testSuspendedEnds},
		{"secrets are replaced during a suspend", testSuspendedSecrets},
		{"what cannot be suspended runs on", testSuspendErrors},
		{"a suspended gateway outlives the server", testSuspendedServerRestart},
		{"a frozen gateway goes on", testFreeze},
		{"a frozen gateway is stopped, started and removed", testFrozenEnds},
		{"a frozen gateway is put into quarantine", testFrozenQuarantine},
		{"secrets are replaced during a freeze", testFrozenSecrets},
		{"a frozen gateway outlives the server", testFrozenServerRestart},
	}
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			p.run(t, open(t))
		})
	}
	processParts := []struct {
		name string
		run  func(t *testing.T, e Env)
	}{
		{"stop kills processes that ignore SIGTERM", testStopKills},
		{"remove does not wait for a stop", testRemoveDuringStop},
		{"usage is measured", testUsage},
	}
	for _, p := range processParts {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			if e := open(t); e.Processes {
				p.run(t, e)
			}
		})
	}
}

// concurrently runs n calls of do at the same time. The test fails if one of them
// does.
func concurrently(t *testing.T, n int, do func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := do(i); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

func findAgent(t *testing.T, d runtime.Driver, id identity.AgentID) *runtime.Found {
	t.Helper()
	all, err := d.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(all, func(f runtime.Found) bool { return f.ID == id }); i >= 0 {
		return &all[i]
	}
	return nil
}

func stopGateway(t *testing.T, d runtime.Driver, s runtime.Spec, g *Gateway) runtime.Spec {
	t.Helper()
	if err := d.Stop(t.Context(), g.Place, g.ID, waitTimeout); err != nil {
		t.Fatal(err)
	}
	return s
}
