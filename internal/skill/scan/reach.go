package scan

import (
	_ "embed" // for inert.txt
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// Reach is what a skill may make an agent do. Nothing dangerous has to be found for it: a
// scanner that cannot run a program cannot know what it does, and no list of patterns
// knows every way to write an instruction. So a file counts as harmless only if it can be
// proved to be inert, and everything else limits the score.
type Reach string

// The kinds of reach, most serious first.
const (
	Code         Reach = "code"         // it holds code, or text that looks like code
	Network      Reach = "network"      // it names addresses, or tools that connect to them
	Instructions Reach = "instructions" // its text may tell the agent to do anything
)

// MaxScore is the highest score of a skill with a reach. It is above the default threshold,
// so that the findings alone decide whether a skill can be installed by default.
const MaxScore = 60

func (r Reach) verdict() string {
	switch r {
	case Code:
		return "runs code: read it"
	case Network:
		return "uses the network: read it"
	}
	return "instructs the agent: read it"
}

// verdictInert is the verdict on a skill without reach.
const verdictInert = "inert: nothing in it can make an agent run, read or send anything"

// addReach adds the reach of a file, with a finding that shows it.
func (s *scanner) addReach(name string, data []byte) {
	limit := max(0, maxClassified-s.classified)
	s.classified += len(data)
	reach, line, text := fileReach(name, data, limit)
	if reach == "" {
		return
	}
	s.reach = append(s.reach, reach)
	message := map[Reach]string{
		Code:         "It may run code. The scanner does not know what that does: read it.",
		Network:      "It may connect to other machines: read it.",
		Instructions: "The scanner cannot tell what this text makes an agent do: read it.",
	}[reach]
	s.add("reach-"+string(reach), Info, name, line, message, text)
}

// worstReach returns the most serious reach; empty if there is none.
func worstReach(all []Reach) Reach {
	for _, r := range []Reach{Code, Network, Instructions} {
		if slices.Contains(all, r) {
			return r
		}
	}
	return ""
}

// maxClassified is how many bytes of a skill are searched for what kind of reach it has.
// That takes some milliseconds; what comes after has a reach, too.
const maxClassified = 64 << 10

// fileReach returns the reach of a file, and the line that shows it; line 0 means the
// whole file. It searches the first limit bytes for the kind of the reach.
func fileReach(name string, data []byte, limit int) (reach Reach, line int, text string) {
	reach, line, text = contentReach(name, data, limit)
	// A model that lists the files reads their names, too.
	if stem := strings.ReplaceAll(strings.TrimSuffix(name, path.Ext(name)), "/", " "); reach == "" && !isInert(stem) {
		return Instructions, 0, name
	}
	return reach, line, text
}

func contentReach(name string, data []byte, limit int) (reach Reach, line int, text string) {
	if kind, sev := binaryKind(data); kind != "" {
		if sev == Info && hasExtension(name, ".png", ".jpg", ".jpeg", ".gif", ".webp", ".woff2") {
			return "", 0, "" // an image or a font is read by nobody; what runs it nevertheless is code or an instruction itself
		}
		return Code, 0, ""
	}
	if !hasExtension(name, ".md", ".markdown", ".txt", ".csv", ".tsv") {
		return Code, 0, ""
	}
	return textReach(string(data), limit)
}

func hasExtension(name string, extensions ...string) bool {
	return slices.Contains(extensions, strings.ToLower(path.Ext(name)))
}

var (
	codeText    = literal("(?i)```|~~~|[$\\\\{}]|&&|\\S\\s*\\|\\s*\\w+\\s*$|\\w\\(|^#!|^( {4}|\\t)\\S|\\b(exec|execute|eval|shell|bash|zsh|sh|powershell|cmd|python[0-9.]*|node|perl|ruby|php|awk|sed|sudo|script|scripts|command|commands|terminal|binary|program|process|compile|install)\\b")
	codeSpan    = literal(`[|;&><(){}]|\s-|^\./`)
	networkText = literal(`(?i)[a-z][a-z0-9+.-]*://|\bwww\.|\bmailto:|\b[a-z0-9-]+\.(com|org|net|io|dev|app|me|co|ai|de|cn|ru|uk|eu|info|site|xyz)\b|\b(\d{1,3}\.){3}\d{1,3}\b|\b(web_?fetch|fetch|http|https|url|urls|curl|wget|webhook|download|upload|socket|api|internet|online|website|e-?mail)\b`)
)

// textReach returns the reach of a text: none, if every word of it is one of inert.txt.
// The expressions only choose between the kinds of reach; what they miss has one, too.
func textReach(text string, limit int) (reach Reach, line int, at string) {
	text = strings.TrimPrefix(text, "\uFEFF")
	if isInert(text) {
		return "", 0, ""
	}
	reach = Instructions
	for i, l := range strings.Split(text[:min(len(text), limit)], "\n") {
		switch {
		case codeText.get().MatchString(l) || hasCodeSpan(l):
			return Code, i + 1, l
		case reach == Instructions && networkText.get().MatchString(l):
			reach, line, at = Network, i+1, l
		case line == 0 && !isInert(l):
			line, at = i+1, l
		}
	}
	return reach, line, at
}

// hasCodeSpan reports whether text between backticks in a line looks like a command.
func hasCodeSpan(line string) bool {
	for i, span := range strings.Split(line, "`") {
		isAddress := strings.Contains(span, "://") && !strings.ContainsAny(span, " |;")
		if i%2 == 1 && !isAddress && codeSpan.get().MatchString(span) {
			return true
		}
	}
	return false
}

//go:embed inert.txt
var inertList string

// inertWords are ordinary words about speaking and writing. None of them names a thing
// that an agent has or can reach, or a way to read, send, run or hide something, so that
// no sentence of them can ask for that.
var inertWords = func() map[string]bool {
	words := map[string]bool{}
	for _, w := range strings.Fields(inertList) {
		words[w] = true
	}
	return words
}()

const (
	inertPunctuation = " \n\r.,;:!?()'\"-#*_’“”–—…•"
	maxNumbers       = 12 // more could be the codes of letters
	maxDigits        = 4
	maxInertBytes    = 64 << 10
)

// isInert reports whether a text consists of nothing but inertWords, a few numbers and
// punctuation. Words of other languages, names, code and addresses do not.
func isInert(text string) bool {
	if len(text) > maxInertBytes || !utf8.ValidString(text) {
		return false
	}
	numbers := 0
	for _, word := range strings.FieldsFunc(strings.ToLower(strings.ReplaceAll(text, "’", "'")), isSeparator) {
		switch {
		case inertWords[word] || inertWords[strings.Trim(word, "'")]:
		case strings.Trim(word, "0123456789") == "" && len(word) <= maxDigits:
			if numbers++; numbers > maxNumbers {
				return false
			}
		case strings.Trim(word, "'") == "":
		default:
			return false
		}
	}
	return true
}

// isSeparator reports whether r stands between words. Runes that are neither separators
// nor part of an inert word make a text not inert.
func isSeparator(r rune) bool { return r != '\'' && strings.ContainsRune(inertPunctuation, r) }
