// Package confined reads the texts of files of strangers in a process of its own. A file can
// be made to keep a reader busy for ever, or to take all of its memory: then the process
// ends, and nothing else.
package confined

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/textfile"
)

// Command is the first argument of the process that reads a file; Main is what it does.
const Command = "__read-text"

// What a process may use. Sources: a PDF of 200 pages takes 30 s of CPU time; the tree of a
// Word document of 64 MiB is never in memory as a whole.
const (
	maxCPU     = 60 * time.Second
	maxTime    = 90 * time.Second // also if other programs use the processors
	maxMemory  = 512 << 20        // beside what it has at the beginning
	softMemory = 384 << 20        // from which on the collector works harder
	maxOutput  = 32 << 20
	maxSaid    = 4 << 10 // of why it ended
)

// maxReads is how many files are read at the same time, one of each account.
const (
	maxReads = 2
	readWait = time.Minute
)

// Reader reads files in processes of their own.
type Reader struct {
	program []string
	reads   *budget.Budget
	timeout time.Duration
	log     *slog.Logger
}

// Settings of a Reader.
type Settings struct {
	Program []string      // that runs Main, with its arguments; nil: this program with Command
	Timeout time.Duration // of one file; 0: 90 s
	Log     *slog.Logger
}

// New returns a Reader.
func New(s Settings) *Reader {
	if s.Timeout == 0 {
		s.Timeout = maxTime
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	return &Reader{program: s.Program, timeout: s.Timeout, log: s.Log, reads: budget.New(budget.Settings{
		Resource: "reading of files", Total: maxReads, Each: 1, Wait: readWait, Log: s.Log, Refusal: "Too many files of this account wait to be read. Send one after the other.",
	})}
}

// answer is what the process writes.
type answer struct {
	Pieces []textfile.Piece
	Error  string
}

// Read returns the pieces of a file that an account has sent, each of at most limit
// characters. Faults: Invalid, which says what is wrong with the file; RateLimited and
// Unavailable, if too many files wait.
func (r *Reader) Read(ctx context.Context, account string, content []byte, format textfile.Format, limit int) ([]textfile.Piece, error) {
	release, err := r.reads.Acquire(ctx, account, 1)
	if err != nil {
		return nil, err
	}
	defer release()
	program := r.program
	if program == nil {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
		program = []string{self, Command}
	}
	limited, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	cmd := exec.CommandContext(limited, program[0], append(program[1:], string(format), strconv.Itoa(limit))...)
	cmd.Stdin, cmd.Dir, cmd.WaitDelay = bytes.NewReader(content), "/", time.Second
	cmd.Env = []string{"GOMAXPROCS=1", "GOTRACEBACK=none"}
	confine(cmd)
	out := &limitedBuffer{left: maxOutput, full: cancel}
	said := &limitedBuffer{left: maxSaid, full: func() {}}
	cmd.Stdout, cmd.Stderr = out, said
	runtime.LockOSThread() // the process ends with the thread that has started it
	err = cmd.Run()
	runtime.UnlockOSThread()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case out.left < 0:
		return nil, refused("The file has too much text. Divide it.")
	case limited.Err() != nil:
		return nil, refused("The file was not read within %s. Divide it, or save it in another format.", r.timeout)
	}
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		cause, _, _ := strings.Cut(said.text.String(), "\n")
		if ended.ExitCode() == 1 { // Main has failed before it has read anything
			return nil, fmt.Errorf("read a file in a process of its own: %s", cause)
		}
		r.log.WarnContext(ctx, "the process that reads a file has ended", "account", account, "format", format, "bytes", len(content), "state", ended.String(), "cause", cause)
		return nil, refused("The file takes more memory or time to read than it may. Divide it, or save it in another format.")
	}
	if err != nil {
		return nil, fmt.Errorf("read a file in a process of its own: %w", err)
	}
	var a answer
	if err := json.Unmarshal(out.text.Bytes(), &a); err != nil {
		return nil, fmt.Errorf("the process that has read a file has answered: %w", err)
	}
	switch {
	case a.Error != "":
		return nil, refused("The file cannot be used: %s.", a.Error)
	}
	return a.Pieces, nil
}

func refused(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...)
}

// limitedBuffer calls full when it has got too much.
type limitedBuffer struct {
	text bytes.Buffer
	left int
	full func()
}

// Write implements io.Writer.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		b.full()
		return len(p), nil
	}
	return b.text.Write(p)
}

// Main is the process: it reads a file from in and writes its pieces to out. args are those
// after Command. After the file was read, it can open no file and make no connection.
func Main(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("give a format and a limit")
	}
	limit, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	debug.SetMemoryLimit(softMemory)
	content, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	if err := lockIn(); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(read(ctx, content, textfile.Format(args[0]), limit))
}

func read(ctx context.Context, content []byte, format textfile.Format, limit int) (a answer) {
	defer func() {
		if p := recover(); p != nil {
			a = answer{Error: fmt.Sprint("the file is not what it should be: ", p)}
		}
	}()
	pieces, err := textfile.Read(ctx, content, format, limit)
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Pieces: pieces}
}
