package modelturn

import (
	"strings"
	"time"
	"unicode/utf8"
)

// What is kept of the steps of one turn.
const (
	maxSteps    = 100
	maxStepText = 8 << 10 // bytes of an input, or of an output
)

// Step is a call of a tool.
type Step struct {
	Name   string
	Input  string // its arguments, as JSON
	Output string // what it returned; empty until Ended
	Began  time.Time
	Ended  time.Time // when the model was told the output; zero: not yet
	Cut    bool      // Input or Output was longer
}

// Steps returns the calls of tools so far, in their order. Of many, the later ones are left out.
func (t *Turn) Steps() []Step {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Step(nil), t.steps...)
}

// addStepLocked keeps a call of a tool.
func (t *Turn) addStepLocked(name, input string) {
	if len(t.steps) < maxSteps {
		s := Step{Name: printable(name), Began: time.Now()}
		s.Input, s.Cut = shorten(input)
		t.steps = append(t.steps, s)
	}
}

// AwaitsResults reports whether the model waits for the results of tools.
func (t *Turn) AwaitsResults() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.steps) > 0 && t.steps[len(t.steps)-1].Ended.IsZero()
}

// Results keeps what tools have returned, in the order of the calls.
func (t *Turn) Results(outputs []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := len(t.steps)
	for at > 0 && t.steps[at-1].Ended.IsZero() {
		at--
	}
	for i := range min(len(outputs), len(t.steps)-at) {
		s := &t.steps[at+i]
		var cut bool
		s.Output, cut = shorten(outputs[i])
		s.Ended, s.Cut = time.Now(), s.Cut || cut
	}
}

// dropStepsLocked forgets the calls of tools of an answer that the gateway has not got whole: it
// makes the call again.
func (t *Turn) dropStepsLocked(c *Call) {
	if c.ended && c.result.Stop != Tools && c.steps < len(t.steps) {
		t.steps = t.steps[:c.steps]
	}
}

func shorten(text string) (string, bool) {
	text = strings.ToValidUTF8(text, string(utf8.RuneError))
	if len(text) <= maxStepText {
		return text, false
	}
	return cut(text, maxStepText), true
}
