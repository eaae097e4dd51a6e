package access

import (
	"fmt"
	"maps"
	"math"

	"agento.host/agento/internal/fault"
)

// Unlimited is the limit of a plan that has none. It is a number that any client
// of the contract can compare with and no installation reaches, so that nobody,
// here or there, needs a special case.
const Unlimited = math.MaxInt32

// The features that a plan may have.
const (
	FeatureAPIAccess    = "api_access"    // the API, beyond GET /v1/account
	FeatureSwarms       = "swarms"        // creating swarms
	FeatureKnowledge    = "knowledge"     // knowledge bases
	FeatureCustomSkills = "custom_skills" // uploading skills
	FeatureClawHub      = "clawhub"       // installing community skills
)

func features() []string {
	return []string{FeatureAPIAccess, FeatureSwarms, FeatureKnowledge, FeatureCustomSkills, FeatureClawHub}
}

// Plan is what an account may have. Features names every feature there is.
type Plan struct {
	ID       string
	Name     string
	Status   string // "active"
	Limits   Limits
	Features map[string]bool
}

// Limits count what an account may have at once; 0 allows none.
type Limits struct {
	MaxAgents         int
	MaxSkillsPerAgent int
}

// Allows returns nil if the plan has the feature.
// Faults: PlanLimit, naming the feature.
func (p Plan) Allows(feature string) error {
	if p.Features[feature] {
		return nil
	}
	return fault.New(fault.PlanLimit, "The plan %s does not include %s. Ask the operator for a plan that does.", p.Name, feature).
		With("feature", feature)
}

// RoomForAgent returns nil if an account with so many agents may have one more.
// Count them in the transaction that adds it.
// Faults: PlanLimit, naming the limit.
func (p Plan) RoomForAgent(agents int) error {
	return p.room(agents, p.Limits.MaxAgents, "maxAgents", "Delete an agent")
}

// RoomForSkill returns nil if an agent with so many skills may have one more.
// Count them in the transaction that adds it.
// Faults: PlanLimit, naming the limit.
func (p Plan) RoomForSkill(skills int) error {
	return p.room(skills, p.Limits.MaxSkillsPerAgent, "maxSkillsPerAgent", "Uninstall a skill")
}

func (p Plan) room(have, limit int, name, remedy string) error {
	if have < limit {
		return nil
	}
	return fault.New(fault.PlanLimit, "The plan %s allows no more: its %s is %d. %s, or ask the operator for another plan.", p.Name, name, limit, remedy).
		With("limit", name)
}

// Plans are the plans of an installation, in the operator's order.
type Plans struct{ all []Plan }

// SelfHosted is the default: one plan without limits, with every feature.
func SelfHosted() *Plans {
	p := Plan{
		ID: "plan_self_hosted", Name: "Self-hosted", Status: "active",
		Limits:   Limits{MaxAgents: Unlimited, MaxSkillsPerAgent: Unlimited},
		Features: map[string]bool{},
	}
	for _, f := range features() {
		p.Features[f] = true
	}
	return &Plans{all: []Plan{p}}
}

// List returns every plan.
func (p *Plans) List() []Plan {
	all := make([]Plan, len(p.all))
	for i := range p.all {
		all[i] = p.all[i].copy()
	}
	return all
}

// Default is the plan of an account for which none was named: the first.
func (p *Plans) Default() Plan { return p.all[0].copy() }

// Get returns a plan. The error is the operator's: accounts name only plans that
// were there when they were made.
func (p *Plans) Get(id string) (Plan, error) {
	for i := range p.all {
		if p.all[i].ID == id {
			return p.all[i].copy(), nil
		}
	}
	return Plan{}, fmt.Errorf("the plan %s is missing from the plans file: add it again", id)
}

func (p *Plans) ids() []string {
	ids := make([]string, len(p.all))
	for i := range p.all {
		ids[i] = p.all[i].ID
	}
	return ids
}

// copy keeps the plans of the installation from being changed through a Plan.
func (p Plan) copy() Plan {
	p.Features = maps.Clone(p.Features)
	return p
}
