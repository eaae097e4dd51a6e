// Package starter has the ready-made agents that a new agent can begin as: their documents,
// rules and skills. Nothing connects an agent with its starter afterwards.
package starter

import (
	"embed"
	"io/fs"
	"path"
	"slices"
	"strings"

	"agento.host/agento/internal/fault"
)

// Starter is a ready-made agent.
type Starter struct {
	ID          string // what a request names
	Name        string // what a person reads
	Description string // what it is for, in one or two sentences
	SoulMD      string // empty: the default
	WorkflowMD  string // empty: the default
	Rules       []Rule // by name
	Skills      []string
}

// Rule is a rule of a starter.
type Rule struct {
	Name    string // without .md
	Content string
}

//go:embed starters
var files embed.FS

// The documents of a starter are in the folder of its id.
var all = []Starter{
	load(Starter{
		ID: "support", Name: "Customer support",
		Description: "Answers customers from your knowledge base, promises nothing, and hands over to a person with a summary. Fill in five lines about your company, and add your documents.",
		Skills:      []string{"knowledge-answers", "ticket-triage", "handoff-summary"},
	}),
	load(Starter{
		ID: "research", Name: "Research",
		Description: "Finds things out on the web and in your documents, checks them against independent sources, and says how sure it is. It needs a way out to the web.",
		Skills:      []string{"web-search", "web-reader", "csv-analysis", "knowledge-answers"},
	}),
	{
		ID: "blank", Name: "Blank",
		Description: "A helpful assistant without rules or skills. Write its personality and its workflow yourself.",
	},
}

// All returns the starters, in the order in which they are offered. The caller does not change
// them.
func All() []Starter { return all }

// Find returns the starter of an id.
func Find(id string) (Starter, bool) {
	i := slices.IndexFunc(all, func(s Starter) bool { return s.ID == id })
	if i < 0 {
		return Starter{}, false
	}
	return all[i], true
}

// Check adds to fields what is wrong with the id of a starter in a request. Empty is none.
func Check(fields fault.Fields, id string) {
	if _, ok := Find(id); id != "" && !ok {
		ids := make([]string, len(all))
		for i, s := range all {
			ids[i] = s.ID
		}
		fields.Add("starter", "must be one of %s: GET /v1/starters lists them", strings.Join(ids, ", "))
	}
}

// load reads the documents of a starter.
func load(s Starter) Starter {
	dir := path.Join("starters", s.ID)
	s.SoulMD, s.WorkflowMD = read(path.Join(dir, "SOUL.md")), read(path.Join(dir, "WORKFLOW.md"))
	rules, err := fs.ReadDir(files, path.Join(dir, "rules"))
	if err != nil {
		panic(err) // they are embedded
	}
	for _, r := range rules {
		s.Rules = append(s.Rules, Rule{Name: strings.TrimSuffix(r.Name(), ".md"), Content: read(path.Join(dir, "rules", r.Name()))})
	}
	return s
}

func read(name string) string {
	content, err := files.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	return string(content)
}
