package client

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

// TestSkillTypesHaveTheContractsFields compares the types with the contract's examples.
func TestSkillTypesHaveTheContractsFields(t *testing.T) {
	score := 95
	for name, c := range map[string]struct {
		value  any
		fields string
	}{
		"list": {Skill{SecurityScore: &score}, `{"id":0,"name":0,"description":0,"author":0,"category":0,"installCount":0,"latestVersion":0,"securityScore":0}`},
		"get": {SkillDetails{}, `{"id":0,"name":0,"description":0,"enhancedDescription":0,"author":0,"category":0,"tags":0,"installCount":0,"latestVersion":0,
			"securityScore":0,"useCases":0,"toolCount":0}`},
		"agent":     {AgentSkill{}, `{"id":0,"skillId":0,"name":0,"installedVersion":0,"trustLevel":0,"isEnabled":0,"installedAt":0}`},
		"install":   {ChangedSkill{}, `{"id":0,"skillId":0,"name":0,"installedVersion":0,"trustLevel":0,"isEnabled":0,"needsRestart":0}`},
		"uninstall": {UninstalledSkill{}, `{"skillId":0,"uninstalled":0,"needsRestart":0}`},
	} {
		var got, want map[string]any
		b, err := json.Marshal(c.value)
		if err != nil || json.Unmarshal(b, &got) != nil || json.Unmarshal([]byte(c.fields), &want) != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for field := range want {
			if _, ok := got[field]; !ok {
				t.Errorf("%s lacks %s", name, field)
			}
		}
	}
}

func TestSkillRequests(t *testing.T) {
	var requests []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests = append(requests, r.Method+" "+r.URL.RequestURI())
		_, _ = w.Write([]byte(`{"data":null}`))
	}))
	defer s.Close()
	c := &Client{URL: s.URL, APIKey: "key"}
	ctx := t.Context()
	enabled := false
	for _, err := range []error{
		second(c.ListSkills(ctx, SkillQuery{Search: "a b", TrustLevel: "clawhub", Page: 2, PageSize: 5})),
		second(c.ListSkills(ctx, SkillQuery{})),
		second(c.Skill(ctx, "@ann/weather", "clawhub")),
		second(c.UploadSkill(ctx, UploadSkillRequest{ID: "x"})),
		second(c.DeleteSkill(ctx, "x")),
		second(c.AgentSkills(ctx, "1")),
		second(c.InstallSkill(ctx, "1", InstallSkillRequest{SkillID: "x"})),
		second(c.UpdateAgentSkill(ctx, "1", "x", UpdateAgentSkillRequest{IsEnabled: &enabled})),
		second(c.UninstallSkill(ctx, "1", "https://github.com/a/b")),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	want := []string{
		"GET /v1/skills?page=2&pageSize=5&search=a+b&trustLevel=clawhub", "GET /v1/skills", "GET /v1/skills/@ann%2Fweather?trustLevel=clawhub",
		"POST /v1/skills", "DELETE /v1/skills/x", "GET /v1/agents/1/skills", "POST /v1/agents/1/skills", "PATCH /v1/agents/1/skills/x",
		"DELETE /v1/agents/1/skills/https:%2F%2Fgithub.com%2Fa%2Fb",
	}
	if !slices.Equal(requests, want) {
		t.Errorf("the requests are %q", requests)
	}
}

func second[T any](_ T, err error) error { return err }
