package openaiapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/rest"
)

const (
	// modelParam is the parameter with the model.
	modelParam = "model"
	// taskSuffix after a model makes a request a chore: one-shot, without tools and memory.
	taskSuffix = ":task"
)

// model is an agent as OpenAI's clients read it. Some front ends show its name.
type model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
	Name    string `json:"name"`
}

func newModel(id, name string, created time.Time) model {
	return model{ID: id, Object: "model", Created: created.Unix(), OwnedBy: "agento", Name: name}
}

// listModels lists the agents of the account, asleep and stopped ones too. Nothing is woken: only
// records are read.
func (s *server) listModels(w http.ResponseWriter, r *http.Request, _ []byte) (*rest.Stream, error) {
	found, err := s.Agents.List(r.Context(), s.Caller(r.Context()).AccountID, agent.Filter{})
	if err != nil {
		return nil, err
	}
	models := make([]model, len(found.Agents))
	for i, a := range found.Agents {
		models[i] = newModel(string(a.ID), a.Name, a.CreatedAt)
	}
	rest.WriteJSON(w, http.StatusOK, map[string]any{"object": "list", "data": models})
	return nil, nil //nolint:nilnil // the response is written
}

func (s *server) getModel(w http.ResponseWriter, r *http.Request, _ []byte) (*rest.Stream, error) {
	named, err := s.find(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	rest.WriteJSON(w, http.StatusOK, newModel(r.PathValue("id"), named.agent.Name, named.agent.CreatedAt))
	return nil, nil //nolint:nilnil // the response is written
}

// namedAgent is what a client has named as its model.
type namedAgent struct {
	agent agent.Agent
	chore bool // the name had taskSuffix
}

// find returns the agent with an id, or with a name that no other one of the account has.
// Faults: NotFound, with the model.
func (s *server) find(ctx context.Context, name string) (namedAgent, error) {
	a, err := s.findAgent(ctx, name)
	base, chore := strings.CutSuffix(name, taskSuffix)
	if chore && base != "" && fault.Is(err, fault.NotFound) {
		a, err = s.findAgent(ctx, base)
		return namedAgent{a, true}, err
	}
	return namedAgent{a, false}, err
}

func (s *server) findAgent(ctx context.Context, name string) (agent.Agent, error) {
	account := s.Caller(ctx).AccountID
	a, err := s.Agents.Find(ctx, account, identity.AgentID(name))
	if !fault.Is(err, fault.NotFound) {
		return a, err
	}
	found, err := s.Agents.List(ctx, account, agent.Filter{Search: name})
	if err != nil {
		return a, err
	}
	var ids []identity.AgentID
	for _, a := range found.Agents {
		if a.Name == name && name != "" {
			ids = append(ids, a.ID)
		}
	}
	switch len(ids) {
	case 0:
		return a, fault.New(fault.NotFound, "There is no agent %q in this account. GET %smodels lists the ids of agents; a name can be used if only one agent has it.", name, prefix).With(modelParam, name)
	case 1:
		return s.Agents.Find(ctx, account, ids[0])
	}
	return a, fault.New(fault.NotFound, "%d agents have the name %q. Use the id of one of them: GET %smodels lists them.", len(ids), name, prefix).With(modelParam, name)
}
