package identity_test

import (
	"testing"

	"agento.host/agento/internal/identity"
)

// The log stores only the text. The topic of the event has the id of the agent.
func TestParseActorReversesString(t *testing.T) {
	for _, a := range []identity.Actor{
		identity.ByKey("acct_1", "key_1"),
		{AccountID: "acct_1", Kind: identity.User, ID: "user_1"},
		{AccountID: "acct_1", Kind: identity.Agent},
		identity.ByWidget("acct_1", "widget_1"),
		identity.BySystem("acct_1"),
		identity.ByOperator(""),
	} {
		if got := identity.ParseActor(a.AccountID, a.String()); got != a {
			t.Errorf("%+v was read as %+v", a, got)
		}
	}
	if got := identity.ByAgent("acct_1", "a-1").String(); got != "agent" {
		t.Errorf("an agent is shown as %q", got)
	}
}
