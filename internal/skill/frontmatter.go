package skill

import (
	"bytes"
	"encoding/json"
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
	openingLine   = regexp.MustCompile(`^---[ \t]*\n`)
	closingLine   = regexp.MustCompile(`(?m)^---[ \t]*$`)
	unquotedField = regexp.MustCompile(`(?m)^(name|description):[ \t]*([^"'|>\s].*)$`)
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
		return Frontmatter{}, invalidSkillMD("has a frontmatter that is not YAML: %s", firstLine(err))
	}
	f := Frontmatter{
		Name:        oneLine(raw.Name),
		Description: oneLine(raw.Description),
		Hidden:      raw.Hidden,
	}
	needs := raw.openclaw()
	f.Declared = declared(raw.Tools, slices.Concat(raw.Hosts, needs.Requires.Hosts))
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

type rawFrontmatter struct {
	Name        string    `yaml:"name"`
	Description string    `yaml:"description"`
	Hidden      bool      `yaml:"disable-model-invocation"`
	Metadata    yaml.Node `yaml:"metadata"`

	Tools stringList `yaml:"tools"`
	Hosts stringList `yaml:"hosts"`
}

// decodeFrontmatter parses the YAML. Like OpenClaw, it accepts a colon in an unquoted
// name or description, which YAML does not.
func decodeFrontmatter(text string) (raw rawFrontmatter, err error) {
	if err = yaml.Unmarshal([]byte(text), &raw); err == nil {
		return raw, nil
	}
	quoted := unquotedField.ReplaceAllStringFunc(text, func(line string) string {
		m := unquotedField.FindStringSubmatch(line)
		q, _ := json.Marshal(strings.TrimSpace(m[2])) // a string always marshals
		return m[1] + ": " + string(q)
	})
	raw = rawFrontmatter{}
	if yaml.Unmarshal([]byte(quoted), &raw) == nil {
		return raw, nil
	}
	return rawFrontmatter{}, err
}

// requirements are the conditions under which OpenClaw shows a skill to the model.
type requirements struct {
	Always   bool       `yaml:"always"`
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
	node := r.Metadata
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
	if !r.Always {
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

func firstLine(err error) string {
	line, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "yaml: "), "\n")
	return line
}
