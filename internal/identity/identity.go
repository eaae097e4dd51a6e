// Package identity defines the ids of things, and the actors that change them. Each id
// has its own type, so that the compiler refuses one in place of another.
package identity

import "strings"

// AccountID is the id of an account: acct_….
type AccountID string

// KeyID is the id of an API key: key_….
type KeyID string

// AgentID is the id of an agent: a UUID.
type AgentID string

// SwarmID is the id of a swarm: a UUID.
type SwarmID string

// UserID is the id of a person who can sign in: user_….
type UserID string

// UserPrefix begins the id of every user.
const UserPrefix = "user_"

// SignInID is the id of a sign-in session, which has nothing to do with chats: as_….
type SignInID string

// SessionID is the id of a chat session: sess_….
type SessionID string

// RequestID is the id of a request that may be executed again after a crash: idem_….
type RequestID string

// TurnID is the id of a turn of a chat: turn_….
type TurnID string

// WidgetID is the id of a chat widget: widget_….
type WidgetID string

// MessageID is the id of a message of a chat: msg_….
type MessageID string

// Kind is what an actor is.
type Kind string

// The kinds of actors.
const (
	Key      Kind = "key"      // an API key
	User     Kind = "user"     // a person who is signed in
	Agent    Kind = "agent"    // an agent, by its own tools or its own edits
	Widget   Kind = "widget"   // a visitor of a website with a chat widget
	System   Kind = "system"   // the server
	Operator Kind = "operator" // the person who runs the installation
)

// Actor is who changes something, and in which account. It is the first parameter after
// the context, and the transaction if there is one, of methods that change something.
// AccountID is empty for changes of the installation, which belong to no account.
type Actor struct {
	AccountID AccountID
	Kind      Kind
	ID        string // of the key, user, agent or widget; empty for the system and operators

	// Request is the request that makes the change, if it has an idempotency key;
	// otherwise it is empty. See event.Log.Repeated.
	Request RequestID
}

// ByKey returns the actor of a request with an API key.
func ByKey(account AccountID, key KeyID) Actor {
	return Actor{AccountID: account, Kind: Key, ID: string(key)}
}

// ByUser returns the actor of what a person does who is signed in.
func ByUser(account AccountID, user UserID) Actor {
	return Actor{AccountID: account, Kind: User, ID: string(user)}
}

// ByAgent returns an agent as the actor of a change that it makes itself.
func ByAgent(account AccountID, agent AgentID) Actor {
	return Actor{AccountID: account, Kind: Agent, ID: string(agent)}
}

// ByWidget returns the actor of a request of a visitor of a chat widget.
func ByWidget(account AccountID, widget WidgetID) Actor {
	return Actor{AccountID: account, Kind: Widget, ID: string(widget)}
}

// BySystem returns the server as an actor in an account.
func BySystem(account AccountID) Actor { return Actor{AccountID: account, Kind: System} }

// ByOperator returns the operator as an actor in an account.
func ByOperator(account AccountID) Actor { return Actor{AccountID: account, Kind: Operator} }

// String returns the actor as the audit log shows it: the id of a key, a user or a
// widget, and otherwise the kind.
func (a Actor) String() string {
	if a.Kind == Key || a.Kind == User || a.Kind == Widget {
		return a.ID
	}
	return string(a.Kind)
}

// ParseActor returns the actor of the account for which String returned text. An agent's
// id is lost, and so is the request.
func ParseActor(account AccountID, text string) Actor {
	switch kind := Kind(text); {
	case kind == Agent, kind == System, kind == Operator:
		return Actor{AccountID: account, Kind: kind}
	case strings.HasPrefix(text, UserPrefix):
		return Actor{AccountID: account, Kind: User, ID: text}
	case strings.HasPrefix(text, "widget_"):
		return Actor{AccountID: account, Kind: Widget, ID: text}
	}
	return Actor{AccountID: account, Kind: Key, ID: text}
}
