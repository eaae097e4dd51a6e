package agent

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/modelturn"
)

func TestLimitsOfTurnsAreOnlyLowered(t *testing.T) {
	most := modelturn.Limits{ModelCalls: 40, ToolCalls: 80, Time: 10 * time.Minute}
	for name, c := range map[string]struct {
		limits any
		wrong  []string
		want   modelturn.Limits
	}{
		"none":           {nil, nil, modelturn.Limits{}},
		"lower":          {map[string]any{"modelCalls": 10.0, "seconds": 60.0}, nil, modelturn.Limits{ModelCalls: 10, Time: time.Minute}},
		"numbers":        {map[string]any{"modelCalls": json.Number("10"), "toolCalls": 80, "equalToolCalls": 3.0, "tokens": 5e6}, nil, modelturn.Limits{ModelCalls: 10, ToolCalls: 80, EqualToolCalls: 3, Tokens: 5_000_000}},
		"an exponent":    {map[string]any{"tokens": json.Number("1e6"), "modelCalls": json.Number("4.0")}, nil, modelturn.Limits{ModelCalls: 4, Tokens: 1_000_000}},
		"a fraction":     {map[string]any{"tokens": json.Number("1.5")}, []string{"config.limits.tokens"}, modelturn.Limits{}},
		"higher":         {map[string]any{"modelCalls": 41.0, "seconds": 601.0}, []string{"config.limits.modelCalls", "config.limits.seconds"}, modelturn.Limits{ModelCalls: 41, Time: 601 * time.Second}},
		"none of it":     {map[string]any{"modelCalls": 0.0, "toolCalls": -1.0, "tokens": 1.5, "seconds": "60"}, []string{"config.limits.modelCalls", "config.limits.seconds", "config.limits.tokens", "config.limits.toolCalls"}, modelturn.Limits{}},
		"too large":      {map[string]any{"tokens": 1e30, "seconds": json.Number("99999999999999999999")}, []string{"config.limits.seconds", "config.limits.tokens"}, modelturn.Limits{}},
		"another name":   {map[string]any{"calls": 5.0}, []string{"config.limits.calls"}, modelturn.Limits{}},
		"no object":      {5.0, []string{"config.limits"}, modelturn.Limits{}},
		"an empty value": {map[string]any{"modelCalls": nil}, []string{"config.limits.modelCalls"}, modelturn.Limits{}},
	} {
		config, problems := Config{"limits": c.limits}, fault.Fields{}
		config.validateLimits(problems, most)
		var f *fault.Fault
		var fields []string
		if errors.As(problems.Err(), &f) {
			for field := range f.Details {
				fields = append(fields, field)
			}
		}
		if slices.Sort(fields); !slices.Equal(fields, c.wrong) {
			t.Errorf("%s: %v", name, problems.Err())
		}
		if got := config.Limits(); got != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
