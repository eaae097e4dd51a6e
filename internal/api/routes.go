package api

import "agento.host/agento/internal/access"

// routes is the whole API on one screen: the contract first, in its order, then
// what we add to it.
func (s *Server) routes() []route {
	return []route{
		row("GET /v1/agents", access.AgentsRead, "List agents", s.listAgents),
		row("POST /v1/agents", access.AgentsWrite, "Create an agent", s.createAgent).creates().orAccepts(),
		row("GET /v1/agents/{id}", access.AgentsRead, "Get an agent", s.getAgent),
		row("PATCH /v1/agents/{id}", access.AgentsWrite, "Update an agent", s.updateAgent),
		row("DELETE /v1/agents/{id}", access.AgentsWrite, "Delete an agent", s.deleteAgent),
		row("POST /v1/agents/{id}/start", access.AgentsWrite, "Start an agent", s.startAgent),
		row("POST /v1/agents/{id}/stop", access.AgentsWrite, "Stop an agent", s.stopAgent),
		row("POST /v1/agents/{id}/restart", access.AgentsWrite, "Restart an agent", s.restartAgent),
		row("GET /v1/agents/{id}/status", access.AgentsRead, "Look at an agent now", s.agentStatus),

		row("POST /v1/agents/{id}/chat/messages", access.Chat, "Send a message, stream the answer", s.sendMessage).streams(chatExample).upTo(maxChatBody),
		row("GET /v1/agents/{id}/chat/messages", access.Chat, "Read the history", s.history),
		row("GET /v1/agents/{id}/chat/sessions", access.Chat, "List sessions", s.listSessions),
		row("POST /v1/agents/{id}/chat/sessions", access.Chat, "Start a session afresh", s.newSession),

		row("GET /v1/agents/{id}/logs", access.Logs, "Read the log", s.logs),
		row("GET /v1/agents/{id}/logs/stream", access.Logs, "Follow the log", s.followLogs).streams(logExample),

		row("GET /v1/agents/{id}/skills", access.Skills, "List an agent's skills", s.listAgentSkills),
		row("POST /v1/agents/{id}/skills", access.Skills, "Install a skill", s.installSkill).creates(),
		row("DELETE /v1/agents/{id}/skills/{skillId}", access.Skills, "Uninstall a skill", s.uninstallSkill),
		row("GET /v1/skills", access.Skills, "Browse the marketplace", s.browseSkills),
		row("GET /v1/skills/{id}", access.Skills, "Get a skill", s.getSkill),

		row("GET /v1/swarms", access.SwarmsRead, "List swarms", s.listSwarms),
		row("POST /v1/swarms", access.SwarmsWrite, "Create a swarm", s.createSwarm).creates(),
		row("GET /v1/swarms/{id}", access.SwarmsRead, "Get a swarm", s.getSwarm),
		row("PATCH /v1/swarms/{id}", access.SwarmsWrite, "Update a swarm", s.updateSwarm),
		row("DELETE /v1/swarms/{id}", access.SwarmsWrite, "Delete a swarm", s.deleteSwarm),

		row("POST /v1/knowledge/ingest", access.KnowledgeWrite, "Ingest texts", s.ingestKnowledge).upTo(maxIngest),
		row("GET /v1/knowledge", access.KnowledgeRead, "List entries", s.listKnowledge),
		row("DELETE /v1/knowledge", access.KnowledgeWrite, "Delete entries", s.deleteKnowledge),

		row("GET /v1/account", anyKey, "Get the account", s.account),

		row("PUT /v1/agents/{id}/secrets", access.AgentsWrite, "Set and delete secrets", s.setSecrets),
		row("GET /v1/agents/{id}/personality", access.AgentsRead, "Read the personality", s.getPersonality),
		row("PUT /v1/agents/{id}/personality", access.AgentsWrite, "Replace SOUL.md", s.setPersonality),
		row("GET /v1/agents/{id}/workflow", access.AgentsRead, "Read the workflow", s.getWorkflow),
		row("PUT /v1/agents/{id}/workflow", access.AgentsWrite, "Replace WORKFLOW.md", s.setWorkflow),
		row("GET /v1/agents/{id}/rules", access.AgentsRead, "List rules", s.listRules),
		row("GET /v1/agents/{id}/rules/{name}", access.AgentsRead, "Read a rule", s.getRule),
		row("PUT /v1/agents/{id}/rules/{name}", access.AgentsWrite, "Make or replace a rule", s.putRule),
		row("DELETE /v1/agents/{id}/rules/{name}", access.AgentsWrite, "Delete a rule", s.deleteRule),

		// Additions.
		row("GET /v1/agents/{id}/personality/versions", access.AgentsRead, "List versions of SOUL.md", s.personalityVersions),
		row("GET /v1/agents/{id}/personality/versions/{n}", access.AgentsRead, "Read a version of SOUL.md", s.personalityVersion),
		row("POST /v1/agents/{id}/personality/versions/{n}/restore", access.AgentsWrite, "Restore a version of SOUL.md", s.restorePersonality),
		row("GET /v1/agents/{id}/workflow/versions", access.AgentsRead, "List versions of WORKFLOW.md", s.workflowVersions),
		row("GET /v1/agents/{id}/workflow/versions/{n}", access.AgentsRead, "Read a version of WORKFLOW.md", s.workflowVersion),
		row("POST /v1/agents/{id}/workflow/versions/{n}/restore", access.AgentsWrite, "Restore a version of WORKFLOW.md", s.restoreWorkflow),
		row("GET /v1/agents/{id}/rules/{name}/versions", access.AgentsRead, "List versions of a rule", s.ruleVersions),
		row("GET /v1/agents/{id}/rules/{name}/versions/{n}", access.AgentsRead, "Read a version of a rule", s.ruleVersion),
		row("POST /v1/agents/{id}/rules/{name}/versions/{n}/restore", access.AgentsWrite, "Restore a version of a rule", s.restoreRule),
		row("GET /v1/swarms/{id}/secrets", access.SwarmsRead, "Name a swarm's secrets", s.swarmSecrets),
		row("PUT /v1/swarms/{id}/secrets", access.SwarmsWrite, "Set and delete a swarm's secrets", s.setSwarmSecrets),
		row("GET /v1/knowledge/search", access.KnowledgeRead, "Search entries", s.searchKnowledge),
		row("PATCH /v1/agents/{id}/skills/{skillId}", access.Skills, "Enable, disable or upgrade a skill", s.updateAgentSkill),
		row("POST /v1/skills", access.Skills, "Upload a skill", s.uploadSkill).creates().upTo(maxUpload),
		row("DELETE /v1/skills/{id}", access.Skills, "Delete an uploaded skill", s.deleteSkill),
		row("GET /v1/audit", access.AgentsRead, "Read the audit log", s.audit),
	}
}
