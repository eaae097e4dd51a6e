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

func TestValuesOfSecretsAreChecked(t *testing.T) {
	for _, c := range []struct {
		name  provider.SecretName
		value string
		ok    bool
	}{
		{provider.AnthropicKey, "sk-ant-x", true},
		{provider.AnthropicKey, "sk-x", false},
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
