package api_test

import (
	"strings"
	"testing"

	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

func TestInstallationSecretsAreHiddenFromAccounts(t *testing.T) {
	env := newEnv(t, options{})
	who := env.newAccount("acme", "")
	in := vault.NewInstallation(env.DB, apitest.NewVault(t), event.NewLog(env.DB))
	if err := in.Set(t.Context(), identity.ByOperator(vault.InstallationAccount), vault.EmbedderAPIKey, vault.NewSecret("placeholder-key")); err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{"", "?actor=operator", "?target=installation/secrets", "?action=installation.secrets_updated"} {
		a := who.do("GET", "/v1/audit"+query, nil).expect(200)
		if strings.Contains(a.body, "installation") || strings.Contains(a.body, string(vault.EmbedderAPIKey)) {
			t.Errorf("GET /v1/audit%s shows %s", query, a.body)
		}
	}
	who.do("PUT", "/v1/agents/"+string(vault.InstallationOwner)+"/secrets", `{"deleteSecrets":["`+string(vault.EmbedderAPIKey)+`"]}`).expectError(404, "not_found")
	who.do("GET", "/v1/swarms/"+string(vault.InstallationOwner)+"/secrets", nil).expectError(404, "not_found")
	if got, err := in.Read(t.Context(), vault.EmbedderAPIKey); err != nil || got.Reveal() != "placeholder-key" {
		t.Error("the secret was changed", err)
	}
}
