package modelturn

import (
	"fmt"
	"time"
)

// Limits are what the model may do in one turn. Zero means no limit.
type Limits struct {
	ModelCalls     int64
	ToolCalls      int64
	EqualToolCalls int64 // in a row, with the same arguments
	Tokens         int64 // in and out, without those that were read from the provider's cache
	Time           time.Duration
}

// Lowered returns l with the limits of other that are stricter.
func (l Limits) Lowered(other Limits) Limits {
	return Limits{
		ModelCalls: stricter(l.ModelCalls, other.ModelCalls), ToolCalls: stricter(l.ToolCalls, other.ToolCalls),
		EqualToolCalls: stricter(l.EqualToolCalls, other.EqualToolCalls), Tokens: stricter(l.Tokens, other.Tokens), Time: stricter(l.Time, other.Time),
	}
}

// stricter returns the smaller of two limits, of which zero is none.
func stricter[T int64 | time.Duration](a, b T) T {
	if a == 0 || b == 0 {
		return a + b
	}
	return min(a, b)
}

// spent is what a turn has used of its limits.
type spent struct {
	modelCalls, toolCalls, equalToolCalls, tokens int64
}

// reached returns which limit the next model call would exceed, as a part of a sentence;
// empty if there is none.
func (l Limits) reached(s spent, took time.Duration) string {
	switch {
	case l.Time > 0 && took >= l.Time:
		return inWords(l.Time)
	case l.ModelCalls > 0 && s.modelCalls >= l.ModelCalls:
		return fmt.Sprintf("%d model calls", l.ModelCalls)
	case l.EqualToolCalls > 0 && s.equalToolCalls >= l.EqualToolCalls:
		return fmt.Sprintf("%d equal tool calls in a row", l.EqualToolCalls)
	case l.ToolCalls > 0 && s.toolCalls >= l.ToolCalls:
		return fmt.Sprintf("%d tool calls", l.ToolCalls)
	case l.Tokens > 0 && s.tokens >= l.Tokens:
		return fmt.Sprintf("%d tokens", l.Tokens)
	}
	return ""
}

// inWords returns a limit of time as a person writes it.
func inWords(d time.Duration) string {
	if d >= time.Minute && d%time.Minute == 0 {
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
	return fmt.Sprintf("%d seconds", int64(d.Round(time.Second)/time.Second))
}

// sentence is the end of the answer of a turn that has reached a limit.
func sentence(limit string) string {
	return "This answer was ended at the limit of " + limit + " for one message. Send another message to continue."
}
