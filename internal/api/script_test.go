package api_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/identity"
)

// TestScripts runs each script of testdata in an environment of its own. A script is
// the HTTP contract in readable form: requests, and what the responses must be. It
// runs against the whole server with scripted gateways, in this process. The scripts
// of cmd/agento serve another purpose: they run the command line of the real binary
// and see files, flags and exit codes, which HTTP does not show. That is why there
// are two script languages.
//
//	account acme [PLAN]             creates an account; the following requests have a key of it with every scope
//	key acme agents:read,chat       creates another key of acme, with these scopes, for the following requests
//	as acme                         the following requests have the first key of acme; "as anonymous" has none
//	agent A                         creates an agent and waits until it runs; $A is its id
//	send Prefer: respond-async      sets a header of the next request
//	POST /v1/agents/$A/stop {…}     sends a request; indented lines continue its body
//	status 400 invalid_request      checks the status, and the code of the error
//	data.name is My Assistant       checks a field; also: is not, contains, lacks, matches (a regular expression)
//	body contains …                 checks the whole body; header NAME is … checks a header
//	keep data.id as X               sets $X to a field
//	until data.status is stopped    repeats the request until the check holds
//	edit $A PATH TEXT               the agent changes a file in its home
//	prints $A TEXT                  its gateway logs a line
//	gateway answers TEXT            sets the answer of the gateways; "gateway fails TEXT" makes it an error
//	home $A guest/SOUL.md is …      checks a file in the home of an agent
//	turn message is …               checks the latest turn: agent, entry, session, context, message, soul, injected
//	log lacks …                     checks the server's own log
//
// {x*3} stands for xxx, \n in a text for a line break.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.script")
	if err != nil || len(files) == 0 {
		t.Fatalf("found no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".script"), func(t *testing.T) {
			t.Parallel()
			plans, err := access.LoadPlans("testdata/plans.yaml")
			if err != nil {
				t.Fatal(err)
			}
			runScript(t, newEnv(t, options{Plans: plans}), file)
		})
	}
}

// scriptRunner runs one script.
type scriptRunner struct {
	t       *testing.T
	env     *testEnv
	callers map[string]*caller
	now     *caller
	vars    map[string]string
	headers []string
	last    *response
	again   func() *response // repeats the last request
	where   string           // file and line, for failures
}

func runScript(t *testing.T, env *testEnv, file string) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	p := &scriptRunner{t: t, env: env, callers: map[string]*caller{"anonymous": {env: env}}, vars: map[string]string{}}
	lines := bufio.NewScanner(f)
	var command string
	run := func() {
		if command != "" {
			p.step(command)
		}
		command = ""
	}
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t"):
			command += "\n" + strings.TrimSpace(line)
		case strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "":
			run()
		default:
			run()
			command, p.where = line, fmt.Sprintf("%s:%d", file, n)
		}
	}
	run()
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

var (
	repeats  = regexp.MustCompile(`\{(.)\*(\d+)\}`)
	variable = regexp.MustCompile(`\$[A-Z][A-Z0-9_]*`)
)

// expand replaces repeats and variables.
func (p *scriptRunner) expand(text string) string {
	text = repeats.ReplaceAllStringFunc(text, func(m string) string {
		parts := repeats.FindStringSubmatch(m)
		n, err := strconv.Atoi(parts[2])
		if err != nil {
			p.fail("%v", err)
		}
		return strings.Repeat(parts[1], n)
	})
	return variable.ReplaceAllStringFunc(text, func(m string) string {
		v, ok := p.vars[m[1:]]
		if !ok {
			p.fail("the variable %s is not set", m)
		}
		return v
	})
}

func (p *scriptRunner) fail(format string, args ...any) {
	p.t.Helper()
	text := fmt.Sprintf(format, args...)
	if p.last != nil {
		text += fmt.Sprintf("\n%s: status %d\n%v\n%s", p.last.request, p.last.status, p.last.header, p.last.body)
	}
	p.t.Fatalf("%s: %s", p.where, text)
}

func (p *scriptRunner) step(line string) {
	p.t.Helper()
	word, rest, _ := strings.Cut(p.expand(line), " ")
	first, second, _ := strings.Cut(rest, " ")
	switch word {
	case "account":
		p.now = p.env.newAccount(first, second)
		p.callers[first] = p.now
		p.vars["KEY"], p.vars["ACCOUNT"] = string(p.now.keyID), string(p.now.account)
	case "key":
		scopes, err := access.ParseScopes(strings.Split(second, ","))
		if err != nil {
			p.fail("%v", err)
		}
		p.now = p.env.newKey(p.callers[first].account, scopes, access.MaxRateLimit)
		p.vars["KEY"] = string(p.now.keyID)
	case "as":
		if p.now = p.callers[first]; p.now == nil {
			p.fail("there is no account %s", first)
		}
	case "agent":
		p.vars[first] = p.now.newAgent("Agent " + first)
	case "send":
		name, value, _ := strings.Cut(rest, ": ")
		p.headers = append(p.headers, name, value)
	case "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PURGE":
		p.request(word, rest)
	case "edit":
		path, text, _ := strings.Cut(second, " ")
		p.env.editHome(first, path, unescape(text))
	case "prints":
		p.env.Driver.Print(identity.AgentID(first), second)
	case "gateway":
		p.script(first, second)
	default:
		p.verify(word, rest)
	}
}

func (p *scriptRunner) request(method, rest string) {
	p.t.Helper()
	path, text, hasBody := strings.Cut(strings.ReplaceAll(rest, "\n", " "), " ")
	var body any
	if hasBody {
		body = text
	}
	who, headers := p.now, p.headers
	p.headers = nil
	p.again = func() *response { return who.do(method, path, body, headers...) }
	p.last = p.again()
}

// script sets the answer of the gateways.
func (p *scriptRunner) script(what, text string) {
	if what == "fails" {
		text = apitest.FailurePrefix + text
	}
	p.env.Gateways.SetScript(apitest.AnswerOnce(unescape(text)))
}

func (p *scriptRunner) verify(word, rest string) {
	p.t.Helper()
	first, second, _ := strings.Cut(rest, " ")
	switch word {
	case "status":
		status, err := strconv.Atoi(first)
		if err != nil || p.last.status != status {
			p.fail("status %d, want %s", p.last.status, first)
		}
		if second != "" {
			p.last.expectError(status, second)
		}
	case "keep":
		_, name, _ := strings.Cut(second, "as ")
		if p.vars[name] = p.last.field(first); p.vars[name] == "" {
			p.fail("there is no %s", first)
		}
	case "until":
		apitest.WaitUntil(p.t, p.where+": "+rest, func() bool {
			p.last = p.again()
			return p.matches(p.last.field(first), second)
		})
	case "body":
		p.check("the body", p.last.body, rest)
	case "header":
		p.check("the header "+first, p.last.header.Get(first), second)
	case "log":
		p.check("the server's log", p.env.Log.String(), rest)
	case "home":
		path, check, _ := strings.Cut(second, " ")
		p.check("the file "+path, apitest.ReadHome(p.env.Driver.Gateway(identity.AgentID(first)), path), check)
	case "turn":
		p.check("the turn's "+first, p.turn(first), second)
	default:
		p.check(word, p.last.field(word), rest)
	}
}

func (p *scriptRunner) turn(field string) string {
	p.t.Helper()
	t := p.env.Gateways.LastTurn(p.t)
	switch field {
	case "agent":
		return t.Agent
	case "entry":
		return t.Entry
	case "session":
		return t.Session
	case "context":
		return t.Context
	case "message":
		return t.Message
	case "soul":
		return t.Soul
	case "injected":
		return t.Injected
	}
	p.fail("a turn has no %s", field)
	return ""
}

func (p *scriptRunner) check(what, got, check string) {
	p.t.Helper()
	if !p.matches(got, check) {
		p.fail("%s is %q, want: %s", what, got, check)
	}
}

func (p *scriptRunner) matches(got, check string) bool {
	p.t.Helper()
	verb, want, _ := strings.Cut(check, " ")
	if after, ok := strings.CutPrefix(check, "is not"); ok {
		verb, want = "is not", strings.TrimPrefix(after, " ")
	}
	want = unescape(want)
	switch verb {
	case "is":
		return got == want
	case "is not":
		return got != want
	case "contains":
		return strings.Contains(got, want)
	case "lacks":
		return !strings.Contains(got, want)
	case "matches":
		return regexp.MustCompile(want).MatchString(got)
	}
	p.fail("unknown command: %s", check)
	return false
}

func unescape(text string) string { return strings.ReplaceAll(text, `\n`, "\n") }
