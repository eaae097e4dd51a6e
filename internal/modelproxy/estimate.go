package modelproxy

import (
	"strings"

	"agento.host/agento/internal/usage"
)

const (
	// longRun is the length, in bytes, from which a run of letters and digits without a space is
	// taken for the data of an image or a file.
	longRun = 2000
	// runTokens is how many tokens such a run is taken for: about those of an image.
	runTokens = 1500
)

// estimate is about how many tokens a text has that comes in pieces: one for four ASCII
// characters, and one for each other character. Tokens are not counted exactly without the
// tokenizer of the model, which providers do not publish.
type estimate struct {
	ascii, other int64
	run          int64 // of letters and digits at the end
	runs         int64 // that were long
}

func (e *estimate) add(text string) {
	for i := range len(text) {
		switch c := text[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '+', c == '/', c == '-', c == '_':
			e.run++
			continue
		case c < 0x80:
			e.ascii++
		case c >= 0xc0: // the first byte of a character
			e.other++
		}
		e.endRun()
	}
}

func (e *estimate) endRun() {
	if e.run > longRun {
		e.runs++
	} else {
		e.ascii += e.run
	}
	e.run = 0
}

func (e *estimate) tokens() int64 {
	e.endRun()
	return (e.ascii+3)/4 + e.other + e.runs*runTokens
}

// estimateTokens returns about how many tokens a text has.
func estimateTokens(text string) int64 {
	var e estimate
	e.add(text)
	return e.tokens()
}

// tokens returns the tokens of a call. Where the provider has not reported them, or has not
// come to its last report because the answer was cut, the rest is estimated from the request and
// from what there is of the answer.
func (x *exchange) tokens(whole bool) (t usage.Tokens, estimated bool) {
	t = x.response.tally.tokens()
	if whole && x.response.tally.reported {
		return t, false
	}
	if t.Prompt() == 0 {
		t.Input = estimateTokens(string(x.head))
	}
	switch {
	case strings.Contains(x.target.Path, "mbed"): // embeddings are no tokens
	case x.stream != nil:
		t.Output = max(t.Output, x.stream.text.tokens())
	default:
		t.Output = max(t.Output, x.response.size/4)
	}
	t.Input, t.Output = min(t.Input, maxTokens), min(t.Output, maxTokens)
	return t, true
}
