package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// Account is the caller's account with its plan and usage.
type Account struct {
	ID    string       `json:"id"`
	Name  string       `json:"name"`
	Plan  Plan         `json:"plan"`
	Usage AccountUsage `json:"usage"`
}

// Plan sets the limits and features of an account.
type Plan struct {
	ID       string          `json:"id"`
	Name     string          `json:"name"`
	Status   string          `json:"status"`
	Limits   PlanLimits      `json:"limits"`
	Features map[string]bool `json:"features"`
}

// PlanLimits are the limits of a plan; 2147483647 means no limit.
type PlanLimits struct {
	MaxAgents         int `json:"maxAgents"`
	MaxSkillsPerAgent int `json:"maxSkillsPerAgent"`

	StorageBytes int64 `json:"storageBytes" doc:"Bytes of documents, messages, knowledge and skills; 9007199254740991 means no limit."`
}

// AccountUsage is what an account has.
type AccountUsage struct {
	Agents        int `json:"agents"`
	RunningAgents int `json:"runningAgents"`

	StorageBytes int64 `json:"storageBytes" doc:"Bytes of documents, messages, knowledge and skills."`
}

// AuditEvent is one change in the audit log.
type AuditEvent struct {
	ID     string         `json:"id"`
	Actor  string         `json:"actor" doc:"Who made the change: the id of an API key, or agent, system, operator."`
	Action string         `json:"action" example:"agent.created"`
	Target string         `json:"target" example:"agent/a1b2c3d4-e5f6-7890-abcd-ef1234567890"`
	Data   map[string]any `json:"data"`
	At     Time           `json:"at"`
}

// Account returns the caller's account.
func (c *Client) Account(ctx context.Context) (Account, error) {
	return data[Account](ctx, c, http.MethodGet, "/v1/account", nil)
}

// AuditQuery filters the audit log; an empty field does not filter.
type AuditQuery struct {
	Target string // "agent/ID", "swarm/ID", "key/ID"
	Action string // "agent.created"
	Actor  string // a key's id; agent, system or operator
	Since  *Time
	Limit  int    // 0: the server's default
	Offset string // NextOffset of the page before
}

// Audit returns a page of the audit log, newest first.
func (c *Client) Audit(ctx context.Context, q AuditQuery) (CursorList[AuditEvent], error) {
	v := url.Values{}
	for name, value := range map[string]string{"target": q.Target, "action": q.Action, "actor": q.Actor, "offset": q.Offset} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if q.Since != nil {
		v.Set("since", q.Since.UTC().Format(timeLayout))
	}
	if q.Limit > 0 {
		v.Set("limit", fmt.Sprint(q.Limit))
	}
	return call[CursorList[AuditEvent]](ctx, c, http.MethodGet, "/v1/audit?"+v.Encode(), nil)
}
