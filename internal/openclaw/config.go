package openclaw

import (
	"strings"

	"agento.host/agento/internal/runtime"
)

type (
	object = map[string]any
	list   = []any
)

// Paths below the home.
const (
	configFile = "openclaw.json"
	stateDir   = "state"
	logFile    = "logs/openclaw.log"
)

// config renders openclaw.json. Every feature that is off here would otherwise write
// files, open connections or use memory although the agent's owner did not ask for
// it.
func (a Agent) config() object {
	channels, bindings := a.channels()
	c := object{
		"gateway": object{
			"mode": "local", "bind": "loopback",
			"auth":      object{"mode": "token", "token": secretRef(secretToken)},
			"controlUi": object{"enabled": false, "sessionObserver": false, "automaticallyFetchFavicons": false},
			"terminal":  object{"enabled": false},
			"cliAgents": object{"enabled": false},
			"http":      object{"endpoints": object{"chatCompletions": object{"enabled": true}}},
		},
		"secrets": object{"providers": object{secretsProvider: object{
			"source": "file", "path": "${" + envSecrets + "}", "mode": "json",
		}}},
		"models": object{
			"mode": "replace", "catalogRefresh": object{"enabled": false},
			"providers": object{string(a.Model.Provider.Name): a.Model.config()},
		},
		"agents":   a.entries(),
		"bindings": bindings,
		"channels": channels,
		"session": object{
			"dmScope": "per-channel-peer", "notifyOnCreate": false,
			"maintenance": object{"resetArchiveRetention": "1d"}, // of deleted transcripts
		},
		"plugins": a.plugins(),
		"skills": object{
			// An empty list would allow every bundled skill. No skill has this name.
			"allowBundled": list{"none"},
			"load":         object{"extraDirs": list{inHome(SkillsDir)}},
			"workshop":     object{"autonomous": object{"mode": "off"}},
		},
		"tools":    a.tools(),
		"commands": commands(),
		"hooks": object{"internal": object{"entries": object{
			"bootstrap-extra-files": object{"enabled": true, "paths": list{injectedFile}},
		}}},
		"logging": object{
			"file": inHome(logFile), "level": "warn", "maxFileBytes": 1 << 20,
			"consoleLevel": "info", "consoleStyle": "json", "audit": object{"enabled": false},
		},
		"update":      object{"checkOnStart": false, "auto": object{"enabled": false}},
		"telemetry":   object{"enabled": false},
		"diagnostics": object{"enabled": false},
		"discovery":   object{"mdns": object{"mode": "off"}},
		"browser":     object{"enabled": false},
		"cron":        object{"enabled": false},
		"transcripts": object{"enabled": false},
		"memory":      object{"search": object{"enabled": false}},
	}
	if a.MCP != nil {
		c["mcp"] = object{"servers": object{"platform": object{
			"url": "${" + envMCP + "}", "transport": "streamable-http",
			"headers": a.toolHeaders(),
		}}}
	}
	return c
}

// commands turns off everything that OpenClaw does with a message of a channel instead of
// giving it to the model. Without the allow list, words such as "stop" would still be
// commands, and an option of a session that an earlier version let its peer set, such as
// showing the model's reasoning, would stay in use. The channels are named: "*" would deny
// the commands of the control connection too.
func commands() object {
	nobody := list{}
	return object{
		"native": false, "nativeSkills": false, "text": false, "bash": false, "config": false, "restart": false,
		"mcp": false, "plugins": false, "debug": false,
		"allowFrom": object{channelTelegram: nobody, channelSlack: nobody},
	}
}

func (a Agent) entries() object {
	return object{
		"ownership": "explicit",
		"defaults": object{
			"model":                  object{"primary": string(a.Model.Provider.Name) + "/" + literal(a.Model.id())},
			"utilityModel":           "", // no background calls for titles and recaps
			"thinkingDefault":        a.Model.thinking(),
			"skipBootstrap":          true,
			"bootstrapMaxChars":      maxInjected,
			"bootstrapTotalMaxChars": 4 * maxInjected,
			"heartbeat":              object{"every": "0m"},
			"startupContext":         object{"enabled": false},
			"compaction":             object{"memoryFlush": object{"enabled": false}},
		},
		"entries": object{
			string(Main): object{
				"workspace": inHome(Main.Workspace()),
				"tools":     object{"allow": a.withMCP("read", "write", "edit", "apply_patch", "ls", "exec", "process", "web_fetch")},
			},
			string(Guest): object{
				"workspace": inHome(Guest.Workspace()),
				"tools": object{
					"allow": a.withMCP("read", "web_fetch"),
					"deny":  list{"exec", "process", "write", "edit", "apply_patch", "group:sessions", "group:memory", "group:messaging"},
				},
			},
			string(Task): object{
				"workspace": inHome(Task.Workspace()),
				"skills":    list{},
				"tools":     object{"deny": list{"*"}},
			},
		},
	}
}

func (a Agent) tools() object {
	return object{
		// Each entry allows its own tools: with an allowlist here, OpenClaw refuses the turns of an
		// entry that has none.
		"deny": list{"group:automation", "group:ui", "group:nodes"},
		"fs":   object{"workspaceOnly": true},
		// The sandbox around the gateway confines its commands. There is no person who
		// could approve each of them.
		"exec":     object{"host": "gateway", "security": "full", "ask": "off"},
		"sessions": object{"visibility": "self"},
		// The names that an agent resolves have addresses of this range: see package egress.
		"web":           object{"fetch": object{"ssrfPolicy": object{"allowRfc2544BenchmarkRange": true}}},
		"loopDetection": object{"enabled": true}, // it notices loops that the limits of a turn do not
		"toolSearch":    false, "codeMode": false, "updatePlan": false, "swarm": false,
	}
}

// withMCP adds the tools of the MCP server if there is one.
func (a Agent) withMCP(tools ...any) list {
	if a.MCP != nil {
		tools = append(tools, "bundle-mcp")
	}
	return tools
}

func (a Agent) plugins() object {
	allow := list{string(a.Model.Provider.Name), "web-readability"}
	p := object{"slots": object{"memory": "none"}}
	if a.Telegram != nil {
		allow = append(allow, "telegram")
	}
	if a.Slack != nil {
		allow = append(allow, "slack")
	}
	p["allow"] = allow
	return p
}

func secretRef(name string) object {
	return object{"source": "file", "provider": secretsProvider, "id": "/" + name}
}

func inHome(path string) string { return "${" + envHome + "}/" + path }

// literal escapes a caller's text, so that OpenClaw does not read it as a reference
// to the environment.
func literal(s string) string { return strings.ReplaceAll(s, "${", "$${") }

// toolHeaders returns the headers of the calls of tools. OpenClaw takes headers from no
// secret reference, and from the environment every program of the agent could read them.
// So they are the secrets file, whose other values are made empty.
func (a Agent) toolHeaders() object {
	headers := object{"$include": runtime.SecretsPath}
	for _, name := range []string{secretToken, secretModel, secretTelegram, secretSlackBot, secretSlackApp} {
		headers[name] = ""
	}
	return headers
}
