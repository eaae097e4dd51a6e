package mcp

import "net/http"

// tool is one row of the table: a route of the API as a tool. Its arguments are those of
// the route, where {id} is named after what it is an id of.
type tool struct {
	name, pattern string
	title         string
	description   string   // for a model that chooses among tools
	without       []string // arguments of the route that the tool does not have
	header        [2]string
	chats         bool // the route streams an answer, which is the result
}

// tools is the whole table, in the order in which tools are listed.
func tools() []tool {
	return []tool{
		{name: "get_account", pattern: "GET /v1/account", title: "Get the account", description: "Shows the account with its plan, limits and usage."},

		{name: "list_agents", pattern: "GET /v1/agents", title: "List agents", description: "Lists the agents of the account, newest first, with their ids, names and statuses."},
		{name: "get_agent", pattern: "GET /v1/agents/{id}", title: "Get an agent", description: "Shows one agent with its config, its workflow and its last error."},
		{
			name: "create_agent", pattern: "POST /v1/agents", title: "Create an agent", header: [2]string{"Prefer", "respond-async"},
			description: "Creates an agent and starts it. It answers at once; get_agent_status shows when the agent runs, usually within a minute.",
		},
		{name: "update_agent", pattern: "PATCH /v1/agents/{id}", title: "Update an agent", description: "Changes an agent's name, image, config, swarm or secrets. If needsRestart is true, restart_agent makes a running agent use the change."},
		{name: "delete_agent", pattern: "DELETE /v1/agents/{id}", title: "Delete an agent", description: "Deletes an agent with its sessions, documents, secrets and own knowledge, for ever."},
		{name: "start_agent", pattern: "POST /v1/agents/{id}/start", title: "Start an agent", description: "Starts an agent and waits until it runs, usually less than a minute."},
		{name: "stop_agent", pattern: "POST /v1/agents/{id}/stop", title: "Stop an agent", description: "Stops an agent. It answers no messages until it is started."},
		{name: "restart_agent", pattern: "POST /v1/agents/{id}/restart", title: "Restart an agent", description: "Replaces the gateway of an agent and waits until it runs, usually less than a minute."},
		{name: "get_agent_status", pattern: "GET /v1/agents/{id}/status", title: "Get the live status of an agent", description: "Shows whether an agent runs now, and its memory and CPU time."},
		{name: "get_agent_usage", pattern: "GET /v1/agents/{id}/usage", title: "Show what an agent has used", description: "Shows the tokens and the price of an agent's model calls, by day or by another group."},

		{name: "get_personality", pattern: "GET /v1/agents/{id}/personality", title: "Read the personality", description: "Reads SOUL.md and IDENTITY.md of an agent: how it thinks and speaks."},
		{name: "set_personality", pattern: "PUT /v1/agents/{id}/personality", title: "Replace SOUL.md", description: "Replaces SOUL.md of an agent. Earlier versions are kept."},
		{name: "get_workflow", pattern: "GET /v1/agents/{id}/workflow", title: "Read the workflow", description: "Reads WORKFLOW.md of an agent, its role and procedures, and lists its rules."},
		{name: "set_workflow", pattern: "PUT /v1/agents/{id}/workflow", title: "Replace WORKFLOW.md", description: "Replaces WORKFLOW.md of an agent. Earlier versions are kept."},
		{name: "get_rule", pattern: "GET /v1/agents/{id}/rules/{name}", title: "Read a rule", description: "Reads one rule of an agent."},
		{name: "put_rule", pattern: "PUT /v1/agents/{id}/rules/{name}", title: "Create or replace a rule", description: "Creates or replaces a rule, a procedure that the agent reads when it needs it."},
		{name: "delete_rule", pattern: "DELETE /v1/agents/{id}/rules/{name}", title: "Delete a rule", description: "Deletes a rule of an agent. Its versions are kept."},

		{
			name: "chat", pattern: "POST /v1/agents/{id}/chat/messages", title: "Send a message", chats: true, without: []string{"onDisconnect"},
			description: "Sends a message to an agent and waits for its whole answer, which can take minutes. The second text of the result names the session: pass it as sessionId to go on with the conversation. " +
				"Cancelling the call cancels the turn.",
		},
		{name: "list_messages", pattern: "GET /v1/agents/{id}/chat/messages", title: "Read the history", description: "Reads the messages of an agent's sessions, oldest first."},
		{name: "list_sessions", pattern: "GET /v1/agents/{id}/chat/sessions", title: "List sessions", description: "Lists the sessions of an agent, newest first."},
		{name: "new_session", pattern: "POST /v1/agents/{id}/chat/sessions", title: "Start a new session", description: "Starts a new session of a peer, or of the API key."},
		{name: "get_turn", pattern: "GET /v1/agents/{id}/chat/turns/{turnId}", title: "Get a turn", description: "Shows the state of a turn and its answer so far."},
		{name: "cancel_turn", pattern: "POST /v1/agents/{id}/chat/turns/{turnId}/cancel", title: "Cancel a turn", description: "Ends a turn and its model call."},

		{name: "read_logs", pattern: "GET /v1/agents/{id}/logs", title: "Read the log", description: "Reads the last lines of an agent's log. Secrets in it are masked."},

		{name: "search_knowledge", pattern: "GET /v1/knowledge/search", title: "Search knowledge", description: "Finds the entries of an agent's or a swarm's knowledge base that answer a question, best first. Name either agentId or swarmId."},
		{name: "list_knowledge", pattern: "GET /v1/knowledge", title: "List knowledge", description: "Lists the entries of an agent's or a swarm's knowledge base. Name either agentId or swarmId."},
		{name: "add_knowledge", pattern: "POST /v1/knowledge/ingest", title: "Add knowledge", description: "Stores texts in an agent's or a swarm's knowledge base and skips duplicates. Name either agentId or swarmId."},
		{name: "delete_knowledge", pattern: "DELETE /v1/knowledge", title: "Delete knowledge", description: "Deletes one entry, the entries of one source, or all of a knowledge base. Name either agentId or swarmId."},

		{name: "list_agent_skills", pattern: "GET /v1/agents/{id}/skills", title: "List an agent's skills", description: "Lists the skills that are installed on an agent."},
		{name: "install_skill", pattern: "POST /v1/agents/{id}/skills", title: "Install a skill", description: "Installs a skill on an agent. Read its score and findings with get_skill first."},
		{name: "uninstall_skill", pattern: "DELETE /v1/agents/{id}/skills/{skillId}", title: "Uninstall a skill", description: "Removes a skill from an agent."},
		{name: "browse_skills", pattern: "GET /v1/skills", title: "Browse the marketplace", description: "Finds skills that can be installed, with their security scores."},
		{name: "get_skill", pattern: "GET /v1/skills/{id}", title: "Get a skill", description: "Shows one skill with what the security scan has found in it."},

		{name: "list_swarms", pattern: "GET /v1/swarms", title: "List swarms", description: "Lists the swarms of the account, newest first."},
		{name: "get_swarm", pattern: "GET /v1/swarms/{id}", title: "Get a swarm", description: "Shows one swarm with its agents."},
		{name: "create_swarm", pattern: "POST /v1/swarms", title: "Create a swarm", description: "Creates a swarm: agents that share credentials and knowledge."},
		{name: "update_swarm", pattern: "PATCH /v1/swarms/{id}", title: "Update a swarm", description: "Changes a swarm."},
		{name: "delete_swarm", pattern: "DELETE /v1/swarms/{id}", title: "Delete a swarm", description: "Deletes a swarm with its credentials and knowledge. Its agents stay."},
	}
}

// idNames are the arguments for {id} by the first part of the path.
func idNames() map[string]string {
	return map[string]string{"agents": "agentId", "swarms": "swarmId", "skills": "skillId"}
}

// readsOnly reports whether a method changes nothing.
func readsOnly(method string) bool { return method == http.MethodGet }
