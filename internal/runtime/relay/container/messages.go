//go:build linux

package container

import (
	"fmt"
	"os"
	"time"
)

// messages are what the relay itself prints. They are lost where nobody reads them: the relay
// does not wait for the reader of the log.
type messages struct {
	lines chan string
}

func newMessages(to *os.File) *messages {
	m := &messages{lines: make(chan string, 64)}
	go func() {
		for line := range m.lines {
			_, _ = fmt.Fprintln(to, "agento-relay:", line)
		}
	}()
	return m
}

func (m *messages) print(format string, args ...any) {
	select {
	case m.lines <- fmt.Sprintf(format, args...):
	default:
	}
}

// flush waits a moment until all is printed.
func (m *messages) flush() {
	for deadline := time.Now().Add(time.Second); len(m.lines) > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
}
