package api

import "agento.host/agento/internal/access"

// routes is the whole API on one screen: the contract first, in its order, then
// what we add to it.
func (s *Server) routes() []route {
	return []route{
		row("GET /v1/agents", access.AgentsRead, "List agents", s.listAgents),
		row("POST /v1/agents", access.AgentsWrite, "Create an agent", s.createAgent),
		row("GET /v1/agents/{id}", access.AgentsRead, "Get an agent", s.getAgent),
		row("PATCH /v1/agents/{id}", access.AgentsWrite, "Update an agent", s.updateAgent),
		row("DELETE /v1/agents/{id}", access.AgentsWrite, "Delete an agent", s.deleteAgent),
		row("POST /v1/agents/{id}/start", access.AgentsWrite, "Start an agent", s.startAgent),
		row("POST /v1/agents/{id}/stop", access.AgentsWrite, "Stop an agent", s.stopAgent),
		row("POST /v1/agents/{id}/restart", access.AgentsWrite, "Restart an agent", s.restartAgent),
		row("GET /v1/agents/{id}/status", access.AgentsRead, "Look at an agent now", s.agentStatus),

		row("POST /v1/agents/{id}/chat/messages", access.Chat, "Send a message, stream the answer", s.sendMessage),
		row("GET /v1/agents/{id}/chat/messages", access.Chat, "Read the history", s.history),
		row("GET /v1/agents/{id}/chat/sessions", access.Chat, "List sessions", s.listSessions),
		row("POST /v1/agents/{id}/chat/sessions", access.Chat, "Start a session afresh", s.newSession),

		row("GET /v1/agents/{id}/logs", access.Logs, "Read the log", s.logs),
		row("GET /v1/agents/{id}/logs/stream", access.Logs, "Follow the log", s.followLogs),

		row("GET /v1/account", anyKey, "Get the account", s.account),

		row("PUT /v1/agents/{id}/secrets", access.AgentsWrite, "Set and delete secrets", s.setSecrets),
	}
}
