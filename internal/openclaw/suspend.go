package openclaw

import (
	"context"
	"errors"
	"fmt"
)

// ErrBusy means that a gateway has work to do and cannot be suspended.
var ErrBusy = errors.New("the gateway is busy")

// ErrNotSuspended means that a suspension has ended by itself.
var ErrNotSuspended = errors.New("the gateway was not suspended any more")

// ErrSuspended means that a gateway is suspended, or ends, and has not got a message.
var ErrSuspended = errors.New("the gateway is suspended")

// Suspension keeps a gateway from beginning any work. It ends by itself after two minutes.
type Suspension struct {
	gateway *Gateway
	id      string
}

// suspendRequest names our suspensions. Who asks again with the same name gets the suspension
// that there is, so that one whose holder was killed can be ended.
const suspendRequest = "agento-hold"

// Suspend suspends the gateway if it has nothing to do. Turns that come meanwhile are refused
// by it: the caller keeps them back. Errors: ErrBusy.
func (g *Gateway) Suspend(ctx context.Context) (*Suspension, error) {
	var answer struct {
		Status       string `json:"status"`
		SuspensionID string `json:"suspensionId"`
	}
	if err := g.call(ctx, "gateway.suspend.prepare", map[string]any{"requestId": suspendRequest}, &answer); err != nil {
		return nil, err
	}
	switch answer.Status {
	case "ready":
		return &Suspension{g, answer.SuspensionID}, nil
	case "busy":
		return nil, ErrBusy
	}
	return nil, fmt.Errorf("gateway.suspend.prepare: the gateway is %q", answer.Status)
}

// Resume ends the suspension. Errors: ErrNotSuspended.
func (s *Suspension) Resume(ctx context.Context) error {
	var answer struct {
		Resumed bool `json:"resumed"`
	}
	if err := s.gateway.call(ctx, "gateway.suspend.resume", map[string]any{"suspensionId": s.id}, &answer); err != nil {
		return err
	}
	if !answer.Resumed {
		return ErrNotSuspended
	}
	return nil
}

// ID names the suspension. Whoever has it can end the suspension with ContinueSuspension.
func (s *Suspension) ID() string { return s.id }

// ContinueSuspension returns the suspension with an id, which has survived its holder, and the
// processes of the gateway if they were suspended, too.
func (g *Gateway) ContinueSuspension(id string) *Suspension { return &Suspension{g, id} }
