package modelproxy

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"net/http"
)

// Counts are the tokens of one or more requests. Input leaves out what was read
// from the provider's prompt cache or written to it; Output includes reasoning.
type Counts struct {
	Requests   int64
	Input      int64
	Output     int64
	CacheRead  int64
	CacheWrite int64
}

func (c *Counts) add(o Counts) {
	c.Requests += o.Requests
	c.Input += o.Input
	c.Output += o.Output
	c.CacheRead += o.CacheRead
	c.CacheWrite += o.CacheWrite
}

// wireUsage is what the providers call it: the first block is Anthropic's and
// OpenAI Responses', then OpenAI Chat's, then Google's.
type wireUsage struct {
	Input        *int64       `json:"input_tokens"`
	Output       *int64       `json:"output_tokens"`
	CacheRead    *int64       `json:"cache_read_input_tokens"`
	CacheWrite   *int64       `json:"cache_creation_input_tokens"`
	InputDetails *cacheDetail `json:"input_tokens_details"`

	Prompt        *int64       `json:"prompt_tokens"`
	Completion    *int64       `json:"completion_tokens"`
	PromptDetails *cacheDetail `json:"prompt_tokens_details"`

	PromptCount     *int64 `json:"promptTokenCount"`
	CandidatesCount *int64 `json:"candidatesTokenCount"`
	CachedCount     *int64 `json:"cachedContentTokenCount"`
	ThoughtsCount   *int64 `json:"thoughtsTokenCount"`
	ToolPromptCount *int64 `json:"toolUsePromptTokenCount"`
}

type cacheDetail struct {
	Cached *int64 `json:"cached_tokens"`
	Write  *int64 `json:"cache_write_tokens"`
}

// tally collects the usage of one response. The providers report running totals,
// so the latest number of each kind stands.
type tally struct {
	seen                       bool
	input, output, read, write int64
	thoughts, toolPrompt       int64
	inputHoldsCache            bool
}

func (t *tally) take(raw []byte) {
	var u wireUsage
	if json.Unmarshal(raw, &u) != nil {
		return
	}
	t.latest(&t.input, u.Input, u.Prompt, u.PromptCount)
	t.latest(&t.output, u.Output, u.Completion, u.CandidatesCount)
	t.latest(&t.read, u.CacheRead, u.CachedCount)
	t.latest(&t.write, u.CacheWrite)
	t.latest(&t.thoughts, u.ThoughtsCount)
	t.latest(&t.toolPrompt, u.ToolPromptCount)
	for _, d := range []*cacheDetail{u.InputDetails, u.PromptDetails} {
		if d != nil {
			t.latest(&t.read, d.Cached)
			t.latest(&t.write, d.Write)
		}
	}
	// Anthropic alone counts cached tokens beside the input, not within it.
	if u.Prompt != nil || u.PromptCount != nil || u.InputDetails != nil {
		t.inputHoldsCache = true
	}
}

// maxTokens of one call are believed: an endpoint that the customer named can say
// anything, and a sum that overflows cannot be read back.
const maxTokens = 1 << 32

func (t *tally) latest(to *int64, values ...*int64) {
	for _, v := range values {
		if v != nil && *v >= 0 && *v <= maxTokens {
			*to, t.seen = *v, true
		}
	}
}

func (t *tally) counts() Counts {
	input := t.input + t.toolPrompt
	if t.inputHoldsCache {
		input = max(0, input-t.read-t.write)
	}
	return Counts{Requests: 1, Input: input, Output: t.output + t.thoughts, CacheRead: t.read, CacheWrite: t.write}
}

// usageOf says where a provider's answer carries the usage: at the top, in
// Anthropic's message_start, or in a response event of OpenAI.
func usageOf(p path) bool {
	switch p {
	case path{nameUsage}, path{nameMessage, nameUsage}, path{nameResponse, nameUsage}, path{nameUsageMetadata}:
		return true
	}
	return false
}

// responseBody passes a provider's answer through and watches its usage go by.
// It is read by one goroutine and looked at when that is done.
type responseBody struct {
	io.ReadCloser
	tally tally
	json  scanner
	sse   *events // nil if the answer is one JSON text
	plain bool    // the answer can be read
}

func watchResponse(res *http.Response) *responseBody {
	b := &responseBody{ReadCloser: res.Body}
	b.json = scanner{wanted: usageOf, found: func(_ path, raw []byte) { b.tally.take(raw) }}
	if e := res.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return b
	}
	switch kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind {
	case "text/event-stream":
		b.plain, b.sse = true, &events{data: b.json.write, end: b.json.end}
	case "application/json":
		b.plain = true
	}
	return b
}

// Read implements io.Reader.
func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case !b.plain:
	case b.sse != nil:
		b.sse.write(p[:n])
	default:
		b.json.write(p[:n])
	}
	return n, err
}

// events takes the data out of a stream of server-sent events, which come in
// pieces of any size.
type events struct {
	data func([]byte) // a piece of an event's data
	end  func()       // the event is over

	head   []byte // the line so far, as long as it may become a data line
	inData bool
	skip   bool // a line of another kind
	dirty  bool // the line has something in it
	cr     bool // the last byte was a carriage return
}

var (
	dataField = []byte("data:")
	newline   = []byte("\n")
)

func (e *events) write(p []byte) {
	for len(p) > 0 {
		if e.cr && p[0] == '\n' { // the second half of a line's end
			e.cr = false
			p = p[1:]
			continue
		}
		e.cr = false
		n := bytes.IndexAny(p, "\r\n")
		if n < 0 {
			e.line(p)
			return
		}
		e.line(p[:n])
		e.cr = p[n] == '\r'
		e.endLine()
		p = p[n+1:]
	}
}

// line takes a piece of the current line.
func (e *events) line(p []byte) {
	if len(p) > 0 {
		e.dirty = true
	}
	for len(p) > 0 && !e.inData && !e.skip {
		e.head = append(e.head, p[0])
		p = p[1:]
		e.inData = len(e.head) == len(dataField) && bytes.Equal(e.head, dataField)
		e.skip = !e.inData && !bytes.HasPrefix(dataField, e.head)
	}
	if e.inData && len(p) > 0 {
		e.data(p)
	}
}

func (e *events) endLine() {
	if !e.dirty {
		e.end()
	} else if e.inData {
		e.data(newline)
	}
	e.head, e.inData, e.skip, e.dirty = e.head[:0], false, false, false
}
