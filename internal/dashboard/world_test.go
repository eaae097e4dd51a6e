package dashboard

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/dashboard/browsertest"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/usage"
)

// world is an account with something on every page.
type world struct {
	env   *testEnv
	api   *client.Client
	texts texts

	agent, stopped, broken string // ids of agents: one that runs, with everything; one that was stopped; one in error
	swarm, key, session    string
	widget                 string
	entry                  string            // of the knowledge of agent and swarm
	files                  map[string]string // texts that wait to be added, by the beginning of the path
	skill, rule            string
	invitation, reset      string   // tokens of links
	secrets                []string // that no page may show
}

// texts are what people, agents, peers and models write in a world.
type texts struct {
	name func(what string) string // a name, one line of at most 100 characters
	long func(what string) string // a text
}

// plainTexts are what they write on ordinary days.
func plainTexts() texts {
	return texts{
		name: func(what string) string { return what },
		long: func(what string) string {
			return "# " + what + "\n\nAnswer within a day, politely, and with **one** example.\n"
		},
	}
}

// longTexts are names as long as they may be, with and without spaces, and long texts.
func longTexts() texts {
	return texts{
		name: func(what string) string {
			return (what + " Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft " + strings.Repeat("and more ", 9))[:97]
		},
		long: func(what string) string {
			return "# " + what + "\n\n" + strings.Repeat("Answer within a day, politely. ", 60) + "\n\n" + strings.Repeat("unbroken", 60) + "\n"
		},
	}
}

// newWorld fills the account of an environment.
func newWorld(t testing.TB, env *testEnv, say texts) *world {
	t.Helper()
	w := &world{env: env, api: env.Client(env.account), texts: say, skill: "csv-analysis", rule: "first-rule", secrets: []string{"sk-ant-hidden", "a-hidden-password", "sk-ant-of-swarm"}}
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	env.Gateways.SetScript(apitest.AnswerOnce(say.long("The answer")))
	swarm, err := w.api.CreateSwarm(ctx, client.CreateSwarmRequest{Name: say.name("Customer care"), Description: say.name("All who talk to customers"), Icon: "🦞"})
	must(err)
	w.swarm = swarm.ID
	_, err = w.api.SetSwarmSecrets(ctx, w.swarm, client.SwarmSecretsRequest{Secrets: map[string]string{"anthropicApiKey": "sk-ant-of-swarm"}})
	must(err)
	create := func(name, swarm string) string {
		t.Helper()
		a, err := w.api.CreateAgent(ctx, client.CreateAgentRequest{
			Name: say.name(name), SwarmID: swarm, SoulMD: say.long("Soul"), WorkflowMD: say.long("Workflow"),
			Secrets: map[string]string{"anthropicApiKey": "sk-ant-hidden", "SHOP_PASSWORD": "a-hidden-password"}, Config: map[string]any{"selfEdit": "review", "note": say.name("note")},
		})
		must(err)
		return a.ID
	}
	w.agent, w.stopped, w.broken = create("Support", w.swarm), create("Research", ""), create("Sales", "")
	_, err = w.api.StopAgent(ctx, w.stopped)
	must(err)
	w.breakAgent(t, w.broken)

	_, err = w.api.SetPersonality(ctx, w.agent, client.SetPersonalityRequest{SoulMD: say.long("Soul, second version")})
	must(err)
	_, err = w.api.SetWorkflow(ctx, w.agent, client.SetWorkflowRequest{WorkflowMD: say.long("Workflow, second version")})
	must(err)
	for _, text := range []string{"First", "Second"} {
		_, err = w.api.PutRule(ctx, w.agent, w.rule, client.PutRuleRequest{Content: say.long(text)})
		must(err)
	}
	for _, target := range []client.KnowledgeIngest{{AgentID: w.agent}, {AgentID: w.stopped}} {
		for i := range 5 {
			target.Chunks = append(target.Chunks, client.KnowledgeChunk{Text: say.long(fmt.Sprint("Opening hours ", i)), Source: say.name("hours.md"), Metadata: map[string]any{"type": say.name("faq"), "title": say.name("title")}})
		}
		_, err = w.api.IngestKnowledge(ctx, target, client.IngestOptions{})
		must(err)
	}
	known, err := w.api.Knowledge(ctx, client.KnowledgeTarget{AgentID: w.agent}, client.KnowledgeQuery{})
	must(err)
	w.entry, w.files = known.Data[0].ID, map[string]string{}
	for prefix, id := range map[string]string{"/agents/": w.agent, "/swarms/": w.swarm} {
		name := strings.ReplaceAll(say.name("new"), `"`, "%22") // as browsers write it
		checked := env.as(access.Owner).upload(prefix+id+"/knowledge/files", map[string]string{name + ".md": say.long("Opening hours 1") + say.long("New"), "broken.docx": "x"})
		_, w.files[prefix], _ = strings.Cut(checked.Header.Get("Location"), "/check/")
	}
	_, err = w.api.InstallSkill(ctx, w.agent, client.InstallSkillRequest{SkillID: w.skill, TrustLevel: "verified"})
	must(err)
	key, err := w.api.CreateKey(ctx, client.CreateKeyRequest{Label: say.name("Shop"), Scopes: []string{"chat"}})
	must(err)
	w.key, w.secrets = key.ID, append(w.secrets, key.Secret)
	w.secrets = append(w.secrets, w.api.APIKey)
	chat, err := w.api.CreateWidget(ctx, client.CreateWidgetRequest{Name: say.name("Shop chat"), AgentID: w.agent, Origins: []string{"https://shop.example"}, Greeting: client.Some(say.name("Hello"))})
	must(err)
	w.widget, w.secrets = chat.ID, append(w.secrets, chat.Secret)
	for _, peer := range []string{"customer-1", say.name("peer"), ""} {
		for _, err := range w.api.Chat(ctx, w.agent, client.ChatRequest{Message: say.long("When do you open?"), PeerID: peer, Context: say.name("context")}) {
			must(err)
		}
	}
	sessions, err := w.api.Sessions(ctx, w.agent)
	must(err)
	w.session = sessions[0].ID
	_, err = w.api.UpdateSession(ctx, w.agent, w.session, client.UpdateSessionRequest{Name: client.Some(say.name("Opening hours"))})
	must(err)
	for day := range 20 {
		for i, model := range []string{"claude-sonnet-5", say.name("another-model")} {
			env.Meter.Record(ctx, usage.Call{
				AccountID: env.account, AgentID: identity.AgentID(w.agent), PeerID: say.name("peer"), SessionID: identity.SessionID(w.session), Provider: provider.Anthropic, Model: model,
				At: time.Now().Add(-time.Duration(day) * 24 * time.Hour), Tokens: usage.Tokens{Input: int64(1000 * (day + 1)), Output: int64(100 * (i + 1) * day), CacheRead: 640},
			})
		}
	}
	for i, level := range []string{"info", "warn", "error", "debug"} {
		line, err := json.Marshal(map[string]any{"time": time.Now().Add(time.Duration(i) * time.Second), "level": level, "subsystem": say.name("gateway"), "message": say.name("A line of the log")})
		must(err)
		env.Driver.Print(identity.AgentID(w.agent), string(line))
	}
	env.Driver.Print(identity.AgentID(w.agent), say.long("no JSON"))
	w.addPeople(t)
	env.EditHome(identity.AgentID(w.agent), "workspace/SOUL.md", say.long("Soul that the agent wants"))
	_, err = w.api.PendingEdits(ctx, w.agent) // reads the home
	must(err)
	return w
}

// addPeople makes members of each role, one of whom has no account of an agento yet.
func (w *world) addPeople(t testing.TB) {
	t.Helper()
	for i, role := range access.Roles() {
		email := fmt.Sprintf("%s.%d@example.com", role, i)
		_, link, err := w.env.People.Invite(t.Context(), identity.ByOperator(w.env.account), email, role)
		if err != nil {
			t.Fatal(err)
		}
		w.env.newBrowser().post("/invitation?"+encodeQuery("token", link.Token.Reveal()), "name", w.texts.name("Person"), "password", testPassword).leads("/")
	}
	_, link, err := w.env.People.Invite(t.Context(), identity.ByOperator(w.env.account), "new.person.with.a.long.address@department.of.things.example.com", access.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	w.invitation = link.Token.Reveal()
	if link, err = w.env.People.ResetLink(t.Context(), identity.ByOperator(""), "owner.3@example.com", false); err != nil {
		t.Fatal(err)
	}
	w.reset = link.Token.Reveal()
}

// publicPages are the paths of the pages for people who are not signed in.
func (w *world) publicPages() []string {
	return []string{"/sign-in", "/sign-in?next=%2Fagents", "/invitation?" + encodeQuery("token", w.invitation), "/reset?" + encodeQuery("token", w.reset), "/first?token=none", "/reset?token=none"}
}

// breakAgent lets the gateway of an agent end until the agent is in error.
func (w *world) breakAgent(t testing.TB, id string) {
	t.Helper()
	_, err := w.api.StopAgent(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	w.env.Driver.Print(identity.AgentID(id), w.texts.name("Error: the gateway could not load its config"))
	w.env.Driver.ExitAfterStart(identity.AgentID(id), 20, 1)
	_, _ = w.api.StartAgent(t.Context(), id) // fails, as it should
	apitest.WaitUntil(t, "the agent to be in error", func() bool {
		a, err := w.api.Agent(t.Context(), id)
		return err == nil && a.Status == client.Errored
	})
}

// arguments are the parts of paths that name something, for the pages of a world.
func (w *world) arguments(pattern string) map[string]string {
	id := w.agent
	for prefix, other := range map[string]string{"/swarms/": w.swarm, "/keys/": w.key, "/widgets/": w.widget, "/skills/": w.skill} {
		if strings.HasPrefix(pattern, prefix) {
			id = other
		}
	}
	files := w.files["/agents/"]
	if strings.HasPrefix(pattern, "/swarms/") {
		files = w.files["/swarms/"]
	}
	return map[string]string{
		"{entry}": w.entry, "{files}": files,
		"{id}": id, "{rule}": w.rule, "{name}": w.rule, "{n}": "1", "{version}": "1", "{session}": w.session, "{sessionId}": w.session, "{skill}": w.skill, "{skillId}": w.skill,
	}
}

// pages returns the paths below /app of all pages of the table: of every route that answers with HTML.
func (w *world) pages(t testing.TB) (paths []string) {
	t.Helper()
	for _, r := range w.env.pages.table {
		path, isGet := strings.CutPrefix(r.pattern, "GET ")
		if !isGet || r.need.who == everybody {
			continue
		}
		arguments := w.arguments(path)
		for name, value := range arguments {
			path = strings.ReplaceAll(path, name, value)
		}
		if strings.Contains(path, "{") {
			t.Errorf("the test does not know what to write for %s: add it to world.arguments", r.pattern)
			continue
		}
		if html, why := w.isPage(t, path); html {
			paths = append(paths, path)
		} else {
			t.Logf("%s is no page: %s", path, why)
		}
	}
	for _, id := range []string{w.stopped, w.broken} {
		if w.env.pages.has("GET /agents/{id}") {
			paths = append(paths, "/agents/"+id)
		}
	}
	if w.env.pages.has("GET /agents/{id}/chat") {
		paths = append(paths, "/agents/"+w.agent+"/chat?session="+w.session, "/agents/"+w.stopped+"/chat", "/agents/"+w.broken+"/logs")
	}
	paths = append(paths, "/skills/show?id="+w.skill+"&agent="+w.agent)
	return append(paths, "/agents/none", "/there-is-no-such-page")
}

// isPage reports whether a path answers with HTML, and what it answers with.
func (w *world) isPage(t testing.TB, path string) (bool, string) {
	t.Helper()
	b := w.env.as("owner")
	res, err := b.http.Do(b.request(t.Context(), http.MethodGet, path, nil))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode >= http.StatusInternalServerError {
		t.Errorf("GET %s answers %d", path, res.StatusCode)
	}
	return strings.HasPrefix(res.Header.Get("Content-Type"), "text/html"), fmt.Sprint(res.StatusCode, " ", res.Header.Get("Content-Type"))
}

// open returns a tab in which a person with a role is signed in.
func (env *testEnv) open(b *browsertest.Browser, role access.Role) *browsertest.Tab {
	env.t.Helper()
	return env.openIn(b.Profile(), role)
}

func (env *testEnv) openIn(p *browsertest.Profile, role access.Role) *browsertest.Tab {
	env.t.Helper()
	return env.as(role).openIn(p)
}

// openIn returns a tab in which the person of the browser is signed in.
func (b *browser) openIn(p *browsertest.Profile) *browsertest.Tab {
	b.env.t.Helper()
	tab := p.Tab()
	address, err := url.Parse(b.env.URL + root + "/")
	if err != nil {
		b.env.t.Fatal(err)
	}
	for _, c := range b.http.Jar.Cookies(address) {
		tab.SetCookie(address.String(), c.Name, c.Value, root)
	}
	return tab
}
