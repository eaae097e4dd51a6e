package main

import (
	"regexp"
	"strings"
)

// apiRoute is a route with the command that calls it. A part in braces stands for
// whatever the request has there.
type apiRoute struct {
	route   string // such as "GET /v1/agents/{id}"
	command string // such as "agents get {id}"; empty: no command calls it
}

// apiRoutes is what the command line can do of the API: everything. The routes of /openai/v1 do nothing
// else: they are for programs that were written for another API, and agento chat has more to offer.
// TestEveryRouteHasACommand compares it with the server's routes.
var apiRoutes = []apiRoute{
	{"GET /v1/agents", "agents list"},
	{"POST /v1/agents", "agents create"},
	{"GET /v1/agents/{id}", "agents get {id}"},
	{"PATCH /v1/agents/{id}", "agents update {id}"},
	{"DELETE /v1/agents/{id}", "agents delete {id}"},
	{"POST /v1/agents/{id}/start", "agents start {id}"},
	{"POST /v1/agents/{id}/stop", "agents stop {id}"},
	{"POST /v1/agents/{id}/restart", "agents restart {id}"},
	{"GET /v1/agents/{id}/status", "agents status {id}"},
	{"GET /v1/agents/{id}/export", "agents export {id}"},
	{"POST /v1/agents/import", "agents import"},
	{"GET /v1/agents/{id}/secrets", "agents secrets list {id}"},
	{"PUT /v1/agents/{id}/secrets", "agents secrets set {id}"},
	{"POST /v1/agents/{id}/tokens/rotate", "agents rotate-tokens {id}"},
	{"GET /v1/agents/{id}/network", "agents network {id}"},
	{"GET /v1/agents/{id}/edits", "agents approve {id}"},
	{"POST /v1/agents/{id}/chat/messages", "chat {id}"},
	{"GET /v1/agents/{id}/chat/messages", "history {id}"},
	{"GET /v1/agents/{id}/chat/sessions", "sessions list {id}"},
	{"POST /v1/agents/{id}/chat/sessions", "sessions new {id}"},
	{"PATCH /v1/agents/{id}/chat/sessions/{session}", "sessions rename {id} {session}"},
	{"GET /v1/agents/{id}/chat/turns", "turns list {id}"},
	{"GET /v1/agents/{id}/chat/turns/{turn}", "turns get {id} {turn}"},
	{"GET /v1/agents/{id}/chat/turns/{turn}/stream", "turns follow {id} {turn}"},
	{"POST /v1/agents/{id}/chat/turns/{turn}/cancel", "turns cancel {id} {turn}"},
	{"GET /v1/agents/{id}/logs", "logs {id}"},
	{"GET /v1/agents/{id}/logs/stream", "logs -f {id}"},
	{"GET /v1/agents/{id}/skills", "skills installed {id}"},
	{"POST /v1/agents/{id}/skills", "skills install {id}"},
	{"PATCH /v1/agents/{id}/skills/{skill}", "skills update {id} {skill}"},
	{"DELETE /v1/agents/{id}/skills/{skill}", "skills uninstall {id} {skill}"},
	{"GET /v1/skills", "skills list"},
	{"POST /v1/skills", "skills upload"},
	{"GET /v1/skills/{id}", "skills show {id}"},
	{"DELETE /v1/skills/{id}", "skills delete {id}"},
	{"GET /v1/swarms", "swarms list"},
	{"POST /v1/swarms", "swarms create"},
	{"GET /v1/swarms/{id}", "swarms get {id}"},
	{"PATCH /v1/swarms/{id}", "swarms update {id}"},
	{"DELETE /v1/swarms/{id}", "swarms delete {id}"},
	{"GET /v1/swarms/{id}/secrets", "swarms secrets list {id}"},
	{"PUT /v1/swarms/{id}/secrets", "swarms secrets set {id}"},
	{"POST /v1/knowledge/ingest", "knowledge import"},
	{"GET /v1/knowledge", "knowledge list"},
	{"DELETE /v1/knowledge", "knowledge delete"},
	{"GET /v1/knowledge/search", "knowledge search"},
	{"POST /v1/knowledge/files", "knowledge upload"},
	{"GET /v1/knowledge/bases", "knowledge bases"},
	{"GET /v1/knowledge/sources", "knowledge sources"},
	{"GET /v1/knowledge/{entryId}", "knowledge show {entryId}"},
	{"PATCH /v1/knowledge/{entryId}", "knowledge edit {entryId}"},
	{"GET /v1/account", "account"},
	{"GET /v1/keys", "keys list ACCOUNT"},
	{"POST /v1/keys", "keys create ACCOUNT"},
	{"GET /v1/keys/{id}", "keys list ACCOUNT"},
	{"PATCH /v1/keys/{id}", "keys edit ACCOUNT {id}"},
	{"DELETE /v1/keys/{id}", "keys revoke ACCOUNT {id}"},
	{"POST /v1/keys/{id}/rotate", "keys rotate ACCOUNT {id}"},
	{"GET /v1/widgets", "widgets list"},
	{"POST /v1/widgets", "widgets create"},
	{"GET /v1/widgets/{id}", "widgets get {id}"},
	{"PATCH /v1/widgets/{id}", "widgets update {id}"},
	{"DELETE /v1/widgets/{id}", "widgets delete {id}"},
	{"POST /v1/widgets/{id}/rotate", "widgets rotate {id}"},
	{"POST /v1/widgets/{id}/secret/rotate", "widgets rotate-secret {id}"},
	{"GET /v1/members", "users list"},
	{"GET /v1/members/{id}", "users list"},
	{"PATCH /v1/members/{id}", "users set-role ACCOUNT {id} ROLE"},
	{"DELETE /v1/members/{id}", "users remove {id} --account ACCOUNT"},
	{"GET /v1/members/invitations", "users invitations ACCOUNT"},
	{"POST /v1/members/invitations", "users invite ACCOUNT EMAIL"},
	{"DELETE /v1/members/invitations/{id}", "users revoke ACCOUNT {id}"},
	{"GET /v1/swarms/{id}/members", "swarms members list {id}"},
	{"POST /v1/swarms/{id}/members", "swarms members add {id} USER"},
	{"DELETE /v1/swarms/{id}/members/{user}", "swarms members remove {id} {user}"},
	{"GET /v1/audit", "audit"},
	{"GET /v1/attention", "attention"},
	{"POST /v1/attention/{id}/dismiss", "attention --dismiss {id}"},
	{"GET /v1/sessions", "sessions recent"},
	{"GET /v1/starters", "agents starters"},
	{"POST /v1/providers/check", "agents check-key"},
	{"GET /v1/usage", "usage"},
	{"GET /v1/agents/{id}/usage", "usage --agent {id}"},
	{"GET /v1/agents/{id}/personality", "personality show {id}"},
	{"PUT /v1/agents/{id}/personality", "personality edit {id}"},
	{"GET /v1/agents/{id}/personality/versions", "personality versions {id}"},
	{"GET /v1/agents/{id}/personality/versions/{n}", "personality show {id} {n}"},
	{"POST /v1/agents/{id}/personality/versions/{n}/restore", "personality restore {id} {n}"},
	{"POST /v1/agents/{id}/personality/versions/{n}/approve", "agents approve {id} SOUL.md {n}"},
	{"POST /v1/agents/{id}/personality/versions/{n}/reject", "agents approve {id} SOUL.md {n} --reject"},
	{"GET /v1/agents/{id}/identity/versions", "identity versions {id}"},
	{"GET /v1/agents/{id}/identity/versions/{n}", "identity show {id} {n}"},
	{"POST /v1/agents/{id}/identity/versions/{n}/restore", "identity restore {id} {n}"},
	{"POST /v1/agents/{id}/identity/versions/{n}/approve", "agents approve {id} IDENTITY.md {n}"},
	{"POST /v1/agents/{id}/identity/versions/{n}/reject", "agents approve {id} IDENTITY.md {n} --reject"},
	{"GET /v1/agents/{id}/workflow", "workflow show {id}"},
	{"PUT /v1/agents/{id}/workflow", "workflow edit {id}"},
	{"GET /v1/agents/{id}/workflow/versions", "workflow versions {id}"},
	{"GET /v1/agents/{id}/workflow/versions/{n}", "workflow show {id} {n}"},
	{"POST /v1/agents/{id}/workflow/versions/{n}/restore", "workflow restore {id} {n}"},
	{"POST /v1/agents/{id}/workflow/versions/{n}/approve", "agents approve {id} WORKFLOW.md {n}"},
	{"POST /v1/agents/{id}/workflow/versions/{n}/reject", "agents approve {id} WORKFLOW.md {n} --reject"},
	{"GET /v1/agents/{id}/rules", "rules list {id}"},
	{"GET /v1/agents/{id}/rules/{name}", "rules show {id} {name}"},
	{"PUT /v1/agents/{id}/rules/{name}", "rules set {id} {name}"},
	{"DELETE /v1/agents/{id}/rules/{name}", "rules delete {id} {name}"},
	{"GET /v1/agents/{id}/rules/{name}/versions", "rules versions {id} {name}"},
	{"GET /v1/agents/{id}/rules/{name}/versions/{n}", "rules show {id} {name} {n}"},
	{"POST /v1/agents/{id}/rules/{name}/versions/{n}/restore", "rules restore {id} {name} {n}"},
	{"POST /v1/agents/{id}/rules/{name}/versions/{n}/approve", "agents approve {id} rules/{name}.md {n}"},
	{"POST /v1/agents/{id}/rules/{name}/versions/{n}/reject", "agents approve {id} rules/{name}.md {n} --reject"},
}

// route matches a route in a sentence of the server.
var routePattern = regexp.MustCompile(`\b(GET|POST|PUT|PATCH|DELETE) (/v1/[A-Za-z0-9_{}/.-]*[A-Za-z0-9_}])`)

// phrases are the words for what the server says of requests without naming a route.
var phrases = strings.NewReplacer(
	"With the header Prefer: respond-async", "With --no-wait",
	"with the header Prefer: respond-async", "with --no-wait",
	"planId must be one of", "the plan must be one of",
	"leave them out with without=", "leave them out with --without ",
	"GET versions lists them", "The command versions lists them",
	"GET rules lists them", "agento rules list shows them",
	"GET skills lists them", "agento skills installed shows them",
)

// commandWords replaces the routes that a sentence of the server names by commands. A
// route that no command calls stays.
func commandWords(s string) string {
	return routePattern.ReplaceAllStringFunc(phrases.Replace(s), func(found string) string {
		method, path, _ := strings.Cut(found, " ")
		for _, r := range apiRoutes {
			if command, ok := r.match(method, strings.Split(path, "/")); ok {
				return "agento " + command
			}
		}
		return found
	})
}

// match returns the command of a request, if the route is the request's.
func (r apiRoute) match(method string, path []string) (command string, ok bool) {
	own, pattern, _ := strings.Cut(r.route, " ")
	parts := strings.Split(pattern, "/")
	if own != method || len(parts) != len(path) {
		return "", false
	}
	command = r.command
	for i, p := range parts {
		switch {
		case strings.HasPrefix(p, "{") && strings.HasPrefix(path[i], "{"):
			command = strings.ReplaceAll(command, p, strings.ToUpper(strings.Trim(path[i], "{}")))
		case strings.HasPrefix(p, "{"):
			command = strings.ReplaceAll(command, p, path[i])
		case p != path[i]:
			return "", false
		}
	}
	return command, true
}
