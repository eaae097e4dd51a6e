package agent

import (
	"regexp"
	"strings"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/openclaw"
	modelprovider "agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

// The six secrets of the contract, by the one name that the vault knows them by.
const (
	AnthropicKey  = "anthropicApiKey"
	OpenAIKey     = "openaiApiKey"
	GoogleKey     = "googleApiKey"
	TelegramToken = "telegramBotToken"
	SlackBotToken = "slackBotToken"
	SlackAppToken = "slackAppToken"
)

// providerKeys is in the order in which a provider is chosen when none is named.
var providerKeys = []struct {
	provider modelprovider.Name
	secret   string
}{{modelprovider.Anthropic, AnthropicKey}, {modelprovider.OpenAI, OpenAIKey}, {modelprovider.Google, GoogleKey}}

// spellings maps what callers write to what the vault keeps.
var spellings = map[string]string{
	"anthropic_api_key": AnthropicKey, "openai_api_key": OpenAIKey, "google_api_key": GoogleKey,
	"telegram_bot_token": TelegramToken, "slack_bot_token": SlackBotToken, "slack_app_token": SlackAppToken,
	AnthropicKey: AnthropicKey, OpenAIKey: OpenAIKey, GoogleKey: GoogleKey,
	TelegramToken: TelegramToken, SlackBotToken: SlackBotToken, SlackAppToken: SlackAppToken,
}

// prefixes are what a token is known by; the contract names them.
var prefixes = map[string]string{AnthropicKey: "sk-ant-", SlackBotToken: "xoxb-", SlackAppToken: "xapp-"}

const (
	maxSecret  = 8 << 10
	maxSecrets = 64
)

var envName = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)

// SecretName returns the vault's name for what a caller wrote. The second answer
// says what is wrong, if anything.
func SecretName(written string) (name, wrong string) {
	if name, ok := spellings[written]; ok {
		return name, ""
	}
	if !envName.MatchString(written) {
		return "", "is no secret of agento: use anthropicApiKey, openaiApiKey, googleApiKey, telegramBotToken, slackBotToken, slackAppToken, or an UPPER_CASE name for an environment variable"
	}
	if openclaw.ReservedEnv(written) {
		return "", "is reserved: choose another name for the environment variable"
	}
	return written, ""
}

// parseSecrets turns what a caller sent into what the vault keeps, noting every
// broken field under prefix.
func parseSecrets(wrong fault.Fields, prefix string, written map[string]string) map[string]vault.Secret {
	secrets := make(map[string]vault.Secret, len(written))
	if len(written) > maxSecrets {
		wrong.Add(strings.TrimSuffix(prefix, "."), "must have at most %d entries", maxSecrets)
	}
	for w, value := range written {
		name, problem := SecretName(w)
		if problem == "" {
			problem = secretProblem(name, value)
		}
		if _, twice := secrets[name]; twice && problem == "" {
			problem = "is given twice, in two spellings: give it once"
		}
		if problem != "" {
			wrong.Add(prefix+w, "%s", problem)
			continue
		}
		secrets[name] = vault.NewSecret(value)
	}
	return secrets
}

func secretProblem(name, value string) string {
	switch {
	case value == "":
		return "is empty: give a value, or name it in deleteSecrets to remove it"
	case len(value) > maxSecret:
		return "is longer than 8 KiB"
	case strings.ContainsRune(value, 0):
		return "must not contain a NUL character"
	case !envName.MatchString(name) && strings.ContainsAny(value, " \t\r\n"):
		return "must not contain white space: check how it was copied"
	case !strings.HasPrefix(value, prefixes[name]):
		return "must start with " + prefixes[name]
	}
	return ""
}

// provider says which provider an agent with that config and those secret names
// talks to, and by which secret. Both are empty if it has no key.
func provider(o Options, has func(secret string) bool) (named modelprovider.Name, secret string) {
	for _, p := range providerKeys {
		if o.Provider() == string(p.provider) && has(p.secret) {
			return p.provider, p.secret
		}
		if o.Provider() == "" && has(p.secret) {
			return p.provider, p.secret
		}
	}
	return "", ""
}
