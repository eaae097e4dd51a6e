package dashboard

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
)

// form is what was typed into a form, and what is wrong with it. The zero form is an empty
// one. The partial templates "field", "area" and "select" show it.
type form struct {
	values url.Values
	errors map[string]string // by field
	Error  string            // of the whole form
}

// newForm returns a form with values, as pairs of names and values.
func newForm(pairs ...string) *form {
	f := &form{values: url.Values{}, errors: map[string]string{}}
	for i := 0; i+1 < len(pairs); i += 2 {
		f.values.Set(pairs[i], pairs[i+1])
	}
	return f
}

// Value returns what was typed, without spaces around it.
func (f *form) Value(name string) string { return strings.TrimSpace(f.values.Get(name)) }

// Raw returns what was typed, as it is: of passwords and texts.
func (f *form) Raw(name string) string { return f.values.Get(name) }

// All returns the values of a field that there can be several of, such as check boxes.
func (f *form) All(name string) []string { return f.values[name] }

// Checked reports whether a check box has been set.
func (f *form) Checked(name string) bool { return f.values.Get(name) != "" }

// Invalid returns what is wrong with a field.
func (f *form) Invalid(name string) string { return f.errors[name] }

// Wrong records what is wrong with a field.
func (f *form) Wrong(name, what string) { f.errors[name] = what }

// Valid reports whether nothing is wrong.
func (f *form) Valid() bool { return f.Error == "" && len(f.errors) == 0 }

// Forget removes the values of fields that are secrets: they are never shown again.
func (f *form) Forget(names ...string) {
	for _, n := range names {
		f.values.Del(n)
	}
}

// Refused reports whether err is a refusal of what was typed, and records its sentences: those
// of the fields in names at their fields, the others for the whole form. Names map those of
// the API to those of the form, where they differ.
func (f *form) Refused(err error, names ...map[string]string) bool {
	message, details, ok := refusal(err)
	if !ok {
		return false
	}
	for field, what := range details {
		for _, m := range names {
			if own, known := m[field]; known {
				field = own
			}
		}
		f.errors[field] = what
	}
	f.Error = message
	return true
}

// refusal returns the words of an error that is the answer to what the caller sent.
func refusal(err error) (message string, details map[string]string, ok bool) {
	var answered *client.Error
	if errors.As(err, &answered) {
		switch answered.Status {
		case http.StatusBadRequest, http.StatusForbidden, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable:
			return answered.Message, answered.Details, true
		}
		return "", nil, false
	}
	var f *fault.Fault
	if errors.As(err, &f) {
		switch f.Code {
		case fault.Invalid, fault.Forbidden, fault.PlanLimit, fault.Conflict, fault.TooLarge, fault.RateLimited, fault.Upstream, fault.Unauthorized:
			return f.Message, f.Details, true
		}
	}
	return "", nil, false
}

// choice is an option of the partial template "select".
type choice struct{ Value, Title string }
