package access

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"agento.host/agento/internal/fault"
)

const planPrefix = "plan_"

// unlimitedWord stands for Unlimited in the plans file.
const unlimitedWord = "unlimited"

// LoadPlans reads the operator's plans from a YAML file; an empty path gives
// SelfHosted. The first plan is the default, a feature that is not named is off:
//
//	plans:
//	  - id: plan_pro
//	    name: Pro
//	    limits: {maxAgents: 10, maxSkillsPerAgent: unlimited}
//	    features: {api_access: true, swarms: true}
//
// The error names line and field of everything that is wrong.
func LoadPlans(path string) (*Plans, error) {
	if path == "" {
		return SelfHosted(), nil
	}
	text, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return nil, fmt.Errorf("read plans: %w", err)
	}
	plans, err := parsePlans(path, text)
	if err != nil {
		return nil, fmt.Errorf("plans are invalid:\n%w", err)
	}
	return plans, nil
}

func parsePlans(file string, text []byte) (*Plans, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var root, more yaml.Node
	if err := decoder.Decode(&root); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: must hold one YAML document", file)
	}
	r := &planReader{file: file}
	plans := r.plans(&root)
	return plans, errors.Join(r.wrong...)
}

// planReader walks the file and collects everything that is wrong with it.
type planReader struct {
	file  string
	wrong []error
}

func (r *planReader) fail(n *yaml.Node, field, format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Errorf("%s:%d: %s %s", r.file, max(n.Line, 1), field, fmt.Sprintf(format, args...)))
}

func (r *planReader) plans(root *yaml.Node) *Plans {
	plans := &Plans{}
	if root.Kind == yaml.DocumentNode {
		root = root.Content[0]
	}
	list := target(r.fields(root, "the file", "plans")["plans"])
	if list == nil {
		return plans
	}
	if list.Kind != yaml.SequenceNode || len(list.Content) == 0 {
		r.fail(list, "plans", "must be a list of at least one plan")
		return plans
	}
	for i, n := range list.Content {
		plan := r.plan(n, fmt.Sprintf("plans[%d]", i))
		if slices.Contains(plans.ids(), plan.ID) && plan.ID != "" {
			r.fail(n, fmt.Sprintf("plans[%d].id", i), "%s is there already", plan.ID)
		}
		plans.all = append(plans.all, plan)
	}
	return plans
}

func (r *planReader) plan(n *yaml.Node, at string) Plan {
	p := Plan{Status: "active"}
	fields := r.fields(n, at, "id", "name", "limits", "features")
	if id := fields["id"]; id != nil {
		p.ID = r.id(id, at+".id")
	}
	if name := fields["name"]; name != nil {
		p.Name = r.name(name, at+".name")
	}
	if limits := fields["limits"]; limits != nil {
		p.Limits = r.limits(limits, at+".limits")
	}
	if features := fields["features"]; features != nil {
		p.Features = r.features(features, at+".features")
	}
	return p
}

func (r *planReader) id(n *yaml.Node, at string) string {
	id := scalar(n)
	rest, ok := strings.CutPrefix(id, planPrefix)
	other := strings.Trim(rest, "abcdefghijklmnopqrstuvwxyz0123456789_")
	if !ok || rest == "" || len(id) > 64 || other != "" {
		r.fail(n, at, "must be %s and then a-z, 0-9 or _, at most 64 characters", planPrefix)
		return ""
	}
	return id
}

func (r *planReader) name(n *yaml.Node, at string) string {
	name := strings.TrimSpace(scalar(n))
	wrong := fault.Fields{}
	checkText(wrong, "name", name)
	if name == "" || len(wrong) > 0 {
		r.fail(n, at, "must be plain text of 1 to %d characters", maxName)
	}
	return name
}

func (r *planReader) limits(n *yaml.Node, at string) Limits {
	fields := r.fields(n, at, "maxAgents", "maxSkillsPerAgent")
	return Limits{
		MaxAgents:         r.limit(fields["maxAgents"], at+".maxAgents"),
		MaxSkillsPerAgent: r.limit(fields["maxSkillsPerAgent"], at+".maxSkillsPerAgent"),
	}
}

func (r *planReader) limit(n *yaml.Node, at string) int {
	if n == nil {
		return 0
	}
	if scalar(n) == unlimitedWord {
		return Unlimited
	}
	var limit int
	if target(n).ShortTag() != "!!int" || n.Decode(&limit) != nil || limit < 0 || limit > Unlimited {
		r.fail(n, at, "must be a whole number from 0, or %s", unlimitedWord)
	}
	return limit
}

func (r *planReader) features(n *yaml.Node, at string) map[string]bool {
	all := map[string]bool{}
	for _, f := range features() {
		all[f] = false
	}
	for name, value := range r.some(n, at, features()...) {
		var on bool
		if target(value).ShortTag() != "!!bool" || value.Decode(&on) != nil {
			r.fail(value, at+"."+name, "must be true or false")
		}
		all[name] = on
	}
	return all
}

// fields reads a mapping that has each of these fields, and no other.
func (r *planReader) fields(n *yaml.Node, at string, names ...string) map[string]*yaml.Node {
	found := r.some(n, at, names...)
	for _, name := range names {
		if found[name] == nil && target(n).Kind == yaml.MappingNode {
			r.fail(n, at, "lacks %s", name)
		}
	}
	return found
}

// some reads a mapping that has none but these fields.
func (r *planReader) some(n *yaml.Node, at string, names ...string) map[string]*yaml.Node {
	found := map[string]*yaml.Node{}
	m := target(n)
	if m.Kind != yaml.MappingNode {
		r.fail(n, at, "must be a mapping of %s", strings.Join(names, ", "))
		return found
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, value := m.Content[i], m.Content[i+1]
		switch {
		case !slices.Contains(names, key.Value):
			r.fail(key, at, "has an unknown field %q; there are %s", key.Value, strings.Join(names, ", "))
		case found[key.Value] != nil:
			r.fail(key, at, "has %s twice", key.Value)
		default:
			found[key.Value] = value
		}
	}
	return found
}

// target follows an alias to what it stands for.
func target(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// scalar is the text of a single value, else empty.
func scalar(n *yaml.Node) string {
	if t := target(n); t.Kind == yaml.ScalarNode && t.ShortTag() != "!!null" {
		return t.Value
	}
	return ""
}
