package provider_test

import (
	"strings"
	"testing"

	"agento.host/agento/internal/provider"
)

func TestChooseTakesTheConfiguredProviderElseTheFirstWithAKey(t *testing.T) {
	for _, c := range []struct {
		configured provider.Name
		secrets    string
		want       provider.Name
	}{
		{"", "openaiApiKey googleApiKey", provider.OpenAI},
		{"", "googleApiKey anthropicApiKey", provider.Anthropic},
		{provider.Google, "anthropicApiKey googleApiKey", provider.Google},
		{provider.Google, "anthropicApiKey", ""},
		{"", "telegramBotToken", ""},
		{"cohere", "anthropicApiKey", ""},
	} {
		has := func(n provider.SecretName) bool { return strings.Contains(c.secrets, string(n)) }
		if got, ok := provider.Choose(c.configured, has); got.Name != c.want || ok != (c.want != "") {
			t.Errorf("configured %q, secrets %s: got %q %v", c.configured, c.secrets, got.Name, ok)
		}
	}
}

func TestEndpointProtocolOfOpenAIDependsOnTheEndpoint(t *testing.T) {
	for _, c := range []struct {
		provider provider.Name
		baseURL  string
		want     provider.Protocol
	}{
		{provider.Anthropic, "", provider.AnthropicMessages},
		{provider.Anthropic, "http://localhost:8080", provider.AnthropicMessages},
		{provider.OpenAI, "", provider.OpenAIResponses},
		{provider.OpenAI, "http://localhost:11434/v1", provider.OpenAICompletions},
		{provider.Google, "", provider.GoogleGenerativeAI},
	} {
		p, ok := provider.Find(c.provider)
		if got := p.EndpointProtocol(c.baseURL); !ok || got != c.want {
			t.Errorf("%s at %q: %s, want %s", c.provider, c.baseURL, got, c.want)
		}
	}
}

func TestEveryProviderHasAKeyThatASwarmMayHold(t *testing.T) {
	for _, p := range provider.All() {
		if name, problem := provider.ParseSharedSecret(string(p.Secret)); name != p.Secret || problem != "" {
			t.Errorf("%s: %q %s", p.Name, name, problem)
		}
	}
}

func TestBothSpellingsAreOneSecret(t *testing.T) {
	reserved := func(name string) bool { return name == "PATH" }
	for written, want := range map[string]provider.SecretName{
		"anthropic_api_key": provider.AnthropicKey, "anthropicApiKey": provider.AnthropicKey,
		"slack_app_token": provider.SlackAppToken, "CRM_TOKEN": "CRM_TOKEN",
		"PATH": "", "crm_token": "", "": "",
	} {
		if got, problem := provider.ParseAgentSecret(written, reserved); got != want || (problem == "") != (want != "") {
			t.Errorf("%q: %q %q", written, got, problem)
		}
	}
	if _, problem := provider.ParseSharedSecret("telegramBotToken"); problem == "" {
		t.Error("a swarm may share a channel's token")
	}
}

// TestUnprintableCharactersAreLocated: they are invisible, so that the place is what helps.
func TestUnprintableCharactersAreLocated(t *testing.T) {
	for value, want := range map[string]string{
		"sk-ant-x\n": "character 9", "\u200bsk-ant-x": "character 1", "sk-\u00a0x": "character 4", "sk-ant-\u2026x": "character 8", "a b": "character 2",
		"\ufeffk": "character 1", "k\x7f": "character 2", "k\x1b": "character 2", "ключ-k": "character 1",
	} {
		for _, name := range []provider.SecretName{provider.AnthropicKey, provider.OpenAIKey, provider.GoogleKey, provider.TelegramToken, provider.SlackBotToken, provider.SlackAppToken} {
			if problem := name.CheckValue(value); !strings.Contains(problem, want+" ") || strings.Contains(problem, value) {
				t.Errorf("%s %q: %q, want %s", name, value, problem, want)
			}
		}
	}
}

// TestPrefixIsOfTheProviderItself: gateways in its place have keys of their own form.
func TestPrefixIsOfTheProviderItself(t *testing.T) {
	for _, c := range []struct {
		name           provider.SecretName
		value, baseURL string
		ok             bool
	}{
		{provider.AnthropicKey, "sk-ant-x", "", true},
		{provider.AnthropicKey, "virtual-key", "", false},
		{provider.AnthropicKey, "virtual-key", "https://api.anthropic.com/", false},
		{provider.AnthropicKey, "virtual-key", "HTTPS://API.Anthropic.com:443/v1", false},
		{provider.AnthropicKey, "virtual-key", "http://api.anthropic.com", true},
		{provider.AnthropicKey, "virtual-key", "https://llm.example.com/anthropic", true},
		{provider.OpenAIKey, "virtual-key", "", true},
		{provider.SlackBotToken, "xapp-1", "", true}, // CheckValue refuses it
		{"CRM_TOKEN", "x", "", true},
	} {
		if problem := c.name.CheckKey(c.value, c.baseURL); (problem == "") != c.ok {
			t.Errorf("%s at %q: %q", c.name, c.baseURL, problem)
		}
	}
}

func TestValuesOfSecretsAreChecked(t *testing.T) {
	for _, c := range []struct {
		name  provider.SecretName
		value string
		ok    bool
	}{
		{provider.AnthropicKey, "sk-ant-x", true},
		{provider.AnthropicKey, "sk-x", true}, // CheckKey refuses it
		{provider.AnthropicKey, "sk-ant-x\n", false},
		{provider.OpenAIKey, "käy", false},
		{provider.OpenAIKey, strings.Repeat("k", 4096), true},
		{provider.OpenAIKey, strings.Repeat("k", 4097), false},
		{provider.SlackBotToken, "xapp-1", false},
		{"CERTIFICATE", "two\nlines with ümlauts", true},
		{"CERTIFICATE", "a\x00b", false},
		{"CERTIFICATE", strings.Repeat("c", 8193), false},
		{"CERTIFICATE", "", false},
	} {
		if problem := c.name.CheckValue(c.value); (problem == "") != c.ok {
			t.Errorf("%s of %d bytes: %q", c.name, len(c.value), problem)
		} else if c.value != "" && strings.Contains(problem, c.value) {
			t.Errorf("%s: the problem repeats the value", c.name)
		}
	}
}
