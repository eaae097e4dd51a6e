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

// unlimitedName is how the plans file writes Unlimited.
const unlimitedName = "unlimited"

// LoadPlans reads the operator's plans from a YAML file. If path is empty, it returns
// SelfHosted. The first plan is the default, and a feature that is not listed is off:
//
//	plans:
//	  - id: plan_pro
//	    name: Pro
//	    limits: {maxAgents: 10, maxSkillsPerAgent: unlimited, storageBytes: 1000000000}
//	    features: {api_access: true, swarms: true}
//
// The error lists everything that is wrong, each with its line and field.
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
	return plans, errors.Join(r.errs...)
}

// planReader converts the YAML nodes to plans and collects every error with its line.
type planReader struct {
	file string
	errs []error
}

func (r *planReader) fail(n *yaml.Node, field, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s:%d: %s %s", r.file, max(n.Line, 1), field, fmt.Sprintf(format, args...)))
}

func (r *planReader) plans(root *yaml.Node) *Plans {
	plans := &Plans{fromFile: true}
	if root.Kind == yaml.DocumentNode {
		root = root.Content[0]
	}
	list := resolveAlias(r.requiredFields(root, "the file", "plans")["plans"])
	if list == nil {
		return plans
	}
	if list.Kind != yaml.SequenceNode || len(list.Content) == 0 {
		r.fail(list, "plans", "must be a list of at least one plan")
		return plans
	}
	for i, n := range list.Content {
		plan := r.plan(n, fmt.Sprintf("plans[%d]", i))
		if _, used := plans.inFile(plan.ID); used && plan.ID != "" {
			r.fail(n, fmt.Sprintf("plans[%d].id", i), "%s is used by another plan", plan.ID)
		}
		plans.all = append(plans.all, plan)
	}
	return plans
}

func (r *planReader) plan(n *yaml.Node, path string) Plan {
	p := Plan{Status: planStatus}
	fields := r.requiredFields(n, path, "id", "name", "limits", "features")
	if id := fields["id"]; id != nil {
		p.ID = r.id(id, path+".id")
	}
	if name := fields["name"]; name != nil {
		p.Name = r.name(name, path+".name")
	}
	if limits := fields["limits"]; limits != nil {
		p.Limits = r.limits(limits, path+".limits")
	}
	if features := fields["features"]; features != nil {
		p.Features = r.features(features, path+".features")
	}
	return p
}

func (r *planReader) id(n *yaml.Node, path string) string {
	id := scalarText(n)
	rest, ok := strings.CutPrefix(id, planPrefix)
	invalid := strings.Trim(rest, "abcdefghijklmnopqrstuvwxyz0123456789_")
	if !ok || rest == "" || len(id) > 64 || invalid != "" {
		r.fail(n, path, "must be %s and then a-z, 0-9 or _, at most 64 characters", planPrefix)
		return ""
	}
	return id
}

func (r *planReader) name(n *yaml.Node, path string) string {
	name := strings.TrimSpace(scalarText(n))
	wrong := fault.Fields{}
	checkText(wrong, "name", name)
	if name == "" || len(wrong) > 0 {
		r.fail(n, path, "must be plain text of 1 to %d characters", maxName)
	}
	return name
}

// limits reads the limits. storageBytes may be missing: earlier plans have none.
func (r *planReader) limits(n *yaml.Node, path string) Limits {
	fields := r.optionalFields(n, path, "maxAgents", "maxSkillsPerAgent", "storageBytes")
	r.require(n, path, fields, "maxAgents", "maxSkillsPerAgent")
	l := Limits{
		MaxAgents:         int(r.limit(fields["maxAgents"], path+".maxAgents", Unlimited)),
		MaxSkillsPerAgent: int(r.limit(fields["maxSkillsPerAgent"], path+".maxSkillsPerAgent", Unlimited)),
		StorageBytes:      DefaultStorageBytes,
	}
	if bytes := fields["storageBytes"]; bytes != nil {
		l.StorageBytes = r.limit(bytes, path+".storageBytes", UnlimitedBytes)
	}
	return l
}

// limit reads a limit; unlimited is the number for none.
func (r *planReader) limit(n *yaml.Node, path string, unlimited int64) int64 {
	if n == nil {
		return 0
	}
	if scalarText(n) == unlimitedName {
		return unlimited
	}
	var limit int64
	if resolveAlias(n).ShortTag() != "!!int" || n.Decode(&limit) != nil || limit < 0 || limit > unlimited {
		r.fail(n, path, "must be a whole number from 0, or %s", unlimitedName)
	}
	return limit
}

func (r *planReader) features(n *yaml.Node, path string) map[string]bool {
	all := map[string]bool{}
	for _, f := range features() {
		all[f] = false
	}
	for name, value := range r.optionalFields(n, path, features()...) {
		var on bool
		if resolveAlias(value).ShortTag() != "!!bool" || value.Decode(&on) != nil {
			r.fail(value, path+"."+name, "must be true or false")
		}
		all[name] = on
	}
	return all
}

// requiredFields reads a mapping that must have all of these fields, and no other.
func (r *planReader) requiredFields(n *yaml.Node, path string, names ...string) map[string]*yaml.Node {
	found := r.optionalFields(n, path, names...)
	r.require(n, path, found, names...)
	return found
}

// require reports the fields that a mapping lacks.
func (r *planReader) require(n *yaml.Node, path string, found map[string]*yaml.Node, names ...string) {
	for _, name := range names {
		if found[name] == nil && resolveAlias(n).Kind == yaml.MappingNode {
			r.fail(n, path, "lacks %s", name)
		}
	}
}

// optionalFields reads a mapping that may have these fields, and no other.
func (r *planReader) optionalFields(n *yaml.Node, path string, names ...string) map[string]*yaml.Node {
	found := map[string]*yaml.Node{}
	m := resolveAlias(n)
	if m.Kind != yaml.MappingNode {
		r.fail(n, path, "must be a mapping of %s", strings.Join(names, ", "))
		return found
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, value := m.Content[i], m.Content[i+1]
		switch {
		case !slices.Contains(names, key.Value):
			r.fail(key, path, "has an unknown field %q; there are %s", key.Value, strings.Join(names, ", "))
		case found[key.Value] != nil:
			r.fail(key, path, "has %s twice", key.Value)
		default:
			found[key.Value] = value
		}
	}
	return found
}

// resolveAlias returns the node that an alias refers to, and any other node itself.
func resolveAlias(n *yaml.Node) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// scalarText returns the text of a scalar node, and an empty string for null and for
// other nodes.
func scalarText(n *yaml.Node) string {
	if t := resolveAlias(n); t.Kind == yaml.ScalarNode && t.ShortTag() != "!!null" {
		return t.Value
	}
	return ""
}
