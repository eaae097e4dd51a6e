package dashboard

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"agento.host/agento/client"
)

var shownKey = regexp.MustCompile(`ak_live_[0-9a-f]{32}`)

// keyOf returns the key of the page that shows it once.
func keyOf(t *testing.T, a answer) string {
	t.Helper()
	key := shownKey.FindString(a.Body)
	if key == "" {
		t.Fatalf("the page shows no key: %s", a.Body)
	}
	if a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("a page with a key may be kept: %q", a.Header.Get("Cache-Control"))
	}
	return key
}

func (env *testEnv) works(t *testing.T, key string) bool {
	t.Helper()
	_, err := (&client.Client{URL: env.URL, APIKey: key, Retries: -1}).Account(t.Context())
	return err == nil
}

func TestKeysOfTheDashboard(t *testing.T) {
	env := newEnv(t)
	owner := env.as("owner")
	owner.get("/keys").has(http.StatusOK, "No API keys yet")
	owner.get("/keys/new").has(http.StatusOK, "account:admin")
	owner.post("/keys/new", "label", "", "scope", "chat").has(http.StatusUnprocessableEntity, "Say what the key is for")
	owner.post("/keys/new", "label", "Shop").has(http.StatusUnprocessableEntity, "Choose at least one.")
	owner.post("/keys/new", "label", "Shop", "scope", "chat:owner", "rateLimit", "x").has(http.StatusUnprocessableEntity, "from 1 to 1000000", `value="x"`)
	made := owner.post("/keys/new", "label", "<Shop>", "scope", "chat", "scope", "agents:read", "rateLimit", "600", "ends", "30")
	key := keyOf(t, made.has(http.StatusOK, "&lt;Shop&gt;", env.URL+"/v1/account", "curl", "process.env", "urllib"))
	if !env.works(t, key) {
		t.Error("the key does not work")
	}
	list := owner.get("/keys").has(http.StatusOK, "&lt;Shop&gt;", "600 a minute", "agents:read, chat")
	id := regexp.MustCompile(`key_[0-9a-f]+`).FindString(list.Body)
	if strings.Contains(list.Body, key) {
		t.Error("the list shows the key")
	}
	page := owner.get("/keys/"+id).has(http.StatusOK, `value="agents:read" checked`, `value="600"`)
	if strings.Contains(page.Body, key) {
		t.Error("the page shows the key again")
	}
	owner.post("/keys/"+id, "label", "Shop", "scope", "chat", "unlimited", "1", "ends", "same").has(http.StatusSeeOther)
	owner.get("/keys/"+id).has(http.StatusOK, `name="unlimited" value="1" checked`)
	owner.post("/keys/"+id, "label", "Shop").has(http.StatusUnprocessableEntity, "Choose at least one")
	second := keyOf(t, owner.post("/keys/"+id+"/rotate", "grace", "3600").has(http.StatusOK, "valid until"))
	if !env.works(t, key) || !env.works(t, second) {
		t.Error("a key does not work in the time of both")
	}
	third := keyOf(t, owner.post("/keys/"+id+"/rotate", "grace", "0"))
	if env.works(t, second) || !env.works(t, third) {
		t.Error("the former key did not end")
	}
	owner.post("/keys/" + id + "/revoke").has(http.StatusSeeOther)
	if env.works(t, third) {
		t.Error("the key was not revoked")
	}
	owner.get("/keys").has(http.StatusOK, "revoked")
	env.as("developer").get("/keys").has(http.StatusForbidden)
	env.as("developer").post("/keys/new", "label", "A", "scope", "chat").has(http.StatusForbidden)
}
