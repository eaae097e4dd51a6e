package process

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSmallPipe: the kernel gives a user who has many pipes small ones, and writing
// more than fits into one that nobody reads yet would never end.
func TestSmallPipe(t *testing.T) {
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
			t.Errorf("room for %d of %d bytes: %v", size, n, err)
		}
	}
}
