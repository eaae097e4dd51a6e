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

// Controls is what the test gateway needs from the driver that runs it.
type Controls interface {
	Print(line string)
	Exit(code int)
	Getenv(name string) string
	HomeDir() string
	Secrets() ([]byte, error)
	Client() *http.Client // reaches the server
}

// Handler returns the test gateway. The suite controls it with requests.
func Handler(controls Controls) http.Handler {
	boot := uuid.NewString()
	controls.Print("boot " + boot)
	mux := http.NewServeMux()
	handle := func(pattern string, do func(r *http.Request) (string, error)) {
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) {
			text, err := do(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_, _ = io.WriteString(w, text)
		})
	}
	inHome := func(r *http.Request) string { return filepath.Join(controls.HomeDir(), r.FormValue("name")) }
	handle("/boot", func(*http.Request) (string, error) { return boot, nil })
	handle("/env", func(r *http.Request) (string, error) { return controls.Getenv(r.FormValue("name")), nil })
	handle("/secrets", func(*http.Request) (string, error) {
		data, err := controls.Secrets()
		return string(data), err
	})
	handle("/print", func(r *http.Request) (string, error) {
		controls.Print(r.FormValue("line"))
		return "", nil
	})
	handle("/call", func(r *http.Request) (string, error) {
		req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, controls.Getenv("SERVER")+"/"+r.FormValue("path"), nil)
		if err != nil {
			return "", err
		}
		resp, err := controls.Client().Do(req)
		if err != nil {
			return "", err
		}
		defer func() { _ = resp.Body.Close() }()
		data, err := io.ReadAll(resp.Body)
		return string(data), err
	})
	handle("/flood", func(r *http.Request) (string, error) {
		from, _ := strconv.Atoi(r.FormValue("from"))
		to, err := strconv.Atoi(r.FormValue("to"))
		for i := from; i < to; i++ {
			controls.Print(fmt.Sprintf("flood %07d", i))
		}
		return "", err
	})
	handle("/read", func(r *http.Request) (string, error) {
		data, err := os.ReadFile(inHome(r))
		return string(data), err
	})
	handle("/write", func(r *http.Request) (string, error) {
		return "", os.WriteFile(inHome(r), []byte(r.FormValue("data")), 0o600)
	})
	handle("/mkdir", func(r *http.Request) (string, error) { return "", os.MkdirAll(inHome(r), 0o700) })
	handle("/chmod", func(r *http.Request) (string, error) { return "", os.Chmod(inHome(r), 0) })
	handle("/link", func(r *http.Request) (string, error) { return "", os.Symlink(r.FormValue("to"), inHome(r)) })
	handle("/pipe", func(r *http.Request) (string, error) { return "", syscall.Mkfifo(inHome(r), 0o600) })
	handle("/exit", func(r *http.Request) (string, error) {
		code, err := strconv.Atoi(r.FormValue("code"))
		controls.Exit(code)
		return "", err
	})
	return mux
}

// Main runs a package's tests, or the test gateway if the program was started as
// one. The command of the driver under test is the test binary; Spec adds the
// argument "gateway".
func Main(run func() int) {
	if len(os.Args) > 1 && os.Args[1] == "gateway" {
		if err := serveGateway(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "test gateway:", err)
			syscall.Exit(1)
		}
		syscall.Exit(0) // os.Exit waits a second in a program with the race detector
	}
	os.Exit(run())
}

// serveGateway runs the test gateway as a program. It accepts Handler's requests,
// and some that only a process can do.
func serveGateway(args []string) error {
	flags := flag.NewFlagSet("gateway", flag.ContinueOnError)
	port := flags.Int("port", 0, "port")
	controls := processControls{}
	flags.StringVar(&controls.home, "home", "", "home")
	flags.StringVar(&controls.secrets, "secrets", "", "secrets file")
	if err := flags.Parse(args); err != nil {
		return err
	}
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	var listen net.ListenConfig
	listen.SetMultipathTCP(false) // criu does not know it, and OpenClaw does not use it
	l, err := listen.Listen(context.Background(), "tcp4", fmt.Sprintf("127.0.0.1:%d", *port))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", Handler(controls))
	mux.HandleFunc("GET /ignore-sigterm", func(http.ResponseWriter, *http.Request) { signal.Ignore(syscall.SIGTERM) })
	mux.HandleFunc("GET /sh", shell)
	mux.HandleFunc("GET /use-memory", useMemory)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-terminated:
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		// A request that does not end must not stop the shutdown: the suite does
		// not test that.
		if err := server.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
}

// shell runs a command, as the tools of an agent do, and returns its output.
func shell(w http.ResponseWriter, r *http.Request) {
	out, err := exec.CommandContext(r.Context(), "/bin/sh", "-c", r.FormValue("do")).CombinedOutput() //nolint:gosec // the command comes from a test
	if err != nil {
		out = append(out, []byte("\nshell: "+err.Error())...)
	}
	_, _ = w.Write(out)
}

// useMemory allocates memory and keeps it.
func useMemory(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.FormValue("bytes"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	memory := []byte(strings.Repeat("x", n))
	_, _ = fmt.Fprintln(w, len(memory))
	go func() {
		<-context.Background().Done()
		_ = memory[0]
	}()
}

// processControls implements Controls for a process.
type processControls struct{ home, secrets string }

func (processControls) Print(line string)         { fmt.Println(line) }
func (processControls) Exit(code int)             { syscall.Exit(code) }
func (processControls) Getenv(name string) string { return os.Getenv(name) }
func (processControls) Client() *http.Client      { return http.DefaultClient }
func (p processControls) HomeDir() string         { return p.home }
func (p processControls) Secrets() ([]byte, error) {
	return os.ReadFile(p.secrets)
}
