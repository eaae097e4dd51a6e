package api

import (
	"embed"
	"encoding/json"
	"fmt"

	"agento.host/agento/internal/rest"
)

// This file is what the OpenAPI document and the reference say of the routes beside their
// types. A test compares it with the table, and runs every example in every language.

// tags are the groups of routes, in the order of the reference.
func tags() []rest.Tag {
	agent := "/v1/agents/{id}/"
	return []rest.Tag{
		{Name: "Agents", Text: "Create, configure, start, stop, watch, export, import and delete agents.", Paths: []string{"/v1/agents"}},
		{Name: "Chat", Text: "Send messages and read the answers as a stream; turns, sessions and the history.", Paths: []string{agent + "chat", "/v1/sessions"}},
		{Name: "Documents", Text: "The documents that make an agent what it is: SOUL.md, IDENTITY.md, WORKFLOW.md and rules, with all their versions.", Paths: []string{agent + "personality", agent + "identity", agent + "workflow", agent + "rules", agent + "edits"}},
		{Name: "Secrets", Text: "Keys of model providers, tokens of channels and environment variables of an agent. Values are never returned.", Paths: []string{agent + "secrets", agent + "tokens", "/v1/swarms/{id}/secrets"}},
		{Name: "Knowledge", Text: "Texts that agents search: ingest them, also from files, list, search, change and delete them.", Paths: []string{"/v1/knowledge"}},
		{Name: "Skills", Text: "The marketplace of skills, the skills of your account, and those of an agent.", Paths: []string{"/v1/skills", agent + "skills"}},
		{Name: "Swarms", Text: "Groups of agents that share knowledge and provider keys.", Paths: []string{"/v1/swarms"}},
		{Name: "Logs", Text: "Read and follow the log of an agent.", Paths: []string{agent + "logs"}},
		{Name: "Network", Text: "Where an agent may connect to, and where it has connected to.", Paths: []string{agent + "network"}},
		{Name: "Account", Text: "The account of the API key, with its plan and what it has.", Paths: []string{"/v1/account"}},
		{Name: "Keys", Text: "API keys of the account: make, change, rotate and revoke them.", Paths: []string{"/v1/keys"}},
		{Name: "Widgets", Text: "Chat widgets: agents on websites, with their keys, signing secrets and limits.", Paths: []string{"/v1/widgets"}},
		{Name: "Members", Text: "The people of the account: their roles, and invitations.", Paths: []string{"/v1/members"}},
		{Name: "Usage", Text: "Tokens, requests and money, by day, agent, peer, session, model or key.", Paths: []string{"/v1/usage", agent + "usage"}},
		{Name: "Attention", Text: "What waits for a person, with the requests that repair it.", Paths: []string{"/v1/attention"}},
		{Name: "Setup", Text: "Checks of provider keys, and ready-made agents.", Paths: []string{"/v1/providers", "/v1/starters"}},
		{Name: "Audit", Text: "Every change that was made in the account.", Paths: []string{"/v1/audit"}},
	}
}

//go:embed answers.json
var answersFile embed.FS

// answers returns the response to the example of each operation, by its id. A test has
// recorded them from a server (TestExamples), and compares them with what it gets.
func answers() map[string]string {
	text, err := answersFile.ReadFile("answers.json")
	if err != nil {
		panic(err) // it is embedded
	}
	var recorded map[string]json.RawMessage
	if err := json.Unmarshal(text, &recorded); err != nil {
		panic(fmt.Sprintf("answers.json: %v", err)) // a mistake in the file, which every test finds
	}
	all := make(map[string]string, len(recorded))
	for id, answer := range recorded {
		all[id] = string(answer)
	}
	return all
}

// docs returns what is said of the routes, by pattern.
func docs() map[string]rest.Doc {
	const (
		fromList = " The answer comes at once, from what is stored."
		next     = " A running agent has the change in its next turn, without a restart."
		noWait   = " With `Prefer: respond-async` it answers 202 at once."
		atOnce   = " It answers when the change is stored."
	)
	all := map[string]rest.Doc{
		"GET /v1/agents":               {ID: "listAgents", Text: "Lists the agents of the account, newest first. Without `limit` the list has all of them." + fromList, Query: "status=running&limit=20"},
		"POST /v1/agents":              {ID: "createAgent", Text: "Creates an agent, starts its gateway, and answers 201 when the agent is ready for its first message: 15 to 30 s later. With `Prefer: respond-async` it answers 202 at once; `GET /v1/agents/{id}` shows how far the agent is. If the gateway cannot be started, the error has the id of the agent in `details.agentId`: the agent exists, with the status `error`.", Body: `{"name":"My Assistant","secrets":{"anthropicApiKey":"sk-ant-placeholder"},"soulMd":"# SOUL.md\n\nYou are friendly and exact."}`},
		"GET /v1/agents/{id}":          {ID: "getAgent", Text: "Returns one agent with its configuration, what is wrong with it, and whether it needs a restart." + fromList},
		"PATCH /v1/agents/{id}":        {ID: "updateAgent", Text: "Changes the fields that the request has. `config` is merged: a key that is `null` is removed." + atOnce + " `needsRestart` says whether the running gateway needs a restart for it.", Body: `{"name":"Updated Assistant","config":{"model":"claude-haiku-4-5"}}`},
		"DELETE /v1/agents/{id}":       {ID: "deleteAgent", Text: "Stops the agent and deletes it with its documents, history, knowledge, skills and secrets. It answers when everything is deleted, and cannot be undone."},
		"POST /v1/agents/{id}/start":   {ID: "startAgent", Text: "Starts a stopped agent, and answers when it runs. An agent that runs already stays as it is. If there is no room for its gateway within 60 s, it answers 503, and the agent goes on waiting." + noWait},
		"POST /v1/agents/{id}/stop":    {ID: "stopAgent", Text: "Stops an agent, and answers when its gateway has ended. Its files, history and secrets are kept. Running turns end." + noWait},
		"POST /v1/agents/{id}/restart": {ID: "restartAgent", Text: "Replaces the gateway of an agent by a new one with the current configuration, secrets and skills, and answers when that runs." + noWait},
		"GET /v1/agents/{id}/status":   {ID: "getAgentStatus", Text: "Returns the state of the gateway: whether its process runs, its memory and its share of a processor core. It answers from a report that is a few seconds old, or inspects the gateway."},
		"GET /v1/agents/{id}/export":   {ID: "exportAgent", Text: "Sends the agent as one file: its configuration, documents with every version, skills, knowledge and sessions. It has no secrets. The key also needs the scopes of the parts that are in it: `skills`, `knowledge:read`, `chat`."},
		"POST /v1/agents/import":       {ID: "importAgent", Text: "Makes a new agent of a file from an export, and answers when everything is stored. The agent is stopped and has no secrets: set a key, then start it. The key also needs the scopes of the parts: `skills`, `knowledge:write`, `chat`."},
		"POST /v1/agents/{id}/chat/messages": {ID: "sendMessage", Text: "Sends a message and streams the answer as server-sent events while the model writes it. The first event follows when the model begins to answer; `done` or `error` is the last. " +
			"If the connection breaks, the turn goes on: follow it with the header `X-Turn-Id` of this response and the `id` of the last event. Messages of one session are answered in order.", Body: `{"message":"What can you do?","peerId":"customer-42","context":{"name":"Alice","plan":"Pro"}}`},
		"GET /v1/agents/{id}/chat/messages":                      {ID: "listMessages", Text: "Returns messages of both sides, oldest first: the newest ones, or those `before` or `after` a message. It can be read while the agent is stopped." + fromList, Query: "peerId=customer-42&limit=20"},
		"GET /v1/agents/{id}/chat/sessions":                      {ID: "listSessions", Text: "Lists the sessions of an agent, those that were started last first." + fromList, Query: "peerId=customer-42"},
		"POST /v1/agents/{id}/chat/sessions":                     {ID: "createSession", Text: "Starts a new session of a peer, or of the API key: the context of the conversation is empty then, and the history keeps what was said before." + atOnce, Body: `{"peerId":"customer-42","name":"Order 1234"}`},
		"PATCH /v1/agents/{id}/chat/sessions/{sessionId}":        {ID: "updateSession", Text: "Gives a session a name, or with `null` the beginning of its first message." + atOnce, Body: `{"name":"Printer"}`},
		"GET /v1/agents/{id}/chat/turns":                         {ID: "listTurns", Text: "Lists turns, newest first. A turn is one message with its answer." + fromList, Query: "state=done&limit=10"},
		"GET /v1/agents/{id}/chat/turns/{turnId}":                {ID: "getTurn", Text: "Returns a turn with the text of its answer so far, and what it has used." + fromList},
		"GET /v1/agents/{id}/chat/turns/{turnId}/stream":         {ID: "followTurn", Text: "Streams the events of a turn after the one that you have received last, while the turn runs and for ten minutes after its end. Later, `after=0` returns the whole answer as one event, and any other number 409.", Query: "after=1"},
		"POST /v1/agents/{id}/chat/turns/{turnId}/cancel":        {ID: "cancelTurn", Text: "Ends a turn and its model call, within a second. The text until then stays in the history. A turn that has ended stays as it is."},
		"GET /v1/agents/{id}/logs":                               {ID: "getLogs", Text: "Returns the last lines of the log of an agent, with secrets masked. The answer has at most 4 MiB.", Query: "tail=50"},
		"GET /v1/agents/{id}/logs/stream":                        {ID: "followLogs", Text: "Streams the last lines of the log, and then each line as it is written. The stream lasts until you close it, or the server shuts down.", Query: "tail=10"},
		"GET /v1/agents/{id}/skills":                             {ID: "listAgentSkills", Text: "Lists the skills of an agent, oldest first." + fromList},
		"POST /v1/agents/{id}/skills":                            {ID: "installSkill", Text: "Installs a skill on an agent: it is fetched, unpacked, checked by the security scan, and refused if its score is too low. It answers when the skill is stored." + next, Body: `{"skillId":"web-reader","trustLevel":"verified"}`},
		"PATCH /v1/agents/{id}/skills/{skillId}":                 {ID: "updateAgentSkill", Text: "Enables or disables a skill of an agent, or brings it to another version." + atOnce + next, Body: `{"isEnabled":false}`},
		"DELETE /v1/agents/{id}/skills/{skillId}":                {ID: "uninstallSkill", Text: "Removes a skill from an agent." + atOnce},
		"GET /v1/skills":                                         {ID: "listSkills", Text: "Searches the marketplace. The catalog and the skills of your account are answered at once; `trustLevel=clawhub` asks the community registry.", Query: "search=web&pageSize=5"},
		"POST /v1/skills":                                        {ID: "uploadSkill", Text: "Adds a version of a skill to the catalog of your account, and answers with the findings of the security scan. An agent gets it when you install it.", Body: `{"id":"order-status","name":"Order status","version":"1.0.0","skillMd":"---\nname: order-status\ndescription: How to look up an order.\n---\nAsk for the number of the order."}`},
		"GET /v1/skills/{id}":                                    {ID: "getSkill", Text: "Returns one skill with its tools, hosts and the findings of the security scan."},
		"DELETE /v1/skills/{id}":                                 {ID: "deleteSkill", Text: "Removes every version of a skill from the catalog of your account. Agents that have it keep it." + atOnce},
		"GET /v1/swarms":                                         {ID: "listSwarms", Text: "Lists the swarms of the account, newest first." + fromList},
		"POST /v1/swarms":                                        {ID: "createSwarm", Text: "Creates a swarm." + atOnce, Body: `{"name":"Growth","description":"Agents focused on growth initiatives."}`},
		"GET /v1/swarms/{id}":                                    {ID: "getSwarm", Text: "Returns a swarm with its agents." + fromList},
		"PATCH /v1/swarms/{id}":                                  {ID: "updateSwarm", Text: "Changes the name, the description or the icon of a swarm. The slug stays." + atOnce, Body: `{"name":"Growth Team","description":null}`},
		"DELETE /v1/swarms/{id}":                                 {ID: "deleteSwarm", Text: "Deletes a swarm with its knowledge and credentials. Its agents stay, outside of any swarm." + atOnce},
		"GET /v1/swarms/{id}/secrets":                            {ID: "listSwarmSecrets", Text: "Lists the names of the credentials that a swarm shares, and where each is sent." + fromList},
		"PUT /v1/swarms/{id}/secrets":                            {ID: "setSwarmSecrets", Text: "Sets and deletes credentials that the agents of a swarm share. An agent's own key comes before that of its swarm." + atOnce, Body: `{"secrets":{"openaiApiKey":"placeholder-key"}}`},
		"POST /v1/knowledge/ingest":                              {ID: "ingestKnowledge", Text: "Embeds texts and stores them in the knowledge of an agent, or of a swarm. Texts that it has already, but for white space and the like, are skipped. It answers when all are stored.", Body: `{"agentId":"a1b2c3d4-e5f6-7890-abcd-ef1234567890","chunks":[{"text":"Orders are shipped within two days.","source":"faq.md","metadata":{"type":"faq"}}]}`},
		"GET /v1/knowledge":                                      {ID: "listKnowledge", Text: "Lists the entries of an agent or a swarm, in the order in which they were stored." + fromList, Query: "agentId=a1b2c3d4-e5f6-7890-abcd-ef1234567890&limit=20"},
		"GET /v1/knowledge/search":                               {ID: "searchKnowledge", Text: "Searches by words and by meaning, as the agent itself does with its tool. The best entries come first.", Query: "agentId=a1b2c3d4-e5f6-7890-abcd-ef1234567890&q=When+are+orders+shipped%3F&limit=3"},
		"POST /v1/knowledge/files":                               {ID: "ingestKnowledgeFile", Text: "Reads a file, cuts it at its headings, pages, rows or paragraphs, and stores the chunks that the knowledge does not have yet. With `dryRun=true` it changes nothing and returns the chunks, each with the entry that it duplicates. The body is the file; it is read in a process that has 90 s and 512 MiB. It answers when all is stored.", Query: "agentId=a1b2c3d4-e5f6-7890-abcd-ef1234567890&filename=handbook.md&dryRun=true", Upload: "handbook.md"},
		"GET /v1/knowledge/bases":                                {ID: "listKnowledgeBases", Text: "Lists the knowledge bases of the account that have entries, the largest first: those of swarms, and those that agents have of their own." + fromList},
		"GET /v1/knowledge/sources":                              {ID: "listKnowledgeSources", Text: "Lists the sources of an agent's or a swarm's knowledge by name, with the number of entries of each." + fromList, Query: "agentId=a1b2c3d4-e5f6-7890-abcd-ef1234567890&limit=20"},
		"GET /v1/knowledge/{entryId}":                            {ID: "getKnowledgeEntry", Text: "Returns one entry with every source that has it." + fromList, Query: "agentId=a1b2c3d4-e5f6-7890-abcd-ef1234567890"},
		"PATCH /v1/knowledge/{entryId}":                          {ID: "updateKnowledgeEntry", Text: "Changes the text of an entry for all of its sources, its first source, or the metadata of that. It keeps its id. A text that another entry has already is refused with 409, which names that in `details.matchedId`." + atOnce, Query: "agentId=a1b2c3d4-e5f6-7890-abcd-ef1234567890", Body: `{"text":"Refunds are paid within ten days."}`},
		"DELETE /v1/knowledge":                                   {ID: "deleteKnowledge", Text: "Deletes the entries of a source, one entry, or with `all=true&confirm=true` all of them. It answers when they are deleted.", Query: "agentId=a1b2c3d4-e5f6-7890-abcd-ef1234567890&source=faq.md"},
		"GET /v1/account":                                        {ID: "getAccount", Text: "Returns the account of the API key with its plan and what it has." + fromList},
		"GET /v1/agents/{id}/secrets":                            {ID: "listSecrets", Text: "Lists the names of the secrets of an agent, and where the keys of providers are sent." + fromList},
		"PUT /v1/agents/{id}/secrets":                            {ID: "setSecrets", Text: "Sets and deletes secrets of an agent. Others stay as they are." + atOnce + " Provider keys are used from the next model call on; for other secrets `needsRestart` says whether the gateway needs a restart.", Body: `{"secrets":{"openaiApiKey":"placeholder-key"},"deleteSecrets":["telegramBotToken"]}`},
		"POST /v1/agents/{id}/tokens/rotate":                     {ID: "rotateTokens", Text: "Replaces the tokens by which agento and the gateway of an agent know each other. It answers when the gateway has been given the new ones; the former are valid for a minute more."},
		"GET /v1/agents/{id}/personality":                        {ID: "getPersonality", Text: "Returns SOUL.md and IDENTITY.md of an agent." + fromList},
		"PUT /v1/agents/{id}/personality":                        {ID: "setPersonality", Text: "Replaces SOUL.md. With `expectedHash` it does so only if nobody has changed it since you read it." + atOnce + next, Body: `{"soulMd":"# SOUL.md\n\nYou are a professional customer support agent."}`},
		"GET /v1/agents/{id}/personality/versions":               {ID: "listPersonalityVersions", Text: "Lists the versions of SOUL.md, newest first." + fromList, Query: "limit=10"},
		"GET /v1/agents/{id}/personality/versions/{n}":           {ID: "getPersonalityVersion", Text: "Returns a version of SOUL.md with its content." + fromList},
		"POST /v1/agents/{id}/personality/versions/{n}/restore":  {ID: "restorePersonality", Text: "Makes the content of a version of SOUL.md current again, as a new version." + atOnce + next},
		"POST /v1/agents/{id}/personality/versions/{n}/approve":  {ID: "approvePersonality", Text: "Makes an edit of SOUL.md by the agent, which waits for approval, current." + atOnce},
		"POST /v1/agents/{id}/personality/versions/{n}/reject":   {ID: "rejectPersonality", Text: "Ends the review of an edit of SOUL.md by the agent, which does not become current." + atOnce},
		"GET /v1/agents/{id}/identity/versions":                  {ID: "listIdentityVersions", Text: "Lists the versions of IDENTITY.md, newest first." + fromList, Query: "limit=10"},
		"GET /v1/agents/{id}/identity/versions/{n}":              {ID: "getIdentityVersion", Text: "Returns a version of IDENTITY.md with its content." + fromList},
		"POST /v1/agents/{id}/identity/versions/{n}/restore":     {ID: "restoreIdentity", Text: "Makes the content of a version of IDENTITY.md current again, as a new version." + atOnce + next},
		"POST /v1/agents/{id}/identity/versions/{n}/approve":     {ID: "approveIdentity", Text: "Makes an edit of IDENTITY.md by the agent, which waits for approval, current." + atOnce},
		"POST /v1/agents/{id}/identity/versions/{n}/reject":      {ID: "rejectIdentity", Text: "Ends the review of an edit of IDENTITY.md by the agent, which does not become current." + atOnce},
		"GET /v1/agents/{id}/workflow":                           {ID: "getWorkflow", Text: "Returns WORKFLOW.md and the names of the rules." + fromList},
		"PUT /v1/agents/{id}/workflow":                           {ID: "setWorkflow", Text: "Replaces WORKFLOW.md. With `expectedHash` it does so only if nobody has changed it since you read it." + atOnce + next, Body: `{"workflowMd":"# Workflow\n\n## Role\n\nAnswer questions about orders."}`},
		"GET /v1/agents/{id}/workflow/versions":                  {ID: "listWorkflowVersions", Text: "Lists the versions of WORKFLOW.md, newest first." + fromList, Query: "limit=10"},
		"GET /v1/agents/{id}/workflow/versions/{n}":              {ID: "getWorkflowVersion", Text: "Returns a version of WORKFLOW.md with its content." + fromList},
		"POST /v1/agents/{id}/workflow/versions/{n}/restore":     {ID: "restoreWorkflow", Text: "Makes the content of a version of WORKFLOW.md current again, as a new version." + atOnce + next},
		"POST /v1/agents/{id}/workflow/versions/{n}/approve":     {ID: "approveWorkflow", Text: "Makes an edit of WORKFLOW.md by the agent, which waits for approval, current." + atOnce},
		"POST /v1/agents/{id}/workflow/versions/{n}/reject":      {ID: "rejectWorkflow", Text: "Ends the review of an edit of WORKFLOW.md by the agent, which does not become current." + atOnce},
		"GET /v1/agents/{id}/rules":                              {ID: "listRules", Text: "Lists the rules of an agent with their sizes. A rule is a procedure that the agent reads when it needs it." + fromList},
		"GET /v1/agents/{id}/rules/{name}":                       {ID: "getRule", Text: "Returns the content of a rule." + fromList},
		"PUT /v1/agents/{id}/rules/{name}":                       {ID: "putRule", Text: "Creates or replaces a rule. With `expectedHash` it does so only if nobody has changed it since you read it." + atOnce + next, Body: `{"content":"# Handle new requests\n\n1. Acknowledge the receipt.\n2. Draft a response."}`},
		"DELETE /v1/agents/{id}/rules/{name}":                    {ID: "deleteRule", Text: "Deletes a rule. Its versions stay, and can be restored." + atOnce},
		"GET /v1/agents/{id}/rules/{name}/versions":              {ID: "listRuleVersions", Text: "Lists the versions of a rule, newest first." + fromList, Query: "limit=10"},
		"GET /v1/agents/{id}/rules/{name}/versions/{n}":          {ID: "getRuleVersion", Text: "Returns a version of a rule with its content." + fromList},
		"POST /v1/agents/{id}/rules/{name}/versions/{n}/restore": {ID: "restoreRule", Text: "Makes the content of a version of a rule current again, as a new version, also if the rule was deleted." + atOnce + next},
		"POST /v1/agents/{id}/rules/{name}/versions/{n}/approve": {ID: "approveRule", Text: "Makes an edit of a rule by the agent, which waits for approval, current." + atOnce},
		"POST /v1/agents/{id}/rules/{name}/versions/{n}/reject":  {ID: "rejectRule", Text: "Ends the review of an edit of a rule by the agent, which does not become current." + atOnce},
		"GET /v1/agents/{id}/edits":                              {ID: "listPendingEdits", Text: "Lists the edits of an agent to its own documents that wait for approval, because `config.selfEdit` is `review`. The oldest come first."},
		"GET /v1/agents/{id}/network":                            {ID: "getNetwork", Text: "Returns where an agent may connect to, where it has connected to, and what was refused and why."},
		"GET /v1/keys":                                           {ID: "listKeys", Text: "Lists the API keys of the account, newest first, with the revoked ones. The keys themselves are not shown." + fromList, Query: "limit=50"},
		"POST /v1/keys":                                          {ID: "createKey", Text: "Makes an API key that has no more rights than yours. Only this response has the key itself." + atOnce, Body: `{"label":"Support widget","scopes":["chat"],"rateLimit":600,"expiresAt":"2099-01-31T00:00:00Z"}`},
		"GET /v1/keys/{id}":                                      {ID: "getKey", Text: "Returns an API key without its secret." + fromList},
		"PATCH /v1/keys/{id}":                                    {ID: "updateKey", Text: "Changes an API key. It holds from the next request of that key on; a stream ends if the key has lost its scope.", Body: `{"label":"Support","rateLimit":120}`},
		"POST /v1/keys/{id}/rotate":                              {ID: "rotateKey", Text: "Gives an API key a new secret, which only this response has. The former one is valid for `graceSeconds` more." + atOnce, Body: `{"graceSeconds":3600}`},
		"DELETE /v1/keys/{id}":                                   {ID: "revokeKey", Text: "Revokes an API key for ever. Its requests are refused from then on; its streams end within three seconds."},
		"GET /v1/widgets":                                        {ID: "listWidgets", Text: "Lists the chat widgets of the account, newest first. Signing secrets are not shown." + fromList, Query: "limit=50"},
		"POST /v1/widgets":                                       {ID: "createWidget", Text: "Makes a chat widget. Only this response has its signing secret, with which your backend signs tokens that say who a visitor is." + atOnce, Body: `{"name":"Support","agentId":"a1b2c3d4-e5f6-7890-abcd-ef1234567890","origins":["https://www.example.com"],"greeting":"Hello! How can I help?","dailyMessages":1000}`},
		"GET /v1/widgets/{id}":                                   {ID: "getWidget", Text: "Returns a chat widget with what it has used by day." + fromList},
		"PATCH /v1/widgets/{id}":                                 {ID: "updateWidget", Text: "Changes a chat widget. It holds from the next request of a visitor on; open streams of a widget that is disabled end within three seconds.", Body: `{"theme":{"color":"#0f766e","mode":"dark"},"enabled":true}`},
		"DELETE /v1/widgets/{id}":                                {ID: "deleteWidget", Text: "Deletes a chat widget with its signing secret. Its open streams end within three seconds; the conversations stay in the history of the agent."},
		"POST /v1/widgets/{id}/rotate":                           {ID: "rotateWidgetKey", Text: "Gives a chat widget another key, which the pages of your website then need. The former one is valid for `graceSeconds` more." + atOnce, Body: `{"graceSeconds":86400}`},
		"POST /v1/widgets/{id}/secret/rotate":                    {ID: "rotateWidgetSecret", Text: "Gives a chat widget another signing secret, which only this response has. Tokens that the former one has signed are valid for `graceSeconds` more." + atOnce, Body: `{"graceSeconds":3600}`},
		"GET /v1/members":                                        {ID: "listMembers", Text: "Lists the people of the account with their roles, owners first." + fromList},
		"GET /v1/members/{id}":                                   {ID: "getMember", Text: "Returns a person of the account." + fromList},
		"PATCH /v1/members/{id}":                                 {ID: "updateMember", Text: "Changes what a person may do in the account, from the next request on. The person's streams end. An admin manages everybody but owners; the last owner stays one.", Body: `{"role":"admin"}`},
		"DELETE /v1/members/{id}":                                {ID: "removeMember", Text: "Removes a person from the account, and from its swarms. The person's streams end. The last owner cannot be removed."},
		"GET /v1/members/invitations":                            {ID: "listInvitations", Text: "Lists the invitations of the account that wait, newest first." + fromList},
		"POST /v1/members/invitations":                           {ID: "createInvitation", Text: "Invites somebody to the account: makes a link that can be used once, for seven days. Only this response has the link; agento sends no e-mail. An older invitation of the same address ends." + atOnce, Body: `{"email":"grace@example.com","role":"developer"}`},
		"DELETE /v1/members/invitations/{id}":                    {ID: "revokeInvitation", Text: "Ends an invitation that waits." + atOnce},
		"GET /v1/swarms/{id}/members":                            {ID: "listSwarmMembers", Text: "Lists the people who are members of a swarm. Membership says who cares for its agents, and gives no rights." + fromList},
		"POST /v1/swarms/{id}/members":                           {ID: "addSwarmMember", Text: "Adds a person of the account to a swarm, and returns everybody in it. Adding somebody again changes nothing." + atOnce, Body: `{"userId":"user_abc123"}`},
		"DELETE /v1/swarms/{id}/members/{userId}":                {ID: "removeSwarmMember", Text: "Removes a person from a swarm." + atOnce},
		"GET /v1/usage":                                          {ID: "getUsage", Text: "Returns what the model calls of the account have used, in groups. `Accept: text/csv` returns a table." + fromList, Query: "by=model&from=2026-01-01"},
		"GET /v1/agents/{id}/usage":                              {ID: "getAgentUsage", Text: "Returns what the model calls of an agent have used, in groups. `Accept: text/csv` returns a table." + fromList, Query: "by=day"},
		"GET /v1/attention":                                      {ID: "listAttention", Text: "Lists what waits for a person, over all agents of the account, the worst first: agents in error, keys that are missing or refused, edits that wait for approval, limits of the plan that are near, channels in error, and skills with findings. Each item has the requests that repair it. An empty list means that nothing waits." + fromList, Query: "limit=20"},
		"POST /v1/attention/{id}/dismiss":                        {ID: "dismissAttention", Text: "Makes an item not be listed any more, for everybody in the account. Items that have this among their actions can be dismissed: a near limit of the plan, until the next level, and a skill with findings, until its next version."},
		"POST /v1/providers/check":                               {ID: "checkProvider", Text: "Asks a model provider for its list of models with a key, before an agent gets it. The answer is 200 also if the provider refuses the key, with the provider's own words. The key is sent to the provider alone, and is not stored. At most 20 checks a minute for an account.", Body: `{"provider":"anthropic","key":"sk-ant-placeholder"}`},
		"GET /v1/sessions":                                       {ID: "listRecentSessions", Text: "Lists the sessions of all agents, the one with the newest message first." + fromList, Query: "peerId=customer-42&limit=1"},
		"GET /v1/starters":                                       {ID: "listStarters", Text: "Lists the ready-made agents that a new one can begin as: their documents, rules and skills." + fromList},
		"GET /v1/audit":                                          {ID: "listAuditEvents", Text: "Lists the changes that were made in the account, newest first: who made each, when, and to what." + fromList, Query: "action=agent.created&limit=20"},
	}
	recorded := answers()
	for pattern, d := range all {
		d.Answer = recorded[d.ID]
		all[pattern] = d
	}
	return all
}
