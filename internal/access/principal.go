package access

import (
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// Principal is the caller of a request that was authenticated.
type Principal struct {
	AccountID identity.AccountID
	KeyID     identity.KeyID
	PlanID    string
	Scopes    Scopes
	RateLimit int // requests per Window; or Unlimited

	SecretNumber int64 // which of the key's secrets was presented

	// Operator is true for the operator of the installation, who acts for the account on
	// the socket of the data directory and has no key.
	Operator bool

	Request identity.RequestID // of a request with an idempotency key
}

// Actor returns the caller as the actor of a change.
func (p Principal) Actor() identity.Actor {
	actor := identity.ByKey(p.AccountID, p.KeyID)
	if p.Operator {
		actor = identity.ByOperator(p.AccountID)
	}
	actor.Request = p.Request
	return actor
}

// Has reports whether the caller's key has the scope.
func (p Principal) Has(scope Scope) bool { return p.Scopes.Has(scope) }

// ChatsAsOwner reports whether the caller may speak to an agent's own entry. A key with
// AgentsWrite may: it can give the agent any instruction anyway.
func (p Principal) ChatsAsOwner() bool {
	return p.Has(Chat) && (p.Has(ChatOwner) || p.Has(AgentsWrite))
}

// Require returns nil if the caller's key has the scope.
// Faults: Forbidden, naming the scope.
func (p Principal) Require(scope Scope) error {
	if p.Has(scope) {
		return nil
	}
	return fault.New(fault.Forbidden, "This API key lacks the scope %s. Use a key that has it.", scope).With("scope", string(scope))
}
