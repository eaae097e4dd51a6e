package access

import (
	"maps"
	"math"

	"agento.host/agento/internal/fault"
)

// Unlimited is the limit of a plan that has none. It is a number that no installation
// reaches and that every client of the API can compare with, so neither the server nor
// its clients need a special case.
const Unlimited = math.MaxInt32

const (
	// UnlimitedBytes is Unlimited for bytes: the largest integer that every JSON reader
	// has.
	UnlimitedBytes = 1<<53 - 1
	// DefaultStorageBytes is the limit of the built-in plan, and of a plan that names none.
	DefaultStorageBytes = 10 << 30
)

// planStatus is the status of every plan. The API reference has the field.
const planStatus = "active"

// The features that a plan can include.
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

// Plan is what an account may use. Features has an entry for every feature.
type Plan struct {
	ID       string
	Name     string
	Status   string // "active"
	Limits   Limits
	Features map[string]bool
}

// Limits are how much of something an account may have at once; 0 allows none.
type Limits struct {
	MaxAgents         int
	MaxSkillsPerAgent int
	StorageBytes      int64 // of documents, messages, knowledge and skills
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

// AllowsAgent returns nil if an account that has this number of agents may have one
// more. Count them in the transaction that adds the agent.
// Faults: PlanLimit, naming the limit.
func (p Plan) AllowsAgent(agents int) error {
	return p.checkLimit(agents, p.Limits.MaxAgents, "maxAgents", "Delete an agent")
}

// AllowsSkill returns nil if an agent that has this number of skills may have one more.
// Count them in the transaction that adds the skill.
// Faults: PlanLimit, naming the limit.
func (p Plan) AllowsSkill(skills int) error {
	return p.checkLimit(skills, p.Limits.MaxSkillsPerAgent, "maxSkillsPerAgent", "Uninstall a skill")
}

// AllowsStorage returns nil if an account that has stored this many bytes may store more.
// Faults: PlanLimit, naming the limit.
func (p Plan) AllowsStorage(bytes, more int64) error {
	if bytes+more <= p.Limits.StorageBytes {
		return nil
	}
	return fault.New(fault.PlanLimit, "The account has stored %d bytes, and its plan %s allows %d. Delete knowledge or agents, or ask the operator for another plan.", bytes, p.Name, p.Limits.StorageBytes).
		With("limit", "storageBytes")
}

func (p Plan) checkLimit(count, limit int, name, remedy string) error {
	if count < limit {
		return nil
	}
	return fault.New(fault.PlanLimit, "The plan %s allows no more: its %s is %d. %s, or ask the operator for another plan.", p.Name, name, limit, remedy).
		With("limit", name)
}

// selfHostedID is the id of the built-in plan.
const selfHostedID = "plan_self_hosted"

// builtIn returns the built-in plan, which every installation has: it has every feature and
// no limits but DefaultStorageBytes.
func builtIn() Plan {
	p := Plan{
		ID: selfHostedID, Name: "Self-hosted", Status: planStatus,
		Limits:   Limits{MaxAgents: Unlimited, MaxSkillsPerAgent: Unlimited, StorageBytes: DefaultStorageBytes},
		Features: map[string]bool{},
	}
	for _, f := range features() {
		p.Features[f] = true
	}
	return p
}

// Plans are the plans of an installation, in the order of the plans file.
type Plans struct {
	all      []Plan
	fromFile bool
}

// SelfHosted returns the plans without a plans file: the built-in one.
func SelfHosted() *Plans { return &Plans{all: []Plan{builtIn()}} }

// List returns every plan that an account can get: those of the plans file, and the built-in
// one.
func (p *Plans) List() []Plan {
	all := make([]Plan, 0, len(p.all)+1)
	for i := range p.all {
		all = append(all, p.all[i].copy())
	}
	if _, ok := p.inFile(selfHostedID); !ok {
		all = append(all, builtIn())
	}
	return all
}

// Default returns the plan of an account that is created without one: the first plan.
func (p *Plans) Default() Plan { return p.all[0].copy() }

// Get returns a plan of List.
func (p *Plans) Get(id string) (plan Plan, ok bool) {
	if plan, ok = p.inFile(id); !ok && id == selfHostedID {
		return builtIn(), true
	}
	return plan, ok
}

// InFile returns how many plans the plans file has.
func (p *Plans) InFile() int { return len(p.all) }

func (p *Plans) inFile(id string) (plan Plan, ok bool) {
	for i := range p.all {
		if p.all[i].ID == id {
			return p.all[i].copy(), true
		}
	}
	return Plan{}, false
}

func (p *Plans) ids() []string {
	all := p.List()
	ids := make([]string, len(all))
	for i := range all {
		ids[i] = all[i].ID
	}
	return ids
}

// copy returns a plan whose map the caller may change.
func (p Plan) copy() Plan {
	p.Features = maps.Clone(p.Features)
	return p
}
