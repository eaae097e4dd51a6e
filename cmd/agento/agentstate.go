package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"agento.host/agento/client"
)

const (
	// maxStates is of how many agents a list asks for more than their status: the requests
	// count for the key's rate limit.
	maxStates = 20
	// parallelStates is how many requests a list makes at the same time.
	parallelStates = 4
)

// statesOf returns the states of the agents of a list, in words.
func statesOf(ctx context.Context, api *client.Client, agents []client.AgentSummary) ([]string, error) {
	states := make([]string, len(agents))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelStates)
	asked := 0
	for i, a := range agents {
		states[i] = statusWords(a.Status)
		if a.Status == client.Stopped || asked == maxStates {
			continue
		}
		asked++
		group.Go(func() error {
			state, err := stateOf(ctx, api, client.Agent{ID: a.ID, Status: a.Status, CreatedAt: a.CreatedAt, StartedAt: a.StartedAt})
			if ctx.Err() == nil && err == nil {
				states[i] = state
			}
			return nil // the status is enough
		})
	}
	return states, group.Wait()
}

// stateOf returns the state of an agent in words: since when it is idle or boots, or what
// is wrong.
func stateOf(ctx context.Context, api *client.Client, a client.Agent) (string, error) {
	words := statusWords(a.Status)
	switch a.Status {
	case client.Running:
		turns, err := api.Turns(ctx, a.ID, client.TurnQuery{Limit: 1})
		if err != nil {
			return words, ignoreAnswered(err) // the key lacks the scope chat
		}
		return words + activity(a, turns), nil
	case client.Provisioning, client.Starting:
		since := a.CreatedAt.Time
		if a.Status == client.Starting {
			since = lastRequest(ctx, api, a)
		}
		if since.IsZero() {
			return words, nil
		}
		return fmt.Sprintf("%s (%s)", words, formatDuration(max(0, time.Since(since)))), nil
	case client.Errored:
		if a.LastError == nil {
			full, err := api.Agent(ctx, a.ID)
			if err != nil {
				return words, ignoreAnswered(err)
			}
			a.LastError = full.LastError
		}
		if a.LastError != nil {
			return fmt.Sprintf("%s (%s)", words, commandWords(*a.LastError)), nil
		}
	}
	return words, nil
}

func statusWords(s client.AgentStatus) string {
	switch s {
	case client.Provisioning, client.Starting:
		return "booting"
	}
	return string(s)
}

// activity returns what a running agent does: it answers, or is idle since its last turn,
// or else since it was started.
func activity(a client.Agent, turns []client.ChatTurn) string {
	var since time.Time
	if a.StartedAt != nil {
		since = a.StartedAt.Time
	}
	for _, turn := range turns {
		if turn.EndedAt == nil {
			return " (busy)"
		}
		if turn.EndedAt.After(since) {
			since = turn.EndedAt.Time
		}
	}
	if since.IsZero() {
		return ""
	}
	return fmt.Sprintf(" (idle %s)", formatDuration(max(0, time.Since(since))))
}

// lastRequest returns when the agent was told to start, or the zero time.
func lastRequest(ctx context.Context, api *client.Client, a client.Agent) time.Time {
	events, err := api.Audit(ctx, client.AuditQuery{Target: "agent/" + a.ID, Limit: 20})
	if err != nil {
		return time.Time{}
	}
	for _, e := range events.Data {
		switch e.Action {
		case "agent.start_requested", "agent.restart_requested", "agent.created", "agent.crashed":
			return e.At.Time
		}
	}
	return time.Time{}
}

// ignoreAnswered drops an error that the server answered.
func ignoreAnswered(err error) error {
	if answered := (*client.Error)(nil); errors.As(err, &answered) {
		return nil
	}
	return err
}
