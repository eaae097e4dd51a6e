package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/runtime/process"
)

// TestDoctorMeasuresSleepingGateways: with a server that runs, doctor --wake boots a gateway of its
// own, measures each way that the machine has, and leaves nothing. make chaos-freeze runs it.
func TestDoctorMeasuresSleepingGateways(t *testing.T) {
	if os.Getenv("AGENTO_CHAOS") == "" {
		t.Skip("make chaos-freeze runs it")
	}
	in := newInstallation(t, "acme")
	in.start()
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	cmd := in.program("--json", "doctor", "--wake")
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var found []finding
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatal(err)
	}
	parts := map[string]finding{}
	for _, f := range found {
		parts[f.Part] = f
		t.Logf("%s: %s", f.Part, f.State)
		if !f.OK {
			t.Errorf("%+v", f)
		}
	}
	for part, check := range map[string]string{"wake": process.CheckpointCheck, "thaw": process.FreezeCheck} {
		if _, measured := parts[part]; measured != isPossible(found, check) {
			t.Errorf("%s was measured: %t; %+v", part, measured, parts[check])
		}
	}
	if _, ok := parts["cold start"]; !ok {
		t.Error("no cold start was measured")
	}
	left, err := filepath.Glob(filepath.Join(temp, "agento-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("it has left %v, %v", left, err)
	}
	if n := len(in.gateways()); n != 0 {
		t.Errorf("the installation has %d gateways", n)
	}
}

func TestWakeText(t *testing.T) {
	times := []time.Duration{900 * time.Millisecond, 600 * time.Millisecond, 700 * time.Millisecond}
	const want = "0.70 s from a message to the first words (0.60 to 0.90 s in 3 tries), 1/15 of a cold start"
	if got := wakeText(times, 10500*time.Millisecond); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestReadWelcome(t *testing.T) {
	url, key, err := readWelcome(strings.NewReader("\nagento runs\n\n  export AGENTO_URL=http://127.0.0.1:4711 AGENTO_API_KEY=ak_1\n\nmore\n"))
	if err != nil || url != "http://127.0.0.1:4711" || key != "ak_1" {
		t.Errorf("%q, %q, %v", url, key, err)
	}
	if _, _, err := readWelcome(strings.NewReader("something else\n")); err == nil {
		t.Error("a server that has not started has an address")
	}
}

// TestWhichWaysAreMeasured: those that the machine has.
func TestWhichWaysAreMeasured(t *testing.T) {
	for want, f := range map[bool]finding{
		true:  {Part: "freeze", State: "control groups can freeze gateways", OK: true},
		false: {Part: "freeze", State: "not possible: there are no control groups", OK: true},
	} {
		if got := isPossible([]finding{{Part: "checkpoint", OK: true}, f}, "freeze"); got != want {
			t.Errorf("%+v: %t", f, got)
		}
	}
}
