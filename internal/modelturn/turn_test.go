package modelturn_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"agento.host/agento/internal/modelturn"
)

// part is one model call: the pieces of its content, its tool calls as NAME ARGUMENTS, and its
// end.
type part struct {
	pieces []string
	tools  []string
	result modelturn.Result
}

func says(stop modelturn.Stop, pieces ...string) part {
	return part{pieces: pieces, result: modelturn.Result{Stop: stop}}
}

// play makes the calls and returns the text of the turn.
func play(t *modelturn.Turn, calls ...part) (final string) {
	for _, p := range calls {
		c, end := t.Begin()
		if c == nil {
			return end
		}
		for _, piece := range p.pieces {
			c.Text(piece)
		}
		for _, tool := range p.tools {
			name, arguments, _ := strings.Cut(tool, " ")
			c.ToolCall(name, arguments)
		}
		c.End(p.result)
	}
	return ""
}

// bytewise returns a text in pieces of one byte.
func bytewise(text string) []string { return strings.Split(text, "") }

func TestTextOfATurn(t *testing.T) {
	const prose = "Use the <think> tag to start. After that you answer."
	tools := modelturn.Tools
	for name, c := range map[string]struct {
		calls []part
		want  string
	}{
		"one call":                          {[]part{says(modelturn.End, "Hel", "lo")}, "Hello"},
		"nothing":                           {[]part{says(modelturn.End)}, ""},
		"before a tool":                     {[]part{says(tools, "Let me check."), says(modelturn.End, "It is 5.")}, "Let me check.\n\nIt is 5."},
		"with a blank between":              {[]part{says(tools, "Let me check. "), says(modelturn.End, "It is 5.")}, "Let me check. It is 5."},
		"a tool without text":               {[]part{says(tools), says(modelturn.End, "It is 5.")}, "It is 5."},
		"blanks around":                     {[]part{says(modelturn.End, "  a  \n")}, "  a  \n"},
		"prose about an element":            {[]part{says(modelturn.End, prose)}, prose},
		"reasoning":                         {[]part{says(modelturn.End, "<think>a plan</think>\n\nHello")}, "Hello"},
		"reasoning in pieces":               {[]part{says(modelturn.End, bytewise("<thinking>a <b> plan</thinking>Hello")...)}, "Hello"},
		"another name":                      {[]part{says(modelturn.End, "<reasoning>a plan</reasoning> Hello")}, "Hello"},
		"blanks before":                     {[]part{says(modelturn.End, "\n <think>a plan</think>Hello")}, "Hello"},
		"reasoning of each call":            {[]part{says(tools, "<think>a</think>One."), says(modelturn.End, "<think>b</think>Two.")}, "One.\n\nTwo."},
		"only reasoning":                    {[]part{says(modelturn.End, "<think>a plan</think>")}, ""},
		"a second element":                  {[]part{says(modelturn.End, "<think>a</think>b<think>c</think>d")}, "b<think>c</think>d"},
		"not closed":                        {[]part{says(modelturn.End, "<think>never closed")}, "<think>never closed"},
		"closed by another":                 {[]part{says(modelturn.End, "<think>a</thinking>b")}, "<think>a</thinking>b"},
		"not at the start":                  {[]part{says(modelturn.End, "So: <think>a</think>b")}, "So: <think>a</think>b"},
		"another element":                   {[]part{says(modelturn.End, bytewise("<thinker>a</thinker>b")...)}, "<thinker>a</thinker>b"},
		"with an attribute":                 {[]part{says(modelturn.End, `<think x="1">a</think>b`)}, `<think x="1">a</think>b`},
		"the start of a name":               {[]part{says(modelturn.End, "<thi")}, "<thi"},
		"too long for reasoning":            {[]part{says(modelturn.End, "<think>", strings.Repeat("x", 1<<20), "</think>b")}, "<think>" + strings.Repeat("x", 1<<20) + "</think>b"},
		"made again after it broke off":     {[]part{says(modelturn.Broken, "Half", " of"), says(modelturn.End, "Ha", "lf of it.")}, "Half of it."},
		"made again with other words":       {[]part{says(modelturn.Broken, "Half of"), says(modelturn.End, "Hal", "lo.")}, "Half of\n\nHallo."},
		"made again, shorter":               {[]part{says(modelturn.Broken, "Half of"), says(modelturn.End, "Half")}, "Half of\n\nHalf"},
		"broken off twice":                  {[]part{says(modelturn.Broken, "Half of"), says(modelturn.Broken, "Half of it"), says(modelturn.End, "Half of it.")}, "Half of it."},
		"broken off twice, shorter":         {[]part{says(modelturn.Broken, "Half of"), says(modelturn.Broken, "Ha"), says(modelturn.End, "Half of it.")}, "Half of it."},
		"failed without text":               {[]part{says(modelturn.Broken), says(modelturn.End, "Hello")}, "Hello"},
		"broken off after a tool":           {[]part{says(tools, "One."), says(modelturn.Broken, "Tw"), says(modelturn.End, "Two.")}, "One.\n\nTwo."},
		"reasoning that broke off":          {[]part{says(modelturn.Broken, "<think>a pl"), says(modelturn.End, "<think>a plan</think>Hello")}, "Hello"},
		"a whole answer again":              {[]part{says(modelturn.End, "NO_REPLY"), says(modelturn.End, "NO_", "REPLY")}, "NO_REPLY"},
		"a whole answer and more":           {[]part{says(modelturn.End, "Hello"), says(modelturn.End, "Hello", " you")}, "Hello\n\nHello you"},
		"the same again after a tool":       {[]part{says(tools, "Again."), says(modelturn.End, "Again.")}, "Again.\n\nAgain."},
		"characters of more than one byte ": {[]part{says(tools, "Größe: "), says(modelturn.End, "5 µ")}, "Größe: 5 µ"},
	} {
		var got strings.Builder
		turn := modelturn.New(modelturn.Settings{Emit: func(piece string) { got.WriteString(piece) }})
		play(turn, c.calls...)
		if turn.Close(true); got.String() != c.want {
			t.Errorf("%s: %.200q, want %.200q", name, got.String(), c.want)
		}
	}
}

// TestWholeAnswer: whatever the gateway does after it, a turn whose latest call was whole has
// its answer.
func TestWholeAnswer(t *testing.T) {
	for stop, whole := range map[modelturn.Stop]bool{
		modelturn.End: true, modelturn.Length: true, modelturn.Refusal: true, modelturn.Filter: true, modelturn.Tools: false, modelturn.Broken: false,
	} {
		turn := modelturn.New(modelturn.Settings{})
		if turn.Outcome().Whole() || !turn.Silent() {
			t.Error("whole before the first call")
		}
		play(turn, says(stop, "Hello"))
		if o := turn.Outcome(); o.Whole() != whole || o.Stop != stop || o.Calls != 1 || turn.Silent() {
			t.Errorf("%q: %+v", stop, o)
		}
		c, _ := turn.Begin()
		if turn.Outcome().Whole() {
			t.Errorf("%q: whole while another call runs", stop)
		}
		c.End(modelturn.Result{Failure: "No."})
		if o := turn.Outcome(); o.Whole() || o.Failure != "No." {
			t.Errorf("%q: %+v after a call that failed", stop, o)
		}
	}
}

func TestLimitsOfATurn(t *testing.T) {
	read, write := part{tools: []string{`read {"a":1,"b":2}`}, result: modelturn.Result{Stop: modelturn.Tools}}, part{tools: []string{"write {}"}, result: modelturn.Result{Stop: modelturn.Tools}}
	readToo := part{tools: []string{`read {"b": 2, "a": 1}`}, result: modelturn.Result{Stop: modelturn.Tools}}
	costly := part{result: modelturn.Result{Stop: modelturn.Tools, Usage: modelturn.Usage{Input: 60, Output: 40, CacheRead: 1000}}}
	repeat := func(n int, parts ...part) (all []part) {
		for range n {
			all = append(all, parts...)
		}
		return all
	}
	for name, c := range map[string]struct {
		limits modelturn.Limits
		calls  []part
		made   int64 // calls until the limit; 0: it is not reached
		words  string
	}{
		"none":                    {modelturn.Limits{}, repeat(200, read), 0, ""},
		"model calls":             {modelturn.Limits{ModelCalls: 40}, repeat(50, read), 40, "40 model calls"},
		"just enough":             {modelturn.Limits{ModelCalls: 40}, repeat(40, read), 0, ""},
		"tool calls":              {modelturn.Limits{ToolCalls: 3}, repeat(9, read, write), 3, "3 tool calls"},
		"equal tool calls":        {modelturn.Limits{EqualToolCalls: 5}, repeat(9, read, readToo), 5, "5 equal tool calls in a row"},
		"tool calls by turns":     {modelturn.Limits{EqualToolCalls: 5}, repeat(20, read, write), 0, ""},
		"tokens":                  {modelturn.Limits{Tokens: 250}, repeat(9, costly), 3, "250 tokens"},
		"a later call is refused": {modelturn.Limits{ModelCalls: 1}, append(repeat(1, read), repeat(3, read)...), 1, "1 model calls"},
	} {
		var got strings.Builder
		var ended []modelturn.Outcome
		turn := modelturn.New(modelturn.Settings{Limits: c.limits, Emit: func(p string) { got.WriteString(p) }, Ended: func(o modelturn.Outcome) { ended = append(ended, o) }})
		final := play(turn, c.calls...)
		o := turn.Outcome()
		switch {
		case c.made == 0:
			if final != "" || o.Limit || len(ended) > 0 || got.String() != "" {
				t.Errorf("%s: ended with %q", name, final)
			}
		case !o.Limit || o.Calls != c.made || !strings.Contains(final, c.words) || got.String() != final || len(ended) != 1:
			t.Errorf("%s: %+v with %q", name, o, final)
		default:
			if again := play(turn, read); again != final || got.String() != final || len(ended) != 1 {
				t.Errorf("%s: the next call gets %q, the text is %q", name, again, got.String())
			}
		}
	}
}

func TestLimitOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got strings.Builder
		turn := modelturn.New(modelturn.Settings{Limits: modelturn.Limits{Time: 10 * time.Minute}, Emit: func(p string) { got.WriteString(p) }})
		c, _ := turn.Begin()
		c.Text("I begin")
		turn.Expire()
		time.Sleep(10*time.Minute - 1)
		if turn.Expire(); turn.Outcome().Limit {
			t.Error("ended too early")
		}
		time.Sleep(time.Nanosecond)
		turn.Expire()
		c.Text(" and go on")
		c.End(modelturn.Result{Stop: modelturn.End})
		if o := turn.Outcome(); !o.Limit || !o.Whole() || !strings.HasPrefix(got.String(), "I begin\n\n") || !strings.Contains(got.String(), "10 minutes") || strings.Contains(got.String(), "go on") {
			t.Errorf("%+v, %q", o, got.String())
		}
	})
}

func TestLoweredLimits(t *testing.T) {
	most := modelturn.Limits{ModelCalls: 40, ToolCalls: 80, Time: time.Minute}
	got := most.Lowered(modelturn.Limits{ModelCalls: 10, ToolCalls: 90, Tokens: 5, Time: time.Hour})
	if want := (modelturn.Limits{ModelCalls: 10, ToolCalls: 80, Tokens: 5, Time: time.Minute}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestLongestText: the text ends at a whole character, and the turn is told to end.
func TestLongestText(t *testing.T) {
	var got strings.Builder
	ended := 0
	turn := modelturn.New(modelturn.Settings{MaxText: 6, Emit: func(p string) { got.WriteString(p) }, Ended: func(o modelturn.Outcome) {
		if ended++; !o.Truncated {
			t.Errorf("%+v", o)
		}
	}})
	play(turn, says(modelturn.Tools, "abc", "deé", "more"), says(modelturn.End, "more"))
	if o := turn.Outcome(); got.String() != "abcde" || !o.Truncated || !o.Whole() || ended != 1 {
		t.Errorf("%q, %+v, %d", got.String(), o, ended)
	}
}

// TestReasoningTokens: the provider's count, and the share of an element in the text.
func TestReasoningTokens(t *testing.T) {
	turn := modelturn.New(modelturn.Settings{})
	c, _ := turn.Begin()
	c.Text("<think>" + strings.Repeat("x", 35) + "</think>" + strings.Repeat("y", 50))
	c.End(modelturn.Result{Stop: modelturn.Tools, Usage: modelturn.Usage{Input: 10, Output: 120, Reasoning: 20}})
	play(turn, part{pieces: []string{"No reasoning."}, result: modelturn.Result{Stop: modelturn.End, Usage: modelturn.Usage{Input: 1, Output: 5}}})
	if u := turn.Outcome().Usage; u != (modelturn.Usage{Input: 11, Output: 125, Reasoning: 70}) {
		t.Errorf("%+v", u)
	}
}

// TestLateCallsSayNothing: the gateway has left a call when it makes the next one, and a turn
// that has ended.
func TestLateCallsSayNothing(t *testing.T) {
	var got strings.Builder
	turn := modelturn.New(modelturn.Settings{Emit: func(p string) { got.WriteString(p) }})
	first, _ := turn.Begin()
	first.Text("Fir")
	second, _ := turn.Begin()
	first.Text("st")
	first.End(modelturn.Result{Stop: modelturn.End, Usage: modelturn.Usage{Output: 3}})
	second.Text("Second")
	turn.Close(false)
	second.Text(" late")
	second.End(modelturn.Result{Stop: modelturn.End, Usage: modelturn.Usage{Output: 4}})
	if o := turn.Outcome(); got.String() != "Fir\n\nSecond" || o.Usage.Output != 7 {
		t.Errorf("%q, %+v", got.String(), o)
	}
}

// TestUnreadableAnswers: then the gateway's text is the turn's.
func TestUnreadableAnswers(t *testing.T) {
	turn := modelturn.New(modelturn.Settings{})
	c, _ := turn.Begin()
	if turn.Silent() {
		t.Error("silent before the answer")
	}
	if c.Opaque(); !turn.Silent() {
		t.Error("not silent")
	}
}

// TestSettle: the end of the last call is not missed.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := modelturn.New(modelturn.Settings{})
		turn.Settle(t.Context()) // there is no call
		c, _ := turn.Begin()
		go func() {
			time.Sleep(time.Millisecond)
			c.End(modelturn.Result{Stop: modelturn.Length})
		}()
		if turn.Settle(t.Context()); turn.Outcome().Stop != modelturn.Length {
			t.Errorf("%+v", turn.Outcome())
		}
		_, _ = turn.Begin()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		turn.Settle(ctx)
	})
}

func TestWhatATurnWaitsFor(t *testing.T) {
	turn := modelturn.New(modelturn.Settings{})
	check := func(want string) {
		t.Helper()
		if got := turn.Waiting(); got != want {
			t.Errorf("it waits for %q, want %q", got, want)
		}
	}
	check("model")
	call, _ := turn.Begin()
	check("model")
	call.ToolCall("exec\n: data", "{}")
	check("model")
	call.End(modelturn.Result{Stop: modelturn.Tools})
	check("tool exec:data")
	call, _ = turn.Begin()
	check("model")
	call.End(modelturn.Result{Stop: modelturn.End})
	check("model")
}

// TestCallThatWasGivenUp: its reason is known before the gateway has ended its run, and the
// run ends unless the gateway can change the call.
func TestCallThatWasGivenUp(t *testing.T) {
	var ended []*modelturn.Call
	turn := modelturn.New(modelturn.Settings{GivenUp: func(c *modelturn.Call) { ended = append(ended, c) }})
	first, _ := turn.Begin()
	first.GiveUp(modelturn.Result{Failure: "Too long."}, true)
	if o := turn.Outcome(); o.Failure != "Too long." || o.Timeout || len(ended) != 0 {
		t.Errorf("%+v, %d ended", o, len(ended))
	}
	first.End(modelturn.Result{Failure: "Too long."})
	second, _ := turn.Begin()
	if o := turn.Outcome(); o.Failure != "" || first.Latest() || !second.Latest() {
		t.Errorf("the next call: %+v", o)
	}
	second.GiveUp(modelturn.Result{Failure: "Too slow.", Timeout: true}, false)
	if o := turn.Outcome(); o.Failure != "Too slow." || !o.Timeout || len(ended) != 1 || ended[0] != second {
		t.Errorf("%+v, %d ended", o, len(ended))
	}
}
