package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/admin"
)

// pseudoTerminal returns both ends of a terminal: what a user holds, and what a program has.
func pseudoTerminal(t *testing.T) (user, program *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("this machine has no pseudo terminals:", err)
	}
	t.Cleanup(func() { _ = user.Close() })
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	if err := unix.IoctlSetWinsize(int(user.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	return user, program
}

// screen collects what a program writes to a terminal.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) read(user *os.File) {
	buf := make([]byte, 4096)
	for {
		n, err := user.Read(buf)
		s.mu.Lock()
		s.text.Write(buf[:n])
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// TestChatOnATerminal: lines can be edited, repeated and pasted, and what the agent says
// does not control the terminal.
func TestChatOnATerminal(t *testing.T) {
	newStub(t).withAgents().answers()
	user, program := pseudoTerminal(t)
	shown := &screen{}
	go shown.read(user)
	ended := make(chan int, 1)
	go func() {
		ended <- runCommand(t.Context(), []string{"chat", "ada"}, &terminal{out: program, err: program, in: program})
	}()
	typed := func(keys, want string, times int) {
		t.Helper()
		if _, err := user.WriteString(keys); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, fmt.Sprintf("%q is answered", keys), func() bool {
			all := shown.String()
			return strings.Count(all, want) >= times && strings.HasSuffix(all, chatPrompt)
		})
	}
	typed("", chatPrompt, 1)
	typed("hellp\x7fo\x1b[D\x1b[D\x1b[DX\r", "[] heXllo\r\n", 1)
	typed("\x1b[A\r", "[] heXllo\r\n", 2)
	typed("\x1b[200~two\nlines\x1b[201~\r", "[] two\r\nlines\r\n", 1)
	typed("/new\r", "A new session has begun", 1)
	if _, err := user.WriteString("\x04"); err != nil {
		t.Fatal(err)
	}
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d\n%s", code, shown)
	}
	state, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
	if err != nil || state.Lflag&unix.ICANON == 0 {
		t.Errorf("the terminal is left raw: %v", err)
	}
}

// TestTopOnATerminal: it shows the agents again and again, and gives the terminal back.
func TestTopOnATerminal(t *testing.T) {
	looks := 0
	data := serveTop(t, func(context.Context) (admin.Top, error) {
		looks++
		return topOf(fmt.Sprint("look-", looks)), nil
	})
	user, program := pseudoTerminal(t)
	shown := &screen{}
	go shown.read(user)
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- runCommand(ctx, []string{"top", "--data", data}, &terminal{out: program, err: program, in: program})
	}()
	waitUntil(t, "it has looked twice", func() bool {
		return strings.Contains(shown.String(), "look-1") && strings.Contains(shown.String(), "look-2")
	})
	interrupt()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d\n%q", code, shown)
	}
	waitUntil(t, "the terminal is as before", func() bool { return strings.HasSuffix(shown.String(), closeScreen) })
}
