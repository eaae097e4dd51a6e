package openclaw

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/vault"
)

// Agent is what a gateway has to know of its agent.
type Agent struct {
	ID       string
	Model    Model
	MCP      *MCP      // nil: no tools of the control plane
	Telegram *Telegram // nil: not connected
	Slack    *Slack    // nil: not connected
	// Env are variables of the agent's own, for its commands and skills. A name
	// for which ReservedEnv is true is refused.
	Env map[string]vault.Secret
	// Token is what a caller of the gateway must show; see Gateway.
	Token  vault.Secret
	Limits runtime.Limits
}

// MCP is a server of tools that the agent may call, as `platform__NAME`.
type MCP struct {
	URL   string // as the gateway reaches it
	Token vault.Secret
}

// Spec is the gateway of an agent, ready for a driver: its command line,
// environment, configuration and secrets. The workspace is not part of it, since
// the agent may have changed it: see WorkspaceFiles.
// Faults: Invalid, naming each field of the API's config that cannot be used.
func Spec(a Agent) (runtime.Spec, error) {
	if err := a.validate(); err != nil {
		return runtime.Spec{}, err
	}
	config, err := json.MarshalIndent(a.config(), "", "  ")
	if err != nil {
		return runtime.Spec{}, fmt.Errorf("render the configuration: %w", err)
	}
	secrets, err := a.Secrets()
	if err != nil {
		return runtime.Spec{}, err
	}
	return runtime.Spec{
		ID:      identity.AgentID(a.ID),
		Args:    []string{"gateway", "run", "--port", runtime.Port},
		Env:     a.env(),
		Files:   map[string][]byte{configFile: append(config, '\n')},
		Secrets: secrets,
		Limits:  a.Limits,
	}, nil
}

func (a Agent) validate() error {
	wrong := fault.Fields{}
	if _, err := ParseProvider(string(a.Model.Provider)); err != nil {
		wrong.Add("config.llmProvider", "%v", err)
	}
	if strings.ContainsAny(a.Model.ID, " \t\r\n") || len(a.Model.ID) > 200 {
		wrong.Add("config.model", "must be the provider's name for a model: at most 200 characters, no spaces")
	}
	for name := range a.Env {
		if ReservedEnv(name) {
			wrong.Add("secrets."+name, "is a name that the agent's runtime uses itself")
		}
	}
	return wrong.Err()
}

// Names of the values in the secrets file.
const (
	secretToken     = "gatewayToken"
	secretModel     = "modelToken"
	secretTelegram  = "telegramBotToken"
	secretSlackBot  = "slackBotToken"
	secretSlackApp  = "slackAppToken"
	secretUnset     = "not-set"
	secretsProvider = "agento"
)

// Secrets is the content of the secrets file. A running gateway takes a changed
// one through runtime.Driver.PutSecrets and Gateway.ReloadSecrets.
func (a Agent) Secrets() ([]byte, error) {
	values := map[string]string{
		secretToken: orUnset(a.Token),
		secretModel: orUnset(a.Model.Token),
	}
	if a.Telegram != nil {
		values[secretTelegram] = orUnset(a.Telegram.Token)
	}
	if a.Slack != nil {
		values[secretSlackBot] = orUnset(a.Slack.BotToken)
		values[secretSlackApp] = orUnset(a.Slack.AppToken)
	}
	data, err := json.Marshal(values)
	if err != nil {
		return nil, fmt.Errorf("write the secrets: %w", err)
	}
	return data, nil
}

// orUnset gives a worthless value for a missing one: OpenClaw keeps the last good
// secret in use when one disappears.
func orUnset(s vault.Secret) string {
	if s.Empty() {
		return secretUnset
	}
	return s.Reveal()
}

// Variables that the configuration refers to.
const (
	envHome     = "AGENTO_HOME"
	envSecrets  = "AGENTO_SECRETS"
	envModel    = "AGENTO_MODEL_URL"
	envMCP      = "AGENTO_MCP_URL"
	envMCPToken = "AGENTO_MCP_TOKEN"
	envTelegram = "AGENTO_TELEGRAM_URL"
)

func (a Agent) env() map[string]vault.Secret {
	plain := map[string]string{
		"OPENCLAW_STATE_DIR":           runtime.HomePath + "/" + stateDir,
		"OPENCLAW_CONFIG_PATH":         runtime.HomePath + "/" + configFile,
		"OPENCLAW_DISABLE_BONJOUR":     "1",
		"OPENCLAW_NO_RESPAWN":          "1", // the pid that the driver knows stays the gateway's
		"OPENCLAW_EXEC_SHELL_SNAPSHOT": "0",
		"OPENCLAW_NO_AUTO_UPDATE":      "1",
		"DO_NOT_TRACK":                 "1",
		envHome:                        runtime.HomePath,
		envSecrets:                     runtime.SecretsPath,
		envModel:                       strings.TrimRight(a.Model.URL, "/"),
	}
	if a.Telegram != nil && a.Telegram.URL != "" {
		plain[envTelegram] = strings.TrimRight(a.Telegram.URL, "/")
	}
	env := make(map[string]vault.Secret, len(plain)+len(a.Env))
	maps.Copy(env, a.Env)
	for name, value := range plain {
		env[name] = vault.NewSecret(value)
	}
	if a.MCP != nil {
		env[envMCP] = vault.NewSecret(a.MCP.URL)
		env[envMCPToken] = a.MCP.Token
	}
	return env
}

// ReservedEnv says whether an agent must not have a variable of that name of its
// own: the driver or OpenClaw sets or reads it, shells do not let it be set, or it
// changes what programs load.
// A provider's key in the environment would win over the configuration.
func ReservedEnv(name string) bool {
	for _, prefix := range []string{"OPENCLAW_", "AGENTO_", "CLAWHUB_", "NODE_", "NPM_", "LD_", "DYLD_", "ANTHROPIC_", "BASH"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	switch name {
	case "PATH", "HOME", "TMPDIR", "TMP", "TEMP", "SHELL", "USER", "LOGNAME", "PWD", "ENV", "IFS", "TZ",
		"UID", "EUID", "GROUPS", "PPID", "OPTIND", "LINENO", "RANDOM", "SECONDS", "HISTCMD", "DIRSTACK", "FUNCNAME", "SHELLOPTS",
		"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "DO_NOT_TRACK",
		"OPENAI_API_KEY", "OPENAI_API_KEYS", "OPENAI_BASE_URL", "GEMINI_API_KEY", "GEMINI_API_KEYS", "GOOGLE_API_KEY",
		"GOOGLE_APPLICATION_CREDENTIALS", "TELEGRAM_BOT_TOKEN", "SLACK_BOT_TOKEN", "SLACK_APP_TOKEN", "SLACK_USER_TOKEN":
		return true
	}
	return false
}
