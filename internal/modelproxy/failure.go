package modelproxy

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"agento.host/agento/internal/openclaw"
)

// Cause is why a model call failed. There is one for each thing that the agent's owner can
// do about it.
type Cause string

// The causes of a Failure.
const (
	KeyRefused     Cause = "key_refused"     // the provider rejects the agent's key
	OutOfCredit    Cause = "out_of_credit"   // the account of the key cannot pay
	UnknownModel   Cause = "unknown_model"   // the provider has no such model, or the endpoint no such path
	RateLimited    Cause = "rate_limited"    // the provider limits its calls
	Overloaded     Cause = "overloaded"      // the provider has no capacity at the moment
	ProviderFailed Cause = "provider_failed" // a defect of the provider or of its endpoint
	TooLong        Cause = "too_long"        // the request is longer than the model accepts
	BadRequest     Cause = "bad_request"     // the provider refuses the content of the request
	NotAModel      Cause = "not_a_model"     // the endpoint is not the API of a model provider
	Unreachable    Cause = "unreachable"     // no connection
	TimedOut       Cause = "timed_out"       // the provider was silent for too long
	BrokeOff       Cause = "broke_off"       // the connection ended before the answer
	Refused        Cause = "refused"         // the proxy itself did not make the call
)

// Failure is a model call that has been given up.
type Failure struct {
	Cause Cause
	// Message is a sentence for the agent's owner, and what they can do. It quotes the
	// provider's reason. The key of the call is masked in it.
	Message string
	Status  int // of the provider's answer; 0 if there was none
	// Recoverable means that the gateway may repeat the call in another form: shorter, or
	// without reasoning.
	Recoverable bool

	retryAfter time.Duration // as the provider asks; 0: it does not
	transient  bool          // the same call may succeed in a moment
	recovery   string        // the words by which the gateway knows what to change, if it is Recoverable
}

// retryTime returns how long the call may be repeated. A provider that is not there is said
// sooner.
func (f *Failure) retryTime() time.Duration {
	if f.Cause == Unreachable {
		return unreachableTime
	}
	return retryTime
}

// Credentials reports whether the key or its account is the cause.
func (f *Failure) Credentials() bool { return f.Cause == KeyRefused || f.Cause == OutOfCredit }

// TimedOut reports whether the provider did not answer in time.
func (f *Failure) TimedOut() bool { return f.Cause == TimedOut }

// endpoint is what the messages of failures name.
type endpoint struct {
	host  string
	agent string // the agent's id
	model string // empty if the call names none
}

func (e endpoint) provider() string { return "The model provider at " + e.host }

// newKey tells the agent's owner what to do about a key.
func (e endpoint) newKey() string {
	return "Set a new one with PUT /v1/agents/" + e.agent + "/secrets."
}

// change tells the agent's owner what to do about a key of the configuration.
func (e endpoint) change(keys string) string {
	return "Change " + keys + " with PATCH /v1/agents/" + e.agent + "."
}

// sentence joins what happened, the provider's reason and what to do.
func sentence(happened, reason, action string) string {
	text := happened
	if reason != "" {
		text += ": " + strings.TrimRight(reason, ". ")
	}
	text += "."
	if action != "" {
		text += " " + action
	}
	return text
}

// reportedError is what the body of a provider's error says.
type reportedError struct {
	message string
	kind    string // its type or status, as "invalid_request_error"
	code    string
	html    bool
}

// text has all of the error in lower case, to look for words in it.
func (e reportedError) text() string {
	return strings.ToLower(e.message + "\n" + e.kind + "\n" + e.code)
}

// maxQuote limits the provider's reason in a message, in bytes.
const maxQuote = 500

// reason returns the provider's words as they are shown.
func (e reportedError) reason() string {
	text := strings.Join(strings.Fields(strings.ToValidUTF8(cmp.Or(e.message, e.code), "")), " ")
	text = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return -1
		}
		return c
	}, text)
	if len(text) > maxQuote {
		n := maxQuote
		for !utf8.RuneStart(text[n]) {
			n--
		}
		text = text[:n] + "…"
	}
	return text
}

// parseError reads the body of an error in any of the shapes that providers and the proxies
// before them use: an object with error, message, detail or errors, a list of such, the
// same as a server-sent event, plain text, or a page for people, which says nothing.
func parseError(body []byte) reportedError {
	body = bytes.TrimSpace(body)
	if data := eventData(body); data != nil {
		body = data
	}
	var value any
	if json.Unmarshal(body, &value) == nil {
		e := readError(value, 0)
		if text, ok := value.(string); ok {
			e.message = text
		}
		return e
	}
	if text := strings.ToLower(string(body[:min(len(body), 512)])); strings.HasPrefix(text, "<") || strings.Contains(text, "<html") {
		return reportedError{html: true}
	}
	return reportedError{message: string(body)}
}

// eventData returns the data of the first server-sent event of a body that consists of
// such, otherwise nil.
func eventData(body []byte) []byte {
	var data []byte
	for line := range bytes.Lines(body) {
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case bytes.HasPrefix(line, dataField):
			data = append(append(data, bytes.TrimSpace(line[len(dataField):])...), '\n')
		case len(line) == 0 && data != nil:
			return data
		case len(line) == 0, bytes.HasPrefix(line, []byte("event:")), bytes.HasPrefix(line, []byte("id:")), bytes.HasPrefix(line, []byte(":")):
		default:
			return nil
		}
	}
	return data
}

// maxErrorDepth limits how deep the error is looked for.
const maxErrorDepth = 6

// readError collects what an error says from its value, outermost first.
func readError(value any, depth int) (e reportedError) {
	if depth > maxErrorDepth {
		return e
	}
	switch v := value.(type) {
	case []any:
		for _, item := range v {
			if text, ok := item.(string); ok && e.message == "" {
				e.message = text
			}
			e.fill(readError(item, depth+1))
		}
	case map[string]any:
		e.message = firstText(v, "message", "msg", "detail", "error_description", "title", "error")
		e.kind = firstText(v, "type", "status", "error_type")
		e.code = firstText(v, "code", "reason", "errorCode")
		for _, key := range []string{"error", "errors", "detail", "details", "message", "response", "last_error"} {
			switch inner := v[key].(type) {
			case map[string]any, []any:
				found := readError(inner, depth+1)
				if key == "error" && found.kind != "" {
					e.kind = found.kind // the outer type is only "error"
				}
				if key == "details" && found.code != "" {
					e.code = found.code // Google's reason
				}
				e.fill(found)
			}
		}
	}
	return e
}

// fill takes what e does not have from another reading.
func (e *reportedError) fill(o reportedError) {
	if e.message == "" {
		e.message = o.message
	}
	if e.kind == "" {
		e.kind = o.kind
	}
	if e.code == "" {
		e.code = o.code
	}
}

// firstText returns the first of the fields that is a text, or a number as text.
func firstText(v map[string]any, keys ...string) string {
	for _, key := range keys {
		switch value := v[key].(type) {
		case string:
			if value != "" {
				return value
			}
		case float64:
			return fmt.Sprint(int64(value))
		}
	}
	return ""
}

// Words in the errors of providers, in lower case.
var (
	creditWords = regexp.MustCompile(`insufficient[_ ](?:quota|balance|credits?|funds)|credit balance|out of credits?|no (?:more )?credits?\b|not enough credits?|more credits|payment[_ ]required|plans & billing|billing_(?:error|hard_limit|not_active)|billing hard limit|billing details|account is not active|prepa(?:id|yment) credits|purchase (?:more )?credits|add (?:more )?(?:credits|funds)|top up|spend(?:ing)? limit|budget (?:has been )?exceeded|exceeded (?:your|the|its) budget|out of budget|available balance|account balance|arrear|余额不足|欠费|额度不足`)
	keyWords    = regexp.MustCompile(`\b401\b.{0,20}(?:unauthori[sz]ed|auth)|unauthori[sz]ed|authentication[_ ](?:error|failed|fails)|unauthenticated|(?:invalid|incorrect|wrong|expired|revoked|disabled|missing)[_ ](?:x-)?(?:api|access|auth|authentication)[_ -]?(?:key|token)|(?:api[_ ]?key|api token)(?: is| has)?(?: been)?[_ ](?:not valid|invalid|expired|revoked|disabled|deleted|deactivated)|no api[_ ]key|api_key_invalid|key has been (?:disabled|revoked)|account has been (?:deactivated|disabled)|organization has been disabled|permission_(?:error|denied)`)
	modelWords  = regexp.MustCompile(`model[_ ]not[_ ]found|not_found_error|unknown model|invalid model|not a valid model|no such model|no endpoints found for|model:? ?\S*.{0,80}(?:not found|does ?n[o']t exist|do not have access|is not (?:available|supported|found))|models/\S+ is not|model has been (?:deactivated|deprecated|retired)|does not exist or you do not have access`)
	tooLongWord = regexp.MustCompile(`context[_ ]length[_ ]exceeded|maximum context length|context window|prompt is too long|input is too long|input token count.*exceeds|exceeds the maximum number of (?:input )?tokens|too many (?:input )?tokens|request_too_large|reduce the length of the (?:messages|input|prompt)|input length and .max_tokens. exceed|context size|prompt.{0,20}too long`)
	thinkWords  = regexp.MustCompile(`(?:think(?:ing)?|reasoning)(?:[._ ](?:effort|level|budget|value|type))`)
	needsThink  = regexp.MustCompile(`reasoning is (?:mandatory|required)|requires reasoning|reasoning.{0,40}cannot be disabled|only works in thinking mode|budget 0 is invalid`)
	supported   = regexp.MustCompile(`supported values(?: are)?:\s*([^\n.]+)`)
	levelName   = regexp.MustCompile(`\b(?:none|off|minimal|low|medium|high|xhigh|max)\b`)
	busyWords   = regexp.MustCompile(`overloaded|at capacity|high demand|high load|model is loading|currently loading|not ready`)
	limitWords  = regexp.MustCompile(`rate[_ ]?limit|too many requests|resource[_ ]exhausted|throttl|tokens per minute|requests per minute|quota`)
	serverWords = regexp.MustCompile(`api_error|server_error|internal_error|internal server error|upstream|timeout|unavailable`)
)

// classify reads an error that a provider answered with. status is 0 for an error in the
// middle of a stream that has begun with 200.
func classify(at endpoint, status int, header http.Header, e reportedError) *Failure {
	text := e.text()
	f := &Failure{Status: status, retryAfter: retryAfter(header)}
	reason, code := e.reason(), ""
	if status != 0 {
		code = fmt.Sprintf(" (HTTP %d)", status)
	}
	google429 := status == http.StatusTooManyRequests && strings.Contains(text, "resource_exhausted") && !strings.Contains(text, "prepa")
	clientError := status == 0 || status >= 400 && status < 500
	switch {
	case status == http.StatusPaymentRequired,
		clientError && !google429 && creditWords.MatchString(text):
		f.Cause = OutOfCredit
		f.Message = sentence("The account of this agent's key at "+at.host+" has no credit left", reason, "Add credit there, or set another key with PUT /v1/agents/"+at.agent+"/secrets.")
	case status == http.StatusUnauthorized,
		status != http.StatusForbidden && status != http.StatusTooManyRequests && clientError && keyWords.MatchString(text):
		f.Cause = KeyRefused
		f.Message = sentence(at.provider()+" refused this agent's key", reason, at.newKey())
	case status == http.StatusForbidden:
		f.Cause = KeyRefused
		f.Message = sentence(at.provider()+" refused this agent's key for this request, as it may lack access to the model or the region", reason, at.newKey())
	case status == http.StatusTooManyRequests, (clientError || status == http.StatusServiceUnavailable) && status != http.StatusNotFound && limitWords.MatchString(text) && !tooLongWord.MatchString(text):
		f.Cause, f.transient = RateLimited, true
		f.Message = sentence(at.provider()+" limits the calls of this agent's key at the moment"+code, reason, againAfter(f.retryAfter))
	case (clientError || status == http.StatusRequestEntityTooLarge) && (tooLongWord.MatchString(text) || status == http.StatusRequestEntityTooLarge):
		f.Cause, f.Recoverable, f.recovery = TooLong, true, "prompt is too long"
		f.Message = sentence("The conversation is longer than "+at.modelOrProvider()+" accepts"+code, reason, "Start a new session, or change config.model with PATCH /v1/agents/"+at.agent+".")
	case clientError && modelWords.MatchString(text):
		f.Cause = UnknownModel
		f.Message = sentence(at.provider()+" does not offer the model "+at.quotedModel(), reason, at.change("config.model"))
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status == http.StatusGone:
		f.Cause = UnknownModel
		f.Message = sentence(at.provider()+" has no model "+at.quotedModel()+" at this address"+code, reason, at.change("config.model or config.baseUrl"))
	case status == 529, busyWords.MatchString(text):
		f.Cause, f.transient = Overloaded, true
		f.Message = sentence(at.provider()+" is overloaded"+code, reason, againAfter(f.retryAfter))
	case status >= 500 || status == http.StatusRequestTimeout || status == http.StatusConflict || status == http.StatusTooEarly || status == 499:
		f.Cause, f.transient = ProviderFailed, status != http.StatusNotImplemented
		f.Message = sentence(at.provider()+" failed"+code, reason, againAfter(f.retryAfter))
	case status == 0 && serverWords.MatchString(text):
		f.Cause, f.transient = ProviderFailed, true
		f.Message = sentence(at.provider()+" failed in the middle of its answer", reason, againAfter(f.retryAfter))
	default:
		f.Cause = BadRequest
		f.Recoverable, f.recovery = thinkingRecovery(text)
		f.Message = sentence(at.provider()+" refused the request"+code, reason, "")
	}
	return f
}

// thinkingRecovery returns words by which the gateway chooses another level of reasoning, if
// an error is about the level.
func thinkingRecovery(text string) (ok bool, words string) {
	if needsThink.MatchString(text) {
		return true, "reasoning is required"
	}
	if !thinkWords.MatchString(text) {
		return false, ""
	}
	if m := supported.FindStringSubmatch(text); m != nil {
		if levels := levelName.FindAllString(m[1], -1); len(levels) > 0 {
			return true, "this reasoning level is not supported. Supported values are: '" + strings.Join(levels, "', '") + "'"
		}
	}
	return true, "this reasoning level is not supported"
}

// modelOrProvider names the model, or the provider if the call names no model.
func (e endpoint) modelOrProvider() string {
	if e.model == "" {
		return "the model"
	}
	return "the model " + e.quotedModel()
}

func (e endpoint) quotedModel() string {
	if e.model == "" {
		return "of this agent"
	}
	return `"` + e.model + `"`
}

// againAfter says when to try again.
func againAfter(d time.Duration) string {
	if d <= 0 {
		return "Try again later."
	}
	return fmt.Sprintf("Try again in %d s.", int((d+time.Second-1)/time.Second))
}

// maxRetryAfter is the longest pause that is believed.
const maxRetryAfter = 24 * time.Hour

// retryAfter returns the pause that a provider asks for; 0 if it asks for none.
func retryAfter(h http.Header) time.Duration {
	for _, name := range []string{"Retry-After-Ms", "Retry-After"} {
		value := strings.TrimSpace(h.Get(name))
		if value == "" {
			continue
		}
		unit := "s"
		if name == "Retry-After-Ms" {
			unit = "ms"
		}
		if d, err := time.ParseDuration(value + unit); err == nil && d > 0 {
			return min(d, maxRetryAfter)
		}
		if at, err := http.ParseTime(value); err == nil {
			return min(max(time.Until(at), 0), maxRetryAfter)
		}
	}
	return 0
}

// gatewayWords is what the gateway reads of a failure. OpenClaw stops using a provider for
// minutes because of words in an error, whatever its status is: the words are ours, and the
// caller gets the Message by another way.
func (f *Failure) gatewayWords() string {
	if f.Recoverable {
		return f.recovery
	}
	return openclaw.CallFailed
}
