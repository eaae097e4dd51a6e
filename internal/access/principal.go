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

	// UserID is the person who is signed in and calls. Such a caller has no key: its scopes
	// are those of its Role in the account, and SignIn is its sign-in session.
	UserID identity.UserID
	Role   Role
	SignIn identity.SignInID

	SecretNumber int64 // which of the key's secrets was presented

	// Operator is true for the operator of the installation, who acts for the account on
	// the socket of the data directory and has no key.
	Operator bool

	Request identity.RequestID // of a request with an idempotency key
}

// Actor returns the caller as the actor of a change.
func (p Principal) Actor() identity.Actor {
	actor := identity.ByKey(p.AccountID, p.KeyID)
	switch {
	case p.Operator:
		actor = identity.ByOperator(p.AccountID)
	case p.UserID != "":
		actor = identity.ByUser(p.AccountID, p.UserID)
	}
	actor.Request = p.Request
	return actor
}

// Name returns the id of the key or the person that calls; it is empty for an operator.
func (p Principal) Name() string {
	if p.UserID != "" {
		return string(p.UserID)
	}
	return string(p.KeyID)
}

// Has reports whether the caller has the scope.
func (p Principal) Has(scope Scope) bool { return p.Scopes.Has(scope) }

// ChatsAsOwner reports whether the caller may speak to an agent's own entry. A key with
// AgentsWrite may: it can give the agent any instruction anyway.
func (p Principal) ChatsAsOwner() bool {
	return p.Has(Chat) && (p.Has(ChatOwner) || p.Has(AgentsWrite))
}

// Require returns nil if the caller has the scope.
// Faults: Forbidden, naming the scope.
func (p Principal) Require(scope Scope) error {
	if p.Has(scope) {
		return nil
	}
	if p.UserID != "" {
		return fault.New(fault.Forbidden, "Your role in this account, %s, lacks the scope %s. Ask an admin or owner of the account.", p.Role, scope).With("scope", string(scope))
	}
	return fault.New(fault.Forbidden, "This API key lacks the scope %s. Use a key that has it.", scope).With("scope", string(scope))
}
