package access

import (
	"slices"
	"strings"

	"agento.host/agento/internal/fault"
)

// Scope is a permission of a key.
type Scope string

// The scopes of the API.
const (
	AgentsRead     Scope = "agents:read"
	AgentsWrite    Scope = "agents:write"
	Chat           Scope = "chat"
	KnowledgeRead  Scope = "knowledge:read"
	KnowledgeWrite Scope = "knowledge:write"
	Logs           Scope = "logs"
	Skills         Scope = "skills"
	SwarmsRead     Scope = "swarms:read"
	SwarmsWrite    Scope = "swarms:write"

	// ChatOwner lets a key with Chat speak to the agent's own entry, which has a shell.
	// AllScopes lacks it: it must be named.
	ChatOwner Scope = "chat:owner"

	// AccountAdmin lets a key list the account's keys, and make, change and revoke them; see
	// Service.CreateKey. AllScopes lacks it: it must be named.
	AccountAdmin Scope = "account:admin"
)

// allScopesName is the name that ParseScopes accepts for AllScopes.
const allScopesName = "all"

// scopeOrder returns the scopes in the order of the API reference, and those that
// AllScopes lacks after them. The position of a scope is its bit in a set.
func scopeOrder() [11]Scope {
	return [...]Scope{AgentsRead, AgentsWrite, Chat, KnowledgeRead, KnowledgeWrite, Logs, Skills, SwarmsRead, SwarmsWrite, ChatOwner, AccountAdmin}
}

// allScopesCount is how many of scopeOrder AllScopes has.
const allScopesCount = 9

// bit returns the bit of a scope in a set, or -1 if there is no such scope.
func (s Scope) bit() int {
	all := scopeOrder()
	return slices.Index(all[:], s)
}

// Scopes is a set of scopes. The zero value is empty; sets compare with ==.
type Scopes struct{ bits uint16 }

// AllScopes returns the set of every scope that need not be named.
func AllScopes() Scopes {
	all := scopeOrder()
	return NewScopes(all[:allScopesCount]...)
}

// NewScopes returns a set of scopes. It ignores unknown scopes.
func NewScopes(scopes ...Scope) Scopes {
	var set Scopes
	for _, s := range scopes {
		if b := s.bit(); b >= 0 {
			set.bits |= 1 << b
		}
	}
	return set
}

// ParseScopes parses names of scopes; "all" means AllScopes.
// Faults: Invalid, naming the valid scopes, if a name is unknown or there is none.
func ParseScopes(names []string) (Scopes, error) {
	var set Scopes
	wrong := fault.Fields{}
	for _, name := range names {
		name = strings.TrimSpace(name)
		switch {
		case name == allScopesName:
			set.bits |= AllScopes().bits
		case Scope(name).bit() < 0:
			wrong.Add("scopes", "has %q; valid scopes are %s, or %s", name, validScopes(), allScopesName)
		default:
			set.bits |= 1 << Scope(name).bit()
		}
	}
	if len(names) == 0 {
		wrong.Add("scopes", "must name at least one of %s, or %s", validScopes(), allScopesName)
	}
	return set, wrong.Err()
}

// Has reports whether the set has the scope.
func (s Scopes) Has(scope Scope) bool {
	b := scope.bit()
	return b >= 0 && s.bits&(1<<b) != 0
}

// Empty reports whether the set has no scope.
func (s Scopes) Empty() bool { return s.bits == 0 }

// With returns the set with another scope in it.
func (s Scopes) With(scope Scope) Scopes { return Scopes{s.bits | NewScopes(scope).bits} }

// Without returns the scopes of the set that another one lacks.
func (s Scopes) Without(others Scopes) Scopes { return Scopes{s.bits &^ others.bits} }

// Names lists the scopes of the set in the order of the API reference.
func (s Scopes) Names() []string {
	names := []string{}
	for _, scope := range scopeOrder() {
		if s.Has(scope) {
			names = append(names, string(scope))
		}
	}
	return names
}

// String lists the scopes of the set, separated by spaces. The database stores a set in
// this form.
func (s Scopes) String() string { return strings.Join(s.Names(), " ") }

func validScopes() string {
	all := scopeOrder()
	return strings.Join(NewScopes(all[:]...).Names(), ", ")
}

// parseStoredScopes parses what String returned. It ignores names that only another
// version of agento knows.
func parseStoredScopes(text string) Scopes {
	var set Scopes
	for name := range strings.FieldsSeq(text) {
		set.bits |= NewScopes(Scope(name)).bits
	}
	return set
}
