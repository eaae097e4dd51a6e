// Package usage counts what agents use of model providers: tokens, requests and money, by hour,
// agent, swarm, peer, session, model and API key. It owns the table usage and the prices of
// models.
package usage

import (
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
)

// Tokens are the tokens of one or more model calls. Input is without the tokens that were read
// from the provider's prompt cache or written to it. Output includes Reasoning.
type Tokens struct {
	Input, Output, Reasoning int64
	CacheRead, CacheWrite    int64
}

// Prompt returns all tokens that were sent, cached or not.
func (t Tokens) Prompt() int64 { return t.Input + t.CacheRead + t.CacheWrite }

func (t *Tokens) add(o Tokens) {
	t.Input += o.Input
	t.Output += o.Output
	t.Reasoning += o.Reasoning
	t.CacheRead += o.CacheRead
	t.CacheWrite += o.CacheWrite
}

// Sum is what one or more model calls have used.
type Sum struct {
	Tokens
	Requests  int64
	Estimated int64 // requests whose tokens the provider has not reported, so that they are estimated
	Unpriced  int64 // requests whose price is unknown
	Micros    int64 // the price of all other requests, in millionths of a US dollar
}

// Add adds another sum.
func (s *Sum) Add(o Sum) {
	s.add(o.Tokens)
	s.Requests += o.Requests
	s.Estimated += o.Estimated
	s.Unpriced += o.Unpriced
	s.Micros += o.Micros
}

// Call is a model call that has ended.
type Call struct {
	AccountID identity.AccountID
	AgentID   identity.AgentID
	SwarmID   identity.SwarmID   // empty if the agent is in no swarm
	PeerID    string             // empty if the session has no peer
	SessionID identity.SessionID // empty if the call belongs to no session
	KeyID     identity.KeyID     // of the message that the call answers; empty if no API key has sent one
	Provider  provider.Name
	Model     string
	At        time.Time
	Tokens
	HourWrites int64 // those of CacheWrite that the provider keeps for an hour
	Estimated  bool  // the provider has not reported the tokens
}
