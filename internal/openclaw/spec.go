package openclaw

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/vault"
)

// Agent is what a gateway's specification is made from.
type Agent struct {
	ID       identity.AgentID
	Model    Model
	MCP      *MCP      // nil: no tools of the control plane
	Telegram *Telegram // nil: not connected
	Slack    *Slack    // nil: not connected
	// Env are environment variables for the agent's commands and skills. Spec rejects
	// a name for which ReservedEnv is true.
	Env map[string]vault.Secret
	// Token authenticates the gateway's callers; see NewGateway.
	Token  vault.Secret
	Limits runtime.Limits
}

// MCP is a tool server. The agent calls its tools as `platform__NAME`.
type MCP struct {
	URL   string // as the gateway reaches the server
	Token vault.Secret
}

// Spec returns the specification of an agent's gateway for a driver: command line,
// environment, configuration and secrets. The workspace is not part of it, because
// the agent may have changed it; see WorkspaceFiles.
// Faults: Invalid, with each field of the API's config that cannot be used.
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
		ID:      a.ID,
		Args:    []string{"gateway", "run", "--port", runtime.Port},
		Env:     a.env(),
		Files:   map[string][]byte{configFile: append(config, '\n')},
		Secrets: secrets,
		Limits:  a.Limits,
	}, nil
}

func (a Agent) validate() error {
	wrong := fault.Fields{}
	if _, err := provider.Parse(string(a.Model.Provider.Name)); err != nil {
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
	secretTools     = "Authorization" // a header of the calls of tools
	secretUnset     = "not-set"
	secretsProvider = "agento"
)

// Secrets returns the content of the secrets file. To change the secrets of a
// running gateway, write the file with runtime.Driver.PutSecrets and call
// Gateway.ReloadSecrets.
func (a Agent) Secrets() ([]byte, error) {
	values := map[string]string{
		secretToken: orUnset(a.Token),
		secretModel: orUnset(a.Model.Token),
	}
	if a.MCP != nil {
		values[secretTools] = "Bearer " + orUnset(a.MCP.Token)
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
		return nil, fmt.Errorf("encode the secrets: %w", err)
	}
	return data, nil
}

// orUnset returns a placeholder for an empty secret: OpenClaw would go on using the
// last value of a secret that disappears.
func orUnset(s vault.Secret) string {
	if s.Empty() {
		return secretUnset
	}
	return s.Reveal()
}

// Environment variables that the configuration refers to.
const (
	envHome     = "AGENTO_HOME"
	envSecrets  = "AGENTO_SECRETS"
	envModel    = "AGENTO_MODEL_URL"
	envMCP      = "AGENTO_MCP_URL"
	envTelegram = "AGENTO_TELEGRAM_URL"
)

func (a Agent) env() map[string]vault.Secret {
	plain := map[string]string{
		"OPENCLAW_STATE_DIR":           runtime.HomePath + "/" + stateDir,
		"OPENCLAW_CONFIG_PATH":         runtime.HomePath + "/" + configFile,
		"OPENCLAW_DISABLE_BONJOUR":     "1",
		"OPENCLAW_NO_RESPAWN":          "1", // the gateway keeps the pid that the driver knows
		"OPENCLAW_EXEC_SHELL_SNAPSHOT": "0",
		"OPENCLAW_NO_AUTO_UPDATE":      "1",
		"DO_NOT_TRACK":                 "1",
		"NODE_OPTIONS":                 "--disable-sigusr1", // for its helper processes: SIGUSR1 would open their inspectors
		"NODE_DISABLE_COMPILE_CACHE":   "1",                 // the cache would be in the agent's /tmp, which is empty at each start, and in memory
		"MALLOC_ARENA_MAX":             "2",                 // each of its many threads would get an arena, and a checkpoint saves what is free in them
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
		// The directory of the secrets file, which the configuration includes.
		env["OPENCLAW_INCLUDE_ROOTS"] = vault.NewSecret(runtime.SecretsPath + "/..")
	}
	return env
}

// ReservedEnv reports whether an agent must not define a variable of that name: the
// driver or OpenClaw sets or reads it, shells do not allow it to be set, it changes
// which code programs load, or it holds a provider's key, which would override the
// configuration.
func ReservedEnv(name string) bool {
	for _, prefix := range []string{"OPENCLAW_", "AGENTO_", "CLAWHUB_", "NODE_", "NPM_", "LD_", "DYLD_", "ANTHROPIC_", "BASH"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	switch name {
	case "PATH", "HOME", "TMPDIR", "TMP", "TEMP", "SHELL", "USER", "LOGNAME", "PWD", "ENV", "IFS", "TZ",
		"UID", "EUID", "GROUPS", "PPID", "OPTIND", "LINENO", "RANDOM", "SECONDS", "HISTCMD", "DIRSTACK", "FUNCNAME", "SHELLOPTS",
		"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "DO_NOT_TRACK", "MALLOC_ARENA_MAX",
		"OPENAI_API_KEY", "OPENAI_API_KEYS", "OPENAI_BASE_URL", "GEMINI_API_KEY", "GEMINI_API_KEYS", "GOOGLE_API_KEY",
		"GOOGLE_APPLICATION_CREDENTIALS", "TELEGRAM_BOT_TOKEN", "SLACK_BOT_TOKEN", "SLACK_APP_TOKEN", "SLACK_USER_TOKEN":
		return true
	}
	return false
}
