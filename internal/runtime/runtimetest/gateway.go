package runtimetest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// Self is what the test gateway can do to itself, by whatever means its driver
// leaves it.
type Self interface {
	Print(line string)
	Exit(code int)
	Getenv(name string) string
	HomeDir() string
	Secrets() ([]byte, error)
}

// Handler is the test gateway: what the suite asks of it is a request.
func Handler(self Self) http.Handler {
	boot := uuid.NewString()
	self.Print("boot " + boot)
	mux := http.NewServeMux()
	answer := func(pattern string, do func(r *http.Request) (string, error)) {
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) {
			text, err := do(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_, _ = io.WriteString(w, text)
		})
	}
	inHome := func(r *http.Request) string { return filepath.Join(self.HomeDir(), r.FormValue("name")) }
	answer("/boot", func(*http.Request) (string, error) { return boot, nil })
	answer("/env", func(r *http.Request) (string, error) { return self.Getenv(r.FormValue("name")), nil })
	answer("/secrets", func(*http.Request) (string, error) {
		data, err := self.Secrets()
		return string(data), err
	})
	answer("/print", func(r *http.Request) (string, error) {
		self.Print(r.FormValue("line"))
		return "", nil
	})
	answer("/flood", func(r *http.Request) (string, error) {
		from, _ := strconv.Atoi(r.FormValue("from"))
		to, err := strconv.Atoi(r.FormValue("to"))
		for i := from; i < to; i++ {
			self.Print(fmt.Sprintf("flood %07d", i))
		}
		return "", err
	})
	answer("/read", func(r *http.Request) (string, error) {
		data, err := os.ReadFile(inHome(r))
		return string(data), err
	})
	answer("/write", func(r *http.Request) (string, error) {
		return "", os.WriteFile(inHome(r), []byte(r.FormValue("data")), 0o600)
	})
	answer("/mkdir", func(r *http.Request) (string, error) { return "", os.MkdirAll(inHome(r), 0o700) })
	answer("/chmod", func(r *http.Request) (string, error) { return "", os.Chmod(inHome(r), 0) })
	answer("/link", func(r *http.Request) (string, error) { return "", os.Symlink(r.FormValue("to"), inHome(r)) })
	answer("/pipe", func(r *http.Request) (string, error) { return "", syscall.Mkfifo(inHome(r), 0o600) })
	answer("/exit", func(r *http.Request) (string, error) {
		code, err := strconv.Atoi(r.FormValue("code"))
		self.Exit(code)
		return "", err
	})
	return mux
}

// Main runs a package's tests, or the test gateway if the program was started
// as one: a driver's command is then the test binary with the argument
// "gateway", which Spec of this package gives.
func Main(run func() int) {
	if len(os.Args) > 1 && os.Args[1] == "gateway" {
		if err := serveGateway(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "test gateway:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(run())
}

// serveGateway is the test gateway as a program of its own. Beside Handler's
// requests it takes those that only a process can follow.
func serveGateway(args []string) error {
	flags := flag.NewFlagSet("gateway", flag.ContinueOnError)
	port := flags.Int("port", 0, "port")
	self := processSelf{}
	flags.StringVar(&self.home, "home", "", "home")
	flags.StringVar(&self.secrets, "secrets", "", "secrets file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", *port))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", Handler(self))
	mux.HandleFunc("GET /stubborn", func(http.ResponseWriter, *http.Request) { signal.Ignore(syscall.SIGTERM) })
	mux.HandleFunc("GET /sh", shell)
	mux.HandleFunc("GET /eat", eat)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-terminated:
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		// A request that hangs must not keep it: that is not what is tested.
		if err := server.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
}

// shell runs a command as the agent's tools would and answers what it printed.
func shell(w http.ResponseWriter, r *http.Request) {
	out, err := exec.CommandContext(r.Context(), "/bin/sh", "-c", r.FormValue("do")).CombinedOutput() //nolint:gosec // what a test asks of its own gateway
	if err != nil {
		out = append(out, []byte("\nshell: "+err.Error())...)
	}
	_, _ = w.Write(out)
}

// eat takes memory and keeps it.
func eat(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.FormValue("bytes"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	food := []byte(strings.Repeat("x", n))
	_, _ = fmt.Fprintln(w, len(food))
	go func() {
		<-context.Background().Done()
		_ = food[0]
	}()
}

// processSelf is the test gateway's process.
type processSelf struct{ home, secrets string }

func (processSelf) Print(line string)         { fmt.Println(line) }
func (processSelf) Exit(code int)             { os.Exit(code) }
func (processSelf) Getenv(name string) string { return os.Getenv(name) }
func (p processSelf) HomeDir() string         { return p.home }
func (p processSelf) Secrets() ([]byte, error) {
	return os.ReadFile(p.secrets)
}
