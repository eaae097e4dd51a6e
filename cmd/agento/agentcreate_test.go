package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
)

func TestAgentsCreateReadsWhatItIsGiven(t *testing.T) {
	s := newStub(t)
	s.on("POST /v1/agents", `{"data":{"id":"`+ada+`","name":"ada","status":"provisioning"}}`)
	writeFiles(t, map[string]string{"soul.md": "# Soul\n", "key.txt": "sk-ant-file\r\n", "config.yaml": "model: claude\nchannels:\n  telegram:\n    enabled: true\n"})
	t.Setenv("MY_KEY", "sk-ant-env")
	got := command(t, "from stdin\n", "agents", "create", "ada", "--no-wait", "--soul", "soul.md", "--secret", "anthropicApiKey=env:MY_KEY", "--secret", "openaiApiKey=@key.txt",
		"--secret", "TOKEN=-", "--config", "config.yaml", "--config", "channels.telegram.dm=off", "--config", `{"egress":"none"}`)
	if got.code != 0 || got.out != ada+"\n" {
		t.Fatalf("%+v", got)
	}
	asked := s.changes()
	for _, want := range []string{
		`"soulMd":"# Soul\n"`, `"anthropicApiKey":"sk-ant-env"`, `"openaiApiKey":"sk-ant-file"`, `"TOKEN":"from stdin"`, `"model":"claude"`, `"egress":"none"`, `"dm":"off","enabled":true`,
	} {
		if !strings.Contains(asked, want) {
			t.Errorf("%s is not in %s", want, asked)
		}
	}
}

// TestSecretsAreNotInTheCommandLine: a value is refused and not repeated.
func TestSecretsAreNotInTheCommandLine(t *testing.T) {
	s := newStub(t).withAgents()
	writeFiles(t, nil)
	t.Setenv("MY_KEY", "sk-ant-env")
	for given, want := range map[string]string{
		"anthropicApiKey=sk-ant-hidden": "=env:NAME", "sk-ant-hidden": "KEY=-", "anthropicApiKey=@MY_KEY": "anthropicApiKey=env:MY_KEY", "anthropicApiKey=@./none": "there is no file",
		"anthropicApiKey=env:NOT_SET": "is not set", "anthropicApiKey=-": "is empty",
	} {
		got := command(t, "", "agents", "create", "x", "--secret", given)
		if got.code == 0 || !strings.Contains(got.err, want) || strings.Contains(got.err, "hidden") {
			t.Errorf("%s: %+v", given, got)
		}
	}
	if got := command(t, "", "agents", "secrets", "set", "ada", "anthropicApiKey=sk-ant-hidden"); got.code != exitUsage || strings.Contains(got.err, "hidden") {
		t.Errorf("%+v", got)
	}
	if got := command(t, "x", "agents", "secrets", "set", "ada", "sk-ant-hidden"); got.code != exitUsage || strings.Contains(got.err, "hidden") {
		t.Errorf("%+v", got)
	}
	if asked := s.changes(); asked != "" {
		t.Errorf("asked %s", asked)
	}
}

func TestAgentsSecrets(t *testing.T) {
	s := newStub(t).withAgents()
	s.on("PUT /v1/agents/{id}/secrets", `{"data":{"updated":true,"needsRestart":true}}`)
	s.on("GET /v1/agents/{id}/secrets", `{"data":{"secrets":["anthropicApiKey","TOKEN"],"origins":{"anthropicApiKey":"https://api.anthropic.com"}}}`)
	if got := command(t, "sk-ant-x\n", "agents", "secrets", "set", "ada", "anthropicApiKey"); got.code != 0 || !strings.Contains(got.out, "set anthropicApiKey; ") || strings.Contains(got.out, "sk-ant") {
		t.Errorf("%+v", got)
	}
	if got := command(t, "", "agents", "secrets", "delete", "ada", "TOKEN"); got.code != exitRefused {
		t.Errorf("%+v", got)
	}
	if got := command(t, "y\n", "agents", "secrets", "delete", "ada", "TOKEN"); got.code != 0 {
		t.Errorf("%+v", got)
	}
	want := `PUT /v1/agents/` + ada + `/secrets {"secrets":{"anthropicApiKey":"sk-ant-x"}}` + "\n" + `PUT /v1/agents/` + ada + `/secrets {"deleteSecrets":["TOKEN"]}`
	if asked := s.changes(); asked != want {
		t.Errorf("asked %s", asked)
	}
	if got := command(t, "", "agents", "secrets", "list", "ada"); !strings.Contains(got.out, "https://api.anthropic.com") || !strings.Contains(got.out, "TOKEN") {
		t.Errorf("%+v", got)
	}
}

// TestAgentsCreateShowsTheStart: each step once, the id alone on standard output.
func TestAgentsCreateShowsTheStart(t *testing.T) {
	s := newStub(t)
	s.on("POST /v1/agents", `{"data":{"id":"`+ada+`","name":"ada","status":"provisioning"}}`)
	looks := 0
	s.mux.HandleFunc("GET /v1/agents/{id}", func(w http.ResponseWriter, _ *http.Request) {
		looks++
		status, reason := "starting", "null"
		switch looks {
		case 1:
			status, reason = "provisioning", `"The server has no memory left."`
		case 3:
			status = "running"
		}
		_, _ = fmt.Fprintf(w, `{"data":{"id":%q,"status":%q,"lastError":%s}}`, ada, status, reason)
	})
	s.on("GET /v1/agents/{id}/status", `{"data":{"status":"starting","live":false}}`)
	s.on("GET /v1/audit", `{"data":[{"action":"agent.placed"}],"pagination":{}}`)
	got := command(t, "", "agents", "create", "ada")
	if got.code != 0 || got.out != ada+"\n" {
		t.Fatalf("%+v", got)
	}
	var steps []string
	for line := range strings.Lines(got.err) {
		steps = append(steps, strings.Fields(line)[0])
	}
	if fmt.Sprint(steps) != "[created waiting placed files booting ready]" {
		t.Errorf("%s", got.err)
	}
	looks = 2
	if got := command(t, "", "--json", "agents", "create", "ada"); got.code != 0 || !strings.Contains(got.out, `"status": "running"`) {
		t.Errorf("%+v", got)
	}
}

func TestAgentsCreateReportsAFailedStart(t *testing.T) {
	s := newStub(t)
	s.on("POST /v1/agents", `{"data":{"id":"`+ada+`","name":"ada","status":"provisioning"}}`)
	s.on("GET /v1/agents/{id}", `{"data":{"id":"`+ada+`","status":"error","lastError":"It has no key: PUT /v1/agents/x/secrets."}}`)
	if got := command(t, "", "agents", "create", "ada"); got.code != exitFailed || !strings.Contains(got.err, "agento agents secrets set x") || !strings.Contains(got.err, ada) {
		t.Errorf("%+v", got)
	}
}

func TestAgentsByNameIDAndBeginning(t *testing.T) {
	s := newStub(t)
	other := strings.Replace(ada, "018f", "028f", 1)
	s.on("GET /v1/agents", `{"data":[{"id":"`+ada+`","name":"support"},{"id":"`+bob+`","name":"support-eu"},{"id":"`+other+`","name":"sales"},{"id":"c","name":"twin"},{"id":"d","name":"twin"}]}`)
	s.on("POST /v1/agents/{id}/stop", `{"data":{"status":"stopped"}}`)
	for given, want := range map[string]string{"support": ada, "support-": bob, "sa": other, "028f": other, ada: ada, "c": "c"} {
		got := command(t, "", "agents", "stop", given)
		if asked := s.changes(); got.code != 0 || asked != "POST /v1/agents/"+want+"/stop" {
			t.Errorf("%s: %s %+v", given, asked, got)
		}
	}
	for given, code := range map[string]int{"s": exitUsage, "018f": exitUsage, "twin": exitUsage, "nobody": exitNotFound, "SALES": exitNotFound} {
		if got := command(t, "", "agents", "stop", given); got.code != code || s.changes() != "" {
			t.Errorf("%s: %+v", given, got)
		}
	}
}

func TestStatesInWords(t *testing.T) {
	s := newStub(t)
	s.on("GET /v1/agents", `{"data":[{"id":"a","name":"a","status":"running","startedAt":"2020-01-01T00:00:00Z"},{"id":"b","name":"b","status":"error"},{"id":"c","name":"c","status":"stopped"},{"id":"d","name":"d","status":"running"}]}`)
	s.on("GET /v1/agents/a/chat/turns", `{"data":[{"id":"t","state":"done","endedAt":"2020-01-02T00:00:00Z"}]}`)
	s.on("GET /v1/agents/d/chat/turns", `{"data":[{"id":"t","state":"running"}]}`)
	s.on("GET /v1/agents/b", `{"data":{"id":"b","status":"error","lastError":"It crashed."}}`)
	got := command(t, "", "agents", "list")
	for _, want := range []string{"running (idle ", "error (It crashed.)", "stopped\n", "running (busy)"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("%q is not in\n%s", want, got.out)
		}
	}
}

// TestDocumentsAreEditedWithTheirHash: nobody's change is lost.
func TestDocumentsAreEditedWithTheirHash(t *testing.T) {
	s := newStub(t).withAgents()
	s.on("GET /v1/agents/{id}/personality", `{"data":{"soulMd":"old text","soulMdHash":"h1"}}`)
	s.on("GET /v1/agents/{id}/rules/greet", `{"data":{"name":"greet","content":"old text","hash":"h2"}}`)
	s.refuse("GET /v1/agents/{id}/rules/new", http.StatusNotFound, "not_found", "There is no rule.")
	s.on("PUT /v1/agents/{id}/rules/{name}", `{"data":{"name":"x"}}`)
	conflict := false
	s.mux.HandleFunc("PUT /v1/agents/{id}/personality", func(w http.ResponseWriter, _ *http.Request) {
		if conflict {
			w.WriteHeader(http.StatusConflict)
			_, _ = w.Write([]byte(`{"error":{"code":"conflict","message":"It has changed."}}`))
			return
		}
		_, _ = w.Write([]byte(`{"data":{"soulMd":"x"}}`))
	})
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("VISUAL", "")
	t.Setenv("EDITOR", "sed -i s/old/new/")
	path := "/v1/agents/" + ada
	if got := command(t, "", "personality", "edit", "ada"); got.code != 0 || s.changes() != "PUT "+path+`/personality {"soulMd":"new text","expectedHash":"h1"}` {
		t.Errorf("%+v", got)
	}
	if got := command(t, "", "rules", "edit", "ada", "greet.md"); got.code != 0 || s.changes() != "PUT "+path+`/rules/greet {"content":"new text","expectedHash":"h2"}` {
		t.Errorf("%+v", got)
	}
	conflict = true
	got := command(t, "", "personality", "edit", "ada")
	if got.code != exitRefused || !strings.Contains(got.err, "agento personality show") {
		t.Errorf("%+v", got)
	}
	_, rest, _ := strings.Cut(got.err, "Your text is in ")
	kept, _, _ := strings.Cut(rest, ":")
	if text, err := os.ReadFile(kept); err != nil || string(text) != "new text" {
		t.Errorf("%q, %v", text, err)
	}
	s.changes()
	t.Setenv("EDITOR", "true")
	if got := command(t, "", "personality", "edit", "ada"); got.code != 0 || s.changes() != "" || !strings.Contains(got.out, "nothing was changed") {
		t.Errorf("%+v", got)
	}
	t.Setenv("EDITOR", "false")
	if got := command(t, "", "personality", "edit", "ada"); got.code != exitFailed || s.changes() != "" {
		t.Errorf("%+v", got)
	}
	t.Setenv("EDITOR", "sh -c 'echo made > $0'")
	if got := command(t, "", "rules", "edit", "ada", "new"); got.code != 0 || s.changes() != "PUT "+path+`/rules/new {"content":"made\n"}` {
		t.Errorf("%+v", got)
	}
	if got := command(t, "", "personality", "show", "ada"); got.out != "old text" {
		t.Errorf("%+v", got)
	}
}
