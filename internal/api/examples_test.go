package api_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/api"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/usage"
)

var updateAnswers = flag.Bool("update", false, "record the responses to the examples in answers.json")

// exampleTimeout is how long one example may take, with a node or a python that starts on a
// busy machine.
const exampleTimeout = 60 * time.Second

// The names of things in the examples. They stand for those of an exampleRun.
const (
	exampleAgent = "a1b2c3d4-e5f6-7890-abcd-ef1234567890"
	exampleSwarm = "b2c3d4e5-f6a1-4890-abcd-ef1234567890"
	exampleEntry = "0198c3b2-5d7e-7a10-9c4f-2b1d3e5f7a90"
	exampleKey   = "ak_live_a1b2c3d4e5f6a1b2c3d4e5f6a1b2c3d4"
)

// TestEveryRouteHasAnExample compares docs with the table.
func TestEveryRouteHasAnExample(t *testing.T) {
	env := newEnv(t, options{})
	seen := map[string]string{}
	for _, e := range env.Server.Examples() {
		pattern := e.Method + " " + e.Path
		other, isTaken := seen[e.ID]
		seen[e.ID] = pattern
		switch takesBody := (fixture{caller: &caller{env: env}}).body(e.Row) != nil; {
		case e.ID == "" || e.Text == "":
			t.Errorf("%s: add it to docs in internal/api/describe.go", pattern)
		case isTaken:
			t.Errorf("%s has the id %s of %s", pattern, e.ID, other)
		case takesBody && e.Request.Body == "" && e.Request.Upload == "":
			t.Errorf("%s: its example has no body", pattern)
		case !e.Stream && !e.Download && e.Answer == "":
			t.Errorf("%s: record the response with go test ./internal/api -run TestExamplesInCurl -update", pattern)
		}
	}
	if described := api.Described(); len(described) != len(seen) {
		for pattern := range described {
			if !slices.Contains(slices.Collect(maps.Values(seen)), pattern) {
				t.Errorf("docs in internal/api/describe.go has %s, which is no route", pattern)
			}
		}
	}
}

// TestExamplesInCurl runs every example of the reference as a reader does. What is printed
// has the fields of the response that the reference shows.
func TestExamplesInCurl(t *testing.T) {
	run := newExampleRun(t)
	recorded := map[string]json.RawMessage{}
	for _, e := range run.examples() {
		printed := run.execute(e, "curl", "sh", "-c", "set -eu\ncurl() { command curl --no-progress-meter --fail-with-body --max-time 60 \"$@\"; }\n"+run.code(e, "curl"))
		switch {
		case e.Stream:
			checkStream(t, e, printed)
		case e.Download:
		case *updateAnswers:
			recorded[e.ID] = run.shown(printed)
		default:
			if problem := difference("", decode(t, e.ID, e.Answer), decode(t, e.ID, printed)); problem != "" {
				t.Errorf("%s: the reference shows another response: %s: record it with -update\n%s", e.ID, problem, printed)
			}
		}
	}
	if *updateAnswers {
		text, err := json.MarshalIndent(recorded, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("answers.json", append(text, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// inShort are the examples that TestExamples runs in the other languages, one of each kind.
// make chaos-examples runs all.
func inShort() []string {
	return []string{"listAgents", "createAgent", "sendMessage", "followLogs", "exportAgent", "importAgent", "updateSwarm"}
}

// TestExamples runs the examples of the reference in the other languages.
func TestExamples(t *testing.T) {
	for _, language := range []string{"JavaScript", "Python", "Go"} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			run := newExampleRun(t)
			var examples []api.Example
			for _, e := range run.examples() {
				if os.Getenv("AGENTO_CHAOS") != "" || slices.Contains(inShort(), e.ID) {
					examples = append(examples, e)
				}
			}
			command := run.interpreter(language, examples)
			for _, e := range examples {
				printed := run.execute(e, language, command(e)...)
				if e.Stream && e.ID != "followLogs" && !strings.Contains(printed, "done") {
					t.Errorf("%s printed no last event: %s", e.ID, printed)
				}
				if !e.Download && printed == "" {
					t.Errorf("%s printed nothing", e.ID)
				}
			}
		})
	}
}

// interpreter returns the command that runs an example in a language.
func (r *exampleRun) interpreter(language string, examples []api.Example) func(api.Example) []string {
	program := map[string]struct{ command, extension string }{"JavaScript": {"node", ".mjs"}, "Python": {"python3", ".py"}}[language]
	if language == "Go" {
		return r.compile(examples)
	}
	if _, err := exec.LookPath(program.command); err != nil {
		r.t.Fatalf("the examples need %s, which scripts/needs.sh installs", program.command)
	}
	return func(e api.Example) []string {
		path := filepath.Join(r.dir, e.ID+program.extension)
		if err := os.WriteFile(path, []byte(r.code(e, language)), 0o600); err != nil {
			r.t.Fatal(err)
		}
		return []string{program.command, path}
	}
}

// compile makes one program of the examples in Go, each a package, since linking takes the
// most time. It must be called before the ids of the examples are known: the program gets
// them in the environment.
func (r *exampleRun) compile(examples []api.Example) func(api.Example) []string {
	files := map[string]string{"go.mod": "module examples\n\ngo 1.26\n"}
	imports, cases := "", ""
	for _, e := range examples {
		name := strings.ToLower(e.ID)
		code := sampleOf(e, "Go")
		code = strings.Replace(strings.Replace(code, "package main", "package "+name, 1), "func main()", "func Main()", 1)
		code = regexp.MustCompile(`os\.Getenv\("AGENTO_URL"\)\+"([^"]*)"`).ReplaceAllString(code, `os.Getenv("AGENTO_URL")+os.Getenv("EXAMPLE_PATH")`)
		code = strings.ReplaceAll(code, exampleAgent, "`+os.Getenv(\"EXAMPLE_AGENT\")+`")
		files[name+"/main.go"] = code
		imports += fmt.Sprintf("\t%q\n", "examples/"+name)
		cases += fmt.Sprintf("\tcase %q:\n\t\t%s.Main()\n", e.ID, name)
	}
	files["main.go"] = "package main\n\nimport (\n\t\"os\"\n" + imports + ")\n\nfunc main() {\n\tswitch os.Args[1] {\n" + cases + "\t}\n}\n"
	dir := r.t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	build := exec.CommandContext(r.t.Context(), "go", "build", "-o", "examples", ".")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		r.t.Fatalf("the examples in Go: %v\n%s", err, out)
	}
	return func(e api.Example) []string { return []string{filepath.Join(dir, "examples"), e.ID} }
}

// exampleRun is an account that has what the examples name, and a directory to run them in.
type exampleRun struct {
	fixture
	t   *testing.T
	dir string
}

func newExampleRun(t *testing.T) *exampleRun {
	t.Helper()
	plans, err := access.LoadPlans("testdata/plans.yaml")
	if err != nil {
		t.Fatal(err)
	}
	env := newEnv(t, options{Plans: plans})
	o := fixture{caller: env.newAccount("My Company", "")}
	o.swarm = o.do("POST", "/v1/swarms", `{"name":"Sales"}`).expect(201).field("data.id")
	o.do("PUT", "/v1/swarms/"+o.swarm+"/secrets", `{"secrets":{"anthropicApiKey":"sk-ant-placeholder"}}`).expect(200)
	o.agent = o.do("POST", "/v1/agents", `{"name":"My Assistant","secrets":{"anthropicApiKey":"sk-ant-placeholder"}}`).expect(201).field("data.id")
	o.do("PUT", "/v1/agents/"+o.agent+"/rules/owned", `{"content":"# New requests\n\nAnswer them within a day."}`).expect(200)
	o.turn = o.do("POST", "/v1/agents/"+o.agent+"/chat/messages", `{"message":"Hello!","peerId":"customer-42"}`).expect(200).header.Get("X-Turn-Id")
	o.session = o.do("GET", "/v1/agents/"+o.agent+"/chat/sessions", nil).expect(200).field("data.0.id")
	o.do("POST", "/v1/agents/"+o.agent+"/skills", `{"skillId":"csv-analysis","trustLevel":"verified"}`).expect(201)
	o.item = o.findSkill()
	o.entry = o.do("POST", "/v1/knowledge/ingest?explain=true", `{"agentId":"`+o.agent+`","chunks":[{"text":"Refunds are paid within 14 days.","source":"handbook.md"}]}`).expect(200).field("data.details.0.id")
	o.key = o.do("POST", "/v1/keys", `{"label":"Support widget","scopes":["chat"]}`).expect(201).field("data.id")
	o.widget = o.do("POST", "/v1/widgets", `{"name":"Support","agentId":"`+o.agent+`","origins":["https://www.example.com"],"greeting":"Hello! How can I help?"}`).expect(201).field("data.id")
	o.member, o.invitation = env.newFixturePeople(o.caller, "ada", o.swarm)
	env.Meter.Record(t.Context(), usage.Call{
		AccountID: o.account, AgentID: identity.AgentID(o.agent), PeerID: "customer-42", SessionID: identity.SessionID(o.session), Provider: provider.Anthropic, Model: "claude-sonnet-5", At: usageAt(),
		Tokens: usage.Tokens{Input: 172, Output: 46, CacheRead: 640},
	})
	env.Driver.Print(identity.AgentID(o.agent), `{"time":"2026-02-10T14:00:05Z","level":"info","subsystem":"gateway","message":"Agent started"}`)
	run := &exampleRun{fixture: o, t: t, dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(run.dir, "handbook.md"), []byte("Refunds are paid within 14 days.\n\n# Office\n\nIt is open from Monday to Friday.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return run
}

// examples returns the examples in an order in which each finds what it names: those that
// delete it come last, and the agent at the very end.
func (r *exampleRun) examples() []api.Example {
	all := r.env.Server.Examples()
	slices.SortStableFunc(all, func(x, y api.Example) int { return cmp.Compare(lateness(x), lateness(y)) })
	return all
}

func lateness(e api.Example) int {
	switch {
	case strings.HasSuffix(e.ID, "Attention"): // other examples change the skill that it is about
		return -1
	case e.ID == "removeSwarmMember": // before its swarm and its member are deleted
		return 0
	case e.ID == "deleteAgent":
		return 2
	case e.Method == "DELETE":
		return 1
	}
	return 0
}

func sampleOf(e api.Example, language string) string {
	for _, s := range e.Request.Samples() {
		if s.Language == language {
			return s.Code
		}
	}
	return ""
}

// names returns the names of the examples, each followed by that of the run.
func (r *exampleRun) names() []string {
	return []string{exampleAgent, r.agent, exampleSwarm, r.swarm, "key_abc123", r.key, "widget_abc123", r.widget, "user_abc123", r.member, "link_abc123", r.invitation, "turn_abc123", r.turn, "sess_abc123", r.session, exampleEntry, r.entry, "skill:as_abc123:1.0.0", r.item, "new-request", "owned"}
}

// code returns an example with the names of the run.
func (r *exampleRun) code(e api.Example, language string) string {
	return strings.NewReplacer(r.names()...).Replace(sampleOf(e, language))
}

// execute runs an example and returns what it has printed. A stream of lines, which does not
// end, is ended after the first of them.
func (r *exampleRun) execute(e api.Example, language string, command ...string) string {
	r.t.Helper()
	path := strings.NewReplacer(r.names()...).Replace(e.Request.Path)
	if number := r.proposed(e); number != "" {
		path = strings.Replace(path, "/versions/1/", number, 1)
		command[len(command)-1] = strings.Replace(command[len(command)-1], "/versions/1/", number, 1)
		if language == "JavaScript" || language == "Python" {
			file := command[len(command)-1]
			text, err := os.ReadFile(file)
			if err != nil {
				r.t.Fatal(err)
			}
			if err := os.WriteFile(file, bytes.Replace(text, []byte("/versions/1/"), []byte(number), 1), 0o600); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), exampleTimeout)
	defer cancel()
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Dir = r.dir
	c.Env = append(os.Environ(), "AGENTO_URL="+r.env.URL, "AGENTO_API_KEY="+r.caller.key, "EXAMPLE_PATH="+path, "EXAMPLE_AGENT="+r.agent)
	c.WaitDelay = time.Second
	var printed, problems bytes.Buffer
	c.Stderr = &problems
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		r.t.Fatalf("%s in %s: %v", e.ID, language, err)
	}
	if !e.Request.IsLines {
		_, err = io.Copy(&printed, out)
	} else if line, readErr := bufio.NewReader(out).ReadString('\n'); readErr != nil {
		err = readErr
	} else {
		printed.WriteString(line)
		cancel()
	}
	if waited := c.Wait(); err == nil && !e.Request.IsLines {
		err = waited
	}
	if err != nil {
		r.t.Errorf("%s in %s: %v\n%s%s\n%s", e.ID, language, err, printed.String(), problems.String(), r.code(e, language))
	}
	if e.ID == "dismissAttention" {
		r.setScore(60) // that of its scan, which other examples show
	}
	return printed.String()
}

// proposed lets the agent edit the document of an example that decides about an edit. It
// returns the part of a path that names the version.
func (r *exampleRun) proposed(e api.Example) string {
	if !strings.HasSuffix(e.Path, "/approve") && !strings.HasSuffix(e.Path, "/reject") && e.ID != "listPendingEdits" {
		return ""
	}
	row := e.Row
	if e.ID == "listPendingEdits" {
		row.Path = "/v1/agents/{id}/workflow/versions/{n}/list"
	}
	path := r.propose(row)
	return path[strings.Index(path, "/versions/") : strings.LastIndex(path, "/")+1]
}

// generated finds what is another value in each run.
var generated = []struct {
	pattern *regexp.Regexp
	shown   string
}{
	{regexp.MustCompile(`ak_live_[0-9a-f]{32}`), exampleKey},
	{regexp.MustCompile(`wk_[0-9a-f]{32}`), "wk_a1b2c3d4e5f6a1b2c3d4e5f6a1b2c3d4"},
	{regexp.MustCompile(`wks_[0-9a-f]{64}`), "wks_a1b2c3d4e5f6a1b2c3d4e5f6a1b2c3d4a1b2c3d4e5f6a1b2c3d4e5f6a1b2c3d4"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), exampleAgent},
	{regexp.MustCompile(`\b(acct|key|widget|user|link|turn|sess|msg|as|req|idem)_[0-9A-Za-z_]{9,}`), `${1}_abc123`},
	{regexp.MustCompile(`token=[0-9A-Za-z_-]{43}`), `token=…`},
	{regexp.MustCompile(`"(?:20[0-9]{2})-[0-9-]+T[0-9:.]+Z"`), `"2026-02-10T14:00:00.000Z"`},
	{regexp.MustCompile(`"memoryUsage":"[^"]*","cpuPercent":"[^"]*"`), `"memoryUsage":"412MiB / 3072MiB","cpuPercent":"2.35%"`},
	{regexp.MustCompile(`"20[0-9]{2}-[0-9]{2}-[0-9]{2}"`), `"2026-02-10"`},
}

// maxShown is how many items of a list the reference shows.
const maxShown = 2

// shown returns a response as the reference shows it.
func (r *exampleRun) shown(printed string) json.RawMessage {
	names := r.names()
	slices.Reverse(names)
	text := strings.NewReplacer(names...).Replace(printed)
	for _, g := range generated {
		text = g.pattern.ReplaceAllStringFunc(text, func(found string) string {
			if found == exampleSwarm {
				return found
			}
			return g.pattern.ReplaceAllString(found, g.shown)
		})
	}
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		r.t.Fatalf("%v: %s", err, text)
	}
	// The order of the fields is that of the response: lists are cut in the text.
	if list, ok := v.(map[string]any)["data"].([]any); ok && len(list) > maxShown {
		var envelope struct {
			Data       []json.RawMessage `json:"data"`
			Pagination json.RawMessage   `json:"pagination,omitempty"`
		}
		if err := json.Unmarshal([]byte(text), &envelope); err != nil {
			r.t.Fatal(err)
		}
		envelope.Data = envelope.Data[:maxShown]
		short, err := json.Marshal(envelope)
		if err != nil {
			r.t.Fatal(err)
		}
		return short
	}
	return json.RawMessage(strings.TrimSpace(text))
}

func decode(t *testing.T, id, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Errorf("%s: %v: %s", id, err, text)
	}
	return v
}

// isFree are the objects whose keys callers and changes choose.
func isFree(place string) bool {
	return slices.Contains([]string{"config", "features", "origins", "channels", "metadata"}, place[strings.LastIndex(place, ".")+1:]) || strings.HasSuffix(place, "[].data")
}

// difference returns how two responses differ in their fields and the types of these, or "".
// null is of every type.
func difference(place string, shown, got any) string {
	if shown == nil || got == nil || isFree(place) {
		return ""
	}
	if reflect.TypeOf(shown) != reflect.TypeOf(got) {
		return fmt.Sprintf("%s is %T, not %T", place, got, shown)
	}
	switch shown := shown.(type) {
	case map[string]any:
		got := got.(map[string]any)
		for name := range shown {
			if _, ok := got[name]; !ok {
				return place + "." + name + " is gone"
			}
		}
		for name, v := range got {
			if _, ok := shown[name]; !ok {
				return place + "." + name + " is new"
			}
			if problem := difference(place+"."+name, shown[name], v); problem != "" {
				return problem
			}
		}
	case []any:
		if got := got.([]any); len(shown) > 0 && len(got) > 0 {
			return difference(place+"[]", shown[0], got[0])
		}
	}
	return ""
}

// checkStream fails the test if an event has another form than the reference says.
func checkStream(t *testing.T, e api.Example, printed string) {
	t.Helper()
	if e.Request.IsLines {
		if !strings.HasPrefix(printed, "data: ") {
			t.Errorf("%s printed %q", e.ID, printed)
		}
		return
	}
	last := ""
	for line := range strings.Lines(printed) {
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok {
			continue
		}
		event := decode(t, e.ID, data).(map[string]any)
		last = fmt.Sprint(event["type"])
		known := map[string][]string{
			"text": {"type", "content"}, "done": {"type", "stopReason", "sessionId", "usage"}, "error": {"type", "code", "message", "stopReason", "usage"},
		}[last]
		for name := range event {
			if !slices.Contains(known, name) {
				t.Errorf("%s: an event has %s, which is not described: %s", e.ID, name, data)
			}
		}
	}
	if last != "done" {
		t.Errorf("%s ended with %q: %s", e.ID, last, printed)
	}
}
