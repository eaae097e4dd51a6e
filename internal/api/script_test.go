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
	"agento.host/agento/internal/identity"
)

// TestScripts plays every script of testdata against a house of its own. They are
// written to be read: what a caller sends, what it must get.
//
//	account acme [PLAN]             from now on we are acme, with a key of every scope
//	key acme agents:read,chat       from now on we have another key of acme, with these scopes
//	as acme                         we are again who made the account; "as nobody" has no key
//	agent A                         makes an agent that runs; $A is its id
//	send Prefer: respond-async      a header of the next request
//	POST /v1/agents/$A/stop {…}     a request; lines that begin with white space go on with its body
//	status 400 invalid_request      its status, and the error's code
//	data.name is My Assistant       a field; also: is not, contains, lacks, matches (a regular expression)
//	body contains …                 the whole answer; header NAME is …
//	keep data.id as X               $X stands for it
//	until data.status is stopped    repeats the request until it comes true
//	edit $A PATH TEXT               the agent changes a file in its home
//	prints $A TEXT                  its gateway logs a line
//	gateway says TEXT               what gateways answer from now on; "gateway fails TEXT" is an error
//	turn message is …               what the gateway got last: agent, entry, session, context, message, soul, told
//	log lacks …                     the server's own log
//
// {x*3} is xxx, \n in a text is a new line.
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
			play(t, open(t, plan{plans: plans}), file)
		})
	}
}

// player is a script that is being played.
type player struct {
	t       *testing.T
	h       *house
	callers map[string]*caller
	now     *caller
	vars    map[string]string
	headers []string
	last    *answer
	again   func() *answer // the last request once more
	where   string         // file and line, for failures
}

func play(t *testing.T, h *house, file string) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	p := &player{t: t, h: h, callers: map[string]*caller{"nobody": {h: h}}, vars: map[string]string{}}
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

// expand puts in what stands for something else.
func (p *player) expand(text string) string {
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
			p.fail("nothing was kept as %s", m)
		}
		return v
	})
}

func (p *player) fail(format string, args ...any) {
	p.t.Helper()
	text := fmt.Sprintf(format, args...)
	if p.last != nil {
		text += fmt.Sprintf("\n%s answered %d\n%v\n%s", p.last.asked, p.last.status, p.last.header, p.last.body)
	}
	p.t.Fatalf("%s: %s", p.where, text)
}

func (p *player) step(line string) {
	p.t.Helper()
	word, rest, _ := strings.Cut(p.expand(line), " ")
	first, second, _ := strings.Cut(rest, " ")
	switch word {
	case "account":
		p.now = p.h.account(first, second)
		p.callers[first] = p.now
		p.vars["KEY"], p.vars["ACCOUNT"] = p.now.keyID, p.now.account
	case "key":
		scopes, err := access.ParseScopes(strings.Split(second, ","))
		if err != nil {
			p.fail("%v", err)
		}
		p.now = p.h.key(p.callers[first].account, scopes, access.MaxRateLimit)
		p.vars["KEY"] = p.now.keyID
	case "as":
		if p.now = p.callers[first]; p.now == nil {
			p.fail("there is no %s", first)
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
		p.h.edit(first, path, unescape(text))
	case "prints":
		p.h.driver.Print(identity.AgentID(first), second)
	case "gateway":
		p.script(first, second)
	default:
		p.check(word, rest)
	}
}

func (p *player) request(method, rest string) {
	p.t.Helper()
	path, text, hasBody := strings.Cut(strings.ReplaceAll(rest, "\n", " "), " ")
	var body any
	if hasBody {
		body = text
	}
	who, headers := p.now, p.headers
	p.headers = nil
	p.again = func() *answer { return who.do(method, path, body, headers...) }
	p.last = p.again()
}

// script makes gateways answer with these words, or fail with them.
func (p *player) script(what, text string) {
	if what == "fails" {
		text = failing + text
	}
	p.h.gateways.answer(sayOnce(unescape(text)))
}

func (p *player) check(word, rest string) {
	p.t.Helper()
	first, second, _ := strings.Cut(rest, " ")
	switch word {
	case "status":
		status, err := strconv.Atoi(first)
		if err != nil || p.last.status != status {
			p.fail("status %d, want %s", p.last.status, first)
		}
		if second != "" {
			p.last.refuses(status, second)
		}
	case "keep":
		_, name, _ := strings.Cut(second, "as ")
		if p.vars[name] = p.last.text(first); p.vars[name] == "" {
			p.fail("there is no %s", first)
		}
	case "until":
		eventually(p.t, p.where+": "+rest, func() bool {
			p.last = p.again()
			return p.holds(p.last.text(first), second)
		})
	case "body":
		p.must("the body", p.last.body, rest)
	case "header":
		p.must("the header "+first, p.last.header.Get(first), second)
	case "log":
		p.must("the server's log", p.h.log.String(), rest)
	case "turn":
		p.must("the turn's "+first, p.turn(first), second)
	default:
		p.must(word, p.last.text(word), rest)
	}
}

func (p *player) turn(field string) string {
	p.t.Helper()
	t := p.h.gateways.last(p.t)
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
	case "told":
		return t.Told
	}
	p.fail("a turn has no %s", field)
	return ""
}

func (p *player) must(what, got, check string) {
	p.t.Helper()
	if !p.holds(got, check) {
		p.fail("%s is %q, which must be so: %s", what, got, check)
	}
}

func (p *player) holds(got, check string) bool {
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
	p.fail("this is no command of a script: %s", check)
	return false
}

func unescape(text string) string { return strings.ReplaceAll(text, `\n`, "\n") }
