package agent

import (
	"context"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
)

// Apply implements skill.Applier: Sync, for a caller that has been identified.
func (s *Service) Apply(ctx context.Context, accountID, agentID string) (needsRestart bool, err error) {
	return s.Sync(ctx, access.Principal{AccountID: accountID}, agentID)
}

// Exists says whether the account has such an agent. Give it the transaction in
// which something is added to the agent. Faults: NotFound.
func (s *Service) Exists(ctx context.Context, q database.Querier, accountID, agentID string) error {
	_, err := find(ctx, q, accountID, agentID)
	return err
}
