package main

import (
	"encoding/json"
	"strings"
	"testing"

	"agento.host/agento/internal/access"
)

func TestRateLimitOfANewKey(t *testing.T) {
	for text, want := range map[string]rateLimit{"120": 120, "1": 1, "1000000": 1_000_000, "unlimited": access.Unlimited, "0": 0, "1000001": 0, "2147483647": 0, "-1": 0, "": 0, "many": 0} {
		var got rateLimit
		if err := got.UnmarshalText([]byte(text)); got != want || (err == nil) != (want != 0) {
			t.Errorf("%q is %d, %v", text, got, err)
		}
	}
}

// TestOperatorCommandsAskAndFit: what cannot be undone asks, and what is printed is readable in
// 80 columns.
func TestOperatorCommandsAskAndFit(t *testing.T) {
	data := t.TempDir()
	operate := func(stdin string, args ...string) result {
		return command(t, stdin, append(args, "--data", data)...)
	}
	if r := operate("", "migrate"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	operate("", "accounts", "create", "Acme")
	operate("", "keys", "create", "Acme")
	var keys []struct{ ID string }
	if err := json.Unmarshal([]byte(operate("", "keys", "list", "Acme", "--json").out), &keys); err != nil || len(keys) != 1 {
		t.Fatalf("%v, %v", keys, err)
	}
	key := keys[0].ID
	for _, no := range []string{"", "n\n", "maybe\n"} {
		if r := operate(no, "keys", "revoke", "Acme", key); r.code != 4 || r.out != "" || !strings.Contains(r.err, key) {
			t.Errorf("%q revokes a key: %+v", no, r)
		}
	}
	if r := operate("y\n", "keys", "revoke", "Acme", key); r.code != 0 || r.out != "revoked "+key+"\n" {
		t.Errorf("%+v", r)
	}
	if r := operate("", "keys", "revoke", "Acme", key, "--yes", "--json"); r.code != 0 {
		t.Errorf("with --yes: %+v", r)
	}
	if r := operate("", "accounts", "delete", "Acme"); r.code != 4 || !strings.Contains(r.err, "nothing was deleted") {
		t.Errorf("no name deletes an account: %+v", r)
	}
	plans := operate("", "plans", "list")
	if plans.code != 0 || strings.Contains(plans.out, "…") || !strings.Contains(plans.out, "10.0 GiB") || !strings.Contains(plans.out, "The default is plan_self_hosted.") {
		t.Errorf("%+v", plans)
	}
	for line := range strings.Lines(plans.out) {
		if len(line) > tableWidth+1 {
			t.Errorf("wider than a terminal: %q", line)
		}
	}
	if r := operate("", "accounts", "show", "Acme"); !strings.Contains(r.out, "0 B of 10.0 GiB") || !strings.Contains(r.out, "(now)") && !strings.Contains(r.out, "ago)") {
		t.Errorf("%+v", r)
	}
}
