package dockertest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/moby/moby/client"
)

const (
	// Image is the name of the image that LoadImage makes.
	Image = "agento/test:latest"
	// Gateway is the path of the test gateway in it.
	Gateway = "/bin/gateway"
	// agentUID is the user of agents.
	agentUID = 10001
)

// LoadImage builds the relay and the test gateway, and gives the engine at host an image with them and a
// shell. Errors: Unavailable.
func LoadImage(ctx context.Context, host string) error {
	shell, err := exec.LookPath("busybox")
	if err != nil {
		return Unavailable("busybox is not installed (scripts/needs.sh test installs busybox-static)")
	}
	dir, err := os.MkdirTemp("", "agento-image-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	files := map[string]string{"bin/busybox": shell}
	for path, program := range map[string]string{"agento-relay": "cmd/agento-relay", "bin/gateway": "internal/runtime/docker/dockertest/gateway"} {
		files[path] = filepath.Join(dir, filepath.Base(path))
		if err := build(ctx, program, files[path]); err != nil {
			return err
		}
	}
	archive, err := pack(files)
	if err != nil {
		return err
	}
	c, err := client.New(client.WithHost(host))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	result, err := c.ImageImport(ctx, client.ImageImportSource{Source: archive, SourceName: "-"}, Image, client.ImageImportOptions{
		Changes: []string{"ENV PATH=/bin"},
	})
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, result)
	return errors.Join(err, result.Close())
}

// build builds a program of this module that needs no libraries.
func build(ctx context.Context, program, to string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", to, "agento.host/agento/"+program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", program, err, out)
	}
	return nil
}

// applets are the commands that the tests use.
var applets = []string{"sh", "sleep", "setsid", "cat", "ls", "id", "env", "kill", "grep", "ps", "wget", "nc", "mount", "touch", "dd", "head"}

// pack returns the root file system of the image.
func pack(files map[string]string) (*bytes.Buffer, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, dir := range []string{"bin", "tmp", "run", "proc", "dev", "sys", "etc", "home"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}); err != nil {
			return nil, err
		}
	}
	home := &tar.Header{Typeflag: tar.TypeDir, Name: "home/agent/", Mode: 0o700, Uid: agentUID, Gid: agentUID}
	users := fmt.Sprintf("root:x:0:0::/:/bin/sh\nagent:x:%d:%d::/home/agent/home:/bin/sh\n", agentUID, agentUID)
	passwd := &tar.Header{Name: "etc/passwd", Mode: 0o644, Size: int64(len(users))}
	if err := errors.Join(w.WriteHeader(home), w.WriteHeader(passwd)); err != nil {
		return nil, err
	}
	if _, err := io.Copy(w, strings.NewReader(users)); err != nil {
		return nil, err
	}
	for path, from := range files {
		data, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		if err := w.WriteHeader(&tar.Header{Name: path, Mode: 0o755, Size: int64(len(data))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
	}
	for _, name := range applets {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + name, Linkname: "busybox"}); err != nil {
			return nil, err
		}
	}
	return &out, w.Close()
}
