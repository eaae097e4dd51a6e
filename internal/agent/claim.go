package agent

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// claimFault returns the fault for a caller of an account who sets a token that another
// agent has, and every other error as it is. A caller of another account does not learn
// whose it is.
func claimFault(account identity.AccountID, err error) error {
	taken := (*vault.TakenError)(nil)
	if !errors.As(err, &taken) {
		return err
	}
	field := "secrets." + string(taken.Name)
	if taken.Account != account {
		return fault.New(fault.Conflict, "Another agent of this installation is connected with this %s, and a token connects one agent only. If the token is yours, replace it where you got it, and use the new one here.", taken.Name).
			With(field, "is in use").Because(err)
	}
	return fault.New(fault.Conflict, "The agent %s has this %s, and a token connects one agent only. Remove it there with PUT /v1/agents/%s/secrets and deleteSecrets, or use another bot here.", taken.Owner, taken.Name, taken.Owner).
		With(field, "is in use").With("agentId", string(taken.Owner)).Because(err)
}

// ClaimTokens claims the channel tokens that were stored before a token belonged to one
// agent. Of several agents with one token the oldest keeps it.
func (s *Service) ClaimTokens(ctx context.Context) error {
	unclaimed, err := s.vault.ListUnclaimed(ctx, s.db)
	if err != nil {
		return err
	}
	for _, u := range unclaimed {
		if err := s.claimTokens(ctx, u); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			s.log.ErrorContext(ctx, "claiming the channel tokens of an agent failed", "account", u.Account, "agent", u.Owner, "error", err)
		}
	}
	return nil
}

func (s *Service) claimTokens(ctx context.Context, u vault.Unclaimed) error {
	return s.db.Tx(ctx, "agent.claim_tokens", func(ctx context.Context, tx *database.Tx) error {
		a, err := s.store.FindByID(ctx, tx, identity.AgentID(u.Owner))
		if errors.Is(err, sql.ErrNoRows) || err == nil && a.DesiredState == DesiredDeleted {
			return nil
		}
		if err != nil {
			return err
		}
		return s.vault.Claim(ctx, tx, u.Account, u.Owner)
	})
}

// TokenTaken returns the sentence for an agent that shares a channel token with another one,
// from before a token belonged to one agent.
func TokenTaken(id identity.AgentID, name provider.SecretName) string {
	return fmt.Sprintf("Another agent of this installation is connected with the agent's %s, and a token connects one agent only. Set another token with PUT /v1/agents/%s/secrets, or remove it from the other agent and restart this one.", name, id)
}
