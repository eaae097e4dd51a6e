package access

import (
	"testing"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// TestRolesHaveTheirScopes writes them out: a new scope belongs to no role before somebody decides.
func TestRolesHaveTheirScopes(t *testing.T) {
	viewer := []Scope{AgentsRead, KnowledgeRead, SwarmsRead, Logs}
	developer := append([]Scope{Chat, ChatOwner, AgentsWrite, KnowledgeWrite, Skills, SwarmsWrite}, viewer...)
	admin := append([]Scope{AccountAdmin}, developer...)
	for role, scopes := range map[Role][]Scope{Viewer: viewer, Developer: developer, Admin: admin, Owner: admin, "": {}, "king": {}} {
		if got, want := role.Scopes(), NewScopes(scopes...); got != want {
			t.Errorf("%q has %s, want %s", role, got, want)
		}
		if _, err := ParseRole(string(role)); (err == nil) != (len(scopes) > 0) {
			t.Errorf("%q: %v", role, err)
		}
	}
	if !Owner.AtLeast(Admin) || Viewer.AtLeast(Developer) || !Viewer.AtLeast(Viewer) {
		t.Error("the order of roles")
	}
	if Developer.Manages(Viewer) || Admin.Manages(Owner) || !Admin.Manages(Admin) || !Owner.Manages(Owner) {
		t.Error("who manages whom")
	}
}

func TestAPersonIsTheActorOfItsRequests(t *testing.T) {
	who := Principal{AccountID: "acct_a", UserID: "user_a", Role: Viewer, Scopes: Viewer.Scopes(), Request: "idem_a"}
	want := identity.ByUser("acct_a", "user_a")
	want.Request = "idem_a"
	if got := who.Actor(); got != want || identity.ParseActor("acct_a", got.String()) != identity.ByUser("acct_a", "user_a") || who.Name() != "user_a" {
		t.Errorf("%+v", got)
	}
	if f := fault.From(who.Require(Chat)); f.Code != fault.Forbidden || f.Details["scope"] != "chat" || f.Message != "Your role in this account, viewer, lacks the scope chat. Ask an admin or owner of the account." {
		t.Errorf("%+v", f)
	}
}
