package openclaw

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"agento.host/agento/internal/fault"
)

// Kind says what went wrong in a turn, as far as somebody can act on it.
type Kind string

// The kinds of a TurnError.
const (
	RefusedKey   Kind = "refused_key"   // the provider does not accept the key, or has no credit for it
	ModelFailed  Kind = "model_failed"  // the provider or its endpoint answered with an error
	ModelTimeout Kind = "model_timeout" // the provider did not answer in time
	GatewayGone  Kind = "gateway_gone"  // the gateway died, or the way to it broke
	Aborted      Kind = "aborted"       // somebody stopped it: Gateway.Abort
	Rejected     Kind = "rejected"      // the gateway did not take the request
)

// TurnError is a turn that failed.
type TurnError struct {
	Kind Kind
	// Message is fit for the agent's owner; it quotes the provider where it spoke.
	Message string
	// Status is what the provider answered; 0 if it did not or is not known.
	Status int
	// Code is the error code in the provider's answer, which may be the model
	// proxy's own; empty if there was none.
	Code  string
	cause error
}

// Error implements error.
func (e *TurnError) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Kind, e.Message, e.cause)
	}
	return fmt.Sprintf("%s: %s", e.Kind, e.Message)
}

// Unwrap returns what the connection said.
func (e *TurnError) Unwrap() error { return e.cause }

// Fault is what an API caller is told.
func (e *TurnError) Fault() *fault.Fault {
	code := fault.Upstream
	switch e.Kind {
	case ModelTimeout:
		code = fault.UpstreamTimeout
	case GatewayGone:
		code = fault.Unavailable
	case Aborted:
		code = fault.Conflict
	}
	return fault.New(code, "%s", e.Message).Because(e)
}

// refusal is an answer other than 200: the gateway's own, before any run.
func refusal(status int, body []byte) error {
	var answer struct{ Error any }
	if json.Unmarshal(body, &answer) != nil || answer.Error == nil {
		return &TurnError{Kind: Rejected, Message: fmt.Sprintf("The agent's gateway refused the request (HTTP %d).", status)}
	}
	return failureOf(status, answer.Error)
}

// failureOf reads {"message","type"} as the gateway sends it. A provider's answer is
// in the message, as "400: " and its body, a message, or words of OpenClaw's own.
func failureOf(gatewayStatus int, body any) *TurnError {
	message, kind, _ := errorFields(body)
	e := &TurnError{Kind: ModelFailed, Message: message}
	if m := upstream.FindStringSubmatch(message); m != nil {
		e.Status, _ = strconv.Atoi(m[1])
		e.Message = strings.TrimSpace(m[2])
		var answer struct{ Error any }
		if json.Unmarshal([]byte(m[2]), &answer) == nil && answer.Error != nil {
			said, saidKind, code := errorFields(answer.Error)
			e.Message, e.Code = said, code
			kind += " " + saidKind
		}
	}
	if m := gemini.FindStringSubmatch(e.Message); m != nil {
		e.Status, _ = strconv.Atoi(m[1])
		e.Message, e.Code = m[2], m[3]
	}
	switch {
	case gatewayStatus != http.StatusOK:
		e.Kind = Rejected
	case e.Message == "agent run aborted":
		e.Kind, e.Message = Aborted, "The answer was stopped."
	case refused(e, kind):
		e.Kind = RefusedKey
	case timedOut(e, kind):
		e.Kind = ModelTimeout
	}
	if e.Message == "" {
		e.Message = "The model provider failed without saying why."
	}
	return e
}

var upstream = regexp.MustCompile(`(?s)^(?:HTTP )?([45]\d\d):? (.*)$`)

// gemini is how OpenClaw words an answer of Google's.
var gemini = regexp.MustCompile(`(?s)^Google Generative AI API error \((\d{3})\): (.*?)(?: \[code=([A-Z_]+)\])?$`)

// errorFields reads an error that is an object, or a bare sentence.
func errorFields(body any) (message, kind, code string) {
	switch e := body.(type) {
	case string:
		return e, "", ""
	case map[string]any:
		message, _ = e["message"].(string)
		kind, _ = e["type"].(string)
		if code, _ = e["code"].(string); code == "" {
			code, _ = e["status"].(string) // Gemini
		}
		return message, kind, code
	}
	return "", "", ""
}

func refused(e *TurnError, kind string) bool {
	if e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden || e.Code == string(RefusedKey) {
		return true
	}
	text := strings.ToLower(e.Message + " " + kind + " " + e.Code)
	return containsAny(text, "authentication_error", "invalid x-api-key", "invalid_api_key", "incorrect api key",
		"api key not valid", "api_key_invalid", "refused this agent's key", "auth/billing failure", "no api key found", "permission_error", "insufficient_quota")
}

func timedOut(e *TurnError, kind string) bool {
	if e.Status == http.StatusRequestTimeout || e.Status == http.StatusGatewayTimeout {
		return true
	}
	return containsAny(strings.ToLower(e.Message+" "+kind), "timed out", "timeout")
}

func containsAny(text string, words ...string) bool {
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}
