package modelproxy

import (
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"slices"

	"agento.host/agento/internal/usage"
)

// wireUsage has the fields of all protocols: first those of Anthropic and OpenAI's
// Responses, then OpenAI's Chat Completions, then Google.
type wireUsage struct {
	Input         *int64           `json:"input_tokens"`
	Output        *int64           `json:"output_tokens"`
	CacheRead     *int64           `json:"cache_read_input_tokens"`
	CacheWrite    *int64           `json:"cache_creation_input_tokens"`
	CacheCreation *cacheCreation   `json:"cache_creation"`
	InputDetails  *cacheDetail     `json:"input_tokens_details"`
	OutputDetails *reasoningDetail `json:"output_tokens_details"`

	Prompt            *int64           `json:"prompt_tokens"`
	Completion        *int64           `json:"completion_tokens"`
	PromptDetails     *cacheDetail     `json:"prompt_tokens_details"`
	CompletionDetails *reasoningDetail `json:"completion_tokens_details"`

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

// cacheCreation says how long Anthropic keeps what was written to the cache.
type cacheCreation struct {
	Hour *int64 `json:"ephemeral_1h_input_tokens"`
}

type reasoningDetail struct {
	Reasoning *int64 `json:"reasoning_tokens"`
}

// tally collects the usage of one response. The providers report running totals, so
// the last number of each kind counts.
type tally struct {
	input, output, read, write int64
	thoughts, toolPrompt       int64
	reasoning                  int64 // of output
	hourWrites                 int64 // of write
	inputIncludesCache         bool
	reported                   bool // there was a usage
}

func (t *tally) add(raw []byte) {
	var u wireUsage
	if json.Unmarshal(raw, &u) != nil {
		return
	}
	t.reported = t.reported || slices.ContainsFunc([]*int64{u.Input, u.Output, u.Prompt, u.Completion, u.PromptCount, u.CandidatesCount}, func(n *int64) bool { return n != nil })
	setCount(&t.input, u.Input, u.Prompt, u.PromptCount)
	setCount(&t.output, u.Output, u.Completion, u.CandidatesCount)
	setCount(&t.read, u.CacheRead, u.CachedCount)
	setCount(&t.write, u.CacheWrite)
	setCount(&t.thoughts, u.ThoughtsCount)
	setCount(&t.toolPrompt, u.ToolPromptCount)
	if u.CacheCreation != nil {
		setCount(&t.hourWrites, u.CacheCreation.Hour)
	}
	for _, d := range []*cacheDetail{u.InputDetails, u.PromptDetails} {
		if d != nil {
			setCount(&t.read, d.Cached)
			setCount(&t.write, d.Write)
		}
	}
	for _, d := range []*reasoningDetail{u.OutputDetails, u.CompletionDetails} {
		if d != nil {
			setCount(&t.reasoning, d.Reasoning)
		}
	}
	// Only Anthropic does not include cached tokens in the input.
	if u.Prompt != nil || u.PromptCount != nil || u.InputDetails != nil {
		t.inputIncludesCache = true
	}
}

// maxTokens is the largest count of one call that is accepted: a customer's endpoint
// can report any number, and a sum that overflows cannot be read back.
const maxTokens = 100_000_000

// setCount sets count to the last value that is a valid count.
func setCount(count *int64, values ...*int64) {
	for _, v := range values {
		if v != nil && *v >= 0 && *v <= maxTokens {
			*count = *v
		}
	}
}

func (t *tally) tokens() usage.Tokens {
	input := min(t.input+t.toolPrompt, maxTokens)
	if t.inputIncludesCache {
		input = max(0, input-t.read-t.write)
	}
	return usage.Tokens{
		Input: input, Output: min(t.output+t.thoughts, maxTokens), Reasoning: min(t.thoughts+min(t.reasoning, t.output), maxTokens),
		CacheRead: t.read, CacheWrite: t.write,
	}
}

// isUsage reports whether a field of a provider's answer is the usage: at the top
// level, in Anthropic's message_start, or in a response event of OpenAI.
func isUsage(p path) bool {
	switch p {
	case path{nameUsage}, path{nameMessage, nameUsage}, path{nameResponse, nameUsage}, path{nameUsageMetadata}:
		return true
	}
	return false
}

// responseBody passes a provider's answer through unchanged and counts its usage. Only
// one goroutine reads it; tally is complete after that.
type responseBody struct {
	io.ReadCloser
	tally    tally
	json     scanner
	sse      *sseReader // nil if the answer is one JSON text
	readable bool       // the answer has a known format
	size     int64      // how much of it was read, in bytes
}

func newResponseBody(res *http.Response) *responseBody {
	b := &responseBody{ReadCloser: res.Body}
	b.json = scanner{match: isUsage, found: func(_ path, raw []byte) { b.tally.add(raw) }}
	if e := res.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return b
	}
	switch kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind {
	case "text/event-stream":
		b.readable, b.sse = true, &sseReader{data: b.json.write, end: b.json.end}
	case "application/json":
		b.readable = true
	}
	return b
}

// Read implements io.Reader.
func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.size += int64(n)
	switch {
	case !b.readable:
	case b.sse != nil:
		b.sse.write(p[:n])
	default:
		b.json.write(p[:n])
	}
	return n, err
}
