package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/internal/admin"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
)

// gatewaysOf runs a gateways command on a data directory and returns its output.
func gatewaysOf(t *testing.T, data string, args ...string) (string, error) {
	t.Helper()
	var out, failure strings.Builder
	err := run(t.Context(), append([]string{"gateways", args[0], "--data", data}, args[1:]...), &out, &failure)
	return out.String(), err
}

// startSleepers starts programs that take the place of gateways in a data directory.
func startSleepers(t *testing.T, data string, ids ...identity.AgentID) {
	t.Helper()
	d, err := process.Flags{}.Open(runtime.Settings{Installation: "inst_x", Dir: filepath.Join(data, agentsDir), Command: []string{"sleep"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		s := runtime.Spec{ID: id, Args: []string{"1000"}}
		place, err := d.Place(t.Context(), s)
		if err == nil {
			err = d.Start(t.Context(), place, s)
		}
		t.Cleanup(func() {
			if err := d.Remove(context.Background(), place, id); err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestGatewaysWithoutAServer: gateways are listed and stopped although the database is
// broken, but not under a running server, and not those of another directory.
func TestGatewaysWithoutAServer(t *testing.T) {
	data := t.TempDir()
	startSleepers(t, data, "ada", "bob", "cid")
	if err := os.WriteFile(filepath.Join(data, "agento.db"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := gatewaysOf(t, data, "list"); err != nil || strings.Count(out, " ours") != 3 || !strings.Contains(out, "ada ") {
		t.Errorf("%v\n%s", err, out)
	}

	theirs := filepath.Join(t.TempDir(), "copy")
	if out, err := exec.Command("cp", "-a", data, theirs).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := gatewaysOf(t, theirs, "list"); err != nil || strings.Count(out, "another directory's") != 3 {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := gatewaysOf(t, theirs, "stop", "ada"); err == nil || !strings.Contains(err.Error(), "belongs to another directory") {
		t.Errorf("stop in a copy: %v", err)
	}
	if _, err := gatewaysOf(t, theirs, "stop", "--all"); err != nil {
		t.Errorf("stop in a copy: %v", err)
	}
	found := doctorCommand{vaultFlags: vaultFlags{dataFlags: dataFlags{Data: theirs}}}.gateways()
	if len(found) != 3 || found[0].OK || !strings.Contains(found[0].State, "ada") || !strings.Contains(found[0].State, "of which this one is a copy") {
		t.Errorf("doctor: %+v", found)
	}

	unlock, err := lockData(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gatewaysOf(t, data, "stop", "--all"); err == nil || !strings.Contains(err.Error(), "use agento agents stop") {
		t.Errorf("stop under a running server: %v", err)
	}
	if out, err := gatewaysOf(t, data, "list"); err != nil || strings.Count(out, " ours") != 3 {
		t.Errorf("list under a running server: %v\n%s", err, out)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}

	if out, err := gatewaysOf(t, data, "stop", "bob", "nobody"); err == nil || !strings.Contains(err.Error(), "no gateway of nobody runs") || !strings.Contains(out, "bob") || strings.Contains(out, "ada") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := gatewaysOf(t, data, "list"); err != nil || strings.Count(out, " ours") != 2 || strings.Contains(out, "bob") {
		t.Errorf("after one stop: %v\n%s", err, out)
	}
	if out, err := gatewaysOf(t, data, "stop", "--all"); err != nil || !strings.Contains(out, "ada") || !strings.Contains(out, "cid") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := gatewaysOf(t, data, "list"); err != nil || strings.Contains(out, "ours") {
		t.Errorf("after all stops: %v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(data, agentsDir, "ada", "home")); err != nil {
		t.Errorf("a home: %v", errors.Unwrap(err))
	}
}

func TestUnknownAgentsAreNotedForDoctor(t *testing.T) {
	c := doctorCommand{vaultFlags: vaultFlags{dataFlags: dataFlags{Data: t.TempDir()}}}
	note := noteUnknown(c.Data)
	for _, text := range []string{"", "There are files.", "There are other files.", "", ""} {
		if err := note(text); err != nil {
			t.Fatal(err)
		}
		found := c.unknown()
		if text == "" && len(found) > 0 || text != "" && (len(found) != 1 || found[0].OK || found[0].State != text) {
			t.Errorf("%q: %+v", text, found)
		}
	}
}

// TestDoctorExaminesRunningGateways: doctor --running shows what each has, and fails if it
// is less than promised.
func TestDoctorExaminesRunningGateways(t *testing.T) {
	data := t.TempDir()
	var out strings.Builder
	doctor := func() (string, error) {
		out.Reset()
		err := run(t.Context(), []string{"doctor", "--running", "--data", data}, &out, io.Discard)
		return out.String(), err
	}
	if err := run(t.Context(), []string{"migrate", "--data", data}, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	if got, err := doctor(); err != nil || got != "" {
		t.Errorf("nothing runs: %v\n%s", err, got)
	}
	startSleepers(t, data, "ada", "bob")
	if got, err := doctor(); err != nil || strings.Count(got, "agent ada: ") != 8 || strings.Count(got, "ok  ") != 16 || !strings.Contains(got, "pid ipc uts mnt cgroup net") {
		t.Errorf("%v\n%s", err, got)
	}
	path := filepath.Join(data, agentsDir, "ada", "gateway.json")
	record, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(strings.Replace(string(record), `"sandboxed":true`, `"sandboxed":false`, 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := doctor(); err == nil || !strings.Contains(err.Error(), "less than promised") || strings.Count(got, "FIX ") != 1 || !strings.Contains(got, "agent ada: none") {
		t.Errorf("%v\n%s", err, got)
	}
	if err := os.WriteFile(path, record, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDoctorShowsCheckpoints: how many in which form, and that those on the disk can be read.
func TestDoctorShowsCheckpoints(t *testing.T) {
	if f := checkpointFinding(admin.Checkpoints{}); !f.OK || f.Warning || f.State != "none" {
		t.Errorf("%+v", f)
	}
	use := admin.Checkpoints{
		Fresh: admin.CheckpointForm{Count: 1, Bytes: 2 << 20}, Compressed: admin.CheckpointForm{Count: 3, Bytes: 4 << 20},
		OnDisk: admin.CheckpointForm{Count: 5, Bytes: 6 << 20}, Budget: 7 << 20,
	}
	f := checkpointFinding(use)
	if want := "in memory 1 as they were made, 2.0 MiB, and 3 compressed, 4.0 MiB; on the disk 5, 6.0 MiB; on the disk they may take 7.0 MiB"; f.State != want || f.Warning || !f.OK || f.Fix != "" {
		t.Errorf("%+v", f)
	}
	use.Plain = true
	if f := checkpointFinding(use); !f.OK || !f.Warning || !strings.Contains(f.State, "not sealed") || !strings.Contains(f.Fix, "--checkpoint-encryption auto") {
		t.Errorf("%+v", f)
	}
}
