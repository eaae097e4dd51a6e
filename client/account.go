package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// Account is the caller's account with its plan and usage.
type Account struct {
	ID    string       `json:"id" doc:"Id of the account." example:"acct_abc123"`
	Name  string       `json:"name" doc:"Name of the account." example:"My Company"`
	Plan  Plan         `json:"plan" doc:"The plan of the account."`
	Usage AccountUsage `json:"usage" doc:"What the account has now."`
}

// Plan sets the limits and features of an account.
type Plan struct {
	ID       string          `json:"id" doc:"Id of the plan." example:"plan_pro"`
	Name     string          `json:"name" doc:"Name of the plan." example:"Pro"`
	Status   string          `json:"status" doc:"State of the plan: active." example:"active"`
	Limits   PlanLimits      `json:"limits" doc:"Limits of the plan."`
	Features map[string]bool `json:"features" doc:"Features by name: api_access, swarms, knowledge, custom_skills, clawhub. One that is missing or false is not included."`
}

// PlanLimits are the limits of a plan; 2147483647 means no limit.
type PlanLimits struct {
	MaxAgents         int `json:"maxAgents" doc:"Number of agents that the account may have."`
	MaxSkillsPerAgent int `json:"maxSkillsPerAgent" doc:"Number of skills that each agent may have."`

	StorageBytes int64 `json:"storageBytes" doc:"Bytes of documents, messages, knowledge and skills; 9007199254740991 means no limit."`
}

// AccountUsage is what an account has.
type AccountUsage struct {
	Agents        int `json:"agents" doc:"Number of agents."`
	RunningAgents int `json:"runningAgents" doc:"Those of the agents that run."`

	StorageBytes int64 `json:"storageBytes" doc:"Bytes of documents, messages, knowledge and skills."`
}

// AuditEvent is one change in the audit log.
type AuditEvent struct {
	ID         string         `json:"id" doc:"Number of the change. Later changes have higher ones."`
	Actor      string         `json:"actor" doc:"Who made the change: the id of a person or an API key, or agent, system, operator."`
	ActorName  *string        `json:"actorName,omitempty" doc:"Name or e-mail address of the person who made the change; absent for others, and for people who were removed altogether."`
	Action     string         `json:"action" doc:"What was done." example:"agent.created"`
	Target     string         `json:"target" example:"agent/a1b2c3d4-e5f6-7890-abcd-ef1234567890" doc:"What was changed: agent/ID, swarm/ID, key/ID, user/ID, invitation/ID or account/ID."`
	TargetName *string        `json:"targetName,omitempty" doc:"Name of the agent, or name or e-mail address of the person, that was changed; absent for others, and for what was deleted."`
	Data       map[string]any `json:"data" doc:"Details of the change. Never a secret."`
	At         Time           `json:"at" doc:"When it was made."`
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
