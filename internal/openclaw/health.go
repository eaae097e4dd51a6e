package openclaw

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// ExitBadConfig is the exit code of a gateway that rejects its configuration.
const ExitBadConfig = 78

const (
	// aliveTimeout is the time that a gateway has to answer Alive. It answers in
	// milliseconds unless the machine is overloaded.
	aliveTimeout = 10 * time.Second
	// readyTimeout is the time that a gateway has to answer one request of Ready.
	readyTimeout = 5 * time.Second
	// pollInterval is the pause between the requests of Ready. A boot takes 15 s, so
	// asking often costs nothing.
	pollInterval = 100 * time.Millisecond
)

// Alive checks that the gateway's process answers. A gateway that is busy, or whose
// channels cannot connect, is alive.
func (g *Gateway) Alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, aliveTimeout)
	defer cancel()
	status, _, err := g.get(ctx, "/healthz")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("/healthz answered %d", status)
	}
	return err
}

// Ready waits until the gateway can run turns. If ctx ends first, the error says
// what was still missing. A channel that cannot connect does not count, because the
// agent answers everywhere else.
func (g *Gateway) Ready(ctx context.Context) error {
	reason := errors.New("not asked yet")
	for {
		err := g.checkReady(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			reason = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the gateway did not become ready: %w (last answer: %w)", ctx.Err(), reason)
		case <-time.After(pollInterval):
		}
	}
}

func (g *Gateway) checkReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	status, body, err := g.get(ctx, "/readyz")
	if err != nil {
		return err
	}
	if status == http.StatusOK {
		return nil
	}
	var answer struct{ Failing []string }
	if err := json.Unmarshal(body, &answer); err != nil || len(answer.Failing) == 0 {
		return fmt.Errorf("/readyz answered %d", status)
	}
	for _, name := range answer.Failing {
		if !isChannel(name) {
			return errors.New(strings.Join(answer.Failing, ", "))
		}
	}
	return nil
}

// isChannel reports whether a failing check of /readyz is a channel and not one of
// OpenClaw's own conditions. The gateway checks channels only after all of its own
// conditions are met.
func isChannel(check string) bool {
	switch check {
	case channelTelegram, channelSlack:
		return true
	}
	return false
}
