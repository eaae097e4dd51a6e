package agent

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/modelturn"
)

// limitNames are the keys of config.limits.
var limitNames = []string{"modelCalls", "toolCalls", "equalToolCalls", "tokens", "seconds"}

// Limits returns the limits of a turn that the config sets.
func (c Config) Limits() modelturn.Limits {
	set, _ := c[keyLimits].(map[string]any)
	limit := func(name string) int64 {
		n, _ := wholeNumber(set[name])
		return n
	}
	return modelturn.Limits{
		ModelCalls: limit("modelCalls"), ToolCalls: limit("toolCalls"), EqualToolCalls: limit("equalToolCalls"), Tokens: limit("tokens"),
		Time: time.Duration(limit("seconds")) * time.Second,
	}
}

// maxLimit keeps a limit of seconds in the range of a time.Duration.
const maxLimit = math.MaxInt64 / int64(time.Second)

// wholeNumber returns a number of a decoded config that can be a limit.
func wholeNumber(v any) (n int64, ok bool) {
	switch v := v.(type) {
	case float64:
		n, ok = int64(v), v == math.Trunc(v)
	case json.Number:
		var err error
		if n, err = v.Int64(); err == nil {
			ok = true
		} else if f, err := v.Float64(); err == nil { // such as 1e6
			return wholeNumber(f)
		}
	case int:
		n, ok = int64(v), true
	}
	if !ok || n < 1 || n > maxLimit {
		return 0, false
	}
	return n, true
}

// validateLimits checks config.limits against those of the operator, which it can only lower.
func (c Config) validateLimits(problems fault.Fields, most modelturn.Limits) {
	v := c[keyLimits]
	if v == nil { // it is removed, or not there
		return
	}
	set, isObject := v.(map[string]any)
	if !isObject {
		problems.Add("config.limits", `must be an object such as {"modelCalls": 10}`)
		return
	}
	allowed := map[string]int64{
		"modelCalls": most.ModelCalls, "toolCalls": most.ToolCalls, "equalToolCalls": most.EqualToolCalls, "tokens": most.Tokens,
		"seconds": int64(most.Time / time.Second),
	}
	for name, value := range set {
		field := "config.limits." + name
		n, isNumber := wholeNumber(value)
		switch highest := allowed[name]; {
		case !slices.Contains(limitNames, name):
			problems.Add(field, "is not a limit: use %s", strings.Join(limitNames, ", "))
		case !isNumber:
			problems.Add(field, "must be a whole number of at least 1; leave it out to have the limit of the installation")
		case highest > 0 && n > highest:
			problems.Add(field, "must be at most %s, the limit of the installation", fmt.Sprint(highest))
		}
	}
}
