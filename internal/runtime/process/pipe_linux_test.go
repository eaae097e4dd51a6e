package process

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A user who has many pipes gets small ones from the kernel. Writing more than the
// capacity of a pipe would block for ever, because nothing reads it yet.
func TestGrowPipeEnlargesSmallPipes(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = r.Close(), w.Close() }()
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1000, 20_000, 100_000} {
		if err := growPipe(w, n); err != nil {
			t.Fatal(err)
		}
		if size, err := unix.FcntlInt(w.Fd(), unix.F_GETPIPE_SZ, 0); err != nil || size < n {
			t.Errorf("capacity %d of %d bytes: %v", size, n, err)
		}
	}
}
