package access

import (
	"slices"
	"strings"

	"agento.host/agento/internal/fault"
)

// Role is what a person may do in an account.
type Role string

// The roles, each with everything of the one before.
const (
	Viewer    Role = "viewer"    // reads, but no conversations
	Developer Role = "developer" // works with agents, knowledge, skills and swarms
	Admin     Role = "admin"     // also API keys, and people other than owners
	Owner     Role = "owner"     // everything of the account
)

// Roles returns every role, the lowest first.
func Roles() []Role { return []Role{Viewer, Developer, Admin, Owner} }

// ParseRole returns the role of that name. Faults: Invalid.
func ParseRole(name string) (Role, error) {
	if r := Role(name); slices.Contains(Roles(), r) {
		return r, nil
	}
	names := make([]string, 0, len(Roles()))
	for _, r := range Roles() {
		names = append(names, string(r))
	}
	return "", fault.Fields{"role": "must be one of " + strings.Join(names, ", ")}.Err()
}

// Scopes returns the scopes of the role. A role that is not known has none.
func (r Role) Scopes() Scopes {
	rank := slices.Index(Roles(), r)
	if rank < 0 {
		return Scopes{}
	}
	scopes := []Scope{AgentsRead, KnowledgeRead, SwarmsRead, Logs}
	if rank >= 1 {
		scopes = append(scopes, Chat, ChatOwner, AgentsWrite, KnowledgeWrite, Skills, SwarmsWrite)
	}
	if rank >= 2 {
		scopes = append(scopes, AccountAdmin)
	}
	return NewScopes(scopes...)
}

// AtLeast reports whether the role has everything of another one.
func (r Role) AtLeast(other Role) bool {
	return slices.Index(Roles(), r) >= slices.Index(Roles(), other)
}

// Manages reports whether a person with the role may give a role to others, and change or
// remove people who have it.
func (r Role) Manages(other Role) bool {
	return r == Owner || r == Admin && other != Owner
}
