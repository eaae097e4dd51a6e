package process

import (
	"os"

	"golang.org/x/sys/unix"
)

// readAhead makes the kernel read a whole file at once.
func readAhead(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_WILLNEED) } // only an advice
