package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/google/uuid"

	"agento.host/agento/client"
	"agento.host/agento/internal/api"
	"agento.host/agento/internal/fault"
)

// remote has the address and key of the API. Without a key, the API is called through the
// data directory of a server on this machine.
type remote struct {
	URL     string `help:"Address of the server." default:"http://127.0.0.1:8080"`
	APIKey  string `help:"API key. Give it in AGENTO_API_KEY: other users can see the arguments of a command." placeholder:"KEY"`
	Account string `help:"Account to act for, by name or id, where no key says it. Default: the only one." placeholder:"ACCOUNT"`
	Data    string `help:"Data directory of the server, where there is no API key." default:"${data}" type:"path"`
}

// client returns a client of the server.
func (r remote) client(ctx context.Context) (*client.Client, error) {
	switch {
	case r.APIKey != "" && r.Account != "":
		return nil, usageError("the API key says which account it is: leave out --account, or unset AGENTO_API_KEY to act as the operator of this machine")
	case r.APIKey != "":
		return &client.Client{URL: r.URL, APIKey: r.APIKey, Retries: -1}, nil
	}
	if _, err := os.Stat(r.Data); errors.Is(err, fs.ErrNotExist) {
		return nil, notFoundError("there is no data directory %s, and no API key: set AGENTO_API_KEY (agento keys create makes one) or give --api-key, or name the data directory of a server on this machine with --data", r.Data)
	}
	server, err := dataFlags{Data: r.Data}.dialServer(ctx)
	if err != nil {
		return nil, err
	}
	if server == nil {
		return nil, fmt.Errorf("no agento server runs on %s: start it with agento serve, or set AGENTO_API_KEY and AGENTO_URL", r.Data)
	}
	return &client.Client{URL: "http://agento", HTTP: &http.Client{Transport: forAccount{server.Transport(), r.Account}}, Retries: -1}, nil
}

// forAccount sends requests of the operator for an account.
type forAccount struct {
	next    http.RoundTripper
	account string
}

// RoundTrip implements http.RoundTripper.
func (f forAccount) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.account != "" {
		r = r.Clone(r.Context())
		r.Header.Set(api.AccountHeader, f.account)
	}
	return f.next.RoundTrip(r)
}

// candidate is a thing that a user may name.
type candidate struct {
	id    string
	names []string
}

// resolve returns the id of the thing that a user names by its id, a name, or the beginning
// of one of them that no other begins with. kind and list are for the errors.
func resolve(kind, list, given string, all []candidate) (string, error) {
	var exact, begins []candidate
	for _, c := range all {
		switch {
		case c.id == given:
			return c.id, nil
		case c.matches(func(name string) bool { return name == given }):
			exact = append(exact, c)
		case given != "" && c.matches(func(name string) bool { return strings.HasPrefix(name, given) }):
			begins = append(begins, c)
		}
	}
	for _, found := range [][]candidate{exact, begins} {
		if len(found) == 1 {
			return found[0].id, nil
		}
		if len(found) > 1 {
			return "", ambiguous(kind, given, found)
		}
	}
	return "", notFoundError("there is no %s %q: agento %s shows them", kind, given, list)
}

func (c candidate) matches(f func(name string) bool) bool {
	if f(c.id) {
		return true
	}
	for _, name := range c.names {
		if f(name) {
			return true
		}
	}
	return false
}

// maxNamed is how many candidates an error names.
const maxNamed = 5

func ambiguous(kind, given string, found []candidate) error {
	var text strings.Builder
	for i, c := range found {
		if i == maxNamed {
			text.WriteString("\n  …")
			break
		}
		text.WriteString("\n  " + c.id + "  " + strings.Join(c.names, "  "))
	}
	return usageError("%d %ss are meant by %q: give the id of one of them%s", len(found), kind, given, text.String())
}

// isID reports whether the user has given a whole id, which needs no search.
func isID(given string) bool { return len(given) == 36 && uuid.Validate(given) == nil }

// agentArg is an agent of the server.
type agentArg struct {
	remote
	Agent string `arg:"" help:"Name, id or unique beginning of one of the agent."`
}

// agent returns a client, and the id of the agent.
func (a agentArg) agent(ctx context.Context) (*client.Client, string, error) {
	c, err := a.client(ctx)
	if err != nil {
		return nil, "", err
	}
	id, err := findAgent(ctx, c, a.Agent)
	return c, id, err
}

func findAgent(ctx context.Context, c *client.Client, given string) (string, error) {
	if isID(given) {
		return given, nil
	}
	agents, err := c.ListAgents(ctx, client.AgentQuery{})
	if client.IsCode(err, string(fault.Forbidden)) {
		return "", refusedError("this API key cannot search agents, because it lacks the scope agents:read: give the agent's whole id instead of %q", given)
	}
	if err != nil {
		return "", err
	}
	all := make([]candidate, len(agents.Data))
	for i, a := range agents.Data {
		all[i] = candidate{a.ID, []string{a.Name}}
	}
	return resolve("agent", "agents list", given, all)
}

// findSwarm returns the id of a swarm that the user names by its id, slug or name.
func findSwarm(ctx context.Context, c *client.Client, given string) (string, error) {
	if isID(given) {
		return given, nil
	}
	swarms, err := c.ListSwarms(ctx)
	if client.IsCode(err, string(fault.Forbidden)) {
		return "", refusedError("this API key cannot search swarms, because it lacks the scope swarms:read: give the swarm's whole id instead of %q", given)
	}
	if err != nil {
		return "", err
	}
	all := make([]candidate, len(swarms))
	for i, s := range swarms {
		all[i] = candidate{s.ID, []string{s.Slug, s.Name}}
	}
	return resolve("swarm", "swarms list", given, all)
}

// confirmation is the flag of a command that cannot be undone.
type confirmation struct {
	Yes bool `help:"Do not ask." short:"y"`
}

// ask asks the user whether to do what cannot be undone. No answer is no.
func (c confirmation) ask(t *terminal, question string) error {
	switch {
	case c.Yes:
		return nil
	case t.json:
		return refusedError("%s Nothing was changed: give --yes to do it", question)
	case !confirm(t, question+" It cannot be undone. [y/N] "):
		return refusedError("nothing was changed: answer y, or give --yes")
	}
	return nil
}

// confirm asks a question. No answer is no.
func confirm(t *terminal, question string) bool {
	_, _ = fmt.Fprint(t.err, escapeText(question))
	answer, err := bufio.NewReader(t.in).ReadString('\n')
	if err != nil {
		_, _ = fmt.Fprintln(t.err) // the terminal has shown no end of line
	}
	return slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(answer)))
}

// AfterApply refuses arguments that are empty, such as --peer "$USER_ID" of a script whose
// variable is not set: the request would be that of a caller who names no peer.
func (remote) AfterApply(parsed *kong.Context) error {
	for _, p := range parsed.Path {
		switch {
		case p.Flag != nil && isEmptyText(p.Flag.Value):
			return fmt.Errorf("--%s must not be empty: leave it out, or give a value", p.Flag.Name)
		case p.Positional != nil && isEmptyText(p.Positional):
			return fmt.Errorf("<%s> must not be empty", p.Positional.Name)
		}
	}
	return nil
}

func isEmptyText(v *kong.Value) bool {
	return v.Target.Kind() == reflect.String && fault.IsBlank(v.Target.String())
}
