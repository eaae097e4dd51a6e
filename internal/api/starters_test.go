package api_test

import (
	"strings"
	"testing"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/apitest"
)

// Each starter makes an agent with all of its parts, or none.
func TestAgentsBeginAsStarters(t *testing.T) {
	plans, err := access.LoadPlans("testdata/plans.yaml")
	if err != nil {
		t.Fatal(err)
	}
	env := newEnv(t, options{Plans: plans})
	who := env.newAccount("starters", "")
	starters, err := who.client().Starters(t.Context())
	if err != nil || len(starters) != 3 {
		t.Fatalf("%+v %v", starters, err)
	}
	for _, s := range starters {
		id := who.do("POST", "/v1/agents", `{"name":"A","starter":"`+s.ID+`","secrets":{"anthropicApiKey":"sk-ant-test"}}`).expect(201).field("data.id")
		personality, err := who.client().Personality(t.Context(), id)
		if err != nil || s.SoulMD != "" && personality.SoulMD != s.SoulMD || personality.SoulMD == "" {
			t.Errorf("%s: %v %q", s.ID, err, personality.SoulMD)
		}
		rules, err := who.client().Rules(t.Context(), id)
		if err != nil || len(rules) != len(s.Rules) {
			t.Errorf("%s: %v %+v", s.ID, err, rules)
		}
		skills, err := who.client().AgentSkills(t.Context(), id)
		if err != nil || len(skills) != len(s.Skills) {
			t.Errorf("%s: %v %+v", s.ID, err, skills)
		}
	}
	who.do("POST", "/v1/agents", `{"name":"A","starter":"sales","secrets":{"anthropicApiKey":"sk-ant-test"}}`).expectError(400, "invalid_request")
	id := who.do("POST", "/v1/agents", `{"name":"A","starter":"support","soulMd":"# Mine","secrets":{"anthropicApiKey":"sk-ant-test"}}`).expect(201).field("data.id")
	if p, err := who.client().Personality(t.Context(), id); err != nil || p.SoulMD != "# Mine" {
		t.Errorf("%v %q", err, p.SoulMD)
	}
}

func TestStartAndStopDoNotWaitForWhoAsksForIt(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("async", "")
	id := who.newAgent("A")
	stopped, err := who.client().BeginStop(t.Context(), id)
	if err != nil || stopped.Status != "stopping" {
		t.Fatalf("%+v %v", stopped, err)
	}
	status := func() string { return who.do("GET", "/v1/agents/"+id, nil).expect(200).field("data.status") }
	apitest.WaitUntil(t, "the stop", func() bool { return status() == "stopped" })
	if again, err := who.client().BeginStop(t.Context(), id); err != nil || again.Status != "stopped" {
		t.Errorf("%+v %v", again, err)
	}
	if r := who.do("POST", "/v1/agents/"+id+"/start", nil, "Prefer", "respond-async").expect(202); r.field("data.status") != "starting" {
		t.Error(r.body)
	}
	apitest.WaitUntil(t, "the start", func() bool { return status() == "running" })
	if r := who.do("POST", "/v1/agents/"+id+"/restart", nil, "Prefer", "respond-async").expect(202); r.field("data.status") != "starting" {
		t.Error(r.body)
	}
	apitest.WaitUntil(t, "the restart", func() bool { return status() == "running" })
}

func TestListsOfAgentsHaveWhatTheyAreAskedFor(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("lists", "")
	create := func(name, config string) string {
		return who.do("POST", "/v1/agents", `{"name":"`+name+`","config":`+config+`,"secrets":{"anthropicApiKey":"sk-ant-test","openaiApiKey":"k"}}`).expect(201).field("data.id")
	}
	b, a := create("b", `{}`), create("a", `{"llmProvider":"openai"}`)
	c := create("C", `{"model":"claude-x"}`)
	who.do("POST", "/v1/agents/"+b+"/chat/messages", `{"message":"Hello"}`).expect(200)
	names := func(query string) string {
		r := who.do("GET", "/v1/agents?"+query, nil).expect(200)
		var all []string
		for _, id := range []string{"data.0.id", "data.1.id", "data.2.id"} {
			if id := r.field(id); id != "" {
				all = append(all, map[string]string{a: "a", b: "b", c: "c"}[id])
			}
		}
		return strings.Join(all, " ")
	}
	for query, want := range map[string]string{
		"": "c a b", "sort=name": "a b c", "sort=-name": "c b a", "sort=created": "b a c", "sort=-lastMessage&limit=1": "b", "sort=cost": "b a c", "sort=model&limit=1": "b",
		"model=claude-x": "c", "model=gpt-5.6-terra": "a", "model=claude-sonnet-5": "b", "model=none": "",
	} {
		if got := names(query); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	r := who.do("GET", "/v1/agents?sort=created&include=model,state,usage,lastMessage,memory", nil).expect(200)
	if r.field("data.0.model") != "claude-sonnet-5" || r.field("data.0.power") != "awake" || r.field("data.0.lastMessageAt") == "" || r.field("data.0.costTodayMicros") != "0" || r.field("data.0.memoryBytes") == "" {
		t.Error(r.body)
	}
	if plain := who.do("GET", "/v1/agents", nil).expect(200).body; strings.Contains(plain, "memoryBytes") || strings.Contains(plain, `"model"`) {
		t.Error(plain)
	}
	who.do("GET", "/v1/agents?sort=age", nil).expectError(400, "invalid_request")
	who.do("GET", "/v1/agents?include=everything", nil).expectError(400, "invalid_request")
}
