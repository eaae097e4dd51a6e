package process

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"agento.host/agento/internal/identity"
)

// newUserTable returns a driver with a range of users, which has started nothing.
func newUserTable(t *testing.T, count uint32) *Driver {
	t.Helper()
	return &Driver{settings: Settings{Dir: t.TempDir()}, users: userRange{first: 70_000, count: count}}
}

func (d *Driver) assign(t *testing.T, id identity.AgentID) int {
	t.Helper()
	a, err := d.agent(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	owner, err := d.assignUser(a)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := d.assignUser(a); err != nil || again != owner {
		t.Errorf("the user of %s is %d, then %d, %v", id, owner.UID, again.UID, err)
	}
	if a, err = d.agent(id); err != nil || a.owner != owner {
		t.Errorf("the owner of %s is %d, want %d", id, a.owner.UID, owner.UID)
	}
	return owner.UID
}

// TestNoTwoAgentsHaveTheSameUser: as many agents as there are users.
func TestNoTwoAgentsHaveTheSameUser(t *testing.T) {
	d := newUserTable(t, 200)
	has := map[int]identity.AgentID{}
	first := map[identity.AgentID]int{}
	for i := range 200 {
		id := identity.AgentID(fmt.Sprint("agent-", i))
		uid := d.assign(t, id)
		if other, taken := has[uid]; taken || uid < 70_000 || uid >= 70_200 {
			t.Fatalf("%s and %s have the user %d", id, other, uid)
		}
		has[uid], first[id] = id, uid
	}
	other := &Driver{settings: d.settings, users: d.users} // after a restart of the server
	for id, uid := range first {
		if a, err := other.agent(id); err != nil || a.owner.UID != uid {
			t.Errorf("%s has the user %d after a restart, want %d", id, a.owner.UID, uid)
		}
	}
	a, err := d.agent("one-too-many")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.assignUser(a); err == nil {
		t.Error("an agent got a user of another one")
	}
	if err := os.RemoveAll(filepath.Join(d.settings.Dir, "agent-7")); err != nil {
		t.Fatal(err)
	}
	if uid := d.assign(t, "one-too-many"); uid != first["agent-7"] {
		t.Errorf("the user %d, want that of the agent that is gone, %d", uid, first["agent-7"])
	}
}

// TestUsersOfEarlierVersionsStay: an agent that an earlier version has started, which
// stored no user, keeps it, also if another one starts first.
func TestUsersOfEarlierVersionsStay(t *testing.T) {
	d := newUserTable(t, 50)
	earlier := identity.AgentID("earlier")
	if err := os.MkdirAll(filepath.Join(d.settings.Dir, string(earlier)), 0o700); err != nil {
		t.Fatal(err)
	}
	want := int(d.users.preferred(earlier))
	for i := range 49 {
		if uid := d.assign(t, identity.AgentID(fmt.Sprint("new-", i))); uid == want {
			t.Fatalf("new-%d has the user of an earlier agent", i)
		}
	}
	if uid := d.assign(t, earlier); uid != want {
		t.Errorf("the user became %d, want %d", uid, want)
	}
}
