package process

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// MarkCloseOnExec keeps every descriptor but standard input, output and error from the
// programs that this process starts, unless a start passes it explicitly: whoever started
// this process may have left it some that no agent may have.
func MarkCloseOnExec() {
	if markAll() == nil {
		return
	}
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return // there is no list of them on this system
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}
