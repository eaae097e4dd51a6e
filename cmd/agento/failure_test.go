package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestExitCodes(t *testing.T) {
	s := newStub(t).withAgents()
	s.refuse("GET /v1/agents/{id}", http.StatusNotFound, "not_found", "There is no such agent.")
	s.refuse("POST /v1/agents/{id}/start", http.StatusForbidden, "forbidden", "This API key lacks the scope agents:write.")
	s.refuse("POST /v1/agents/{id}/restart", http.StatusConflict, "agent_not_running", "The agent is stopped.")
	s.refuse("POST /v1/agents/{id}/stop", http.StatusServiceUnavailable, "unavailable", "The server is shutting down.")
	s.refuse("PATCH /v1/agents/{id}", http.StatusBadRequest, "invalid_request", "name is too long")
	missing := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct {
		code int
		args string
	}{
		{0, "agents list"}, {0, "help agents"}, {0, "--version"}, {0, ""},
		{exitFailed, "agents stop ada"},
		{exitUsage, "agents"}, {exitUsage, "agents nonsense"}, {exitUsage, "agents get"}, {exitUsage, "agents update ada"}, {exitUsage, "agents update ada --name x"},
		{exitNotFound, "agents get ada"}, {exitNotFound, "agents get nobody"}, {exitNotFound, "agents delete ada"}, {exitNotFound, "accounts list --data " + missing}, {exitNotFound, "personality set ada " + missing},
		{exitRefused, "agents start ada"}, {exitRefused, "agents restart ada"}, {exitRefused, "knowledge delete --agent ada --all"},
	} {
		got := command(t, "", strings.Fields(c.args)...)
		if got.code != c.code {
			t.Errorf("agento %s: exit code %d, want %d\n%s", c.args, got.code, c.code, got.err)
		}
		asJSON := command(t, "", append(strings.Fields(c.args), "--json")...)
		var e struct {
			Error struct{ Code, Message string }
		}
		if c.code != 0 && (json.Unmarshal([]byte(asJSON.err), &e) != nil || e.Error.Code == "" || e.Error.Message == "" || asJSON.code != c.code || asJSON.out != "") {
			t.Errorf("agento %s --json: %d, %q %q", c.args, asJSON.code, asJSON.out, asJSON.err)
		}
	}
	if got := command(t, "", "agents", "start", "ada"); !strings.Contains(got.err, "request id: req-1") {
		t.Errorf("no request id: %q", got.err)
	}
}

func TestErrorsUseTheWordsOfTheCommandLine(t *testing.T) {
	for text, want := range map[string]string{
		"List them with GET /v1/agents.":                       "List them with agento agents list.",
		"set one with PUT /v1/agents/a-1/secrets and start it": "set one with agento agents secrets set a-1 and start it",
		"GET /v1/agents/{id} says what to do":                  "agento agents get ID says what to do",
		"POST /v1/agents/a-1/restart.":                         "agento agents restart a-1.",
		"GET /v1/nothing is no route":                          "GET /v1/nothing is no route",
		"With the header Prefer: respond-async it waits":       "With --no-wait it waits",
	} {
		if got := commandWords(text); got != want {
			t.Errorf("%q\n got %q\nwant %q", text, got, want)
		}
	}
}

// TestEveryRouteHasACommand: the command line can do what the API can.
func TestEveryRouteHasACommand(t *testing.T) {
	source, err := os.ReadFile("../../internal/api/routes.go")
	if err != nil {
		t.Fatal(err)
	}
	routes := regexp.MustCompile(`"((?:GET|POST|PUT|PATCH|DELETE) /v1/[^"]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(routes) < 70 {
		t.Fatalf("%d routes", len(routes))
	}
	var c commands
	parser, err := newParser(&c, os.Stdout, os.Stderr, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		command := commandWords(r[1])
		words := strings.Fields(strings.TrimPrefix(command, "agento "))
		if command == r[1] {
			t.Errorf("%s has no command", r[1])
			continue
		}
		node := parser.Model.Node
		for _, w := range words {
			if child := findCommand(node, w); child != nil {
				node = child
			}
		}
		if !node.Leaf() {
			t.Errorf("%s: there is no command %q", r[1], command)
		}
	}
}
