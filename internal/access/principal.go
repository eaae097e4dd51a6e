package access

import (
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// Principal is a caller whose key was found good.
type Principal struct {
	AccountID string
	KeyID     string
	PlanID    string
	Scopes    Scopes
	RateLimit int // requests a Window
}

// Actor returns the caller as the actor of a change.
func (p Principal) Actor() identity.Actor {
	return identity.ByKey(identity.AccountID(p.AccountID), identity.KeyID(p.KeyID))
}

// Has says whether the caller's key carries the scope.
func (p Principal) Has(scope Scope) bool { return p.Scopes.Has(scope) }

// Require returns nil if the caller's key carries the scope.
// Faults: Forbidden, naming the scope.
func (p Principal) Require(scope Scope) error {
	if p.Has(scope) {
		return nil
	}
	return fault.New(fault.Forbidden, "This API key lacks the scope %s. Use a key that has it.", scope).With("scope", string(scope))
}
