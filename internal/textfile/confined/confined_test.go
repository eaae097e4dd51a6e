package confined_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/textfile"
	"agento.host/agento/internal/textfile/confined"
)

// TestMain makes the test binary the process that reads a file, or one that misbehaves.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 {
		os.Exit(m.Run())
	}
	switch os.Args[1] {
	case confined.Command:
		if err := confined.Main(context.Background(), os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "hang":
		time.Sleep(time.Hour)
	case "flood":
		line := []byte(strings.Repeat("x", 1<<20))
		for range 64 {
			_, _ = os.Stdout.Write(line)
		}
	case "swell", "open":
		// Main locks the process in, and then it is as if its reader was taken over.
		if err := confined.Main(context.Background(), []string{"text", "100"}, os.Stdin, discard{}); err != nil {
			os.Exit(1)
		}
		if os.Args[1] == "swell" {
			var all [][]byte
			for range 64 {
				block := make([]byte, 64<<20)
				for i := range block {
					block[i] = 1
				}
				all = append(all, block)
			}
			fmt.Println(len(all))
		}
		_, fileErr := os.Open("/etc/hostname")
		_, netErr := net.Dial("tcp", "127.0.0.1:1")
		if fileErr == nil || netErr == nil || !strings.Contains(netErr.Error(), "too many open files") {
			fmt.Printf(`{"Pieces":[{"Text":"opened"}]}`)
			return
		}
		fmt.Printf(`{"Pieces":[{"Text":"locked in"}]}`)
	default:
		os.Exit(m.Run())
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func reader(t *testing.T, as string, timeout time.Duration) *confined.Reader {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return confined.New(confined.Settings{Program: []string{self, as}, Timeout: timeout})
}

func TestReadsLikeTextfile(t *testing.T) {
	pieces, err := reader(t, confined.Command, 0).Read(t.Context(), "acct", []byte("# Guide\n\nFive days.\n"), textfile.Markdown, 4000)
	if err != nil || len(pieces) != 1 || pieces[0].Text != "Guide\n\nFive days." || pieces[0].Metadata["heading"] != "Guide" {
		t.Errorf("%+v, %v", pieces, err)
	}
}

// TestWhatIsWrongIsSaid: the words of package textfile reach the caller as a fault of the
// request.
func TestWhatIsWrongIsSaid(t *testing.T) {
	for content, want := range map[string]string{"{": "no JSON", "": "no text"} {
		_, err := reader(t, confined.Command, 0).Read(t.Context(), "acct", []byte(content), textfile.JSON, 4000)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", content, err)
		}
	}
}

func TestProcessesThatMisbehaveEnd(t *testing.T) {
	for as, c := range map[string]struct {
		timeout time.Duration
		want    string
	}{
		"hang":  {200 * time.Millisecond, "was not read within"},
		"flood": {0, "too much text"},
		"swell": {0, "more memory"},
	} {
		begin := time.Now()
		_, err := reader(t, as, c.timeout).Read(t.Context(), "acct", []byte("x"), textfile.Text, 100)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.want) || time.Since(begin) > 30*time.Second {
			t.Errorf("%s: %v after %s", as, err, time.Since(begin))
		}
	}
}

// TestReaderThatCannotBegin: it is not the file that is wrong.
func TestReaderThatCannotBegin(t *testing.T) {
	_, err := confined.New(confined.Settings{Program: []string{"sh", "-c", "echo no limits here >&2; exit 1"}}).Read(t.Context(), "acct", []byte("x"), textfile.Text, 100)
	if err == nil || fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "no limits here") {
		t.Error(err)
	}
}

// TestReaderOpensNothing: what takes over the reader of a file reaches no file and no network.
func TestReaderOpensNothing(t *testing.T) {
	pieces, err := reader(t, "open", 0).Read(t.Context(), "acct", []byte("x"), textfile.Text, 100)
	if err != nil || len(pieces) != 1 || pieces[0].Text != "locked in" {
		t.Errorf("%+v, %v", pieces, err)
	}
}

func TestReadEndsWithItsCaller(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := reader(t, "hang", 0).Read(ctx, "acct", []byte("x"), textfile.Text, 100); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
