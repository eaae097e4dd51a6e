package openclaw_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/openclaw/install"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/vault"
)

// fullAgent returns an agent that uses every feature.
func fullAgent() openclaw.Agent {
	return openclaw.Agent{
		ID:       "11111111-2222-3333-4444-555555555555",
		Model:    openclaw.Model{Provider: findProvider(provider.OpenAI), ID: "weird-${HOME}", URL: "http://127.0.0.1:4001/", Token: vault.NewSecret("tok-model")},
		MCP:      &openclaw.MCP{URL: "http://127.0.0.1:4002/tools", Token: vault.NewSecret("tok-mcp")},
		Telegram: &openclaw.Telegram{Token: vault.NewSecret("tok-telegram"), AllowFrom: []string{"42", "${PATH}"}, URL: "http://127.0.0.1:4003"},
		Slack:    &openclaw.Slack{BotToken: vault.NewSecret("tok-slack-bot"), AppToken: vault.NewSecret("tok-slack-app")},
		Env:      map[string]vault.Secret{"CRM_KEY": vault.NewSecret("tok-crm")},
		Token:    vault.NewSecret("tok-gateway"),
		Limits:   runtime.Limits{MemoryBytes: 2 << 30},
	}
}

func TestSpecHoldsNoSecretAndNoPlace(t *testing.T) {
	a := fullAgent()
	spec, err := openclaw.Spec(a)
	if err != nil {
		t.Fatal(err)
	}
	if spec.ID != a.ID || spec.Limits != a.Limits || strings.Join(spec.Args, " ") != "gateway run --port "+runtime.Port {
		t.Errorf("Spec = %s %v %v", spec.ID, spec.Args, spec.Limits)
	}
	config := string(spec.Files["openclaw.json"])
	for _, secret := range []string{"tok-model", "tok-mcp", "tok-telegram", "tok-slack", "tok-crm", "tok-gateway"} {
		if strings.Contains(config, secret) {
			t.Errorf("the configuration contains the secret %s", secret)
		}
	}
	for _, place := range []string{"127.0.0.1", ":400", runtime.HomePath, runtime.Port} {
		if strings.Contains(config, place) {
			t.Errorf("the configuration depends on where it runs: it contains %q", place)
		}
	}
	for name, value := range spec.Env {
		if text := value.Reveal(); strings.Contains(text, "tok-") && text != "tok-crm" {
			t.Errorf("%s is in the environment", name)
		}
	}
	if spec.Env["CRM_KEY"].Reveal() != "tok-crm" {
		t.Error("the agent's own variable is missing")
	}
	var secrets map[string]string
	if err := json.Unmarshal(spec.Secrets, &secrets); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"gatewayToken": "tok-gateway", "modelToken": "tok-model", "telegramBotToken": "tok-telegram",
		"slackBotToken": "tok-slack-bot", "slackAppToken": "tok-slack-app", "Authorization": "Bearer tok-mcp",
	} {
		if secrets[name] != want {
			t.Errorf("secret %s = %q, want %q", name, secrets[name], want)
		}
	}
}

// Every reference of the configuration is in the environment, and a caller's text
// does not become a reference.
func TestConfigReferencesAreInTheEnvironment(t *testing.T) {
	spec, err := openclaw.Spec(fullAgent())
	if err != nil {
		t.Fatal(err)
	}
	config := strings.ReplaceAll(string(spec.Files["openclaw.json"]), "$${", "")
	found := regexp.MustCompile(`\$\{([A-Z_]+)\}`).FindAllStringSubmatch(config, -1)
	if len(found) == 0 {
		t.Fatal("no references found")
	}
	for _, m := range found {
		if _, ok := spec.Env[m[1]]; !ok {
			t.Errorf("${%s} is not in the environment", m[1])
		}
	}
	for _, word := range []string{"weird-$${HOME}", "$${PATH}"} {
		if !strings.Contains(string(spec.Files["openclaw.json"]), word) {
			t.Errorf("a caller's text is not escaped: %s", word)
		}
	}
}

// OpenClaw would go on using the last value of a secret that disappears.
func TestSecretsOverwriteRemovedOnes(t *testing.T) {
	a := fullAgent()
	a.Telegram.Token = vault.Secret{}
	data, err := a.Secrets()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), `"telegramBotToken":"not-set"`) {
		t.Errorf("Secrets = %s", data)
	}
}

func TestSpecNamesEveryInvalidField(t *testing.T) {
	a := fullAgent()
	a.Model.Provider = provider.Provider{Name: "mistral"}
	a.Model.ID = "two words"
	a.Env["NODE_OPTIONS"] = vault.NewSecret("--require=/tmp/evil.js")
	_, err := openclaw.Spec(a)
	f := fault.From(err)
	if !fault.Is(err, fault.Invalid) {
		t.Fatalf("Spec = %v, want invalid", err)
	}
	for _, field := range []string{"config.llmProvider", "config.model", "secrets.NODE_OPTIONS"} {
		if f.Details[field] == "" {
			t.Errorf("%s is missing in %v", field, f.Details)
		}
	}
}

func TestReservedEnvNames(t *testing.T) {
	for name, want := range map[string]bool{
		"PATH": true, "HOME": true, "OPENCLAW_STATE_DIR": true, "ANTHROPIC_API_KEY": true, "GEMINI_API_KEY": true,
		"LD_PRELOAD": true, "NODE_OPTIONS": true, "AGENTO_HOME": true, "UID": true, "PPID": true, "OPTIND": true, "SHELLOPTS": true, "BASHPID": true, "CRM_KEY": false, "HOMEPAGE": false, "OPENAI_ORG": false,
	} {
		if got := openclaw.ReservedEnv(name); got != want {
			t.Errorf("ReservedEnv(%s) = %v, want %v", name, got, want)
		}
	}
}

// OpenClaw itself validates each kind of configuration.
func TestConfigIsValidForOpenClaw(t *testing.T) {
	rt, err := install.Install(t.Context(), install.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	google := openclaw.Agent{Model: openclaw.Model{Provider: findProvider(provider.Google)}}
	for name, agent := range map[string]openclaw.Agent{"all features": fullAgent(), "google": google} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			validateConfig(t, rt, agent)
		})
	}
}

func validateConfig(t *testing.T, rt install.Runtime, agent openclaw.Agent) {
	t.Helper()
	spec, err := openclaw.Spec(agent)
	if err != nil {
		t.Fatal(err)
	}
	home, secrets := t.TempDir(), filepath.Join(t.TempDir(), "secrets.json")
	fill := strings.NewReplacer(runtime.HomePath, home, runtime.SecretsPath, secrets)
	config := fill.Replace(string(spec.Files["openclaw.json"]))
	for name, data := range map[string][]byte{secrets: spec.Secrets, filepath.Join(home, "openclaw.json"): []byte(config)} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), rt.Node, rt.Entry, "config", "validate", "--json")
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + home}
	for name, value := range spec.Env {
		cmd.Env = append(cmd.Env, name+"="+fill.Replace(value.Reveal()))
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"valid":true`) {
		t.Errorf("config validate: %v\n%s", err, out)
	}
}
