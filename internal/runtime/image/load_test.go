package image_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"agento.host/agento/internal/skiptest"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"agento.host/agento/internal/openclaw/install"
	"agento.host/agento/internal/runtime/docker/dockertest"
	"agento.host/agento/internal/runtime/image"
)

// TestLoad: an engine gets an image once, and a dynamic program runs in it.
func TestLoad(t *testing.T) {
	skiptest.UnlessChaos(t, "image")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, start := range map[string]func(*testing.T) *client.Client{"docker": startDocker, "podman": startPodman} {
		t.Run(name, func(t *testing.T) {
			engine := start(t)
			made := base(t, image.Settings{Reference: "agento/test:1", Extra: []image.File{{Path: "/probe", Source: self, Mode: 0o755}}})
			other := base(t, image.Settings{Reference: "agento/test:1", Extra: []image.File{{Path: "/other", Source: self, Mode: 0o755}}})
			checkLoad(t, engine, other, false)
			checkLoad(t, engine, made, false) // another one has its name
			checkLoad(t, engine, made, true)
			if _, err := engine.ImageTag(t.Context(), client.ImageTagOptions{Source: other.ID, Target: made.Reference}); err != nil {
				t.Fatal(err)
			}
			checkLoad(t, engine, made, true) // it lost its name
			if name == "podman" {
				return // runs no container where it may not make control groups, as in many CI machines
			}
			out := run(t, engine, made.ID, "/probe", "id -u", "id -un", "pwd", "git --version", "python3 -c 'import ssl; print(len(ssl.create_default_context().get_ca_certs()) > 100)'", "jq --version", "rg --version | head -n 1",
				"bash -c 'echo $BASH_VERSION' | wc -l", "stat -c '%u %g %a' /home/agent", "command -v npm node", "find / -xdev -perm /6000 2>/dev/null | wc -l", "TZ=Asia/Tokyo date -d @0 +%H")
			for _, want := range []string{"id -u: 10001\n", "id -un: agent\n", "pwd: /home/agent\n", "git --version: git version 2.39", "100)': True\n", "jq --version: jq-1.6\n", "head -n 1: ripgrep 13", "wc -l: 1\n", "/home/agent: 10001 10001 700\n", "npm node: (exit", "null | wc -l: 0\n", "+%H: 09\n"} {
				if !strings.Contains(out, want) {
					t.Errorf("the container did not print %q:\n%s", want, out)
				}
			}
		})
	}
}

// TestChaosImage: the whole image is the same from another installation of OpenClaw, and what
// agents need runs in it.
func TestChaosImage(t *testing.T) {
	if os.Getenv("AGENTO_CHAOS") == "" {
		t.Skip("skipped: it installs OpenClaw twice; make chaos-image runs it")
	}
	engine := startDocker(t)
	s := image.Settings{Relay: program(t, "0", `package main; func main() { println("the relay") }`)}
	build := func(s image.Settings) *image.Image {
		began := time.Now()
		made, err := image.Build(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("built in %.1f s: %s %+v", time.Since(began).Seconds(), made.ID, made.Layers)
		return made
	}
	first := build(s)
	defer syscall.Umask(syscall.Umask(0o022))
	syscall.Umask(0o077)
	s.Cache, s.Runtime = t.TempDir(), install.Settings{Dir: t.TempDir()}
	if second := build(s); first.ID != second.ID {
		t.Errorf("another installation gives another image: %+v and %+v", first.Layers, second.Layers)
	}
	s.Cache, s.Runtime = "", install.Settings{}
	build(s)
	began := time.Now()
	checkLoad(t, engine, first, false)
	t.Logf("loaded in %.1f s", time.Since(began).Seconds())
	checkLoad(t, engine, first, true)
	if out := run(t, engine, first.ID, ""); out != "the relay\n" {
		t.Errorf("the first process printed %q", out)
	}
	runtime := image.Runtime()
	out := run(t, engine, first.ID, "/bin/sh", "-c", "id -u; node --version; openclaw --version; git --version; "+runtime.Node+" "+runtime.Entry+" --version; command -v npm npx || echo no npm")
	openClaw := "OpenClaw " + install.OpenClawVersion + " "
	for i, want := range []string{"10001\n", "v" + install.NodeVersion + "\n", openClaw, "git version ", openClaw, "no npm\n"} {
		if lines := strings.SplitAfter(out, "\n"); i >= len(lines) || !strings.HasPrefix(lines[i], want) {
			t.Errorf("line %d is not %q:\n%s", i, want, out)
		}
	}
}

func checkLoad(t *testing.T, engine *client.Client, made *image.Image, existed bool) {
	t.Helper()
	loaded, err := image.Load(t.Context(), engine, made)
	if err != nil {
		t.Fatal(err)
	}
	if loaded.Existed != existed || loaded.ID != made.ID {
		t.Errorf("loaded %+v, want the id %s and existed %v", loaded, made.ID, existed)
	}
	if found, err := engine.ImageInspect(t.Context(), made.Reference); err != nil || found.ID != made.ID {
		t.Errorf("%s is %s, want %s: %v", made.Reference, found.ID, made.ID, err)
	}
}

// run runs a container, as the driver does, and returns its output. With the program /probe the
// arguments are lines of the shell; without one the image's own command runs.
func run(t *testing.T, engine *client.Client, id, program string, args ...string) string {
	t.Helper()
	config := &container.Config{Image: id, NetworkDisabled: true}
	switch program {
	case "":
	case "/probe":
		config.Entrypoint, config.Env = []string{program}, []string{probes + "=" + strings.Join(args, "\n") + "\n"}
	default:
		config.Entrypoint, config.Cmd = []string{program}, args
	}
	made, err := engine.ContainerCreate(t.Context(), client.ContainerCreateOptions{Config: config, HostConfig: &container.HostConfig{
		NetworkMode: "none", ReadonlyRootfs: true, CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges"}, Tmpfs: map[string]string{"/tmp": "size=64m", image.RunDir: "mode=0700,uid=10001"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = engine.ContainerRemove(context.WithoutCancel(t.Context()), made.ID, client.ContainerRemoveOptions{Force: true})
	})
	ended := engine.ContainerWait(t.Context(), made.ID, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	if _, err := engine.ContainerStart(t.Context(), made.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended.Error:
		t.Fatal(err)
	case <-ended.Result:
	}
	logs, err := engine.ContainerLogs(t.Context(), made.ID, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = logs.Close() }()
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &out, logs); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func startDocker(t *testing.T) *client.Client {
	t.Helper()
	return connect(t, dockertest.Start(t).Host())
}

func connect(t *testing.T, host string) *client.Client {
	t.Helper()
	engine, err := client.New(client.WithHost(host))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	return engine
}

// startPodman starts Podman's service in a temporary directory.
func startPodman(t *testing.T) *client.Client {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root starts podman")
	}
	if _, err := exec.LookPath("podman"); err != nil {
		t.Skip("skipped: podman is not installed")
	}
	dir, err := os.MkdirTemp("", "agento-image-") // short, because of the names of sockets
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "socket")
	var log bytes.Buffer
	cmd := exec.Command("podman", "--root", dir+"/data", "--runroot", dir+"/exec", "system", "service", "--time=0", "unix://"+socket) //nolint:noctx // it is stopped below, in its own time
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-exited
		}
		_ = exec.Command("umount", dir+"/data/overlay").Run() //nolint:noctx // podman leaves it mounted
		if err := os.RemoveAll(dir); err != nil {
			t.Logf("remove the engine's directory: %v", err)
		}
	})
	engine := connect(t, "unix://"+socket)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		_, err := engine.Ping(t.Context(), client.PingOptions{})
		if err == nil {
			return engine
		}
		select {
		case <-exited:
			t.Skipf("skipped: podman does not run here: %s", log.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("podman does not answer: %v", err)
		}
	}
}
