package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// Loaded is an image in an engine.
type Loaded struct {
	ID      string // by which the engine knows it
	Existed bool   // it was there before
}

// Load makes an engine have the image under its reference. It sends nothing if the engine
// has it. Docker from 20.10 on and Podman's API take it.
func Load(ctx context.Context, engine *client.Client, i *Image) (Loaded, error) {
	if id, ok, err := i.find(ctx, engine, i.Reference); err != nil || ok {
		return Loaded{ID: id, Existed: true}, err
	}
	id, ok, err := i.find(ctx, engine, i.ID) // under another name, or under none
	switch {
	case err != nil:
		return Loaded{}, err
	case ok:
		if _, err := engine.ImageTag(ctx, client.ImageTagOptions{Source: id, Target: i.Reference}); err != nil {
			return Loaded{}, fmt.Errorf("tag the image %s: %w", i.Reference, err)
		}
		return Loaded{ID: id, Existed: true}, nil
	}
	if err := i.send(ctx, engine); err != nil {
		return Loaded{}, fmt.Errorf("load the image %s: %w", i.Reference, err)
	}
	id, ok, err = i.find(ctx, engine, i.Reference)
	if err == nil && !ok {
		err = fmt.Errorf("the engine took the image %s, and has another one under that name: does another program load images there?", i.Reference)
	}
	return Loaded{ID: id}, err
}

// find returns the engine's id of the image, if the engine has it under a name.
func (i *Image) find(ctx context.Context, engine *client.Client, name string) (string, bool, error) {
	found, err := engine.ImageInspect(ctx, name)
	if errdefs.IsNotFound(err) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("ask the engine for the image %s: %w", name, err)
	}
	if found.ID == i.ID {
		return found.ID, true, nil
	}
	// Engines that keep images with containerd name them by another digest.
	config, err := i.built.ConfigFile()
	if err != nil {
		return "", false, err
	}
	layers := make([]string, len(i.Layers))
	for n, l := range i.Layers {
		layers[n] = l.DiffID
	}
	same := found.Config != nil && slices.Equal(found.RootFS.Layers, layers) && found.Architecture == i.Architecture &&
		maps.Equal(found.Config.Labels, config.Config.Labels) && slices.Equal(found.Config.Entrypoint, config.Config.Entrypoint) &&
		slices.Equal(found.Config.Cmd, config.Config.Cmd) && slices.Equal(found.Config.Env, config.Config.Env) &&
		found.Config.User == config.Config.User && found.Config.WorkingDir == config.Config.WorkingDir
	return found.ID, same, nil
}

// send streams the image to the engine.
func (i *Image) send(ctx context.Context, engine *client.Client) error {
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		_, err := i.WriteTo(w)
		_ = w.CloseWithError(err) // never fails
		written <- err
	}()
	err := load(ctx, engine, r)
	_ = r.CloseWithError(errors.New("the engine has stopped reading")) // never fails
	if writeErr := <-written; err == nil {
		err = writeErr
	}
	return err
}

func load(ctx context.Context, engine *client.Client, archive io.Reader) error {
	answer, err := engine.ImageLoad(ctx, archive, client.ImageLoadWithQuiet(true))
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	for lines := json.NewDecoder(answer); ; {
		var line struct {
			Error string `json:"error"`
		}
		if err := lines.Decode(&line); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the engine's answer: %w", err)
		}
		if line.Error != "" {
			return errors.New(line.Error)
		}
	}
}
