package rest

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"agento.host/agento/internal/fault"
)

// This file translates what huma says of an invalid request into the API's words.
// TestEachTranslatedPhrase holds every phrase that is named here against huma, so
// that an update of huma that changes one fails it.

// maxDetails is the largest number of invalid fields that an error names.
const maxDetails = 100

// notJSON is the problem of a body that cannot be decoded.
const notJSON = "is not JSON that this request takes"

// maxBodyProblem is how much is shown of what encoding/json says, in characters: it may
// repeat a number of any length.
const maxBodyProblem = 200

// translate turns huma's error about a request into the contract's, which names
// every invalid field.
func translate(status int, message, request string, errs []error) *humaError {
	code := fault.Invalid
	switch status {
	case http.StatusRequestEntityTooLarge:
		code, message = fault.TooLarge, "The body is too large for this request. Send less at once."
	case http.StatusUnsupportedMediaType:
		code, message = fault.UnsupportedType, "The body must be JSON: send Content-Type: application/json."
	case http.StatusRequestTimeout, http.StatusInternalServerError: // of huma's own errors only a broken body has the second
		message, errs = "The body did not arrive completely. Send it again.", nil
	}
	if len(errs) == 0 && message == "request body is required" {
		message = "The request needs a JSON body."
	}
	fields := fault.Fields{}
	for _, e := range errs {
		if len(fields) == maxDetails {
			break
		}
		field, problem := translateField(e)
		fields.Add(field, "%s", problem)
	}
	if problem, broken := fields["body"]; broken { // then no field was decoded
		fields = fault.Fields{"body": problem}
	}
	f := fault.New(code, "%s", sentence(message))
	if code == fault.Invalid && len(fields) > 0 {
		f = fault.From(fields.Err())
	}
	if len(fields) == maxDetails {
		f.Message = fmt.Sprintf("The request is invalid; details names the first %d fields.", maxDetails)
	}
	return &humaError{ErrorEnvelope: errorBody(f, request), status: statusOf(code)}
}

// translateField returns the name of an invalid field and its problem. It never
// repeats the value, which may be a secret.
func translateField(err error) (field, problem string) {
	var checked fieldError
	if errors.As(err, &checked) {
		return checked.field, checked.problem
	}
	var d *huma.ErrorDetail
	if !errors.As(err, &d) {
		return "body", notJSON
	}
	field = d.Location
	for _, place := range []string{"body.", "query.", "path.", "header."} {
		field = strings.TrimPrefix(field, place)
	}
	if refused, ok := d.Value.(refusedValue); ok {
		return field, refused.problem
	}
	if name, ok := strings.CutPrefix(d.Message, "expected required property "); ok {
		name = strings.TrimSuffix(name, " to be present")
		if field == "body" || field == "" {
			return name, "is required"
		}
		return field + "." + name, "is required"
	}
	if field == "body" {
		return field, fmt.Sprintf("%s: %.*s", notJSON, maxBodyProblem, d.Message)
	}
	return field, translateProblem(d.Message)
}

// translateProblem turns huma's message about a value into one that says what to do.
func translateProblem(message string) string {
	switch message {
	case "unexpected property":
		return "is not a field of this request: remove it"
	case "required query parameter is missing":
		return "is required"
	case "expected boolean", "invalid boolean":
		return "must be true or false"
	case "expected integer", "invalid integer":
		return "must be a whole number"
	case "expected string", "expected object", "expected array", "expected number":
		return "must be of type " + strings.TrimPrefix(message, "expected ")
	}
	for _, p := range []struct{ theirs, ours string }{
		{"expected value to be ", "must be "},
		{"expected string to be ", "must be "},
		{"expected string to match pattern ", "must match the pattern "},
		{"expected number ", "must be a number "},
		{"expected array length ", "must have a length "},
		{"expected length ", "must have a length "},
	} {
		if rest, ok := strings.CutPrefix(message, p.theirs); ok {
			return p.ours + rest
		}
	}
	return "is not understood: " + message
}

func sentence(message string) string {
	if message == "" {
		return "The request is invalid."
	}
	return strings.ToUpper(message[:1]) + strings.TrimSuffix(message[1:], ".") + "."
}
