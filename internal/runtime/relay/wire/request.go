package wire

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"

	"agento.host/agento/internal/runtime/home"
)

// Op is what a request of the control plane asks for.
type Op string

// The requests.
const (
	Start      Op = "start"   // followed by a Part for each file, and the last one with the secrets
	Stop       Op = "stop"    // the relay ends
	PutSecrets Op = "secrets" // followed by Size bytes
	Dial       Op = "dial"    // after the answer, the stream is a Conn
	ReadFile   Op = "read"
	WriteFile  Op = "write" // followed by Size bytes
	ReadDir    Op = "list"
	RemoveAll  Op = "remove"
	Usage      Op = "usage"
)

// Request begins every stream that the control plane opens.
type Request struct {
	Op     Op
	Path   []byte        // of ReadFile, WriteFile, ReadDir, RemoveAll
	Limit  int64         // of ReadFile
	Size   int64         // of what follows
	Grace  time.Duration // of Stop
	Launch *Launch       // of Start
}

// Launch says what is started.
type Launch struct {
	Command          []string          // with its arguments
	Env              map[string]string // but PATH, HOME, TMPDIR and the proxy's
	DiskBytes, Files int64             // 0: no limit
}

// Part precedes the content of a file.
type Part struct {
	Path []byte
	Size int64
	Last bool // it is the secrets file
}

// Answer answers a request.
type Answer struct {
	Code    Code
	Message string // empty: the request succeeded
	Done    bool   // of Start: a gateway was launched before, and nothing follows
	Size    int64  // of what follows: a file, or a list of entries
	Used    home.Used
	Usage   *UsageReport
}

// UsageReport is the answer to Usage.
type UsageReport struct {
	Launched            bool
	StartedAt, LoggedAt time.Time
	Used                home.Used
	MeasuredAt          time.Time
}

// Entry is an entry of a directory. A name need not be text.
type Entry struct {
	Name    []byte
	Dir     bool
	Size    int64
	ModTime time.Time
}

// Code says which error of those that callers distinguish an answer means.
type Code string

// OverDisk means that the agent's files, Answer.Used, exceed a limit.
const OverDisk Code = "over_disk"

// ErrNotRunning means that no gateway runs.
var ErrNotRunning = errors.New("the gateway is not running")

// codes are the errors that survive the way to the control plane. The first that fits counts.
var codes = []struct {
	code Code
	err  error
}{
	{"not_running", ErrNotRunning},
	{"too_large", home.ErrTooLarge},
	{"not_exist", fs.ErrNotExist},
	{"exist", fs.ErrExist},
	{"permission", fs.ErrPermission},
	{"not_dir", syscall.ENOTDIR},
	{"is_dir", syscall.EISDIR},
	{"no_space", syscall.ENOSPC},
	{"loop", syscall.ELOOP},
	{"refused", syscall.ECONNREFUSED},
	{"deadline", os.ErrDeadlineExceeded},
	{"canceled", context.Canceled},
}

// Failed returns the answer to a request that failed.
func Failed(err error) Answer {
	a := Answer{Message: Printable(err.Error(), 1000)}
	if a.Message == "" {
		a.Message = "it failed"
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			a.Code = c.code
			break
		}
	}
	return a
}

// Err returns the error of an answer; nil if the request succeeded.
func (a Answer) Err() error {
	if a.Message == "" && a.Code == "" {
		return nil
	}
	e := &remoteError{message: Printable(a.Message, 1000)}
	for _, c := range codes {
		if c.code == a.Code {
			e.cause = c.err
		}
	}
	return e
}

// remoteError is an error of the other end.
type remoteError struct {
	message string
	cause   error // one of codes, or nil
}

func (e *remoteError) Error() string { return e.message }

func (e *remoteError) Unwrap() error { return e.cause }

// Printable returns the beginning of a text without anything that is not printed.
func Printable(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit]
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, strings.ToValidUTF8(text, ""))
}
