package agentstatus

import (
	"context"
	"time"

	"agento.host/agento/internal/identity"
)

// WriteSuccess writes that an agent's last model call has succeeded.
func (s *Service) WriteSuccess(ctx context.Context, id identity.AgentID) error {
	return s.writeModelResult(ctx, id, modelResult{})
}

// Sampler returns a function that samples each gateway once.
func (s *Service) Sampler() func(ctx context.Context, ttl time.Duration) error {
	return (&sampler{service: s}).round
}
