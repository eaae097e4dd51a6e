package agent

import (
	"context"
	"errors"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// RotateTokens replaces the tokens of an agent's gateway, of its model calls and of its
// tools. A gateway that runs gets the new ones at once; the old ones are valid for
// vault.TokenGrace, without a gateway not at all. NeedsRestart of the result reports whether
// the gateway could not be given them yet, which is tried again.
// Faults: NotFound; Conflict, if the record or the data key is damaged, or if the running
// gateway waits for a restart, which gives it new tokens too.
func (s *Service) RotateTokens(ctx context.Context, actor identity.Actor, id identity.AgentID) (client.TokensRotated, error) {
	needsRestart, err := s.Sync(ctx, actor.AccountID, id)
	if err != nil {
		return client.TokensRotated{}, err
	}
	var a Agent
	var generation int64
	err = s.db.Tx(ctx, "agent.rotate_tokens", func(ctx context.Context, tx *database.Tx) (err error) {
		if err := tx.Lock(ctx, database.LockAgent, string(id)); err != nil {
			return err
		}
		if a, err = s.store.Find(ctx, tx, actor.AccountID, id); err != nil {
			return err
		}
		e, ok, err := s.events.Repeated(ctx, tx, actor)
		if err != nil {
			return err
		}
		if ok {
			raised, _ := e.Data["generation"].(float64)
			generation = int64(raised)
			return nil
		}
		if err := a.CheckReadable(); err != nil {
			return err
		}
		if needsRestart {
			return fault.New(fault.Conflict, "The agent needs a restart, which gives its gateway new tokens: POST /v1/agents/%s/restart.", id)
		}
		if generation, err = s.vault.RaiseTokens(ctx, tx, a.AccountID, vault.OfAgent(id), a.Place != ""); err != nil {
			return rotateFault(a, err)
		}
		s.events.NotifyAfterCommit(tx, event.ReconcileTopic(id))
		return s.appendEvent(ctx, tx, actor, id, "agent.tokens_rotated", map[string]any{"generation": generation})
	})
	if err != nil {
		return client.TokensRotated{}, err
	}
	return client.TokensRotated{ID: string(id), Generation: generation, NeedsRestart: s.syncChange(ctx, a)}, nil
}

func rotateFault(a Agent, err error) error {
	switch {
	case errors.Is(err, vault.ErrNoKey):
		return fault.New(fault.Conflict, "The data key of the agent is lost: GET /v1/agents/%s says what to do.", a.ID).Because(err)
	case errors.Is(err, vault.ErrTokensNotTaken):
		return fault.New(fault.Conflict, "The gateway has not taken its last tokens. Restart the agent, which gives it new ones: POST /v1/agents/%s/restart.", a.ID).Because(err)
	}
	return err
}
