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

// Kind is the kind of a turn's failure. There is one for each thing that can be done
// about it.
type Kind string

// The kinds of a TurnError.
const (
	RefusedKey    Kind = "refused_key"    // the provider rejects the key, or its account has no credit
	ModelFailed   Kind = "model_failed"   // the provider or its endpoint answered with an error
	ModelTimeout  Kind = "model_timeout"  // the provider did not answer in time
	GatewayGone   Kind = "gateway_gone"   // the gateway ended, or the connection to it broke
	GatewayFailed Kind = "gateway_failed" // the gateway could not run the turn, as some seconds after its process was killed
	Aborted       Kind = "aborted"        // the gateway aborted the run
	Rejected      Kind = "rejected"       // the gateway rejected the request
)

// TurnError is a turn that failed.
type TurnError struct {
	Kind Kind
	// Message is for the agent's owner. It is the provider's own message if there is
	// one.
	Message string
	// Status is the provider's HTTP status; 0 if there is none or it is not known.
	Status int
	// Code is the error code in the answer of the provider or of the model proxy;
	// empty if there is none.
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

// Unwrap returns the connection's error, if that is the cause.
func (e *TurnError) Unwrap() error { return e.cause }

// IsOfModel reports whether the error can come from a model call: the gateway lives, and has
// got the message.
func (e *TurnError) IsOfModel() bool {
	return e.Kind == RefusedKey || e.Kind == ModelFailed || e.Kind == ModelTimeout || e.Kind == GatewayFailed
}

// Fault returns the error as API callers see it.
func (e *TurnError) Fault() *fault.Fault {
	code := fault.Upstream
	switch e.Kind {
	case ModelTimeout:
		code = fault.UpstreamTimeout
	case GatewayGone, GatewayFailed:
		code = fault.Unavailable
	case Aborted:
		code = fault.Conflict
	}
	return fault.New(code, "%s", e.Message).Because(e)
}

// parseRejection reads an answer other than 200, which the gateway sends before it
// starts a run.
func parseRejection(status int, body []byte) error {
	var answer struct{ Error any }
	if json.Unmarshal(body, &answer) != nil || answer.Error == nil {
		return &TurnError{Kind: Rejected, Message: fmt.Sprintf("The agent's gateway refused the request (HTTP %d).", status)}
	}
	if _, _, code := errorFields(answer.Error); status == http.StatusServiceUnavailable && code == "gateway_unavailable" {
		return &TurnError{Kind: GatewayFailed, Message: "The agent's gateway is suspended. Send the message again.", Code: code, cause: ErrSuspended}
	}
	return parseFailure(status, answer.Error)
}

// parseFailure reads the {"message","type"} that the gateway sends. The message holds
// the provider's answer: as "400: " and its body, as a plain message, or as a
// sentence of OpenClaw.
func parseFailure(gatewayStatus int, body any) *TurnError {
	message, kind, _ := errorFields(body)
	e := &TurnError{Kind: ModelFailed, Message: message}
	if m := statusPattern.FindStringSubmatch(message); m != nil {
		e.Status, _ = strconv.Atoi(m[1])
		e.Message = strings.TrimSpace(m[2])
		var answer struct{ Error any }
		if json.Unmarshal([]byte(m[2]), &answer) == nil && answer.Error != nil {
			providerMessage, providerKind, code := errorFields(answer.Error)
			e.Message, e.Code = providerMessage, code
			kind += " " + providerKind
		}
	}
	if m := googlePattern.FindStringSubmatch(e.Message); m != nil {
		e.Status, _ = strconv.Atoi(m[1])
		e.Message, e.Code = m[2], m[3]
	}
	switch {
	case message == gatewayFailure:
		e.Kind, e.Message = GatewayFailed, "The agent's gateway could not run the turn. Send the message again."
	case gatewayStatus != http.StatusOK:
		e.Kind = Rejected
	case strings.Contains(message, heldProvider):
		e.Kind, e.Message = RefusedKey, "The agent's gateway does not use its model provider for some minutes, because of an earlier error. Restart the agent with POST /v1/agents/{id}/restart, which ends that."
	case e.Message == "agent run aborted":
		e.Kind, e.Message = Aborted, "The answer was stopped."
	case isRefusedKey(e, kind):
		e.Kind = RefusedKey
	case isTimeout(e, kind):
		e.Kind = ModelTimeout
	}
	if e.Message == "" {
		e.Message = "The model provider failed without saying why."
	}
	return e
}

// CallFailed is what the model proxy tells a gateway of a call that it has given up, whatever
// the reason is. OpenClaw 2026.9.6 does not use a provider for up to ten minutes, and repeats
// calls for more than a minute, because of words in an error and of its status. These words
// are none of them.
const CallFailed = "agento has ended this model call. The lastError of the agent says why."

// gatewayFailure is all that a gateway says of an error of its own. The log has the cause.
const gatewayFailure = "internal error"

// heldProvider is in what a gateway says while it does not use its provider. The model proxy
// gives it no reason to: the error is of before its server did that.
const heldProvider = "is temporarily disabled after a provider auth/billing failure"

// statusPattern matches a provider's HTTP status and body.
var statusPattern = regexp.MustCompile(`(?s)^(?:HTTP )?([45]\d\d):? (.*)$`)

// googlePattern matches OpenClaw's wording of an error from Google.
var googlePattern = regexp.MustCompile(`(?s)^Google Generative AI API error \((\d{3})\): (.*?)(?: \[code=([A-Z_]+)\])?$`)

// errorFields reads an error, which is an object or a string.
func errorFields(body any) (message, kind, code string) {
	switch e := body.(type) {
	case string:
		return e, "", ""
	case map[string]any:
		message, _ = e["message"].(string)
		kind, _ = e["type"].(string)
		if code, _ = e["code"].(string); code == "" {
			code, _ = e["status"].(string) // Google
		}
		return message, kind, code
	}
	return "", "", ""
}

func isRefusedKey(e *TurnError, kind string) bool {
	if e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden || e.Code == string(RefusedKey) {
		return true
	}
	text := strings.ToLower(e.Message + " " + kind + " " + e.Code)
	return containsAny(text, "authentication_error", "invalid x-api-key", "invalid_api_key", "incorrect api key",
		"api key not valid", "api_key_invalid", "refused this agent's key", "auth/billing failure", "no api key found", "permission_error", "insufficient_quota")
}

func isTimeout(e *TurnError, kind string) bool {
	if e.Status == http.StatusRequestTimeout || e.Status == http.StatusGatewayTimeout {
		return true
	}
	return containsAny(strings.ToLower(e.Message+" "+kind), "timed out", "timeout")
}

func containsAny(text string, substrings ...string) bool {
	for _, w := range substrings {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}
