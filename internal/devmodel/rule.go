package devmodel

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Rule answers the requests it knows; false leaves them to the next rule. Rules
// are asked concurrently. A rule that must hold a stream open uses Reply.Gate
// and does not block itself.
type Rule func(Request) (Reply, bool)

// Reply is what the model says.
type Reply struct {
	Chunks []string   // text, one piece per event of the stream
	Calls  []ToolCall // after the text
	Usage  *Usage     // nil: words are counted as tokens

	// Delay passes before each chunk.
	Delay time.Duration
	// Gate, if set, is received from before each chunk and once more before the
	// end: send to let one step happen, close to let all. The stream's first
	// event goes out before the first step.
	Gate <-chan struct{}

	// Status, if not 0, is answered in place of all the rest, with Error as its
	// message. Reason is the provider's name for the error, made up if empty.
	Status int
	Error  string
	Reason string
	// Drop cuts the connection after the chunks, without an end.
	Drop bool
}

// Usage is what a reply is said to have cost, in tokens. Input leaves out what
// was read from or written to the cache.
type Usage struct {
	Input, Output, CacheRead, CacheWrite int64
}

// Say is a reply that streams text word by word.
func Say(format string, args ...any) Reply {
	return Reply{Chunks: words(fmt.Sprintf(format, args...))}
}

// Fail is a reply that refuses with an HTTP status.
func Fail(status int, format string, args ...any) Reply {
	return Reply{Status: status, Error: fmt.Sprintf(format, args...)}
}

// Always answers everything with the same reply.
func Always(reply Reply) Rule {
	return func(Request) (Reply, bool) { return reply, true }
}

// When answers with the reply if the last user message contains text and no
// tool result waits for an answer.
func When(text string, reply Reply) Rule {
	return func(r Request) (Reply, bool) {
		return reply, len(r.ToolResults()) == 0 && strings.Contains(r.LastUser(), text)
	}
}

// OnlyKey refuses every key but one, as a provider does.
func OnlyKey(key string) Rule {
	return func(r Request) (Reply, bool) {
		return Fail(401, "invalid key"), r.Key.Reveal() != key
	}
}

// DefaultRules are the rules of a model without a script. The last one answers
// everything.
func DefaultRules() []Rule {
	return []Rule{reportTools, callTool, echo, count, fail, introduce}
}

// reportTools says what the tools answered, so that a call can be followed.
func reportTools(r Request) (Reply, bool) {
	var said []string
	for _, m := range r.ToolResults() {
		said = append(said, fmt.Sprintf("The tool %s answered: %s", r.CallName(m.CallID), m.Text))
	}
	return Say("%s", strings.Join(said, "\n")), len(said) > 0
}

var callPattern = regexp.MustCompile(`(?s)\bcall ([A-Za-z0-9_-]+) (\{.*\})`)

// callTool obeys "call NAME {json}", if there is such a tool.
func callTool(r Request) (Reply, bool) {
	m := callPattern.FindStringSubmatch(r.LastUser())
	if m == nil || !r.HasTool(m[1]) || !json.Valid([]byte(m[2])) {
		return Reply{}, false
	}
	return Reply{Calls: []ToolCall{{Name: m[1], Input: m[2]}}}, true
}

var echoPattern = regexp.MustCompile(`(?s)\becho (.+)`)

// echo obeys "echo TEXT".
func echo(r Request) (Reply, bool) {
	m := echoPattern.FindStringSubmatch(r.LastUser())
	if m == nil {
		return Reply{}, false
	}
	return Say("%s", m[1]), true
}

var countPattern = regexp.MustCompile(`\bcount to (\d{1,4})\b`)

// count obeys "count to N", which makes a stream of any length.
func count(r Request) (Reply, bool) {
	m := countPattern.FindStringSubmatch(r.LastUser())
	if m == nil {
		return Reply{}, false
	}
	last, err := strconv.Atoi(m[1])
	if err != nil {
		return Reply{}, false
	}
	reply := Reply{Chunks: make([]string, 0, last)}
	for i := 1; i <= last; i++ {
		reply.Chunks = append(reply.Chunks, strconv.Itoa(i)+" ")
	}
	return reply, true
}

var failPattern = regexp.MustCompile(`\bfail with ([45]\d\d)\b`)

// fail obeys "fail with STATUS", to see what a caller makes of it.
func fail(r Request) (Reply, bool) {
	m := failPattern.FindStringSubmatch(r.LastUser())
	if m == nil {
		return Reply{}, false
	}
	status, err := strconv.Atoi(m[1])
	return Fail(status, "The scripted model was asked to fail."), err == nil
}

// introduce never pretends to be more than a script.
func introduce(r Request) (Reply, bool) {
	return Say("I am agento's scripted model, not a real one: I answer by rules, so that you can try everything without a provider key. You said: %s",
		r.LastUser()), true
}

// words cuts a text after each space; joined, the pieces are the text again.
func words(text string) []string { return strings.SplitAfter(text, " ") }
