package dashboard

import (
	"net/http"
	"strings"
	"testing"

	"agento.host/agento/internal/identity"
)

func TestTheLogOfAnAgent(t *testing.T) {
	env := newEnv(t)
	id := env.agent("Ada")
	for _, line := range []string{
		`{"time":"2026-02-10T14:00:05Z","level":"info","subsystem":"gateway","message":"<b>ready</b>"}`,
		`{"time":"2026-02-10T14:00:06Z","level":"error","subsystem":"gateway","message":"no disk left"}`,
		"  at the second line",
		`{"time":"2026-02-10T14:00:07Z","level":"warn","subsystem":"gateway","message":"slow"}`,
	} {
		env.Driver.Print(identity.AgentID(id), line)
	}
	viewer := env.as("viewer")
	viewer.get("/agents/"+id+"/logs").has(http.StatusOK, "&lt;b&gt;ready", "no disk left", `<span class="level">error</span>`, "at the second line", "logs.txt")
	for query, want := range map[string]string{"level=error": "no disk left|second line", "level=warn": "no disk left|second line|slow", "search=DISK": "no disk left", "level=error&search=slow": ""} {
		page := viewer.get("/agents/" + id + "/logs?" + query).has(http.StatusOK)
		for _, text := range []string{"ready", "no disk left", "second line", "slow"} {
			if got, wanted := strings.Contains(page.Body, text+"</span>"), want != "" && strings.Contains("|"+want+"|", "|"+text+"|"); got != wanted {
				t.Errorf("%s: %q is %t", query, text, got)
			}
		}
		if want == "" && !strings.Contains(page.Body, "No line matches") {
			t.Errorf("%s: it does not say that nothing matches", query)
		}
	}
	file := viewer.get("/agents/"+id+"/logs.txt").has(http.StatusOK, "<b>ready</b>")
	if !strings.HasPrefix(file.Header.Get("Content-Disposition"), "attachment") || !strings.HasPrefix(file.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("%v", file.Header)
	}
}
