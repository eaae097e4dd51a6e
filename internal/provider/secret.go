package provider

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"agento.host/agento/internal/fault"
)

// SecretName is the one name that the vault keeps a secret of an agent or a swarm
// under, whichever way its caller wrote it.
type SecretName string

// The secrets that the API names. Every other secret of an agent is an environment
// variable with an UPPER_CASE name.
const (
	AnthropicKey  SecretName = "anthropicApiKey"
	OpenAIKey     SecretName = "openaiApiKey"
	GoogleKey     SecretName = "googleApiKey"
	TelegramToken SecretName = "telegramBotToken"
	SlackBotToken SecretName = "slackBotToken"
	SlackAppToken SecretName = "slackAppToken"
)

const (
	// maxKey is the longest API key or token, in bytes: it is sent in an HTTP header.
	maxKey = 4 << 10
	// maxVariable is the longest value of an environment variable, in bytes.
	maxVariable = 8 << 10
)

// secret is what is known of one of the named secrets.
type secret struct {
	name   SecretName
	alias  string // the other spelling of the name
	prefix string // what every value starts with; the API reference states it
	shared bool   // a swarm may hold it: two agents cannot both be one bot
}

var secrets = []secret{
	{name: AnthropicKey, alias: "anthropic_api_key", prefix: "sk-ant-", shared: true},
	{name: OpenAIKey, alias: "openai_api_key", shared: true},
	{name: GoogleKey, alias: "google_api_key", shared: true},
	{name: TelegramToken, alias: "telegram_bot_token"},
	{name: SlackBotToken, alias: "slack_bot_token", prefix: "xoxb-"},
	{name: SlackAppToken, alias: "slack_app_token", prefix: "xapp-"},
}

func lookup(written string) (secret, bool) {
	i := slices.IndexFunc(secrets, func(s secret) bool { return written == string(s.name) || written == s.alias })
	if i < 0 {
		return secret{}, false
	}
	return secrets[i], true
}

var variableName = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)

// IsExclusive reports whether only one agent of an installation may have a value of the
// secret: two agents with the token of one bot take its messages from each other.
func (n SecretName) IsExclusive() bool {
	s, ok := lookup(string(n))
	return ok && !s.shared
}

// ExclusiveSecrets returns the names for which IsExclusive is true.
func ExclusiveSecrets() []SecretName {
	var names []SecretName
	for _, s := range secrets {
		if s.name.IsExclusive() {
			names = append(names, s.name)
		}
	}
	return names
}

// IsVariable reports whether the secret is an environment variable of the agent.
func (n SecretName) IsVariable() bool { return variableName.MatchString(string(n)) }

// ParseAgentSecret returns the name under which the vault keeps what a caller
// called written. reserved reports the names of variables that the runtime uses
// itself. problem says what is wrong with the name, empty if nothing; it completes a
// sentence that begins with the name of the field.
func ParseAgentSecret(written string, reserved func(variable string) bool) (name SecretName, problem string) {
	if s, ok := lookup(written); ok {
		return s.name, ""
	}
	if !variableName.MatchString(written) {
		return "", "is no secret of agento: use anthropicApiKey, openaiApiKey, googleApiKey, telegramBotToken, slackBotToken, slackAppToken, or an UPPER_CASE name for an environment variable"
	}
	if reserved(written) {
		return "", "is reserved: choose another name for the environment variable"
	}
	return SecretName(written), ""
}

// ParseSharedSecret is ParseAgentSecret for the secrets of a swarm. The problem does
// not repeat the name: somebody may have put the secret there.
func ParseSharedSecret(written string) (name SecretName, problem string) {
	if s, ok := lookup(written); ok && s.shared {
		return s.name, ""
	}
	return "", "must hold anthropicApiKey, openaiApiKey or googleApiKey only; a swarm shares provider credentials, and other secrets belong to an agent"
}

// CheckValue says what is wrong with the value of a secret, empty if nothing. The
// answer never repeats the value. CheckKey has one more rule for the keys of providers.
func (n SecretName) CheckValue(value string) (problem string) {
	if value == "" {
		return "is empty: give a value, or name it in deleteSecrets to remove it"
	}
	if n.IsVariable() {
		return checkVariable(value)
	}
	if len(value) > maxKey {
		return fmt.Sprintf("is longer than %d KiB", maxKey>>10)
	}
	if problem := HeaderProblem(value); problem != "" {
		return problem
	}
	if _, isKey := n.OfKey(); isKey {
		return ""
	}
	return n.checkPrefix(value)
}

// CheckKey says whether the value of a provider's key, which CheckValue has found nothing
// wrong with, is a key of the provider itself. A key for another endpoint, whose base URL
// is baseURL, may have any form. The answer is empty for other secrets.
func (n SecretName) CheckKey(value, baseURL string) (problem string) {
	p, isKey := n.OfKey()
	if !isKey || !p.isOwn(baseURL) {
		return ""
	}
	return n.checkPrefix(value)
}

// isOwn reports whether calls to a base URL go to the provider itself.
func (p Provider) isOwn(baseURL string) bool {
	own, _ := p.Origin("")
	called, err := p.Origin(baseURL)
	return err == nil && called == own
}

func (n SecretName) checkPrefix(value string) (problem string) {
	if known, _ := lookup(string(n)); !strings.HasPrefix(value, known.prefix) {
		return "must start with " + known.prefix
	}
	return ""
}

// HeaderProblem says why a secret cannot be sent in an HTTP header, empty if it can. It
// names the place of the first wrong character, which is often invisible, and not the
// character.
func HeaderProblem(value string) (problem string) {
	position := 0
	for _, r := range value {
		position++
		switch {
		case r == ' ' || r == '\t' || r == '\r' || r == '\n':
			return fmt.Sprintf("must not contain white space, and its character %d is one: check how it was copied", position)
		case r < ' ' || r > '~':
			return fmt.Sprintf("must have printable ASCII characters only, and its character %d is another: check how it was copied", position)
		}
	}
	return ""
}

func checkVariable(value string) string {
	switch {
	case len(value) > maxVariable:
		return fmt.Sprintf("is longer than %d KiB", maxVariable>>10)
	case strings.ContainsRune(value, 0):
		return "must not contain a NUL character"
	case fault.IsBlank(value):
		return "must not consist of blanks: leave it out, or name it in deleteSecrets to remove it"
	}
	return ""
}
