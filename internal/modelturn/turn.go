package modelturn

import (
	"context"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"agento.host/agento/internal/trace"
)

// Stop is why a model stopped.
type Stop string

// The reasons of the providers, in one vocabulary.
const (
	Broken  Stop = ""        // the answer broke off, or there was none
	End     Stop = "end"     // the model had said everything
	Length  Stop = "length"  // the answer reached its maximum length
	Refusal Stop = "refusal" // the model refused
	Filter  Stop = "filter"  // a filter of the provider ended the answer
	Tools   Stop = "tools"   // the model waits for the results of tools
)

// Whole reports whether nothing more follows after such a call.
func (s Stop) Whole() bool { return s != Broken && s != Tools }

// Settings are what New needs.
type Settings struct {
	Limits Limits
	// Trace is the span that the model calls belong to.
	Trace trace.Parent
	// Key is the id of the API key that has sent the message; empty if none has.
	Key string
	// MaxText is the longest text, in bytes; 0 means no limit.
	MaxText int
	// Emit gets each piece of the turn's text. It is not called concurrently, and never
	// after Close has returned. Nil if nobody reads the text.
	Emit func(piece string)
	// Ended is called once, when the turn has reached a limit or MaxText: the gateway's run
	// should end now. It must not block. Nil if nobody ends it.
	Ended func(Outcome)
	// GivenUp is called when a call was given up after which the gateway's run should end
	// with an error. It must not block. Nil if nobody ends it.
	GivenUp func(*Call)
}

// Turn has the model calls of one turn. All methods may be called concurrently.
type Turn struct {
	settings Settings
	began    time.Time

	mu        sync.Mutex
	closed    bool   // guarded by mu
	current   *Call  // the latest call; guarded by mu
	spent     spent  // guarded by mu
	lastTool  string // the latest tool call; guarded by mu
	length    int    // of the text, in bytes; guarded by mu
	lastRune  rune   // of the text; guarded by mu
	limit     string // the limit that was reached; guarded by mu
	truncated bool   // guarded by mu
	opaque    bool   // an answer could not be read; guarded by mu
	usage     Usage  // guarded by mu
	steps     []Step // guarded by mu
}

// Usage is what calls have used, as the provider counts it.
type Usage struct {
	Input      int64 // without those that were read from the provider's cache
	CacheRead  int64
	CacheWrite int64 // of Input
	Output     int64 // with Reasoning
	Reasoning  int64
	Requests   int64 // that the provider has answered
	Estimated  int64 // those of Requests whose tokens are estimated
	Unpriced   int64 // those of Requests whose price is unknown
	Micros     int64 // the price of the others, in millionths of a US dollar
}

func (u *Usage) add(o Usage) {
	u.Input += o.Input
	u.CacheRead += o.CacheRead
	u.CacheWrite += o.CacheWrite
	u.Output += o.Output
	u.Reasoning += o.Reasoning
	u.Requests += o.Requests
	u.Estimated += o.Estimated
	u.Unpriced += o.Unpriced
	u.Micros += o.Micros
}

// Outcome is what a turn's calls have come to.
type Outcome struct {
	Calls     int64
	Stop      Stop   // of the latest call
	Failure   string // the reason, if the latest call failed; empty if none is known
	Timeout   bool   // the provider did not answer in time
	Limit     bool   // the turn has reached a limit
	Truncated bool   // the text has reached MaxText
	Usage     Usage
}

// Whole reports whether the caller has the whole answer: nothing that the gateway does
// afterwards can change it.
func (o Outcome) Whole() bool {
	return o.Limit || o.Truncated || o.Stop.Whole()
}

// New returns a turn that begins now.
func New(s Settings) *Turn { return &Turn{settings: s, began: time.Now()} }

// Begin begins the next model call. If the turn has reached a limit, there is no call but
// the sentence that the gateway gets as its answer.
func (t *Turn) Begin() (call *Call, final string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.limit == "" {
		if limit := t.settings.Limits.reached(t.spent, time.Since(t.began)); limit != "" {
			t.endAtLocked(limit)
		}
	}
	if t.limit != "" {
		return nil, sentence(t.limit)
	}
	c := &Call{turn: t, done: make(chan struct{})}
	if p := t.current; p != nil {
		t.dropStepsLocked(p)
		c.retried, c.broken = p.repeatedText()
	}
	c.steps = len(t.steps)
	t.current = c
	t.spent.modelCalls++
	return c, ""
}

// Expire ends the turn if it has reached its limit of time.
func (t *Turn) Expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.settings.Limits; t.limit == "" && !t.closed && l.Time > 0 && time.Since(t.began) >= l.Time {
		t.endAtLocked(inWords(l.Time))
	}
}

// endAtLocked ends the turn with the sentence about its limit.
func (t *Turn) endAtLocked(limit string) {
	t.sendPartLocked(sentence(limit))
	t.limit = limit
	if !t.closed && t.settings.Ended != nil {
		t.settings.Ended(t.outcomeLocked())
	}
}

// Waiting says what the turn waits for: the model, or the tool that it called last.
func (t *Turn) Waiting() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	name, _, _ := strings.Cut(t.lastTool, "\x00")
	if c := t.current; c == nil || !c.ended || c.result.Stop != Tools || name == "" {
		return "model"
	}
	return "tool " + printable(name)
}

// maxName is the longest name of a tool that is shown.
const maxName = 64

// printable returns a name as it can stand in a line of its own.
func printable(name string) string {
	name = strings.Map(func(c rune) rune {
		if c > ' ' && c <= '~' {
			return c
		}
		return -1
	}, name)
	return name[:min(len(name), maxName)]
}

// Silent reports whether the calls so far give no text: there was none, or their answers
// could not be read. Then what the gateway says is the turn's text.
func (t *Turn) Silent() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.current == nil || t.opaque
}

// Called reports whether the turn has called the model.
func (t *Turn) Called() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.current != nil
}

// Settle waits until the latest call has ended, or ctx: a gateway can end its run a moment before
// the answer from which it knows that has been read to its end.
func (t *Turn) Settle(ctx context.Context) {
	t.mu.Lock()
	c := t.current
	t.mu.Unlock()
	if c == nil {
		return
	}
	select {
	case <-c.done:
	case <-ctx.Done():
	}
}

// Outcome returns what the calls so far have come to.
func (t *Turn) Outcome() Outcome {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.outcomeLocked()
}

func (t *Turn) outcomeLocked() Outcome {
	o := Outcome{Calls: t.spent.modelCalls, Limit: t.limit != "", Truncated: t.truncated, Usage: t.usage}
	switch c := t.current; {
	case c == nil:
	case c.ended:
		o.Stop, o.Failure, o.Timeout = c.result.Stop, c.result.Failure, c.result.Timeout
	case c.failure != nil:
		o.Failure, o.Timeout = c.failure.Failure, c.failure.Timeout
	}
	return o
}

// Close ends the turn: what calls say afterwards is not its text. answered says that the
// gateway has taken the latest answer for a whole one.
func (t *Turn) Close(answered bool) Outcome {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.current; answered && c != nil {
		c.releaseLocked()
	}
	t.closed = true
	return t.outcomeLocked()
}

// sendPartLocked sends the beginning of a call's text, as a paragraph of its own if there is
// text before it.
func (t *Turn) sendPartLocked(text string) {
	first, _ := utf8.DecodeRuneInString(text)
	if t.length > 0 && !unicode.IsSpace(t.lastRune) && !unicode.IsSpace(first) {
		text = "\n\n" + text
	}
	t.sendLocked(text)
}

func (t *Turn) sendLocked(text string) {
	if text == "" || t.closed || t.truncated || t.limit != "" {
		return
	}
	if most := t.settings.MaxText; most > 0 && t.length+len(text) > most {
		t.truncated = true
		text = cut(text, most-t.length)
	}
	t.length += len(text)
	if text != "" {
		t.lastRune, _ = utf8.DecodeLastRuneInString(text)
		if t.settings.Emit != nil {
			t.settings.Emit(text)
		}
	}
	if t.truncated && t.settings.Ended != nil {
		t.settings.Ended(t.outcomeLocked())
	}
}

// cut returns at most the first n bytes of a text, without half a character.
func cut(text string, n int) string {
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// Result is the end of a call.
type Result struct {
	Stop    Stop
	Failure string // why the call failed, for the agent's owner; empty if it did not or the reason is not known
	Timeout bool
	Usage
}

// Call is one model call of a turn.
type Call struct {
	turn *Turn

	// guarded by turn.mu
	split   splitter
	text    strings.Builder // what was sent of this call; of a retry, with what was sent before
	retried string          // the text of the call that is made again, without results of tools between
	broken  bool            // that call broke off
	waiting strings.Builder // text that is the same as retried so far
	begun   bool            // some text was sent
	content int             // all text and arguments, in bytes
	ended   bool
	steps   int     // how many there were before the call
	failure *Result // if the call was given up, why
	result  Result

	done chan struct{} // closed by End
}

// repeatedText returns the text of a call that the next one repeats, and whether it broke off:
// gateways also make a call again whose answer they do not like.
func (c *Call) repeatedText() (text string, broken bool) {
	stop := c.result.Stop
	switch {
	case stop == Tools:
		return "", false
	case c.begun:
		return c.text.String(), stop == Broken
	}
	return c.retried, c.broken
}

// Key returns Settings.Key of the call's turn.
func (c *Call) Key() string { return c.turn.settings.Key }

// Text adds a piece of the call's content.
func (c *Call) Text(piece string) {
	c.turn.mu.Lock()
	defer c.turn.mu.Unlock()
	if !c.isCurrentLocked() {
		return
	}
	c.content += len(piece)
	c.sendLocked(c.split.write(piece))
}

// isCurrentLocked reports whether the call is the one that the gateway reads: it makes the
// next one of a turn only after it has left the one before.
func (c *Call) isCurrentLocked() bool { return c.turn.current == c && !c.ended }

// sendLocked sends text of the call. Of a call that is made again because it broke off, only
// what goes on from there is sent; of one that was whole, nothing if it says the same again.
func (c *Call) sendLocked(text string) {
	switch {
	case text == "":
	case c.begun:
		c.passLocked(text)
	case c.retried == "":
		c.begun = true
		c.text.WriteString(text)
		c.turn.sendPartLocked(text)
	default:
		c.waiting.WriteString(text)
		waiting := c.waiting.String()
		if rest, same := strings.CutPrefix(waiting, c.retried); same && c.broken {
			c.begun = true
			c.text.WriteString(c.retried)
			c.passLocked(rest)
		} else if !strings.HasPrefix(c.retried, waiting) { // also if it is longer than a whole answer
			c.repeatLocked(waiting)
		}
	}
}

func (c *Call) passLocked(text string) {
	c.text.WriteString(text)
	c.turn.sendLocked(text)
}

// repeatLocked sends the text of a call that is made again and says something else.
func (c *Call) repeatLocked(text string) {
	c.begun = true
	c.text.WriteString(text)
	c.turn.sendPartLocked(text)
}

// releaseLocked sends what was held until more of the content has come.
func (c *Call) releaseLocked() {
	c.sendLocked(c.split.end())
	if waiting := c.waiting.String(); !c.begun && waiting != "" && waiting != c.retried {
		c.repeatLocked(waiting) // it ends before what was sent of the call before
	}
}

// ToolCall adds a call of a tool, with its arguments as JSON.
func (c *Call) ToolCall(name, arguments string) {
	t := c.turn
	t.mu.Lock()
	defer t.mu.Unlock()
	if !c.isCurrentLocked() {
		return
	}
	c.content += len(arguments)
	t.addStepLocked(name, arguments)
	t.spent.toolCalls++
	if tool := name + "\x00" + canonical(arguments); tool == t.lastTool {
		t.spent.equalToolCalls++
	} else {
		t.lastTool, t.spent.equalToolCalls = tool, 1
	}
}

// Opaque says that the answer cannot be read.
func (c *Call) Opaque() {
	c.turn.mu.Lock()
	defer c.turn.mu.Unlock()
	c.turn.opaque = c.turn.opaque || c.isCurrentLocked()
}

// GiveUp says that the call has failed, before the gateway learns it; End follows. Unless
// the gateway can make the call in another form, its run should end.
func (c *Call) GiveUp(r Result, recoverable bool) {
	t := c.turn
	t.mu.Lock()
	if c.isCurrentLocked() {
		c.failure = &r
	}
	t.mu.Unlock()
	if !recoverable && t.settings.GivenUp != nil {
		t.settings.GivenUp(c)
	}
}

// Trace returns the span that the call belongs to.
func (c *Call) Trace() trace.Parent { return c.turn.settings.Trace }

// Latest reports whether no other call of the turn was begun after this one.
func (c *Call) Latest() bool {
	c.turn.mu.Lock()
	defer c.turn.mu.Unlock()
	return c.turn.current == c
}

// End ends the call.
func (c *Call) End(r Result) {
	t := c.turn
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.ended {
		return
	}
	if t.current == c && r.Stop != Broken {
		c.releaseLocked()
	}
	c.ended, c.result = true, r
	close(c.done)
	if share := c.split.reasoning; share > 0 {
		// The provider counts an element of reasoning as text.
		r.Reasoning += (r.Output - r.Reasoning) * int64(share) / int64(max(c.content, 1))
	}
	t.usage.add(r.Usage)
	t.spent.tokens += r.Input + r.Output
}
