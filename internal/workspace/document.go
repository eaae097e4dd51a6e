package workspace

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"unicode/utf8"

	"agento.host/agento/internal/fault"
)

// Document names a document as its path in the agent's workspace.
type Document string

// The documents that every agent has.
const (
	Soul     Document = "SOUL.md"
	Identity Document = "IDENTITY.md"
	Workflow Document = "WORKFLOW.md"
)

// The limits of documents.
const (
	// MaxCharacters bounds SOUL.md and IDENTITY.md, which are part of every prompt:
	// about 5,000 tokens of English. It is OpenClaw's default, beyond which it removes
	// the middle of a file. As in OpenClaw, characters are UTF-16 units: an emoji counts
	// as two.
	MaxCharacters = 20_000
	// MaxWorkflowBytes bounds WORKFLOW.md.
	MaxWorkflowBytes = 128 << 10
	// MaxRuleBytes bounds a rule.
	MaxRuleBytes = 64 << 10
	// MaxRules is how many rules an agent may have.
	MaxRules = 100
)

const (
	rulesDir = "rules"
	suffix   = ".md"
)

var ruleName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// RuleDocument returns the document of a rule. The name may end with .md.
// Faults: Invalid.
func RuleDocument(name string) (Document, error) {
	name = strings.TrimSuffix(name, suffix)
	if !ruleName.MatchString(name) {
		return "", fault.Fields{"name": "must have 1 to 64 letters, digits, hyphens and underscores, with or without .md"}.Err()
	}
	return Document(rulesDir + "/" + name + suffix), nil
}

// Rule returns the name of a rule without folder and .md, and an empty string for other
// documents.
func (d Document) Rule() string {
	if !d.isRule() {
		return ""
	}
	return strings.TrimSuffix(strings.TrimPrefix(string(d), rulesDir+"/"), suffix)
}

func (d Document) isRule() bool { return strings.HasPrefix(string(d), rulesDir+"/") }

// field returns the field of requests that holds the document.
func (d Document) field() string {
	switch d {
	case Soul:
		return "soulMd"
	case Identity:
		return "identityMd"
	case Workflow:
		return "workflowMd"
	}
	return "content"
}

// maxBytes returns the most bytes that a valid document can have.
func (d Document) maxBytes() int64 {
	switch {
	case d == Workflow:
		return MaxWorkflowBytes
	case d.isRule():
		return MaxRuleBytes
	}
	return 3 * MaxCharacters // a UTF-16 unit takes at most three bytes of UTF-8
}

// checkContent adds to fields what is wrong with a document's content.
func checkContent(fields fault.Fields, d Document, content string) {
	if reason := d.problem(content); reason != "" {
		fields.Add(d.field(), "%s", reason)
	}
}

// problem returns what is wrong with a content, empty if nothing.
func (d Document) problem(content string) string {
	if problem := d.textProblem(content); problem != "" {
		return problem
	}
	return d.lengthProblem(content)
}

// textProblem is problem without the length.
func (d Document) textProblem(content string) string {
	switch {
	case !utf8.ValidString(content):
		return "must be valid UTF-8"
	case strings.ContainsRune(content, 0):
		return "must not contain NUL characters"
	case d.isRule() && fault.IsBlank(content):
		return "must not be empty; delete the rule to remove it"
	case d != Workflow && fault.IsBlank(content):
		return "must not be empty"
	}
	return ""
}

func (d Document) lengthProblem(content string) string {
	switch {
	case d == Workflow && len(content) > MaxWorkflowBytes:
		return "must have at most 131072 bytes (128 KiB); move procedures into rules"
	case d.isRule() && len(content) > MaxRuleBytes:
		return "must have at most 65536 bytes (64 KiB); split the rule in two"
	case (d == Soul || d == Identity) && utf16Length(content) > MaxCharacters:
		return "must have at most 20000 characters (an emoji counts as two): all of it is part of every prompt, and the model would not receive more; move procedures into WORKFLOW.md or rules"
	}
	return ""
}

func utf16Length(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xFFFF {
			n++
		}
	}
	return n
}

// checkExpectedHash returns nil if hash is empty or that of the current version.
// Faults: Conflict.
func checkExpectedHash(current Version, hash string) error {
	if hash == "" || strings.EqualFold(hash, current.Hash) {
		return nil
	}
	return fault.New(fault.Conflict, "%s was changed meanwhile. Read it again, then send its current hash as expectedHash.", current.Document).
		With("currentHash", current.Hash)
}

func hashOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}
