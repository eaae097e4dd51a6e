package skill

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/skill/scan"
)

// Frontmatter is what the head of a SKILL.md says to OpenClaw.
type Frontmatter struct {
	Name        string
	Description string   // what the model reads when it decides whether to use the skill
	Hidden      bool     // the model is not told of it; a person calls it by name
	NeedsEnv    []string // environment variables without which it stays hidden
	NeedsBins   []string // programs without which it stays hidden
	OnlyOS      []string // operating systems; empty: all
}

const maxFrontmatter = 16 << 10

var (
	headOpens  = regexp.MustCompile(`^---[ \t]*\n`)
	headCloses = regexp.MustCompile(`(?m)^---[ \t]*$`)
	looseField = regexp.MustCompile(`(?m)^(name|description):[ \t]*([^"'|>\s].*)$`)
)

// ParseFrontmatter reads the head of a SKILL.md as OpenClaw does. Faults: Invalid,
// if OpenClaw would pass the skill over.
func ParseFrontmatter(skillMD []byte) (Frontmatter, error) {
	head, err := headOf(skillMD)
	if err != nil {
		return Frontmatter{}, err
	}
	raw, err := decodeHead(head)
	if err != nil {
		return Frontmatter{}, bad("has a head that is not YAML: %s", firstLine(err))
	}
	f := Frontmatter{
		Name:        oneLine(raw.Name),
		Description: oneLine(raw.Description),
		Hidden:      raw.Hidden,
	}
	f.take(raw.openclaw())
	return f, f.check()
}

func (f Frontmatter) check() error {
	switch {
	case f.Name == "" || utf8.RuneCountInString(f.Name) > 64:
		return bad("needs a name of 1-64 characters in its head")
	case f.Description == "" || utf8.RuneCountInString(f.Description) > 1024:
		return bad("needs a description of 1-1,024 characters in its head")
	case strings.ContainsFunc(f.Name+f.Description, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }):
		return bad("has a name or description with characters that cannot be shown")
	}
	return nil
}

func bad(format string, args ...any) *fault.Fault {
	why := fmt.Sprintf(format, args...)
	return fault.New(fault.Invalid, "SKILL.md %s.", why).With(mainFile, why)
}

// headOf cuts out the YAML between the two lines of hyphens.
func headOf(skillMD []byte) (string, error) {
	text := string(bytes.TrimPrefix(skillMD[:min(len(skillMD), maxFrontmatter+64)], []byte("\uFEFF")))
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text)
	opens := headOpens.FindString(text)
	if opens == "" {
		return "", bad("must begin with a head between two lines of ---, with name and description")
	}
	text = text[len(opens):]
	closes := headCloses.FindStringIndex(text)
	if closes == nil {
		return "", bad("has a head that is longer than %d bytes or not closed by a line of ---", maxFrontmatter)
	}
	return text[:closes[0]], nil
}

type rawHead struct {
	Name        string    `yaml:"name"`
	Description string    `yaml:"description"`
	Hidden      bool      `yaml:"disable-model-invocation"`
	Metadata    yaml.Node `yaml:"metadata"`
}

// decodeHead is lenient where OpenClaw is: a colon in an unquoted description.
func decodeHead(head string) (raw rawHead, err error) {
	if err = yaml.Unmarshal([]byte(head), &raw); err == nil {
		return raw, nil
	}
	quoted := looseField.ReplaceAllStringFunc(head, func(line string) string {
		m := looseField.FindStringSubmatch(line)
		q, _ := json.Marshal(strings.TrimSpace(m[2])) // a string always marshals
		return m[1] + ": " + string(q)
	})
	raw = rawHead{}
	if yaml.Unmarshal([]byte(quoted), &raw) == nil {
		return raw, nil
	}
	return rawHead{}, err
}

// gate is what OpenClaw asks for before it shows a skill.
type gate struct {
	Always   bool `yaml:"always"`
	OS       list `yaml:"os"`
	Requires struct {
		Bins list `yaml:"bins"`
		Env  list `yaml:"env"`
	} `yaml:"requires"`
}

// list is a YAML list of strings, or one string with commas. Anything else is empty.
type list []string

// UnmarshalYAML implements yaml.Unmarshaler.
func (l *list) UnmarshalYAML(n *yaml.Node) error {
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

// openclaw finds the block for OpenClaw in the metadata, which is a mapping or
// JSON in a string. What cannot be read asks for nothing.
func (r rawHead) openclaw() gate {
	node := r.Metadata
	var text string
	if node.Kind == yaml.ScalarNode && node.Decode(&text) == nil {
		if yaml.Unmarshal([]byte(text), &node) != nil {
			return gate{}
		}
	}
	var blocks map[string]yaml.Node
	if node.Kind == 0 || node.Decode(&blocks) != nil {
		return gate{}
	}
	for _, key := range []string{"openclaw", "clawdbot"} {
		var g gate
		if n, ok := blocks[key]; ok && n.Decode(&g) == nil {
			return g
		}
	}
	return gate{}
}

func (f *Frontmatter) take(g gate) {
	f.OnlyOS = g.OS
	if !g.Always {
		f.NeedsEnv, f.NeedsBins = g.Requires.Env, g.Requires.Bins
	}
}

// findings tells whoever installs the skill why a model may not see it.
func (f Frontmatter) findings() []scan.Finding {
	var out []scan.Finding
	note := func(format string, args ...any) {
		out = append(out, scan.Finding{Rule: "stays-hidden", Severity: scan.Info, File: mainFile, Message: short(fmt.Sprintf(format, args...))})
	}
	if f.Hidden {
		note("The model is not told of it; a person has to call it by name.")
	}
	if len(f.NeedsEnv) > 0 {
		note("The model does not see it until the agent's environment has %s.", strings.Join(f.NeedsEnv, ", "))
	}
	if len(f.NeedsBins) > 0 {
		note("The model does not see it unless these programs are installed where the agent runs: %s.", strings.Join(f.NeedsBins, ", "))
	}
	if len(f.OnlyOS) > 0 {
		note("It is made for %s alone.", strings.Join(f.OnlyOS, ", "))
	}
	return out
}

func short(s string) string {
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
