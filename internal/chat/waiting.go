package chat

import (
	"cmp"

	"agento.host/agento/internal/identity"
)

// What a turn can wait for, besides what its model calls say.
const (
	waitsForTurn = "queue" // earlier messages of the session are answered first
	waitsForBoot = "boot"  // the gateway prepares its first model call
)

// Waiting returns what a turn waits for: queue, what gateway.Manager.WaitsFor returns, boot, model, or
// the tool that the model has called, as "tool exec". It is empty for a turn that this server does not run.
func (s *Service) Waiting(id identity.TurnID) string {
	r := s.runs.find(id)
	if r == nil {
		return ""
	}
	if r.current().State == Queued {
		return waitsForTurn
	}
	if t := r.modelTurn(); t != nil && t.Outcome().Calls > 0 {
		return t.Waiting()
	}
	return cmp.Or(s.gateways.WaitsFor(r.session.AgentID), waitsForBoot)
}
