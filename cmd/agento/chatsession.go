package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"

	"agento.host/agento/client"
)

const (
	chatPrompt = "> "
	chatHelp   = `/new       start a new session: the agent remembers nothing of this one
/history   print what was said in this session
/help      print this
/exit      end, as Ctrl-D does
Ctrl-C cancels an answer. A message that begins with / is written with //.`
	// chatHistory is how many messages /history prints.
	chatHistory = 50
)

// lineReader reads the messages of a conversation. It returns io.EOF at the end.
type lineReader interface {
	ReadLine() (string, error)
}

// hold holds a conversation until the user ends it. Ctrl-C ends an answer, not the
// conversation, so that ctx, which ends with it, is not the context of the requests.
func (c *conversation) hold(ctx context.Context) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	lines, restore := c.lines()
	defer restore()
	base := context.WithoutCancel(ctx)
	for {
		line, err := readLine(lines, signals)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		if command, ok := strings.CutPrefix(line, "/"); ok && !strings.HasPrefix(command, "/") {
			ended, err := c.command(base, strings.TrimSpace(command))
			if ended {
				return nil
			}
			c.show(err)
			continue
		} else if ok {
			line = command
		}
		err = untilSignal(base, signals, func(ctx context.Context) error { return c.send(ctx, line) })
		if errors.Is(err, errTerminated) {
			return context.Canceled
		}
		if !errors.Is(err, context.Canceled) {
			c.show(err)
		}
	}
}

// show prints an error that does not end the conversation.
func (c *conversation) show(err error) {
	if err != nil {
		reportOf(err).print(c.t)
	}
}

// errTerminated says that the command was told to end.
var errTerminated = errors.New("terminated")

// readLine reads a line, or returns context.Canceled at a signal.
func readLine(lines lineReader, signals <-chan os.Signal) (string, error) {
	type result struct {
		line string
		err  error
	}
	read := make(chan result, 1)
	go func() { // a signal leaves it behind: the command ends then
		line, err := lines.ReadLine()
		read <- result{line, err}
	}()
	select {
	case r := <-read:
		return r.line, r.err
	case <-signals:
		return "", context.Canceled
	}
}

// untilSignal calls do with a context that ends at a signal. It returns errTerminated if
// the signal was another one than Ctrl-C.
func untilSignal(ctx context.Context, signals <-chan os.Signal, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- do(ctx) }()
	select {
	case err := <-done:
		return err
	case s := <-signals:
		cancel()
		err := <-done
		if s != os.Interrupt {
			return errTerminated
		}
		return err
	}
}

// command does what a line that begins with / asks for.
func (c *conversation) command(ctx context.Context, command string) (ended bool, err error) {
	switch command {
	case "exit", "quit":
		return true, nil
	case "help":
		c.t.progress("%s", chatHelp)
	case "new":
		s, err := c.api.NewSession(ctx, c.agent, client.NewSessionRequest{PeerID: c.peer})
		if err != nil {
			return false, err
		}
		c.session = s.ID
		c.t.progress("A new session has begun: %s", s.ID)
	case "history":
		messages, err := c.api.History(ctx, c.agent, client.HistoryQuery{SessionID: c.session, Limit: chatHistory})
		if err != nil {
			return false, err
		}
		return false, printMessages(c.t, messages)
	default:
		c.t.progress("There is no command /%s. /help shows those that there are; // begins a message with /.", command)
	}
	return false, nil
}

// lines returns what reads the messages: with line editing and the earlier lines on a
// terminal, plainly otherwise. restore gives the terminal back.
func (c *conversation) lines() (lines lineReader, restore func()) {
	if !isTerminal(c.t.in) || !isTerminal(c.t.err) {
		return &plainLines{bufio.NewReader(c.t.in)}, func() {}
	}
	c.t.progress("/help shows the commands, /exit ends.")
	e := &editedLines{in: c.t.in}
	e.terminal = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{c.t.in, c.t.err}, chatPrompt)
	return e, e.restore
}

// plainLines reads lines that nobody types.
type plainLines struct{ in *bufio.Reader }

// ReadLine implements lineReader.
func (p *plainLines) ReadLine() (string, error) {
	line, err := p.in.ReadString('\n')
	if errors.Is(err, io.EOF) && line != "" {
		err = nil
	}
	return strings.TrimRight(line, "\r\n"), err
}

// editedLines reads lines that a user edits. The terminal is raw only meanwhile, so that
// Ctrl-C is a signal during an answer.
type editedLines struct {
	in       *os.File
	terminal *term.Terminal
	cooked   *term.State // nil: the terminal is not raw
}

// ReadLine implements lineReader. Lines that are pasted together are one message.
func (e *editedLines) ReadLine() (string, error) {
	cooked, err := term.MakeRaw(int(e.in.Fd()))
	if err != nil {
		return "", fmt.Errorf("prepare the terminal: %w", err)
	}
	e.cooked = cooked
	defer e.restore()
	if width, height, err := term.GetSize(int(e.in.Fd())); err == nil && width > 0 && height > 0 {
		_ = e.terminal.SetSize(width, height) // without it long lines look odd
	}
	e.terminal.SetBracketedPasteMode(true)
	defer e.terminal.SetBracketedPasteMode(false)
	var pasted []string
	for {
		line, err := e.terminal.ReadLine()
		if errors.Is(err, term.ErrPasteIndicator) {
			pasted = append(pasted, line)
			continue
		}
		return strings.Join(append(pasted, line), "\n"), err
	}
}

func (e *editedLines) restore() {
	if e.cooked != nil {
		_ = term.Restore(int(e.in.Fd()), e.cooked) // there is nothing else to try
		e.cooked = nil
	}
}
