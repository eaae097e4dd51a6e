package openclaw

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// BusyError means that a gateway has work that a suspend would interrupt.
type BusyError struct{ Reasons []string }

// Error implements error.
func (e *BusyError) Error() string {
	if len(e.Reasons) == 0 {
		return "the gateway is busy"
	}
	return "the gateway is busy: " + strings.Join(e.Reasons, ", ")
}

// PrepareSuspend makes an idle gateway take no new work for two minutes, and returns what
// ResumeWork needs. A gateway that cannot say that it is idle is busy.
// Errors: *BusyError.
func (g *Gateway) PrepareSuspend(ctx context.Context) (suspension string, err error) {
	l, err := g.connect(ctx)
	if err != nil {
		return "", fmt.Errorf("prepare the suspend: %w", err)
	}
	data, err := l.call(ctx, "gateway.suspend.prepare", map[string]any{"requestId": uuid.NewString(), "terminalPolicy": "preserve"})
	if err != nil {
		return "", fmt.Errorf("prepare the suspend: %w", err)
	}
	var answer struct {
		Status       string `json:"status"`
		SuspensionID string `json:"suspensionId"`
		Blockers     []struct {
			Kind    string `json:"kind"`
			Message string `json:"message"`
		} `json:"blockers"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return "", &BusyError{}
	}
	if answer.Status != "ready" || answer.SuspensionID == "" {
		busy := &BusyError{}
		for _, b := range answer.Blockers {
			busy.Reasons = append(busy.Reasons, b.Kind)
		}
		return "", busy
	}
	return answer.SuspensionID, nil
}

// ResumeWork makes a gateway that was prepared for a suspend take work again. It also succeeds
// for one that does so already because the two minutes are over.
func (g *Gateway) ResumeWork(ctx context.Context, suspension string) error {
	l, err := g.connect(ctx)
	if err != nil {
		return fmt.Errorf("resume work: %w", err)
	}
	data, err := l.call(ctx, "gateway.suspend.resume", map[string]any{"suspensionId": suspension})
	if err != nil {
		return fmt.Errorf("resume work: %w", err)
	}
	var answer struct {
		Status string `json:"status"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return fmt.Errorf("resume work: %w", err)
	}
	if answer.Status != "" && answer.Status != "running" {
		return errors.New("resume work: the gateway is still " + answer.Status)
	}
	return nil
}
