package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"

	"agento.host/agento/internal/runtime"
)

const (
	// minVersion is the oldest version of the API that the driver uses: that of Docker 20.10.
	minVersion = "1.41"
	// isolationTimeout bounds a test of the engine. Source: 20 ms.
	isolationTimeout = 10 * time.Second
	// isolationAge is how old a test may be by which a gateway is started.
	isolationAge = 2 * time.Second
)

// isolation is the result of the last test of the engine.
type isolation struct {
	mu       sync.Mutex
	err      error     // guarded by mu
	testedAt time.Time // guarded by mu
}

// CheckIsolation implements runtime.Driver.
func (d *Driver) CheckIsolation() error {
	d.isolation.mu.Lock()
	defer d.isolation.mu.Unlock()
	return d.isolation.err
}

// TestIsolation tests now what Run tests regularly, such as when the engine can be reached again. Errors:
// *runtime.IsolationError; ctx's, which is no result.
func (d *Driver) TestIsolation(ctx context.Context) error { return d.testIsolation(ctx) }

// testIsolationNow returns why no gateway can be started, by a test that is new enough.
func (d *Driver) testIsolationNow(ctx context.Context) error {
	d.isolation.mu.Lock()
	fresh := d.isolation.err == nil && time.Since(d.isolation.testedAt) < isolationAge
	d.isolation.mu.Unlock()
	if fresh {
		return nil
	}
	return d.testIsolation(ctx)
}

// testIsolation tests the engine. Errors: *runtime.IsolationError; ctx's, which is no result.
func (d *Driver) testIsolation(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, isolationTimeout)
	defer cancel()
	err := d.checkEngine(limited)
	if err != nil && ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	d.isolation.mu.Lock()
	defer d.isolation.mu.Unlock()
	d.isolation.err, d.isolation.testedAt = err, time.Now()
	return err
}

func (d *Driver) checkEngine(ctx context.Context) error {
	info, version, err := d.info(ctx)
	if err != nil {
		return &runtime.IsolationError{Missing: errNoAnswer.Error(), Cause: err}
	}
	if err := checkInfo(info, version, d.settings.Runtime); err != nil {
		return err
	}
	return d.checkImage(ctx)
}

// info returns what the engine says of itself, and the version of the API that it is used with.
func (d *Driver) info(ctx context.Context) (system.Info, string, error) {
	var version string
	r, err := call(ctx, d.engine, callTimeout, func(ctx context.Context, c *client.Client) (client.SystemInfoResult, error) {
		version = c.ClientVersion()
		return c.Info(ctx, client.InfoOptions{})
	})
	return r.Info, version, err
}

// checkInfo returns why an engine cannot isolate gateways, or nil.
func checkInfo(info system.Info, version, containerRuntime string) error {
	hasSeccomp := slices.ContainsFunc(info.SecurityOptions, func(o string) bool {
		return o == "seccomp" || strings.HasPrefix(o, "name=seccomp")
	})
	switch {
	case versions.LessThan(version, minVersion):
		return &runtime.IsolationError{Missing: fmt.Sprintf("the container engine has version %s: 20.10 or later is needed", info.ServerVersion)}
	case info.OSType != "" && info.OSType != "linux":
		return &runtime.IsolationError{Missing: "the container engine runs no Linux containers"}
	case !hasSeccomp:
		return &runtime.IsolationError{Missing: "the container engine does not filter system calls: its seccomp is switched off or missing"}
	case containerRuntime != "" && len(info.Runtimes) > 0:
		if _, ok := info.Runtimes[containerRuntime]; !ok {
			return &runtime.IsolationError{Missing: fmt.Sprintf("the container engine has no runtime %q", containerRuntime)}
		}
	}
	return nil
}

// checkImage returns an error unless the engine has the image that agents run.
func (d *Driver) checkImage(ctx context.Context) error {
	_, err := call(ctx, d.engine, callTimeout, func(ctx context.Context, c *client.Client) (client.ImageInspectResult, error) {
		return c.ImageInspect(ctx, d.settings.Image)
	})
	if isNotFound(err) {
		return d.noImage(nil)
	}
	if err != nil {
		return &runtime.IsolationError{Missing: errNoAnswer.Error(), Cause: err}
	}
	return nil
}

func (d *Driver) noImage(cause error) error {
	return &runtime.IsolationError{Missing: fmt.Sprintf("the container engine does not have the image %s: load it with \"agento image build --load\"", d.settings.Image), Cause: cause}
}

// explainCreate returns the error of a call that creates a container, with what to do about it.
func (d *Driver) explainCreate(ctx context.Context, err error) error {
	if isNotFound(err) {
		if missing := d.checkImage(ctx); missing != nil {
			return missing
		}
	}
	if err != nil {
		return fmt.Errorf("create the container: %w", err)
	}
	return nil
}
