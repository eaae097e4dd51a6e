package agent

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
)

type noURL struct{}

func (noURL) CheckURL(u string) error {
	if strings.Contains(u, "169.254") {
		return fault.New(fault.Invalid, "is never allowed")
	}
	return nil
}

func TestOptions(t *testing.T) {
	many := Options{}
	for i := range maxConfigKeys + 1 {
		many[fmt.Sprint("key", i)] = i
	}
	tests := map[string]struct {
		o     Options
		wrong []string
	}{
		"none":                  {nil, nil},
		"all":                   {Options{"llmProvider": "google", "model": "gemini-x", "baseUrl": "https://example.com/v1beta", "sharedMode": true, "channels": map[string]any{"telegram": true, "slack": map[string]any{"enabled": false}}}, nil},
		"unknown keys are kept": {Options{"mine": map[string]any{"a": 1.0}, "authType": "api_key"}, nil},
		"too many":              {many, []string{"config"}},
		"provider":              {Options{"llmProvider": "acme"}, []string{"config.llmProvider"}},
		"types":                 {Options{"llmProvider": 1.0, "model": true, "baseUrl": []any{}, "sharedMode": "yes", "channels": true}, []string{"config.baseUrl", "config.channels", "config.llmProvider", "config.model", "config.sharedMode"}},
		"empty":                 {Options{"llmProvider": "", "model": "", "baseUrl": ""}, []string{"config.baseUrl", "config.llmProvider", "config.model"}},
		"model with a space":    {Options{"model": "a b"}, []string{"config.model"}},
		"long model":            {Options{"model": strings.Repeat("m", 201)}, []string{"config.model"}},
		"refused URL":           {Options{"baseUrl": "http://169.254.169.254/"}, []string{"config.baseUrl"}},
		"unknown channel":       {Options{"channels": map[string]any{"fax": true}}, []string{"config.channels.fax"}},
		"channel of no kind":    {Options{"channels": map[string]any{"slack": "on"}}, []string{"config.channels.slack"}},
		"channel half on":       {Options{"channels": map[string]any{"slack": map[string]any{"enabled": "no"}}}, []string{"config.channels.slack"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			wrong := fault.Fields{}
			tt.o.validate(wrong, noURL{})
			var f *fault.Fault
			var fields []string
			if errors.As(wrong.Err(), &f) {
				for field := range f.Details {
					fields = append(fields, field)
				}
			}
			slices.Sort(fields)
			if !slices.Equal(fields, tt.wrong) {
				t.Errorf("%q: %v", fields, wrong.Err())
			}
		})
	}
}

func TestChannels(t *testing.T) {
	for name, tt := range map[string]struct {
		channels any
		want     bool
	}{
		"not mentioned": {nil, true}, "on": {map[string]any{"slack": true}, true}, "off": {map[string]any{"slack": false}, false},
		"object on": {map[string]any{"slack": map[string]any{"enabled": true}}, true}, "object off": {map[string]any{"slack": map[string]any{"enabled": false}}, false},
		"object without": {map[string]any{"slack": map[string]any{}}, true}, "another": {map[string]any{"telegram": false}, true},
	} {
		if got := (Options{"channels": tt.channels}).Channel("slack"); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestMergeKeepsAndRemoves(t *testing.T) {
	before := Options{"a": 1, "b": 2}
	after := before.merge(map[string]any{"b": nil, "c": 3})
	if len(before) != 2 || after["a"] != 1 || after["c"] != 3 || len(after) != 2 {
		t.Errorf("%v from %v", after, before)
	}
}

func TestCreateNamesEveryBrokenField(t *testing.T) {
	w := newWorld(t, nil)
	_, err := w.Create(t.Context(), w.who, client.CreateAgentRequest{
		Name: "two\nlines", Region: "mars", SwarmID: "none", WorkflowMD: strings.Repeat("x", 200<<10),
		Config: map[string]any{"baseUrl": "http://169.254.169.254/"}, Secrets: map[string]string{"slack_app_token": "wrong"},
	})
	for _, field := range []string{"name", "region", "swarmId", "workflowMd", "config.baseUrl", "secrets.slack_app_token", "secrets"} {
		if fault.From(err).Details[field] == "" {
			t.Errorf("%s is not named: %v", field, fault.From(err).Details)
		}
	}
	w.count(0, `SELECT count(*) FROM agents`)
}
