// Package agentarchive writes an agent into one file and makes an agent of such a file: its
// record, its documents with every version, its skills, its knowledge and its sessions. It
// holds no secret.
//
// An archive is a gzipped tar file. Its members are JSON with names that are fixed but for a
// number, in this order:
//
//	manifest.json           the format, its version and the record of the agent
//	documents/000001.jsonl  versions of documents, one a line
//	skills/000001.json      a skill with its files
//	knowledge/000001.jsonl  texts, one a line
//	sessions/000001.jsonl   sessions, one a line
//	messages/000001.jsonl   messages, one a line
//	end.json                how much of each there is
//
// Whoever has an archive can write anything into it. So a member that is not expected is
// refused, and everything is checked as if it came in a request.
package agentarchive

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/knowledge"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/skill"
	"agento.host/agento/internal/workspace"
)

const (
	formatName    = "agento-agent"
	formatVersion = 1

	manifestName = "manifest.json"
	endName      = "end.json"
)

// ContentType is the media type of an archive.
const ContentType = "application/gzip"

// Limits of an archive that is read.
const (
	// MaxBytes is the most bytes of an archive, as it is.
	MaxBytes = 24 << 20
	// maxPlainBytes is the most bytes that it has unpacked.
	maxPlainBytes = 256 << 20
	// maxMember is the most bytes of a member.
	maxMember = 8 << 20
	// maxManifest is the most bytes of the first and the last member.
	maxManifest = 256 << 10
)

// What a member of a section that is written has at most, unless it is a single line.
const writtenMember = 512 << 10

// section is a kind of member.
type section struct {
	name     string
	single   bool // a member is one value, and not lines
	maxLine  int  // bytes
	maxCount int  // of the lines in all members
}

// The sections, in their order.
const (
	documents = iota
	skills
	texts
	sessions
	messages
)

var sections = []section{
	documents: {name: "documents", maxLine: 1 << 20, maxCount: 20_000},
	skills:    {name: "skills", single: true, maxLine: maxMember, maxCount: 100},
	texts:     {name: "knowledge", maxLine: 128 << 10, maxCount: 20_000},
	sessions:  {name: "sessions", maxLine: 16 << 10, maxCount: 10_000},
	messages:  {name: "messages", maxLine: maxMember, maxCount: 200_000},
}

// member returns the name of the member of a section with a number from 1 on.
func (s section) member(number int) string {
	extension := "jsonl"
	if s.single {
		extension = "json"
	}
	return fmt.Sprintf("%s/%06d.%s", s.name, number, extension)
}

// Parts are the parts of an agent that an archive can lack.
type Parts struct{ Skills, Knowledge, Sessions bool }

// AllParts returns every part.
func AllParts() Parts { return Parts{true, true, true} }

// Without returns the parts without those that are named: skills, knowledge or sessions.
// Faults: Invalid.
func (p Parts) Without(names ...string) (Parts, error) {
	for _, name := range names {
		switch name {
		case "skills":
			p.Skills = false
		case "knowledge":
			p.Knowledge = false
		case "sessions":
			p.Sessions = false
		default:
			return p, fault.Fields{"without": "must name skills, knowledge or sessions, separated by commas"}.Err()
		}
	}
	return p, nil
}

// Manifest is the first member of an archive.
type Manifest struct {
	Format     string    `json:"format"`
	Version    int       `json:"version"`
	ExportedAt time.Time `json:"exportedAt"`
	By         string    `json:"by"` // the version of agento
	Agent      Record    `json:"agent"`
}

// Record is the record of an agent.
type Record struct {
	Name      string         `json:"name"`
	Region    string         `json:"region"`
	AvatarURL string         `json:"avatarUrl"`
	Config    map[string]any `json:"config"`
	Secrets   []string       `json:"secrets"` // their names: what the importer has to set
}

// Contents is how much of each kind an archive has.
type Contents struct {
	Documents int `json:"documents"` // versions
	Skills    int `json:"skills"`
	Knowledge int `json:"knowledge"` // texts, each counted once for every source
	Sessions  int `json:"sessions"`
	Messages  int `json:"messages"`
	Damaged   int `json:"damaged"` // what could not be read, and was left out
}

// of returns the count of a section.
func (c *Contents) of(s int) *int {
	return []*int{documents: &c.Documents, skills: &c.Skills, texts: &c.Knowledge, sessions: &c.Sessions, messages: &c.Messages}[s]
}

// versionLine is a version of a document.
type versionLine struct {
	Document     workspace.Document `json:"document"`
	Version      int64              `json:"version"`
	Content      string             `json:"content"`
	Deleted      bool               `json:"deleted"`
	SetAside     bool               `json:"setAside"`
	RestoredFrom int64              `json:"restoredFrom"`
	At           time.Time          `json:"at"`
}

// skillMember is a skill.
type skillMember struct {
	SkillID string      `json:"skillId"`
	Name    string      `json:"name"`
	Version string      `json:"version"`
	Trust   skill.Trust `json:"trustLevel"`
	Enabled bool        `json:"enabled"`
	Files   []skillFile `json:"files"`
}

type skillFile struct {
	Path    string `json:"path"`
	Content []byte `json:"content"` // base64
}

// textLine is a text of knowledge as a source has it.
type textLine struct {
	Text     string         `json:"text"`
	Source   string         `json:"source"`
	Metadata map[string]any `json:"metadata"`
}

// sessionLine is a session.
type sessionLine struct {
	Number    int64          `json:"number"`
	Entry     openclaw.Entry `json:"entry"`
	PeerID    string         `json:"peerId"`
	Channel   string         `json:"channel"`
	Name      string         `json:"name"`
	StartedAt time.Time      `json:"startedAt"`
}

// messageLine is a message.
type messageLine struct {
	Session int64     `json:"session"` // the number of its session
	Role    string    `json:"role"`
	Content string    `json:"content"`
	At      time.Time `json:"at"`
}

func newVersionLine(v workspace.ArchivedVersion) versionLine {
	return versionLine{v.Document, v.Number, v.Content, v.Deleted, v.SetAside, v.RestoredFrom, v.At}
}

func (l versionLine) version() workspace.ArchivedVersion {
	return workspace.ArchivedVersion{Document: l.Document, Number: l.Version, Content: l.Content, Deleted: l.Deleted, SetAside: l.SetAside, RestoredFrom: l.RestoredFrom, At: l.At}
}

func newSkillMember(a skill.ArchivedSkill) skillMember {
	m := skillMember{SkillID: a.SkillID, Name: a.Name, Version: a.Version, Trust: a.Trust, Enabled: a.Enabled, Files: []skillFile{}}
	for path, content := range a.Files {
		m.Files = append(m.Files, skillFile{path, content})
	}
	slices.SortFunc(m.Files, func(a, b skillFile) int { return strings.Compare(a.Path, b.Path) })
	return m
}

// skill returns the skill of a member. Faults: Invalid, if it has a path twice or too many
// files.
func (m skillMember) skill() (skill.ArchivedSkill, error) {
	a := skill.ArchivedSkill{SkillID: m.SkillID, Name: m.Name, Version: m.Version, Trust: m.Trust, Enabled: m.Enabled, Files: make(map[string][]byte, len(m.Files))}
	if len(m.Files) > skill.MaxFiles {
		return a, fault.Fields{"files": fmt.Sprintf("must be at most %d", skill.MaxFiles)}.Err()
	}
	for _, f := range m.Files {
		if _, twice := a.Files[f.Path]; twice {
			return a, fault.Fields{"files": fmt.Sprintf("have the path %.80q twice", f.Path)}.Err()
		}
		a.Files[f.Path] = f.Content
	}
	return a, nil
}

func newTextLine(c knowledge.Chunk) textLine { return textLine{c.Text, c.Source, c.Metadata} }

func (l textLine) chunk() knowledge.Chunk { return knowledge.Chunk(l) }

func newSessionLine(v chat.ArchivedSession) sessionLine { return sessionLine(v) }

func (l sessionLine) session() chat.ArchivedSession { return chat.ArchivedSession(l) }

func newMessageLine(m chat.ArchivedMessage) messageLine { return messageLine(m) }

func (l messageLine) message() chat.ArchivedMessage { return chat.ArchivedMessage(l) }
