package access

import (
	"slices"
	"strings"

	"agento.host/agento/internal/fault"
)

// Scope is one thing that a key may do.
type Scope string

// The scopes of the contract.
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
)

// everyWord stands for all scopes where scopes are parsed.
const everyWord = "all"

// order is the contract's; a scope's place in it is its bit in a set.
func order() [9]Scope {
	return [...]Scope{AgentsRead, AgentsWrite, Chat, KnowledgeRead, KnowledgeWrite, Logs, Skills, SwarmsRead, SwarmsWrite}
}

// bit is the place of a scope in a set, or -1 if it is none.
func (s Scope) bit() int {
	all := order()
	return slices.Index(all[:], s)
}

// Scopes is a set of scopes. The zero value is empty; sets compare with ==.
type Scopes struct{ bits uint16 }

// AllScopes returns the set of every scope.
func AllScopes() Scopes {
	all := order()
	return NewScopes(all[:]...)
}

// NewScopes makes a set; what is not a scope of the contract is left out.
func NewScopes(scopes ...Scope) Scopes {
	var set Scopes
	for _, s := range scopes {
		if b := s.bit(); b >= 0 {
			set.bits |= 1 << b
		}
	}
	return set
}

// ParseScopes reads names of scopes; "all" stands for every one.
// Faults: Invalid, naming the scopes there are, if a name is none or all are missing.
func ParseScopes(names []string) (Scopes, error) {
	var set Scopes
	wrong := fault.Fields{}
	for _, name := range names {
		name = strings.TrimSpace(name)
		switch {
		case name == everyWord:
			set = AllScopes()
		case Scope(name).bit() < 0:
			wrong.Add("scopes", "has %q; valid scopes are %s, or %s", name, validScopes(), everyWord)
		default:
			set.bits |= 1 << Scope(name).bit()
		}
	}
	if len(names) == 0 {
		wrong.Add("scopes", "must name at least one of %s, or %s", validScopes(), everyWord)
	}
	return set, wrong.Err()
}

// Has says whether the set holds the scope.
func (s Scopes) Has(scope Scope) bool {
	b := scope.bit()
	return b >= 0 && s.bits&(1<<b) != 0
}

// Empty says whether the set holds nothing.
func (s Scopes) Empty() bool { return s.bits == 0 }

// Names lists the set in the contract's order.
func (s Scopes) Names() []string {
	names := []string{}
	for _, scope := range order() {
		if s.Has(scope) {
			names = append(names, string(scope))
		}
	}
	return names
}

// String lists the set, separated by spaces; it is also how the set is stored.
func (s Scopes) String() string { return strings.Join(s.Names(), " ") }

func validScopes() string { return strings.Join(AllScopes().Names(), ", ") }

// storedScopes reads what String wrote. A name of another version of agento
// grants nothing here.
func storedScopes(text string) Scopes {
	var set Scopes
	for name := range strings.FieldsSeq(text) {
		set.bits |= NewScopes(Scope(name)).bits
	}
	return set
}
