package access

import (
	"strings"
	"testing"

	"agento.host/agento/internal/fault"
)

func TestParseScopesReadsWhatStringReturns(t *testing.T) {
	set, err := ParseScopes([]string{" chat", "agents:read", "chat"})
	if err != nil || set.String() != "agents:read chat" {
		t.Fatalf("%s %v", set, err)
	}
	if !set.Has(Chat) || !set.Has(AgentsRead) || set.Has(AgentsWrite) || set.Has("") || set.Has("none") {
		t.Error(set)
	}
	if parseStoredScopes(set.String()+" a:scope:of:tomorrow") != set {
		t.Error("the stored form is parsed as another set")
	}
}

func TestAllScopesAreThoseOfTheAPIReference(t *testing.T) {
	const contract = "agents:read agents:write chat knowledge:read knowledge:write logs skills swarms:read swarms:write"
	if AllScopes().String() != contract {
		t.Error(AllScopes())
	}
	if set, err := ParseScopes([]string{"all"}); err != nil || set != AllScopes() {
		t.Errorf("%s %v", set, err)
	}
	if set, err := ParseScopes(strings.Fields(contract)); err != nil || set != AllScopes() {
		t.Errorf("%s %v", set, err)
	}
}

func TestUnknownScopesAreRefusedWithTheValidOnes(t *testing.T) {
	for _, names := range [][]string{nil, {}, {""}, {"agents"}, {"chat", "agents:raed"}, {"AGENTS:READ"}, {"agents:read chat"}} {
		_, err := ParseScopes(names)
		message := wantFault(t, err, fault.Invalid).Message
		for _, valid := range AllScopes().Names() {
			if !strings.Contains(message, valid) {
				t.Errorf("%q: %s", names, message)
			}
		}
	}
}

func TestRequireNamesTheScope(t *testing.T) {
	who := Principal{Scopes: NewScopes(Logs)}
	if err := who.Require(Logs); err != nil {
		t.Error(err)
	}
	if f := wantFault(t, who.Require(Chat), fault.Forbidden); !strings.Contains(f.Message, "chat") {
		t.Error(f)
	}
}

func FuzzParseScopes(f *testing.F) {
	f.Add("agents:read,chat")
	f.Add("all,x")
	f.Fuzz(func(t *testing.T, text string) {
		set, err := ParseScopes(strings.Split(text, ","))
		if err != nil {
			wantFault(t, err, fault.Invalid)
			return
		}
		if parseStoredScopes(set.String()) != set || set.Empty() {
			t.Errorf("%q: %s", text, set)
		}
	})
}

func TestOwnersChatNeedsAScopeThatAllLacks(t *testing.T) {
	for names, want := range map[string]bool{
		"chat": false, "chat:owner": false, "agents:write": false, "chat agents:read logs skills": false,
		"chat chat:owner": true, "chat agents:write": true, "all": true, "all chat:owner": true,
	} {
		set, err := ParseScopes(strings.Fields(names))
		if err != nil || (Principal{Scopes: set}).ChatsAsOwner() != want {
			t.Errorf("%s: %s %v", names, set, err)
		}
		if again := parseStoredScopes(set.String()); again != set {
			t.Errorf("%s is stored as %s", set, again)
		}
	}
	if AllScopes().Has(ChatOwner) || !strings.Contains(validScopes(), string(ChatOwner)) {
		t.Errorf("all is %s, valid are %s", AllScopes(), validScopes())
	}
}
