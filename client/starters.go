package client

import (
	"context"
	"net/http"
)

// Starter is a ready-made agent that a new one can begin as.
type Starter struct {
	ID          string        `json:"id" doc:"Id: what POST /v1/agents takes as starter." example:"support"`
	Name        string        `json:"name" doc:"Name for people." example:"Customer support"`
	Description string        `json:"description" doc:"What it is for."`
	SoulMD      string        `json:"soulMd" doc:"Its SOUL.md; empty: the default."`
	WorkflowMD  string        `json:"workflowMd" doc:"Its WORKFLOW.md; empty: the default."`
	Rules       []StarterRule `json:"rules" doc:"Its rules, by name."`
	Skills      []string      `json:"skills" doc:"Ids of its verified skills. They count for the plan's maxSkillsPerAgent." example:"knowledge-answers"`
}

// StarterRule is a rule of a starter.
type StarterRule struct {
	Name    string `json:"name" doc:"Name of the rule, without .md." example:"escalation"`
	Content string `json:"content" doc:"Its text, in Markdown."`
}

// Starters returns the ready-made agents that a new one can begin as.
func (c *Client) Starters(ctx context.Context) ([]Starter, error) {
	return data[[]Starter](ctx, c, http.MethodGet, "/v1/starters", nil)
}
