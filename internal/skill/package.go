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

// Trust is the trust level of a skill: who is responsible for its content.
type Trust string

// The trust levels.
const (
	Verified Trust = "verified" // the catalog of this installation
	ClawHub  Trust = "clawhub"  // the community registry
	Custom   Trust = "custom"   // the account itself: an upload or a GitHub address
)

// Limits of a skill.
const (
	MaxFiles     = 256
	MaxFileBytes = 1 << 20
	MaxBytes     = 2 << 20 // of all files together
	maxSkillMD   = 256_000 // OpenClaw reads no longer file
)

// mainFile is the file that makes a folder a skill.
const mainFile = "SKILL.md"

// Manifest describes a skill to people.
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
	Tools               []string `yaml:"tools" json:"tools"`           // tools of the agent that the skill needs
	Hosts               []string `yaml:"hosts" json:"hosts,omitempty"` // hosts that the skill connects to; see ParseHost
}

// Package is one version of a skill with its files.
type Package struct {
	Manifest
	Trust   Trust
	Source  string            // where an upgrade finds the next version; see Installed.Source
	Pin     string            // commit, or hash of the archive; empty if a version never changes
	Files   map[string][]byte // path in the skill's folder → content
	Digest  string            // SHA-256 of all paths and contents
	Report  scan.Report
	label   string // the name in SKILL.md, which a model uses
	skillID string // the skillId of an order that installs it
}

var idPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)

// newPackage checks and scans the files of a skill. Fields that m leaves out are filled
// from SKILL.md; more are findings of its source. Faults: Invalid, TooLarge.
func newPackage(m Manifest, trust Trust, files map[string][]byte, more ...scan.Finding) (Package, error) {
	if err := checkFiles(files); err != nil {
		return Package{}, err
	}
	front, err := ParseFrontmatter(files[mainFile])
	if err != nil {
		return Package{}, err
	}
	m.setDefaults(front)
	if err := m.validate(); err != nil {
		return Package{}, err
	}
	report := scan.Files(files).With(slices.Concat(front.findings(), more)...)
	return Package{Manifest: m, Trust: trust, Files: files, Digest: digestFiles(files), Report: report, label: front.Name}, nil
}

// checkFiles refuses files that the database, a file system or OpenClaw does not accept.
// Faults: Invalid, TooLarge.
func checkFiles(files map[string][]byte) error {
	total := 0
	wrong := fault.Fields{}
	folded := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		data := files[name]
		total += len(data)
		if err := unpack.CheckPath(name); err != nil {
			wrong.Add("files", "have an invalid path: %v", err)
		}
		if len(data) > MaxFileBytes {
			return fault.New(fault.TooLarge, "The file %s has %d bytes; at most %d are allowed.", unpack.Quote(name), len(data), MaxFileBytes)
		}
		checkCollision(folded, name, wrong)
	}
	switch main, ok := files[mainFile]; {
	case len(files) > MaxFiles || total > MaxBytes:
		return fault.New(fault.TooLarge, "The skill has %d files and %d bytes; at most %d files and %d bytes are allowed.", len(files), total, MaxFiles, MaxBytes)
	case !ok:
		wrong.Add("files", "have no SKILL.md at the top level")
	case len(main) > maxSkillMD:
		return fault.New(fault.TooLarge, "SKILL.md has %d bytes; at most %d are allowed.", len(main), maxSkillMD)
	case !utf8.Valid(main):
		wrong.Add("files", "have a SKILL.md that is not UTF-8 text")
	}
	return wrong.Err()
}

// checkCollision adds a path to folded, together with its folders, and adds to wrong if a
// file system may treat two of them as one path.
func checkCollision(folded map[string]string, name string, wrong fault.Fields) {
	if before, ok := folded[unpack.Fold(name)]; ok {
		wrong.Add("files", "have %s and %s, which some file systems treat as one path", unpack.Quote(strings.TrimSuffix(before, "/")), unpack.Quote(name))
	}
	folded[unpack.Fold(name)] = name
	for dir := path.Dir(name); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if before, ok := folded[unpack.Fold(dir)]; ok && before != dir+"/" {
			wrong.Add("files", "have %s and %s, which some file systems treat as one path", unpack.Quote(strings.TrimSuffix(before, "/")), unpack.Quote(dir))
		}
		folded[unpack.Fold(dir)] = dir + "/"
	}
}

// setDefaults sets the fields that the manifest leaves out from SKILL.md.
func (m *Manifest) setDefaults(f Frontmatter) {
	m.ID = cmp.Or(m.ID, slugify(f.Name))
	m.Name = cmp.Or(strings.TrimSpace(m.Name), title(f.Name))
	m.Description = cmp.Or(strings.TrimSpace(m.Description), f.Description)
	m.EnhancedDescription = cmp.Or(strings.TrimSpace(m.EnhancedDescription), m.Description)
	m.Category = cmp.Or(m.Category, "other")
	if len(m.Tools) == 0 {
		m.Tools = f.Declared.Tools
	}
	if len(m.Hosts) == 0 {
		m.Hosts = f.Declared.Hosts
	}
	for _, list := range []*[]string{&m.Tags, &m.UseCases, &m.Tools} {
		if *list == nil {
			*list = []string{}
		}
	}
}

// validate checks every field. Faults: Invalid, with each wrong field.
func (m Manifest) validate() error {
	wrong := fault.Fields{}
	if !idPattern.MatchString(m.ID) {
		wrong.Add("id", "must be 1-64 lower-case letters, digits and hyphens")
	}
	if !validVersion(m.Version) {
		wrong.Add("version", "must be a semantic version such as 1.2.0")
	}
	for _, f := range []struct {
		name, value string
		max         int
	}{
		{"name", m.Name, 100}, {"author", m.Author, 100}, {"category", m.Category, 50},
		{"description", m.Description, 1024}, {"enhancedDescription", m.EnhancedDescription, 8000},
	} {
		checkText(wrong, f.name, f.value, f.max)
	}
	if m.Name == "" {
		wrong.Add("name", "is missing")
	}
	for name, list := range map[string][]string{"tags": m.Tags, "useCases": m.UseCases, "tools": m.Tools, "hosts": m.Hosts} {
		if len(list) > 50 {
			wrong.Add(name, "must have at most 50 entries")
		}
		for _, s := range list {
			checkText(wrong, name, s, 300)
		}
	}
	for _, h := range m.Hosts {
		if _, ok := ParseHost(h); !ok {
			wrong.Add("hosts", "must be host names such as api.example.com or *.example.com, each with an optional port")
		}
	}
	return wrong.Err()
}

func checkText(wrong fault.Fields, name, value string, max int) {
	if utf8.RuneCountInString(value) > max {
		wrong.Add(name, "must be at most %d characters", max)
	}
	if !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
		wrong.Add(name, "must not contain control characters")
	}
}

// validVersion reports whether v is a complete semantic version without a leading v.
func validVersion(v string) bool {
	return len(v) <= 64 && semver.IsValid("v"+v) && strings.Count(strings.FieldsFunc(v, func(r rune) bool { return r == '-' || r == '+' })[0], ".") == 2
}

// newer reports whether version a is higher than b. Build metadata is ignored.
func newer(a, b string) bool { return semver.Compare("v"+a, "v"+b) > 0 }

// slugify returns a folder name for a text; "" if the text has no letter or digit of ASCII.
func slugify(s string) string {
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

// title returns a name for people from an id: csv-analysis → Csv Analysis.
func title(s string) string {
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == '-' || r == '_' })
	for i, w := range parts {
		r, n := utf8.DecodeRuneInString(w)
		parts[i] = string(unicode.ToUpper(r)) + w[n:]
	}
	return strings.Join(parts, " ")
}

// sha256Hex returns the SHA-256 of data, in hexadecimal.
func sha256Hex(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// digestFiles returns one SHA-256 for all paths and contents, in hexadecimal.
func digestFiles(files map[string][]byte) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		_, _ = fmt.Fprintf(h, "%d %s %d ", len(name), name, len(files[name]))
		_, _ = h.Write(files[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}
