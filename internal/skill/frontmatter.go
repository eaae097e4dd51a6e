package skill

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/skill/scan"
)

// Frontmatter is the YAML at the beginning of a SKILL.md, as OpenClaw uses it.
type Frontmatter struct {
	Name        string
	Description string   // the model reads it to decide whether to use the skill
	Hidden      bool     // the model does not see the skill; a person calls it by name
	NeedsEnv    []string // environment variables; without them the model does not see the skill
	NeedsBins   []string // programs; without them the model does not see the skill
	OnlyOS      []string // operating systems; empty: all
	Declared    Declared
}

const maxFrontmatter = 16 << 10

var (
	openingLine     = regexp.MustCompile(`^---[ \t]*\n`)
	closingLine     = regexp.MustCompile(`(?m)^---[ \t]*$`)
	descriptionLine = regexp.MustCompile(`(?m)^(description):[ \t]*(\S.*)$`)
	proseLine       = regexp.MustCompile(`(?m)^(read_when|summary):[ \t]*(\S.*: .*)$`)
	blockScalar     = regexp.MustCompile(`^[|>](?:[1-9][+-]?|[+-][1-9]?)?[ \t]*$`)
)

// ParseFrontmatter parses the frontmatter of a SKILL.md as OpenClaw does. Faults: Invalid,
// if OpenClaw would ignore the skill.
func ParseFrontmatter(skillMD []byte) (Frontmatter, error) {
	text, err := cutFrontmatter(skillMD)
	if err != nil {
		return Frontmatter{}, err
	}
	raw, err := decodeFrontmatter(text)
	if err != nil {
		hint := ""
		if strings.Contains(err.Error(), "mapping values") {
			hint = "; a value with a colon needs quotation marks"
		}
		return Frontmatter{}, invalidSkillMD("has a frontmatter that is not YAML: %s%s", inOneLine(err), hint)
	}
	f := Frontmatter{
		Name:        oneLine(raw.text("name")),
		Description: oneLine(raw.text("description")),
		Hidden:      isTrue(raw.text("disable-model-invocation")),
	}
	needs := raw.openclaw()
	f.Declared = declared(raw.list("tools"), slices.Concat(raw.list("hosts"), needs.Requires.Hosts))
	f.setRequirements(needs)
	return f, f.validate()
}

func (f Frontmatter) validate() error {
	switch {
	case f.Name == "" || utf8.RuneCountInString(f.Name) > 64:
		return invalidSkillMD("needs a name of 1-64 characters in its frontmatter")
	case f.Description == "" || utf8.RuneCountInString(f.Description) > 1024:
		return invalidSkillMD("needs a description of 1-1,024 characters in its frontmatter")
	case strings.ContainsFunc(f.Name+f.Description, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }):
		return invalidSkillMD("has a name or description with control characters or invalid UTF-8")
	}
	return nil
}

func invalidSkillMD(format string, args ...any) *fault.Fault {
	problem := fmt.Sprintf(format, args...)
	return fault.New(fault.Invalid, "SKILL.md %s.", problem).With(mainFile, problem)
}

// cutFrontmatter returns the YAML between the two lines of hyphens. Faults: Invalid.
func cutFrontmatter(skillMD []byte) (string, error) {
	text := string(bytes.TrimPrefix(skillMD[:min(len(skillMD), maxFrontmatter+64)], []byte("\uFEFF")))
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	opening := openingLine.FindString(text)
	if opening == "" {
		return "", invalidSkillMD("must begin with a frontmatter between two lines of ---, with name and description")
	}
	text = text[len(opening):]
	closing := closingLine.FindStringIndex(text)
	if closing == nil {
		return "", invalidSkillMD("has a frontmatter that is longer than %d bytes or not closed by a line of ---", maxFrontmatter)
	}
	return text[:closing[0]], nil
}

// rawFrontmatter has the fields of a frontmatter.
type rawFrontmatter map[string]*yaml.Node

// decodeFrontmatter parses the YAML. If it is none, OpenClaw takes a description, and other
// fields of prose with a colon, as they are written.
func decodeFrontmatter(text string) (rawFrontmatter, error) {
	raw, err := decodeMapping(text)
	if err == nil {
		return raw, nil
	}
	quoted := text
	for _, line := range []*regexp.Regexp{descriptionLine, proseLine} {
		quoted = line.ReplaceAllStringFunc(quoted, func(l string) string {
			m := line.FindStringSubmatch(l)
			if blockScalar.MatchString(m[2]) {
				return l
			}
			q, _ := json.Marshal(stripQuotes(strings.TrimSpace(m[2]))) // a string always marshals
			return m[1] + ": " + string(q)
		})
		if raw, err := decodeMapping(quoted); err == nil {
			return raw, nil
		}
	}
	return nil, err
}

func decodeMapping(text string) (rawFrontmatter, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) == 0 {
		return rawFrontmatter{}, nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, errors.New("it is not a list of fields, such as name: my-skill")
	}
	// Only a decoder finds keys that occur twice, and references without end.
	var all map[string]any
	if err := root.Decode(&all); err != nil {
		return nil, err
	}
	raw := rawFrontmatter{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		raw[strings.TrimSpace(root.Content[i].Value)] = root.Content[i+1]
	}
	return raw, nil
}

// text returns a field as OpenClaw reads it: numbers, booleans and null as they are written,
// lists and mappings as JSON.
func (r rawFrontmatter) text(field string) string {
	n := r[field]
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case n == nil:
		return ""
	case n.Kind == yaml.ScalarNode:
		return strings.TrimSpace(n.Value)
	}
	var value any
	if n.Decode(&value) != nil {
		return ""
	}
	b, _ := json.Marshal(value) // "" if it has keys that JSON cannot have
	return string(b)
}

func (r rawFrontmatter) list(field string) []string {
	var l stringList
	if n := r[field]; n != nil {
		_ = n.Decode(&l) // it never fails
	}
	return l
}

// isTrue reports whether OpenClaw takes a text for true.
func isTrue(text string) bool {
	return slices.Contains([]string{"true", "1", "yes", "on"}, strings.ToLower(text))
}

// stripQuotes removes quotation marks around a text.
func stripQuotes(s string) string {
	if len(s) > 1 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		return s[1 : len(s)-1]
	}
	return s
}

// requirements are the conditions under which OpenClaw shows a skill to the model.
type requirements struct {
	Always   yaml.Node  `yaml:"always"` // true, not "true"
	OS       stringList `yaml:"os"`
	Requires struct {
		Bins stringList `yaml:"bins"`
		Env  stringList `yaml:"env"`
		// Hosts is ours: OpenClaw ignores it.
		Hosts stringList `yaml:"hosts"`
	} `yaml:"requires"`
}

// stringList is a YAML list of strings, or one string with commas. Anything else is empty.
type stringList []string

// UnmarshalYAML implements yaml.Unmarshaler.
func (l *stringList) UnmarshalYAML(n *yaml.Node) error {
	var many []string
	var one string
	switch {
	case n.Decode(&many) == nil:
		*l = many
	case n.Decode(&one) == nil:
		*l = strings.FieldsFunc(one, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
	}
	return nil
}

// openclaw returns the requirements in the metadata for OpenClaw, which are a mapping or
// JSON in a string. Metadata that cannot be read has no requirements.
func (r rawFrontmatter) openclaw() requirements {
	var node yaml.Node
	if n := r["metadata"]; n != nil {
		node = *n
	}
	var text string
	if node.Kind == yaml.ScalarNode && node.Decode(&text) == nil {
		if yaml.Unmarshal([]byte(text), &node) != nil {
			return requirements{}
		}
	}
	var blocks map[string]yaml.Node
	if node.Kind == 0 || node.Decode(&blocks) != nil {
		return requirements{}
	}
	for _, key := range []string{"openclaw", "clawdbot"} {
		var r requirements
		if n, ok := blocks[key]; ok && n.Decode(&r) == nil {
			return r
		}
	}
	return requirements{}
}

func (f *Frontmatter) setRequirements(r requirements) {
	f.OnlyOS = r.OS
	if r.Always.Tag != "!!bool" || !isTrue(r.Always.Value) {
		f.NeedsEnv, f.NeedsBins = r.Requires.Env, r.Requires.Bins
	}
}

// findings returns the reasons for which a model may not see the skill.
func (f Frontmatter) findings() []scan.Finding {
	var out []scan.Finding
	add := func(format string, args ...any) {
		out = append(out, scan.Finding{Rule: "stays-hidden", Severity: scan.Info, File: mainFile, Message: shorten(fmt.Sprintf(format, args...))})
	}
	if f.Hidden {
		add("The model does not see this skill. A person must call it by name.")
	}
	if len(f.NeedsEnv) > 0 {
		add("The model does not see this skill until the environment of the agent has %s.", strings.Join(f.NeedsEnv, ", "))
	}
	if len(f.NeedsBins) > 0 {
		add("The model does not see this skill unless these programs are installed where the agent runs: %s.", strings.Join(f.NeedsBins, ", "))
	}
	if len(f.OnlyOS) > 0 {
		add("The model sees this skill only on %s.", strings.Join(f.OnlyOS, ", "))
	}
	return append(out, f.Declared.findings()...)
}

// shorten returns at most 300 characters of s.
func shorten(s string) string {
	if r := []rune(s); len(r) > 300 {
		return string(r[:300]) + "…"
	}
	return s
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func inOneLine(err error) string { return oneLine(strings.TrimPrefix(err.Error(), "yaml: ")) }
