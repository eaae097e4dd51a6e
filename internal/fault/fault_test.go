package fault

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestFromReturnsTheFaultOrHidesTheError(t *testing.T) {
	known := New(NotFound, "There is no agent %q.", "a1")
	if got := From(fmt.Errorf("read: %w", known)); got != known {
		t.Errorf("got %v", got)
	}
	cause := errors.New("the disk is full")
	got := From(fmt.Errorf("write: %w", cause))
	if got.Code != Internal || strings.Contains(got.Message, "disk") || !errors.Is(got, cause) {
		t.Errorf("message %q, cause %v: the cause must be in the log only", got.Message, got.Unwrap())
	}
	if !Is(fmt.Errorf("again: %w", got), Internal) || Is(cause, Internal) || Is(nil, Internal) {
		t.Error("Is does not look for a fault in the chain")
	}
}

func TestWithAndBecauseReturnCopies(t *testing.T) {
	first := New(Conflict, "It was changed.").With("currentHash", "h1")
	second := first.With("other", "x").Because(errors.New("race"))
	if len(first.Details) != 1 || first.Unwrap() != nil || len(second.Details) != 2 || !strings.Contains(second.Error(), "race") {
		t.Errorf("first %v %v, second %v", first, first.Details, second)
	}
}

func TestFieldsNameEveryInvalidField(t *testing.T) {
	f := Fields{}
	if f.Err() != nil {
		t.Error("an error without invalid fields")
	}
	f.Add("name", "must not be empty")
	f.Add("name", "must be short")
	if got := From(f.Err()); got.Code != Invalid || got.Message != "name must not be empty" {
		t.Errorf("got %v", got)
	}
	f.Add("limit", "must be from %d to %d", 1, 200)
	if got := From(f.Err()); len(got.Details) != 2 || got.Details["limit"] != "must be from 1 to 200" || strings.Contains(got.Message, "limit") {
		t.Errorf("got %v %v", got, got.Details)
	}
}
