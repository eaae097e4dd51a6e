package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/moby/moby/client"

	"agento.host/agento/internal/openclaw/install"
	"agento.host/agento/internal/runtime/image"
)

type imageCommand struct {
	Build imageBuildCommand `cmd:"" help:"Make the image that agents run in, without a container engine, and print its name, digest and size."`
}

type imageBuildCommand struct {
	Output     string `short:"o" placeholder:"FILE" help:"Write the image to a new file, for docker load; - is standard output."`
	Load       bool   `help:"Load it into the container engine, unless that has it."`
	Host       string `env:"AGENTO_DOCKER_HOST,DOCKER_HOST" default:"unix:///var/run/docker.sock" help:"Address of the engine's API, of Docker or Podman."`
	Relay      string `type:"path" placeholder:"FILE" help:"The relay's program. Default: agento-relay beside this one."`
	Mirror     string `default:"${debianMirror}" help:"Address of a server with Debian's packages at /debian and /debian-security."`
	RuntimeDir string `help:"Directory of the agent runtime. Default: in the user's cache directory." type:"path"`
}

// Run makes the image. What is missing is fetched and installed first.
func (c imageBuildCommand) Run(ctx context.Context, t *terminal) error {
	err := c.run(ctx, t)
	var own *failure
	switch {
	case err == nil, errors.As(err, &own), ctx.Err() != nil, errors.Is(err, os.ErrNotExist):
		return err
	}
	return &failure{exitFailed, err.Error()} // what does not answer is a mirror or an engine, and not the server
}

func (c imageBuildCommand) run(ctx context.Context, t *terminal) error {
	if err := c.checkOutput(t); err != nil {
		return err
	}
	engine, err := client.New(client.WithHost(c.Host), client.WithUserAgent("agento/"+version))
	if err != nil {
		return usageError("--host %s is no address of a container engine, such as unix:///var/run/docker.sock: %v", c.Host, err)
	}
	defer func() { _ = engine.Close() }()
	made, err := image.Build(ctx, image.Settings{
		Relay: c.Relay, Mirror: c.Mirror, Progress: t.err,
		Runtime: install.Settings{Dir: c.RuntimeDir, Progress: t.err},
	})
	if err != nil {
		return err
	}
	if c.Load {
		t.progress("image: loading it into the engine at %s", c.Host)
		loaded, err := image.Load(ctx, engine, made)
		if err != nil {
			return err
		}
		if loaded.Existed {
			t.progress("image: the engine has it already")
		}
	}
	switch c.Output {
	case "":
	case "-":
		_, err := made.WriteTo(t.out)
		return err
	default:
		if err := writeImage(c.Output, made); err != nil {
			return err
		}
	}
	return t.describe(
		map[string]any{"reference": made.Reference, "digest": made.ID, "architecture": made.Architecture, "size": made.Unpacked(), "sent": made.Sent(), "layers": made.Layers},
		field{"image", made.Reference}, field{"digest", made.ID}, field{"size", formatBytes(made.Unpacked()) + ", packed " + formatBytes(made.Sent())},
	)
}

// checkOutput refuses what the image cannot be written to, before it is made.
func (c imageBuildCommand) checkOutput(t *terminal) error {
	switch c.Output {
	case "":
		return nil
	case "-":
		if isTerminal(t.out) {
			return usageError("the image is no text: write it to a file with --output FILE")
		}
		return nil
	}
	if _, err := os.Lstat(c.Output); err == nil {
		return usageError("%s exists: name another file, or remove it", c.Output)
	}
	return nil
}

// writeImage writes a new file that is never seen half.
func writeImage(name string, made io.WriterTo) error {
	temp, err := os.CreateTemp(filepath.Dir(name), ".agento-image-")
	if err != nil {
		return fmt.Errorf("write the image: %w", err)
	}
	defer func() { _ = os.Remove(temp.Name()) }() // no longer exists after the rename
	_, err = made.WriteTo(temp)
	if err := errors.Join(err, temp.Chmod(0o644), temp.Close()); err != nil {
		return fmt.Errorf("write the image: %w", err)
	}
	return os.Rename(temp.Name(), name)
}
