package skill

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/semver"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/skill/scan"
	"agento.host/agento/internal/skill/unpack"
)

// Trust says who vouches for a skill.
type Trust string

// The trust levels.
const (
	Verified Trust = "verified" // the catalog of this installation
	ClawHub  Trust = "clawhub"  // the community registry
	Custom   Trust = "custom"   // the account itself: an upload or a GitHub address
)

// Bounds of a skill.
const (
	MaxFiles     = 256
	MaxFileBytes = 1 << 20
	MaxBytes     = 2 << 20 // all files together
	maxSkillMD   = 256_000 // what OpenClaw reads
)

// mainFile is what makes a folder a skill.
const mainFile = "SKILL.md"

// Manifest describes a skill to a person who looks for one.
type Manifest struct {
	ID                  string   `yaml:"id" json:"id"`
	Name                string   `yaml:"name" json:"name"`
	Version             string   `yaml:"version" json:"version"` // semantic version, without a v
	Author              string   `yaml:"author" json:"author"`
	Category            string   `yaml:"category" json:"category"`
	Tags                []string `yaml:"tags" json:"tags"`
	Description         string   `yaml:"description" json:"description"`
	EnhancedDescription string   `yaml:"enhancedDescription" json:"enhancedDescription"`
	UseCases            []string `yaml:"useCases" json:"useCases"`
	Tools               []string `yaml:"tools" json:"tools"` // the agent's tools it needs
}

// Package is one version of a skill with its files.
type Package struct {
	Manifest
	Trust   Trust
	Source  string            // where an upgrade finds the next version
	Pin     string            // commit or archive hash; empty if the version says it all
	Files   map[string][]byte // path below the skill's folder → content
	Digest  string            // SHA-256 over all paths and contents
	Report  scan.Report
	label   string // the name in SKILL.md, by which a model calls it
	skillID string // what it is installed by
}

var ids = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)

// newPackage checks a skill's files and scans them. Faults: Invalid, TooLarge.
func newPackage(m Manifest, trust Trust, files map[string][]byte, more ...scan.Finding) (Package, error) {
	if err := checkFiles(files); err != nil {
		return Package{}, err
	}
	front, err := ParseFrontmatter(files[mainFile])
	if err != nil {
		return Package{}, err
	}
	m.fill(front)
	if err := m.check(); err != nil {
		return Package{}, err
	}
	report := scan.Files(files).With(slices.Concat(front.findings(), more)...)
	return Package{Manifest: m, Trust: trust, Files: files, Digest: digest(files), Report: report, label: front.Name}, nil
}

// checkFiles refuses what the database, a file system or OpenClaw would not take.
func checkFiles(files map[string][]byte) error {
	total := 0
	wrong := fault.Fields{}
	folded := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		data := files[name]
		total += len(data)
		if err := unpack.CheckPath(name); err != nil {
			wrong.Add("files", "hold a bad path: %v", err)
		}
		if len(data) > MaxFileBytes {
			return fault.New(fault.TooLarge, "The file %s has %d bytes; a file of a skill may have %d.", unpack.Quote(name), len(data), MaxFileBytes)
		}
		collide(folded, name, wrong)
	}
	switch main, ok := files[mainFile]; {
	case len(files) > MaxFiles || total > MaxBytes:
		return fault.New(fault.TooLarge, "The skill has %d files and %d bytes; %d and %d are allowed.", len(files), total, MaxFiles, MaxBytes)
	case !ok:
		wrong.Add("files", "hold no SKILL.md at the top")
	case len(main) > maxSkillMD:
		return fault.New(fault.TooLarge, "SKILL.md has %d bytes; OpenClaw reads up to %d.", len(main), maxSkillMD)
	case !utf8.Valid(main):
		wrong.Add("files", "hold a SKILL.md that is not UTF-8 text")
	}
	return wrong.Err()
}

// collide notes paths that are one path, or a file and a folder at once, on some
// file system.
func collide(folded map[string]string, name string, wrong fault.Fields) {
	if before, ok := folded[unpack.Fold(name)]; ok {
		wrong.Add("files", "hold %s and %s, which are one path", unpack.Quote(strings.TrimSuffix(before, "/")), unpack.Quote(name))
	}
	folded[unpack.Fold(name)] = name
	for dir := path.Dir(name); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if before, ok := folded[unpack.Fold(dir)]; ok && before != dir+"/" {
			wrong.Add("files", "hold %s and %s, which are one path", unpack.Quote(strings.TrimSuffix(before, "/")), unpack.Quote(dir))
		}
		folded[unpack.Fold(dir)] = dir + "/"
	}
}

// fill takes from SKILL.md what a manifest leaves out.
func (m *Manifest) fill(f Frontmatter) {
	m.ID = cmp.Or(m.ID, slugOf(f.Name))
	m.Name = cmp.Or(strings.TrimSpace(m.Name), title(f.Name))
	m.Description = cmp.Or(strings.TrimSpace(m.Description), f.Description)
	m.EnhancedDescription = cmp.Or(strings.TrimSpace(m.EnhancedDescription), m.Description)
	m.Category = cmp.Or(m.Category, "other")
	for _, list := range []*[]string{&m.Tags, &m.UseCases, &m.Tools} {
		if *list == nil {
			*list = []string{}
		}
	}
}

// check names every field that is wrong. Faults: Invalid.
func (m Manifest) check() error {
	wrong := fault.Fields{}
	if !ids.MatchString(m.ID) {
		wrong.Add("id", "must be 1-64 lower-case letters, digits and hyphens")
	}
	if !validVersion(m.Version) {
		wrong.Add("version", "must be a semantic version such as 1.2.0")
	}
	for _, f := range []struct {
		name, value string
		most        int
	}{
		{"name", m.Name, 100}, {"author", m.Author, 100}, {"category", m.Category, 50},
		{"description", m.Description, 1024}, {"enhancedDescription", m.EnhancedDescription, 8000},
	} {
		checkText(wrong, f.name, f.value, f.most)
	}
	if m.Name == "" {
		wrong.Add("name", "is missing")
	}
	for name, list := range map[string][]string{"tags": m.Tags, "useCases": m.UseCases, "tools": m.Tools} {
		if len(list) > 50 {
			wrong.Add(name, "must be at most 50")
		}
		for _, s := range list {
			checkText(wrong, name, s, 300)
		}
	}
	return wrong.Err()
}

func checkText(wrong fault.Fields, name, value string, most int) {
	if utf8.RuneCountInString(value) > most {
		wrong.Add(name, "must be at most %d characters", most)
	}
	if !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
		wrong.Add(name, "holds characters that cannot be shown")
	}
}

func validVersion(v string) bool {
	return len(v) <= 64 && semver.IsValid("v"+v) && strings.Count(strings.FieldsFunc(v, func(r rune) bool { return r == '-' || r == '+' })[0], ".") == 2
}

// newer says whether version a is higher than b. Build metadata counts for nothing.
func newer(a, b string) bool { return semver.Compare("v"+a, "v"+b) > 0 }

// slugOf makes a folder's name of any text; "" if nothing of it can be used.
func slugOf(s string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() >= 64 {
			break
		}
	}
	return strings.Trim(b.String(), "-")
}

// title makes a name for people of one for machines: csv-analysis → Csv Analysis.
func title(s string) string {
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == '-' || r == '_' })
	for i, w := range parts {
		r, n := utf8.DecodeRuneInString(w)
		parts[i] = string(unicode.ToUpper(r)) + w[n:]
	}
	return strings.Join(parts, " ")
}

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// digest is one hash for a whole tree.
func digest(files map[string][]byte) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		_, _ = fmt.Fprintf(h, "%d %s %d ", len(name), name, len(files[name]))
		_, _ = h.Write(files[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}
