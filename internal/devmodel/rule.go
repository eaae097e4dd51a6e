package devmodel

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Rule answers a request, or returns false to leave it to the next rule. The model
// calls rules concurrently. A rule that must hold a stream open uses Reply.Gate and
// does not block itself.
type Rule func(Request) (Reply, bool)

// Reply is the model's answer to a request.
type Reply struct {
	Chunks []string   // text, one piece for each event of the stream
	Calls  []ToolCall // after the text
	Usage  *Usage     // nil: words are counted as tokens

	// Delay is the pause before each chunk.
	Delay time.Duration
	// Gate, if set, is received from before each chunk and once more before the end:
	// send a value to allow one step, close it to allow all. The stream's first event
	// is sent before the first step.
	Gate <-chan struct{}

	// Status, if not 0, is an HTTP error that is answered instead of the above, with
	// Error as its message. Reason is the provider's name for the error; empty means
	// the usual one for Status.
	Status int
	Error  string
	Reason string
	// Stop is the provider's name for the reason that the model stopped for; empty means that
	// it has said everything, or waits for tools.
	Stop string
	// Drop breaks the connection after the chunks, without an end of the stream.
	Drop bool
}

// Usage is the number of tokens that a reply reports. Input is without the tokens that
// were read from or written to the cache.
type Usage struct {
	Input, Output, CacheRead, CacheWrite int64
}

// Say returns a reply that streams text word by word.
func Say(format string, args ...any) Reply {
	return Reply{Chunks: splitWords(fmt.Sprintf(format, args...))}
}

// Fail returns a reply with an HTTP error.
func Fail(status int, format string, args ...any) Reply {
	return Reply{Status: status, Error: fmt.Sprintf(format, args...)}
}

// Always returns a rule that answers every request with the same reply.
func Always(reply Reply) Rule {
	return func(Request) (Reply, bool) { return reply, true }
}

// When returns a rule that answers with the reply if the last user message contains
// text and no tool result has to be answered.
func When(text string, reply Reply) Rule {
	return func(r Request) (Reply, bool) {
		return reply, len(r.ToolResults()) == 0 && strings.Contains(r.LastUser(), text)
	}
}

// OnlyKey returns a rule that rejects every key but one, as a provider does.
func OnlyKey(key string) Rule {
	return func(r Request) (Reply, bool) {
		return Fail(401, "invalid key"), r.Key.Reveal() != key
	}
}

// defaultRules returns the rules of a model without a script. The last one answers
// every request.
func defaultRules() []Rule {
	return []Rule{reportToolResults, callTool, echo, count, fail, introduce}
}

// reportToolResults answers with the results of the tools.
func reportToolResults(r Request) (Reply, bool) {
	var lines []string
	for _, m := range r.ToolResults() {
		lines = append(lines, fmt.Sprintf("The tool %s answered: %s", r.CallName(m.CallID), m.Text))
	}
	return Say("%s", strings.Join(lines, "\n")), len(lines) > 0
}

var callPattern = regexp.MustCompile(`(?s)\bcall ([A-Za-z0-9_-]+) (\{.*\})`)

// callTool answers "call NAME {json}" with a call, if there is such a tool.
func callTool(r Request) (Reply, bool) {
	m := callPattern.FindStringSubmatch(r.LastUser())
	if m == nil || !r.HasTool(m[1]) || !json.Valid([]byte(m[2])) {
		return Reply{}, false
	}
	return Reply{Calls: []ToolCall{{Name: m[1], Input: m[2]}}}, true
}

var echoPattern = regexp.MustCompile(`(?s)\becho (.+)`)

// echo answers "echo TEXT" with TEXT.
func echo(r Request) (Reply, bool) {
	m := echoPattern.FindStringSubmatch(r.LastUser())
	if m == nil {
		return Reply{}, false
	}
	return Say("%s", m[1]), true
}

var countPattern = regexp.MustCompile(`\bcount to (\d{1,4})\b`)

// count answers "count to N" with a stream of N pieces.
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

// fail answers "fail with STATUS" with that HTTP error.
func fail(r Request) (Reply, bool) {
	m := failPattern.FindStringSubmatch(r.LastUser())
	if m == nil {
		return Reply{}, false
	}
	status, err := strconv.Atoi(m[1])
	return Fail(status, "The scripted model was asked to fail."), err == nil
}

// introduce answers every request, and says that the model is a script.
func introduce(r Request) (Reply, bool) {
	return Say("I am agento's scripted model, not a real one: I answer by rules, so that you can try everything without a provider key. You said: %s",
		r.LastUser()), true
}

// splitWords splits a text after each space. The pieces joined are the text.
func splitWords(text string) []string { return strings.SplitAfter(text, " ") }
