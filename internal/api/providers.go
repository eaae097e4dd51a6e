package api

import (
	"context"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/modelproxy"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// maxChecks is how many keys an account may have checked in a minute, so that nobody sorts a
// list of stolen keys with it.
const maxChecks = 20

type checkProviderInput struct{ Body client.ProviderCheckRequest }

func (s *Server) checkProvider(ctx context.Context, who access.Principal, in *checkProviderInput) (*reply[client.ProviderCheck], error) {
	if err := s.limiter.Allow(identity.KeyID("checks of "+who.AccountID), maxChecks, time.Now()).Err(); err != nil {
		return nil, err
	}
	ctx, cancel := s.untilDrain(ctx)
	defer cancel()
	checked, err := s.models.Check(ctx, modelproxy.KeyCheck{
		Provider: provider.Name(in.Body.Provider), Key: vault.NewSecret(in.Body.Key), BaseURL: in.Body.BaseURL,
	})
	if err != nil {
		return nil, err
	}
	return one(client.ProviderCheck{
		OK: checked.OK, Cause: orNull(string(checked.Cause)), Message: orNull(checked.Message), ProviderMessage: orNull(checked.Provider), Models: orEmpty(checked.Models),
	}), nil
}
