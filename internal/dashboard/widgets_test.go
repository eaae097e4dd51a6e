package dashboard

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

func TestWidgetsOfTheDashboard(t *testing.T) {
	env := newEnv(t)
	owner := env.as("owner")
	owner.get("/widgets").has(http.StatusOK, "No chat widgets yet")
	owner.get("/widgets/new").has(http.StatusOK, "It needs an agent")
	agent := env.agent("Support")
	owner.get("/widgets/new?agent="+agent).has(http.StatusOK, `value="`+agent+`" selected`, "no security")
	fields := []string{"agent", agent, "color", "#0f766e", "mode", "dark", "position", "left", "dailyMessages", "20", "greeting", "Hi", "origins", "https://a.example\r\nhttps://b.example"}
	owner.post("/widgets/new", append([]string{"name", ""}, fields...)...).has(http.StatusUnprocessableEntity, "Give the widget a name")
	bad := append([]string{"name", "Shop"}, fields...)
	bad[len(bad)-1] = "https://a.example/path"
	owner.post("/widgets/new", bad...).has(http.StatusUnprocessableEntity, "an entry is the scheme")
	made := owner.post("/widgets/new", append([]string{"name", "<Shop>"}, fields...)...).has(http.StatusOK, "&lt;Shop&gt;", env.URL+"/widget.js", "createHmac", "hmac.new")
	secret, id, key := regexp.MustCompile(`wks_[0-9a-f]{64}`).FindString(made.Body), regexp.MustCompile(`widget_[0-9a-f]{24}`).FindString(made.Body), regexp.MustCompile(`wk_[0-9a-f]{32}`).FindString(made.Body)
	if secret == "" || id == "" || key == "" || made.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%v %s", made.Header, made.Body)
	}
	page := owner.get("/widgets/"+id).has(http.StatusOK, key, "https://a.example\nhttps://b.example", `value="#0f766e"`, "Nobody has used it yet")
	owner.get("/widgets").has(http.StatusOK, "&lt;Shop&gt;", "0 of 20", "Support")
	if strings.Contains(page.Body, secret) {
		t.Error("the page shows the signing secret again")
	}
	owner.post("/widgets/"+id, "name", "Shop 2", "color", "red", "mode", "auto", "position", "right", "dailyMessages", "x").has(http.StatusUnprocessableEntity, "must be a number")
	owner.post("/widgets/"+id, "name", "Shop 2", "color", "#112233", "mode", "auto", "position", "right", "dailyMessages", "30", "dailyTokens", "1000").has(http.StatusSeeOther)
	owner.get("/widgets/"+id).has(http.StatusOK, "Shop 2", "No website may show this widget yet", `value="1000"`)
	owner.post("/widgets/" + id + "/disable").has(http.StatusSeeOther)
	owner.get("/widgets/"+id).has(http.StatusOK, "disabled", "Enable")
	owner.post("/widgets/" + id + "/enable").has(http.StatusSeeOther)
	owner.post("/widgets/"+id+"/rotate", "grace", "60").has(http.StatusSeeOther)
	if after := owner.get("/widgets/"+id).has(http.StatusOK, "The key before it is valid until"); strings.Contains(after.Body, key) {
		t.Error("the tag has the former key")
	}
	if again := owner.post("/widgets/"+id+"/secret", "grace", "0").has(http.StatusOK, "wks_"); strings.Contains(again.Body, secret) {
		t.Error("the secret is the former one")
	}
	viewer := env.as("viewer").get("/widgets/"+id).has(http.StatusOK, "Shop 2")
	if strings.Contains(viewer.Body, "Delete") || strings.Contains(viewer.Body, "data-widget-form") {
		t.Error("a viewer is offered to change it")
	}
	env.as("viewer").post("/widgets/" + id + "/delete").has(http.StatusForbidden)
	owner.post("/widgets/" + id + "/delete").has(http.StatusSeeOther)
	owner.get("/widgets/" + id).has(http.StatusNotFound)
}
