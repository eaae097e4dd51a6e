//go:build !race

// The race detector finds in the tests of root what it would find in these.

package process_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestAsUnprivilegedUser runs the tests again as the user nobody.
func TestAsUnprivilegedUser(t *testing.T) {
	if os.Getuid() != 0 {
		return
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("", "agento-nobody-*")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	self, err := os.Executable()
	must(t, err)
	data, err := os.ReadFile(self)
	must(t, err)
	program := filepath.Join(dir, "process.test")
	must(t, os.WriteFile(program, data, 0o755))
	temp := filepath.Join(dir, "tmp")
	must(t, os.Mkdir(temp, 0o755))
	must(t, os.Chown(temp, nobody, nobody))

	cmd := exec.Command(program, "-test.run", "^Test(Cgroup|Contract|DialEnters|AgentReaches|Network|Logs|MemoryLimit|NoSecret|ProcessLimit|RemoveDeletes|RemoveDuring|Ownership|HomeDescriptor|Quarantine|Sandbox|ServerKilled|ShimKilled|StalePid|Isolation|Inherited|Unsandboxed|Examine)", "-test.v")
	cmd.Dir = temp
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + temp, "HOME=" + temp}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestSandboxIsolatesAgents/files")) {
		t.Errorf("%v\n%s", err, out)
	}
}
