package api_test

import (
	"strings"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/identity"
)

// uses returns a caller with another secret.
func (c *caller) uses(secret string) *caller {
	other := *c
	other.key = secret
	return &other
}

// TestKeysOfTheAccount makes, reads, changes, rotates and revokes keys with the Go client.
func TestKeysOfTheAccount(t *testing.T) {
	env := newEnv(t, options{})
	rich := env.newAccount("acme", "")
	c, ctx := rich.client(), t.Context()
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
	rate := 7
	made, err := c.CreateKey(ctx, client.CreateKeyRequest{Label: "widget", Scopes: []string{"agents:read"}, RateLimit: &rate, ExpiresAt: client.Some(expires.Format(time.RFC3339Nano))})
	if err != nil || !strings.HasPrefix(made.Secret, "ak_live_") || !strings.HasSuffix(made.Secret, made.Hint) || made.RateLimit != 7 || !made.ExpiresAt.Equal(expires) {
		t.Fatal(made, err)
	}
	first := rich.uses(made.Secret)
	if limit := first.do("GET", "/v1/agents", nil).expect(200).header.Get("X-RateLimit-Limit"); limit != "7" {
		t.Error(limit)
	}
	first.do("GET", "/v1/keys", nil).expectError(403, "forbidden")

	unlimited := access.Unlimited
	changed, err := c.UpdateKey(ctx, made.ID, client.UpdateKeyRequest{Scopes: []string{"agents:read", "logs"}, RateLimit: &rate, ExpiresAt: client.Null[string]()})
	if err != nil || len(changed.Scopes) != 2 || changed.ExpiresAt != nil || changed.Label != "widget" {
		t.Error(changed, err)
	}
	if _, err := c.UpdateKey(ctx, made.ID, client.UpdateKeyRequest{RateLimit: &unlimited}); !client.IsCode(err, "forbidden") {
		t.Error(err) // the caller's own limit is lower
	}
	rotated, err := c.RotateKey(ctx, made.ID, client.RotateKeyRequest{})
	if err != nil || rotated.ID != made.ID || rotated.Secret == made.Secret || rotated.PreviousUntil == nil || time.Until(rotated.PreviousUntil.Time) < 23*time.Hour {
		t.Fatal(rotated, err)
	}
	first.do("GET", "/v1/agents", nil).expect(200)
	second := rich.uses(rotated.Secret)
	if left := second.do("GET", "/v1/agents", nil).expect(200).header.Get("X-RateLimit-Remaining"); left != "3" {
		t.Errorf("the limit does not go on: %s requests are left", left)
	}
	now := int64(0)
	if _, err := c.RotateKey(ctx, made.ID, client.RotateKeyRequest{GraceSeconds: &now}); err != nil {
		t.Fatal(err)
	}
	second.do("GET", "/v1/agents", nil).expectError(401, "unauthorized")
	if got, err := c.Key(ctx, made.ID); err != nil || got.PreviousUntil != nil || got.UsedAt != nil {
		t.Error(got, err)
	}

	page, err := c.ListKeys(ctx, 1, 1)
	if err != nil || page.Pagination != (client.Pagination{Total: 2, Limit: 1, Offset: 1}) || len(page.Data) != 1 || page.Data[0].ID != string(rich.keyID) {
		t.Error(page, err)
	}
	for range 2 {
		if r, err := c.RevokeKey(ctx, made.ID); err != nil || !r.Revoked {
			t.Error(r, err)
		}
	}
	if _, err := c.RotateKey(ctx, made.ID, client.RotateKeyRequest{}); !client.IsCode(err, "conflict") {
		t.Error(err)
	}
	audit := rich.do("GET", "/v1/audit?target=key/"+made.ID, nil).expect(200)
	if audit.field("data.*") != "5" || audit.field("data.0.action") != "key.revoked" || audit.field("data.0.actor") != string(rich.keyID) || strings.Contains(audit.body, "ak_live_") {
		t.Error(audit.body)
	}
}

// TestKeyMakesNoStrongerKey: what is refused names what the key lacks.
func TestKeyMakesNoStrongerKey(t *testing.T) {
	env := newEnv(t, options{})
	rich := env.newAccount("acme", "")
	admin := env.newKey(rich.account, access.NewScopes(access.AccountAdmin, access.Chat), 200)
	path := "/v1/keys/" + string(admin.keyID)
	for body, detail := range map[string]string{
		`{"scopes":["chat","logs"]}`:                 "scopes",
		`{"scopes":["all"]}`:                         "scopes",
		`{"scopes":["chat"],"rateLimit":201}`:        "rateLimit",
		`{"scopes":["chat"],"rateLimit":2147483647}`: "rateLimit",
		`{"scopes":["chat","chat:owner"]}`:           "scopes",
	} {
		if a := admin.do("POST", "/v1/keys", body).expectError(403, "forbidden"); a.field("error.details."+detail) == "" {
			t.Errorf("%s: %s", body, a.body)
		}
	}
	for body, detail := range map[string]string{
		`{}`:                                "scopes",
		`{"scopes":[]}`:                     "scopes",
		`{"scopes":["chat","none"]}`:        "scopes",
		`{"scopes":["chat"],"rateLimit":0}`: "rateLimit",
		`{"scopes":["chat"],"rateLimit":1000001}`:                "rateLimit",
		`{"scopes":["chat"],"expiresAt":""}`:                     "expiresAt",
		`{"scopes":["chat"],"expiresAt":"0001-01-01T00:00:00Z"}`: "expiresAt",
		`{"scopes":["chat"],"expiresAt":"soon"}`:                 "expiresAt",
		`{"scopes":["chat"],"expiresAt":"2020-01-01T00:00:00Z"}`: "expiresAt",
		`{"scopes":["chat:owner"]}`:                              "scopes",
		`{"scopes":["chat"],"admin":true}`:                       "admin",
	} {
		if a := admin.do("POST", "/v1/keys", body).expectError(400, "invalid_request"); a.field("error.details."+detail) == "" {
			t.Errorf("%s: %s", body, a.body)
		}
	}
	admin.do("PATCH", path, `{"label":"mine"}`).expectError(403, "forbidden")
	admin.do("POST", path+"/rotate", nil).expectError(403, "forbidden")
	admin.do("POST", "/v1/keys/"+string(rich.keyID)+"/rotate", nil).expectError(403, "forbidden")
	admin.do("POST", path+"/rotate", `{"graceSeconds":-1}`).expectError(400, "invalid_request")
	admin.do("PATCH", "/v1/keys/"+string(rich.keyID), `{"scopes":["chat"]}`).expectError(403, "forbidden")
	admin.do("POST", "/v1/keys", `{"scopes":["account:admin","chat"],"rateLimit":200}`).expect(201)
	admin.do("DELETE", "/v1/keys/"+string(rich.keyID), nil).expect(200)
	rich.do("GET", "/v1/account", nil).expectError(401, "unauthorized")
}

// TestUnlimitedKey: its headers have the number for no limit, and nothing is refused.
func TestUnlimitedKey(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newKey(env.newAccount("acme", "").account, access.NewScopes(access.AgentsRead), access.Unlimited)
	for range 3 {
		a := who.do("GET", "/v1/agents", nil).expect(200)
		checkRateLimitHeaders(t, a)
		if a.header.Get("X-RateLimit-Limit") != "2147483647" || a.header.Get("X-RateLimit-Remaining") != "2147483647" {
			t.Error(a.header)
		}
	}
}

// TestReplayedKeyIsTheSame: the response with the secret is repeated to an equal request of the
// same key, and only to it.
func TestReplayedKeyIsTheSame(t *testing.T) {
	env := newEnv(t, options{})
	rich := env.newAccount("acme", "")
	first := rich.post("/v1/keys", "k", `{"scopes":["chat"]}`).expect(201)
	again := rich.post("/v1/keys", "k", `{"scopes":["chat"]}`).expect(201).expectReplayed(true)
	if again.body != first.body {
		t.Errorf("%s %s", first.body, again.body)
	}
	if err := env.Access.RevokeKey(t.Context(), identity.ByOperator(rich.account), rich.keyID); err != nil {
		t.Fatal(err)
	}
	rich.post("/v1/keys", "k", `{"scopes":["chat"]}`).expectError(401, "unauthorized")
}
