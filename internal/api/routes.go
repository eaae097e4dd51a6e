package api

import (
	"context"
	"net/http"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agentarchive"
	"agento.host/agento/internal/rest"
)

// anyKey is the scope of routes that every valid key may use, whatever its plan.
const anyKey access.Scope = ""

// What a route's plan must have. All but anyPlan include the API itself.
const (
	anyPlan           = ""
	needsAPI          = access.FeatureAPIAccess
	needsSwarms       = access.FeatureSwarms
	needsKnowledge    = access.FeatureKnowledge
	needsCustomSkills = access.FeatureCustomSkills
)

// Errors that a route's service answers. Every route also answers those of
// commonErrors and those that package rest adds (400, 500; with a body 413 and 415).
const (
	notFound = http.StatusNotFound
	conflict = http.StatusConflict // also agent_not_running
	upstream = http.StatusBadGateway
	timeout  = http.StatusGatewayTimeout
)

func commonErrors() []int {
	return []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable}
}

// What the larger responses take of the account's memory, with their JSON: most of these
// texts are bounded to 4 MiB.
const (
	maxAnswer   = 12 << 20
	largeAnswer = 1 << 20
	followedLog = 2 << 20 // lines that a slow reader has not read

	archiveMemory = 8 << 20 // a member of an archive, and what is made of it
)

// stopPattern is the route that also works if the database takes no writes.
const stopPattern = "POST /v1/agents/{id}/stop"

// revokePattern is the route that also works while the installation is quiet.
const revokePattern = "DELETE /v1/keys/{id}"

// routes is the whole API on one screen: first the contract, in its order, then
// the additions to it.
func (s *Server) routes() []route {
	return []route{
		row("GET /v1/agents", access.AgentsRead, needsAPI, "List agents", s.listAgents).answers(largeAnswer),
		row("POST /v1/agents", access.AgentsWrite, needsAPI, "Create an agent", s.createAgent, notFound, conflict, upstream, timeout).creates().async().check(rest.CheckBody(s.checkNewAgent)),
		row("GET /v1/agents/{id}", access.AgentsRead, needsAPI, "Get an agent", s.getAgent, notFound),
		row("PATCH /v1/agents/{id}", access.AgentsWrite, needsAPI, "Update an agent", s.updateAgent, notFound, conflict),
		row("DELETE /v1/agents/{id}", access.AgentsWrite, needsAPI, "Delete an agent", s.deleteAgent, notFound, timeout),
		row("POST /v1/agents/{id}/start", access.AgentsWrite, needsAPI, "Start an agent", s.startAgent, notFound, conflict, upstream, timeout).async(),
		row(stopPattern, access.AgentsWrite, needsAPI, "Stop an agent", s.stopAgent, notFound, conflict, upstream, timeout).async(),
		row("POST /v1/agents/{id}/restart", access.AgentsWrite, needsAPI, "Restart an agent", s.restartAgent, notFound, conflict, upstream, timeout).async(),
		row("GET /v1/agents/{id}/status", access.AgentsRead, needsAPI, "Get the live status of an agent", s.agentStatus, notFound),

		streamRow("POST /v1/agents/{id}/chat/messages", access.Chat, needsAPI, "Send a message and stream the answer", chatExample, s.sendMessage, notFound, conflict, upstream, timeout).upTo(maxChatBody).reopens(s.reopenTurn).sends("ChatEvent", chatEvents()).tells(turnHeader, "Id of the turn: follow it after a broken connection, or cancel it."),
		row("GET /v1/agents/{id}/chat/messages", access.Chat, needsAPI, "Read the history", s.history, notFound).answers(maxAnswer),
		row("GET /v1/agents/{id}/chat/sessions", access.Chat, needsAPI, "List sessions", s.listSessions, notFound),
		row("POST /v1/agents/{id}/chat/sessions", access.Chat, needsAPI, "Start a new session", s.newSession, notFound, conflict).checksReplay(s.checkNewSessionReplay),

		row("GET /v1/agents/{id}/logs", access.Logs, needsAPI, "Read the log", s.logs, notFound, conflict).answers(maxAnswer),
		streamRow("GET /v1/agents/{id}/logs/stream", access.Logs, needsAPI, "Follow the log", logExample, s.followLogs, notFound, conflict).answers(followedLog),

		row("GET /v1/agents/{id}/skills", access.Skills, needsAPI, "List an agent's skills", s.listAgentSkills, notFound),
		row("POST /v1/agents/{id}/skills", access.Skills, needsAPI, "Install a skill", s.installSkill, notFound, conflict, upstream, timeout).creates(),
		row("DELETE /v1/agents/{id}/skills/{skillId}", access.Skills, needsAPI, "Uninstall a skill", s.uninstallSkill, notFound),
		row("GET /v1/skills", access.Skills, needsAPI, "Browse the marketplace", s.browseSkills, notFound, upstream, timeout),
		row("GET /v1/skills/{id}", access.Skills, needsAPI, "Get a skill", s.getSkill, notFound, conflict, upstream, timeout).answers(largeAnswer),

		row("GET /v1/swarms", access.SwarmsRead, needsAPI, "List swarms", s.listSwarms),
		row("POST /v1/swarms", access.SwarmsWrite, needsSwarms, "Create a swarm", s.createSwarm, conflict).creates(),
		row("GET /v1/swarms/{id}", access.SwarmsRead, needsAPI, "Get a swarm", s.getSwarm, notFound),
		row("PATCH /v1/swarms/{id}", access.SwarmsWrite, needsAPI, "Update a swarm", s.updateSwarm, notFound),
		row("DELETE /v1/swarms/{id}", access.SwarmsWrite, needsAPI, "Delete a swarm", s.deleteSwarm, notFound),

		row("POST /v1/knowledge/ingest", access.KnowledgeWrite, needsKnowledge, "Ingest texts", s.ingestKnowledge, notFound, conflict, upstream, timeout).upTo(maxIngest),
		row("GET /v1/knowledge", access.KnowledgeRead, needsAPI, "List entries", s.listKnowledge, notFound).answers(maxAnswer),
		row("DELETE /v1/knowledge", access.KnowledgeWrite, needsAPI, "Delete entries", s.deleteKnowledge, notFound),

		row("GET /v1/account", anyKey, anyPlan, "Get the account", s.account),

		row("PUT /v1/agents/{id}/secrets", access.AgentsWrite, needsAPI, "Set and delete secrets", s.setSecrets, notFound, conflict),
		row("GET /v1/agents/{id}/personality", access.AgentsRead, needsAPI, "Read the personality", s.getPersonality, notFound),
		row("PUT /v1/agents/{id}/personality", access.AgentsWrite, needsAPI, "Replace SOUL.md", s.setPersonality, notFound, conflict),
		row("GET /v1/agents/{id}/workflow", access.AgentsRead, needsAPI, "Read the workflow", s.getWorkflow, notFound),
		row("PUT /v1/agents/{id}/workflow", access.AgentsWrite, needsAPI, "Replace WORKFLOW.md", s.setWorkflow, notFound, conflict),
		row("GET /v1/agents/{id}/rules", access.AgentsRead, needsAPI, "List rules", s.listRules, notFound),
		row("GET /v1/agents/{id}/rules/{name}", access.AgentsRead, needsAPI, "Read a rule", s.getRule, notFound),
		row("PUT /v1/agents/{id}/rules/{name}", access.AgentsWrite, needsAPI, "Create or replace a rule", s.putRule, notFound, conflict),
		row("DELETE /v1/agents/{id}/rules/{name}", access.AgentsWrite, needsAPI, "Delete a rule", s.deleteRule, notFound),

		// Additions.
		row("PATCH /v1/agents/{id}/chat/sessions/{sessionId}", access.Chat, needsAPI, "Name a session", s.renameSession, notFound, conflict),
		row("GET /v1/agents/{id}/chat/turns", access.Chat, needsAPI, "List turns", s.listTurns, notFound),
		row("GET /v1/agents/{id}/chat/turns/{turnId}", access.Chat, needsAPI, "Get a turn", s.getTurn, notFound).answers(maxAnswer),
		streamRow("GET /v1/agents/{id}/chat/turns/{turnId}/stream", access.Chat, needsAPI, "Follow the answer of a turn", chatExample, s.followTurn, notFound, conflict, upstream, timeout).answers(largeAnswer).sends("ChatEvent", chatEvents()).tells(turnHeader, "Id of the turn: follow it after a broken connection, or cancel it."),
		row("POST /v1/agents/{id}/chat/turns/{turnId}/cancel", access.Chat, needsAPI, "Cancel a turn", s.cancelTurn, notFound).checksReplay(s.checkTurnReplay),
		row("GET /v1/agents/{id}/personality/versions", access.AgentsRead, needsAPI, "List versions of SOUL.md", s.personalityVersions, notFound),
		row("GET /v1/agents/{id}/personality/versions/{n}", access.AgentsRead, needsAPI, "Read a version of SOUL.md", s.personalityVersion, notFound),
		row("POST /v1/agents/{id}/personality/versions/{n}/restore", access.AgentsWrite, needsAPI, "Restore a version of SOUL.md", s.restorePersonality, notFound),
		row("POST /v1/agents/{id}/personality/versions/{n}/approve", access.AgentsWrite, needsAPI, "Approve the agent's edit of SOUL.md", s.approvePersonality, notFound, conflict),
		row("POST /v1/agents/{id}/personality/versions/{n}/reject", access.AgentsWrite, needsAPI, "Reject the agent's edit of SOUL.md", s.rejectPersonality, notFound, conflict),
		row("GET /v1/agents/{id}/identity/versions", access.AgentsRead, needsAPI, "List versions of IDENTITY.md", s.identityVersions, notFound),
		row("GET /v1/agents/{id}/identity/versions/{n}", access.AgentsRead, needsAPI, "Read a version of IDENTITY.md", s.identityVersion, notFound),
		row("POST /v1/agents/{id}/identity/versions/{n}/restore", access.AgentsWrite, needsAPI, "Restore a version of IDENTITY.md", s.restoreIdentity, notFound),
		row("POST /v1/agents/{id}/identity/versions/{n}/approve", access.AgentsWrite, needsAPI, "Approve the agent's edit of IDENTITY.md", s.approveIdentity, notFound, conflict),
		row("POST /v1/agents/{id}/identity/versions/{n}/reject", access.AgentsWrite, needsAPI, "Reject the agent's edit of IDENTITY.md", s.rejectIdentity, notFound, conflict),
		row("GET /v1/agents/{id}/workflow/versions", access.AgentsRead, needsAPI, "List versions of WORKFLOW.md", s.workflowVersions, notFound),
		row("GET /v1/agents/{id}/workflow/versions/{n}", access.AgentsRead, needsAPI, "Read a version of WORKFLOW.md", s.workflowVersion, notFound),
		row("POST /v1/agents/{id}/workflow/versions/{n}/restore", access.AgentsWrite, needsAPI, "Restore a version of WORKFLOW.md", s.restoreWorkflow, notFound),
		row("POST /v1/agents/{id}/workflow/versions/{n}/approve", access.AgentsWrite, needsAPI, "Approve the agent's edit of WORKFLOW.md", s.approveWorkflow, notFound, conflict),
		row("POST /v1/agents/{id}/workflow/versions/{n}/reject", access.AgentsWrite, needsAPI, "Reject the agent's edit of WORKFLOW.md", s.rejectWorkflow, notFound, conflict),
		row("GET /v1/agents/{id}/rules/{name}/versions", access.AgentsRead, needsAPI, "List versions of a rule", s.ruleVersions, notFound),
		row("GET /v1/agents/{id}/rules/{name}/versions/{n}", access.AgentsRead, needsAPI, "Read a version of a rule", s.ruleVersion, notFound),
		row("POST /v1/agents/{id}/rules/{name}/versions/{n}/restore", access.AgentsWrite, needsAPI, "Restore a version of a rule", s.restoreRule, notFound, conflict),
		row("POST /v1/agents/{id}/rules/{name}/versions/{n}/approve", access.AgentsWrite, needsAPI, "Approve the agent's edit of a rule", s.approveRule, notFound, conflict),
		row("POST /v1/agents/{id}/rules/{name}/versions/{n}/reject", access.AgentsWrite, needsAPI, "Reject the agent's edit of a rule", s.rejectRule, notFound, conflict),
		row("GET /v1/agents/{id}/edits", access.AgentsRead, needsAPI, "List the agent's edits that wait for approval", s.pendingEdits, notFound),
		row("GET /v1/agents/{id}/secrets", access.AgentsRead, needsAPI, "List the names of an agent's secrets", s.agentSecrets, notFound),
		row("GET /v1/swarms/{id}/secrets", access.SwarmsRead, needsAPI, "List the names of a swarm's secrets", s.swarmSecrets, notFound),
		row("PUT /v1/swarms/{id}/secrets", access.SwarmsWrite, needsAPI, "Set and delete a swarm's secrets", s.setSwarmSecrets, notFound, conflict),
		row("GET /v1/knowledge/search", access.KnowledgeRead, needsAPI, "Search entries", s.searchKnowledge, notFound, upstream, timeout).answers(largeAnswer),
		row("POST /v1/knowledge/files", access.KnowledgeWrite, needsKnowledge, "Ingest a file", s.ingestFile, notFound, conflict, upstream, timeout).upTo(maxKnowledgeFile).answers(maxAnswer),
		row("GET /v1/knowledge/bases", access.KnowledgeRead, needsAPI, "List knowledge bases", s.knowledgeBases).answers(largeAnswer),
		row("GET /v1/knowledge/sources", access.KnowledgeRead, needsAPI, "List sources", s.knowledgeSources, notFound).answers(largeAnswer),
		row("GET /v1/knowledge/{entryId}", access.KnowledgeRead, needsAPI, "Get an entry", s.getKnowledgeEntry, notFound),
		row("PATCH /v1/knowledge/{entryId}", access.KnowledgeWrite, needsKnowledge, "Change an entry", s.editKnowledge, notFound, conflict, upstream, timeout),
		row("POST /v1/agents/{id}/tokens/rotate", access.AgentsWrite, needsAPI, "Replace the gateway's tokens", s.rotateTokens, notFound, conflict),
		downloadRow("GET /v1/agents/{id}/export", access.AgentsWrite, needsAPI, "Export an agent as a file", agentarchive.ContentType, s.exportAgent, notFound, conflict).answers(archiveMemory),
		row("POST /v1/agents/import", access.AgentsWrite, needsAPI, "Import an agent from a file", s.importAgent, notFound, conflict, upstream, timeout).creates().upTo(agentarchive.MaxBytes).answers(archiveMemory),
		row("PATCH /v1/agents/{id}/skills/{skillId}", access.Skills, needsAPI, "Enable, disable or upgrade a skill", s.updateAgentSkill, notFound, conflict, upstream, timeout),
		row("POST /v1/skills", access.Skills, needsCustomSkills, "Upload a skill", s.uploadSkill, conflict).creates().upTo(maxUpload),
		row("DELETE /v1/skills/{id}", access.Skills, needsAPI, "Delete an uploaded skill", s.deleteSkill, notFound),
		row("GET /v1/agents/{id}/network", access.AgentsRead, needsAPI, "Show where an agent connects to", s.agentNetwork, notFound),
		row("GET /v1/keys", access.AccountAdmin, needsAPI, "List API keys", s.listKeys).answers(largeAnswer),
		row("POST /v1/keys", access.AccountAdmin, needsAPI, "Make an API key", s.createKey, conflict).creates(),
		row("GET /v1/keys/{id}", access.AccountAdmin, needsAPI, "Get an API key", s.getKey, notFound),
		row("PATCH /v1/keys/{id}", access.AccountAdmin, needsAPI, "Change an API key", s.updateKey, notFound, conflict),
		row("POST /v1/keys/{id}/rotate", access.AccountAdmin, needsAPI, "Give an API key a new secret", s.rotateKey, notFound, conflict),
		row(revokePattern, access.AccountAdmin, needsAPI, "Revoke an API key", s.revokeKey, notFound),
		row("GET /v1/widgets", access.AgentsRead, needsAPI, "List chat widgets", s.listWidgets).answers(largeAnswer),
		row("POST /v1/widgets", access.AgentsWrite, needsAPI, "Make a chat widget", s.createWidget, notFound, conflict).creates().checksReplay(s.checkWidgetReplay),
		row("GET /v1/widgets/{id}", access.AgentsRead, needsAPI, "Get a chat widget", s.getWidget, notFound),
		row("PATCH /v1/widgets/{id}", access.AgentsWrite, needsAPI, "Change a chat widget", s.updateWidget, notFound, conflict),
		row("DELETE /v1/widgets/{id}", access.AgentsWrite, needsAPI, "Delete a chat widget", s.deleteWidget, notFound),
		row("POST /v1/widgets/{id}/rotate", access.AgentsWrite, needsAPI, "Give a chat widget another key", s.rotateWidgetKey, notFound, conflict),
		row("POST /v1/widgets/{id}/secret/rotate", access.AgentsWrite, needsAPI, "Give a chat widget another signing secret", s.rotateWidgetSecret, notFound, conflict).checksReplay(s.checkWidgetReplay),
		row("GET /v1/members", access.AccountAdmin, needsAPI, "List people", s.listMembers).answers(largeAnswer),
		row("GET /v1/members/{id}", access.AccountAdmin, needsAPI, "Get a person", s.getMember, notFound),
		row("PATCH /v1/members/{id}", access.AccountAdmin, needsAPI, "Change the role of a person", s.updateMember, notFound, conflict),
		row("DELETE /v1/members/{id}", access.AccountAdmin, needsAPI, "Remove a person", s.removeMember, notFound, conflict),
		row("GET /v1/members/invitations", access.AccountAdmin, needsAPI, "List invitations", s.listInvitations),
		row("POST /v1/members/invitations", access.AccountAdmin, needsAPI, "Invite a person", s.createInvitation, notFound, conflict).creates(),
		row("DELETE /v1/members/invitations/{id}", access.AccountAdmin, needsAPI, "Revoke an invitation", s.revokeInvitation, notFound),
		row("GET /v1/swarms/{id}/members", access.SwarmsRead, needsAPI, "List the people of a swarm", s.listSwarmMembers, notFound).answers(largeAnswer),
		row("POST /v1/swarms/{id}/members", access.SwarmsWrite, needsAPI, "Add a person to a swarm", s.addSwarmMember, notFound),
		row("DELETE /v1/swarms/{id}/members/{userId}", access.SwarmsWrite, needsAPI, "Remove a person from a swarm", s.removeSwarmMember, notFound),
		row("GET /v1/usage", access.AgentsRead, needsAPI, "Show what the account has used", s.accountUsage).answers(largeAnswer),
		row("GET /v1/agents/{id}/usage", access.AgentsRead, needsAPI, "Show what an agent has used", s.agentUsage, notFound).answers(largeAnswer),
		row("GET /v1/attention", access.AgentsRead, needsAPI, "List what waits for a person", s.listAttention).answers(largeAnswer),
		row("POST /v1/attention/{id}/dismiss", access.AgentsWrite, needsAPI, "Dismiss what waits", s.dismissAttention, notFound, conflict),
		row("POST /v1/providers/check", access.AgentsWrite, needsAPI, "Check a key of a model provider", s.checkProvider),
		row("GET /v1/sessions", access.Chat, needsAPI, "List the sessions of all agents", s.recentSessions),
		row("GET /v1/starters", access.AgentsRead, needsAPI, "List starters", s.listStarters),
		row("GET /v1/audit", access.AgentsRead, needsAPI, "Read the audit log", s.audit).answers(largeAnswer),
	}
}

// route is one row of the table.
type route struct {
	rest.Route
	scope   access.Scope
	feature string
}

// row returns a route that answers with JSON. errors are the statuses that its
// service answers.
func row[I, O any](pattern string, scope access.Scope, feature, summary string, handle func(context.Context, access.Principal, *I) (*O, error), errors ...int) route {
	return newRoute(scope, feature, errors, rest.NewRoute(pattern, summary, func(ctx context.Context, in *I) (*O, error) {
		return handle(ctx, callerOf(ctx), in)
	}))
}

// streamRow returns a route that answers with events such as those of the example.
func streamRow[I any](pattern string, scope access.Scope, feature, summary, example string, handle func(context.Context, access.Principal, *I) (*rest.Stream, error), errors ...int) route {
	return newRoute(scope, feature, errors, rest.NewStreamRoute(pattern, summary, example, func(ctx context.Context, in *I) (*rest.Stream, error) {
		return handle(ctx, callerOf(ctx), in)
	}))
}

// downloadRow returns a route that answers with a file of a media type.
func downloadRow[I any](pattern string, scope access.Scope, feature, summary, contentType string, handle func(context.Context, access.Principal, *I) (*rest.Download, error), errors ...int) route {
	return newRoute(scope, feature, errors, rest.NewDownloadRoute(pattern, summary, contentType, func(ctx context.Context, in *I) (*rest.Download, error) {
		return handle(ctx, callerOf(ctx), in)
	}))
}

func newRoute(scope access.Scope, feature string, errors []int, r rest.Route) route {
	r.Scope, r.Errors = string(scope), append(commonErrors(), errors...)
	return route{Route: r, scope: scope, feature: feature}
}

// reopens sets how the stream of an equal, earlier request is found.
func (r route) reopens(f func(*http.Request, http.Header) (*rest.Stream, error)) route {
	r.Reopen = f
	return r
}

// sends sets the types of the events of a stream, of which name is one.
func (r route) sends(name string, events []any) route {
	r.EventsName, r.Events = name, events
	return r
}

// tells sets a header of a successful response, and what it says.
func (r route) tells(header, text string) route {
	r.AnswerHeaders = map[string]string{header: text}
	return r
}

// checksReplay sets what checks whether the caller may have the response to an equal,
// earlier request.
func (r route) checksReplay(f func(*http.Request, rest.Response) error) route {
	r.CheckReplay = f
	return r
}

// upTo sets the largest body of a route, in bytes.
func (r route) upTo(bytes int64) route {
	r.MaxBody = bytes
	return r
}

// answers sets what a response of the route takes of the account's memory, in bytes.
func (r route) answers(bytes int64) route {
	r.MaxAnswer = bytes
	return r
}

// creates makes the route answer 201.
func (r route) creates() route {
	r.Status = http.StatusCreated
	return r
}

// async describes that the route answers 202 to a client that does not want to wait.
func (r route) async() route {
	r.Async = true
	return r
}

// check sets what checks the body after the schema.
func (r route) check(c rest.Check) route {
	r.Check = c
	return r
}

// restRoutes returns the table for package rest.
func (s *Server) restRoutes() []rest.Route {
	table, docs := s.routes(), docs()
	routes := make([]rest.Route, len(table))
	for i, r := range table {
		r.Authorize = func(ctx context.Context) error { return s.authorize(ctx, callerOf(ctx), r) }
		routes[i] = r.Route
		routes[i].Doc = docs[r.Method+" "+r.Path]
	}
	return routes
}
