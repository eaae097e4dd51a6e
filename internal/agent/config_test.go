package agent

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"agento.host/agento/internal/fault"
)

type checkURL struct{}

func (checkURL) CheckURL(u string) error {
	if strings.Contains(u, "169.254") {
		return fault.New(fault.Invalid, "is never allowed")
	}
	return nil
}

// nested returns arrays in arrays.
func nested(levels int) any {
	var v any = []any{}
	for range levels - 1 {
		v = []any{v}
	}
	return v
}

// TestMisspeltConfigKeysAreRefused: they would be kept as fields of the caller's own.
func TestMisspeltConfigKeysAreRefused(t *testing.T) {
	for key, ok := range map[string]bool{
		"sharedmode": false, "SharedMode": false, "shared_mode": false, "baseURL": false, "base-url": false, "llm_provider": false, "Egress": false, "MODEL": false, "self edit": false,
		"sharedMode": true, "baseUrl": true, "mode": true, "customerId": true, "models": true, "baseUrls": true,
	} {
		problems := fault.Fields{}
		checkConfigKeys(problems, map[string]any{key: "x"})
		if (len(problems) == 0) != ok {
			t.Errorf("%s: %v", key, problems)
		}
		if checkConfigKeys(problems, map[string]any{key: nil}); ok && len(problems) != 0 {
			t.Errorf("%s cannot be removed: %v", key, problems)
		}
	}
}

func TestNullsInTheConfigOfANewAgent(t *testing.T) {
	problems := fault.Fields{}
	checkNoNulls(problems, map[string]any{"sharedMode": nil, "egress": nil, "mine": nil, "model": "m"})
	if len(problems) != 2 || problems["config.sharedMode"] == "" || problems["config.egress"] == "" {
		t.Error(problems)
	}
}

func TestConfigIsValidated(t *testing.T) {
	many := Config{}
	for i := range maxConfigKeys + 1 {
		many[fmt.Sprint("key", i)] = i
	}
	tests := map[string]struct {
		c     Config
		wrong []string
	}{
		"none":                  {nil, nil},
		"all":                   {Config{"llmProvider": "google", "model": "gemini-x", "baseUrl": "https://example.com/v1beta", "sharedMode": true, "channels": map[string]any{"telegram": true, "slack": map[string]any{"enabled": false}}}, nil},
		"unknown keys are kept": {Config{"mine": map[string]any{"a": 1.0}, "authType": "api_key"}, nil},
		"too many":              {many, []string{"config"}},
		"too long":              {Config{"a": strings.Repeat("x", 40<<10), "b": strings.Repeat("x", 30<<10)}, []string{"config"}},
		"as long as may be":     {Config{"a": strings.Repeat("x", maxConfigBytes-8)}, nil},
		"too deep":              {Config{"a": nested(maxConfigLevels)}, []string{"config"}},
		"as deep as may be":     {Config{"a": nested(maxConfigLevels - 1)}, nil},
		"provider":              {Config{"llmProvider": "acme"}, []string{"config.llmProvider"}},
		"types":                 {Config{"llmProvider": 1.0, "model": true, "baseUrl": []any{}, "sharedMode": "yes", "channels": true}, []string{"config.baseUrl", "config.channels", "config.llmProvider", "config.model", "config.sharedMode"}},
		"empty":                 {Config{"llmProvider": "", "model": "", "baseUrl": ""}, []string{"config.baseUrl", "config.llmProvider", "config.model"}},
		"model with a space":    {Config{"model": "a b"}, []string{"config.model"}},
		"long model":            {Config{"model": strings.Repeat("m", 201)}, []string{"config.model"}},
		"longest answer":        {Config{"maxOutputTokens": 32768.0}, nil},
		"too short an answer":   {Config{"maxOutputTokens": 255.0}, []string{"config.maxOutputTokens"}},
		"longest answer, text":  {Config{"maxOutputTokens": "8192"}, []string{"config.maxOutputTokens"}},
		"refused URL":           {Config{"baseUrl": "http://169.254.169.254/"}, []string{"config.baseUrl"}},
		"unknown channel":       {Config{"channels": map[string]any{"fax": true}}, []string{"config.channels.fax"}},
		"channel of no kind":    {Config{"channels": map[string]any{"slack": "on"}}, []string{"config.channels.slack"}},
		"channel in capitals":   {Config{"channels": map[string]any{"slack": map[string]any{"Enabled": false}}}, []string{"config.channels.slack"}},
		"channel half on":       {Config{"channels": map[string]any{"slack": map[string]any{"enabled": "no"}}}, []string{"config.channels.slack"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			problems := fault.Fields{}
			tt.c.validate(problems, checkURL{})
			var f *fault.Fault
			var fields []string
			if errors.As(problems.Err(), &f) {
				for field := range f.Details {
					fields = append(fields, field)
				}
			}
			slices.Sort(fields)
			if !slices.Equal(fields, tt.wrong) {
				t.Errorf("%q: %v", fields, problems.Err())
			}
		})
	}
}

func TestChannelIsEnabledUnlessSwitchedOff(t *testing.T) {
	for name, tt := range map[string]struct {
		channels any
		want     bool
	}{
		"not mentioned": {nil, true}, "on": {map[string]any{"slack": true}, true}, "off": {map[string]any{"slack": false}, false},
		"object on": {map[string]any{"slack": map[string]any{"enabled": true}}, true}, "object off": {map[string]any{"slack": map[string]any{"enabled": false}}, false},
		"object without": {map[string]any{"slack": map[string]any{}}, true}, "another": {map[string]any{"telegram": false}, true},
	} {
		if got := (Config{"channels": tt.channels}).channelEnabled("slack"); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestMergeKeepsAndRemovesKeys(t *testing.T) {
	before := Config{"a": 1, "b": 2}
	after := before.merge(map[string]any{"b": nil, "c": 3})
	if len(before) != 2 || after["a"] != 1 || after["c"] != 3 || len(after) != 2 {
		t.Errorf("%v from %v", after, before)
	}
}
