package homecopy_test

import (
	"os"
	"os/signal"
	"testing"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/homecopy"
)

// TestUnreadableFile: a file that the agent keeps from being opened keeps nothing else from being
// copied. A lease on it makes open fail or wait.
func TestUnreadableFile(t *testing.T) {
	e := newEnv(t)
	e.write("leased", "leased")
	e.write("other", "other")
	f, err := os.OpenFile(e.path("leased"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("no leases here: %v", err)
	}
	signal.Ignore(unix.SIGIO) // that the lease is to end
	defer signal.Reset(unix.SIGIO)
	c := e.make(homecopy.Settings{})
	if c.Without != 1 || c.LeftOut[0].Path != "leased" {
		t.Errorf("%d are left out: %v", c.Without, c.LeftOut)
	}
	e.check(e.restore(c), "other", "other")
}
