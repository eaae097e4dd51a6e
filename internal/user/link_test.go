package user

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

func newPerson(email string) NewPerson {
	return NewPerson{Email: email, Name: "Ada", Password: vault.NewSecret(password)}
}

func TestTheFirstLinkMakesOneOwner(t *testing.T) {
	e := newEnv(t)
	older := must(e.FirstLink(t.Context(), e.operator()))(t)
	link := must(e.FirstLink(t.Context(), e.operator()))(t)
	if !strings.HasPrefix(link.URL.Reveal(), "https://agents.example.com/app/first?token=") || time.Until(link.ExpiresAt) > FirstLifetime {
		t.Errorf("%v %v", link.URL.Reveal(), link.ExpiresAt)
	}
	_, err := e.Inspect(t.Context(), First, older.Token.Reveal())
	wantFault(t, err, fault.NotFound)
	for range 3 { // looking uses nothing up
		if info := must(e.Inspect(t.Context(), First, link.Token.Reveal()))(t); info.Account != "main" || info.Role != access.Owner || info.Exists {
			t.Errorf("%+v", info)
		}
	}
	_, err = e.Inspect(t.Context(), Invite, link.Token.Reveal())
	wantFault(t, err, fault.NotFound) // of another kind
	_, err = e.UseFirst(t.Context(), link.Token.Reveal(), Session{}, NewPerson{Email: "nothing", Password: vault.NewSecret("short")}, client())
	wantFault(t, err, fault.Invalid) // and stays

	var all sync.WaitGroup
	var mu sync.Mutex
	var won []SignedIn
	for range 4 {
		all.Go(func() {
			in, err := e.UseFirst(t.Context(), link.Token.Reveal(), Session{}, newPerson("ada@example.com"), client())
			if err == nil {
				mu.Lock()
				won = append(won, in)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(won) != 1 || won[0].Session.Role != access.Owner || won[0].Session.AccountID != e.account {
		t.Fatalf("%+v", won)
	}
	must(e.Session(t.Context(), won[0].Token.Reveal()))(t)
	_, err = e.FirstLink(t.Context(), e.operator())
	wantFault(t, err, fault.Conflict)
}

// A link that was made before somebody else became the owner is worth nothing.
func TestTheFirstLinkEndsWithTheFirstOwner(t *testing.T) {
	e := newEnv(t)
	link := must(e.FirstLink(t.Context(), e.operator()))(t)
	e.join(e.account, "ada@example.com", access.Owner)
	_, err := e.UseFirst(t.Context(), link.Token.Reveal(), Session{}, newPerson("eve@example.com"), client())
	wantFault(t, err, fault.Conflict)
	if _, err := e.Person(t.Context(), "eve@example.com"); !fault.Is(err, fault.NotFound) {
		t.Error("eve was made nevertheless")
	}
}

func TestLinksEnd(t *testing.T) {
	e := newEnv(t)
	e.join(e.account, "ada@example.com", access.Owner)
	second := e.newAccount("second")
	made := func() map[LinkKind]Link {
		_, invitation, err := e.Invite(t.Context(), e.operator(), "grace@example.com", access.Viewer)
		if err != nil {
			t.Fatal(err)
		}
		return map[LinkKind]Link{
			First: must(e.FirstLink(t.Context(), identity.ByOperator(second)))(t), Invite: invitation, Reset: must(e.ResetLink(t.Context(), e.operator(), "ada@example.com", false))(t),
		}
	}
	for kind, lifetime := range map[LinkKind]time.Duration{First: 15 * time.Minute, Invite: 7 * 24 * time.Hour, Reset: 15 * time.Minute} {
		link := made()[kind]
		if left := time.Until(link.ExpiresAt); left > lifetime || left < lifetime-time.Minute {
			t.Errorf("%s lasts %v", kind, left)
		}
		must(e.Inspect(t.Context(), kind, link.Token.Reveal()))(t)
		e.exec(`UPDATE user_links SET expires_at = $1`, database.Millis(now()))
		_, err := e.Inspect(t.Context(), kind, link.Token.Reveal())
		wantFault(t, err, fault.NotFound)
	}
	older := made()
	made()
	for kind, link := range older {
		_, err := e.Inspect(t.Context(), kind, link.Token.Reveal())
		wantFault(t, err, fault.NotFound)
	}
}

func TestInvitations(t *testing.T) {
	e := newEnv(t)
	e.join(e.account, "ada@example.com", access.Owner)
	in, link, err := e.Invite(t.Context(), e.operator(), "Grace@Example.com", access.Admin)
	if err != nil || in.Email != "grace@example.com" {
		t.Fatal(in, err)
	}
	if all := must(e.Invitations(t.Context(), e.account))(t); len(all) != 1 || all[0] != in {
		t.Errorf("%+v, want %+v", all, in)
	}
	if err := e.RevokeInvitation(t.Context(), e.operator(), in.ID); err != nil {
		t.Fatal(err)
	}
	_, err = e.UseInvitation(t.Context(), link.Token.Reveal(), Session{}, newPerson(""), client())
	wantFault(t, err, fault.NotFound)
	wantFault(t, e.RevokeInvitation(t.Context(), e.operator(), in.ID), fault.NotFound)
	wantFault(t, e.RevokeInvitation(t.Context(), identity.ByOperator(e.newAccount("other")), in.ID), fault.NotFound)
	_, _, err = e.Invite(t.Context(), e.operator(), "ada@example.com", access.Viewer)
	wantFault(t, err, fault.Conflict)
	for _, bad := range []string{"", "ada", "Ada <ada@example.com>", "a@b\nBcc: c@d", strings.Repeat("a", 300) + "@example.com"} {
		_, _, err = e.Invite(t.Context(), e.operator(), bad, access.Viewer)
		wantFault(t, err, fault.Invalid)
	}
	_, _, err = e.Invite(t.Context(), e.operator(), "grace@example.com", "king")
	wantFault(t, err, fault.Invalid)

	// The address of the invitation counts, not what is typed.
	_, link, err = e.Invite(t.Context(), e.operator(), "grace@example.com", access.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	if got := must(e.UseInvitation(t.Context(), link.Token.Reveal(), Session{}, newPerson("eve@example.com"), client()))(t); got.Session.Person.Email != "grace@example.com" {
		t.Errorf("%+v", got)
	}
	_, err = e.UseInvitation(t.Context(), link.Token.Reveal(), Session{}, newPerson(""), client())
	wantFault(t, err, fault.NotFound)
}

// Whoever can sign in already must be signed in: the link alone gives nobody's rights to another.
func TestAnInvitationOfSomebodyWhoExists(t *testing.T) {
	e := newEnv(t)
	ada := e.join(e.account, "ada@example.com", access.Owner)
	eve := e.join(e.account, "eve@example.com", access.Viewer)
	second := e.newAccount("second")
	_, link, err := e.Invite(t.Context(), identity.ByOperator(second), "ada@example.com", access.Developer)
	if err != nil {
		t.Fatal(err)
	}
	if info := must(e.Inspect(t.Context(), Invite, link.Token.Reveal()))(t); !info.Exists || info.Account != "second" || info.Email != "ada@example.com" {
		t.Errorf("%+v", info)
	}
	for _, session := range []Session{{}, eve.Session} {
		_, err = e.UseInvitation(t.Context(), link.Token.Reveal(), session, newPerson(""), client())
		wantFault(t, err, fault.Conflict)
	}
	if err := e.SignOut(t.Context(), ada.Session); err != nil {
		t.Fatal(err)
	}
	_, err = e.UseInvitation(t.Context(), link.Token.Reveal(), ada.Session, NewPerson{}, client())
	wantFault(t, err, fault.Unauthorized)
	ada = e.signIn("ada@example.com")
	in := must(e.UseInvitation(t.Context(), link.Token.Reveal(), ada.Session, NewPerson{}, client()))(t)
	if in.Session.AccountID != second || in.Session.Role != access.Developer || in.Session.ID != ada.Session.ID || !in.Token.Empty() {
		t.Errorf("%+v", in)
	}
	if all := must(e.Memberships(t.Context(), ada.Session.Person.ID))(t); len(all) != 2 || all[0].Role != access.Owner || all[1].Role != access.Developer {
		t.Errorf("%+v", all)
	}
	back := must(e.SwitchAccount(t.Context(), in.Session, e.account))(t)
	if back.AccountID != e.account || back.Role != access.Owner {
		t.Errorf("%+v", back)
	}
	_, err = e.SwitchAccount(t.Context(), eve.Session, second)
	wantFault(t, err, fault.NotFound)
	if next := e.signIn("ada@example.com"); next.Session.AccountID != e.account {
		t.Error("it does not begin where the person was")
	}
}

func TestReset(t *testing.T) {
	e := newEnv(t)
	in := e.join(e.account, "ada@example.com", access.Owner)
	key, _ := e.setUpTOTP(in.Session)
	link := must(e.ResetLink(t.Context(), e.operator(), "Ada@example.com", false))(t)
	must(e.Session(t.Context(), in.Token.Reveal()))(t)
	wantFault(t, e.UseReset(t.Context(), link.Token.Reveal(), vault.NewSecret("short")), fault.Invalid)
	if err := e.UseReset(t.Context(), link.Token.Reveal(), vault.NewSecret("another password")); err != nil {
		t.Fatal(err)
	}
	wantFault(t, e.UseReset(t.Context(), link.Token.Reveal(), vault.NewSecret("another password")), fault.NotFound)
	_, err := e.Session(t.Context(), in.Token.Reveal())
	wantFault(t, err, fault.Unauthorized)
	next := must(e.SignIn(t.Context(), "ada@example.com", vault.NewSecret("another password"), client()))(t)
	if !next.NeedsCode() {
		t.Fatal("a reset link replaces the second factor")
	}
	in = must(e.SignInWithCode(t.Context(), next.Challenge.Reveal(), codeAt(key, time.Now().Unix()/totpPeriod), client()))(t)
	must(e.ResetLink(t.Context(), e.operator(), "ada@example.com", true))(t)
	_, err = e.Session(t.Context(), in.Token.Reveal())
	wantFault(t, err, fault.Unauthorized)
	if next := must(e.SignIn(t.Context(), "ada@example.com", vault.NewSecret("another password"), client()))(t); next.NeedsCode() {
		t.Error("the second factor is left")
	}
}

func TestRoles(t *testing.T) {
	e := newEnv(t)
	people := map[access.Role]SignedIn{}
	for _, r := range access.Roles() {
		people[r] = e.join(e.account, string(r)+"@example.com", r)
	}
	target := e.join(e.account, "target@example.com", access.Viewer).Session.Person.ID
	manages := map[access.Role][]access.Role{access.Admin: {access.Viewer, access.Developer, access.Admin}, access.Owner: access.Roles()}
	for by, in := range people {
		actor := identity.ByUser(e.account, in.Session.Person.ID)
		for _, from := range access.Roles() {
			for _, to := range access.Roles() {
				if from == to {
					continue
				}
				e.exec(`UPDATE memberships SET role = $1 WHERE user_id = $2`, from, target)
				_, err := e.SetRole(t.Context(), actor, target, to)
				want := contains(manages[by], from) && contains(manages[by], to)
				if (err == nil) != want || err != nil && !fault.Is(err, fault.Forbidden) {
					t.Errorf("%s makes %s of %s: %v", by, to, from, err)
				}
			}
			_, _, err := e.Invite(t.Context(), actor, "new@example.com", from)
			if (err == nil) != contains(manages[by], from) {
				t.Errorf("%s invites %s: %v", by, from, err)
			}
		}
	}
	_, _, err := e.Invite(t.Context(), identity.ByAgent(e.account, "a"), "new@example.com", access.Viewer)
	wantFault(t, err, fault.Forbidden)
	other := e.newAccount("other")
	stranger := identity.ByUser(other, e.join(other, "stranger@example.com", access.Owner).Session.Person.ID)
	_, err = e.SetRole(t.Context(), stranger, target, access.Owner)
	wantFault(t, err, fault.NotFound)
	wantFault(t, e.RemoveMember(t.Context(), stranger, target), fault.NotFound)
	stranger.AccountID = e.account // a mistake of a caller, or a member who was removed meanwhile
	_, err = e.SetRole(t.Context(), stranger, target, access.Viewer)
	wantFault(t, err, fault.Forbidden)
	if err := e.RemoveMember(t.Context(), identity.ByUser(e.account, people[access.Viewer].Session.Person.ID), people[access.Viewer].Session.Person.ID); err != nil {
		t.Errorf("a viewer cannot leave: %v", err)
	}
}

func contains(all []access.Role, r access.Role) bool {
	for _, x := range all {
		if x == r {
			return true
		}
	}
	return false
}

// Two owners who remove or lower each other at the same time leave one.
func TestTheLastOwnerStays(t *testing.T) {
	e := newEnv(t)
	a, b := e.join(e.account, "a@example.com", access.Owner).Session.Person.ID, e.join(e.account, "b@example.com", access.Owner).Session.Person.ID
	errs := make(chan error, 2)
	go func() { errs <- e.RemoveMember(t.Context(), identity.ByUser(e.account, a), b) }()
	go func() {
		_, err := e.SetRole(t.Context(), identity.ByUser(e.account, b), a, access.Admin)
		errs <- err
	}()
	if x, y := <-errs, <-errs; (x == nil) == (y == nil) {
		t.Errorf("%v, %v", x, y)
	}
	owners := 0
	for _, m := range must(e.Members(t.Context(), e.account))(t) {
		if m.Role == access.Owner {
			owners++
			wantFault(t, e.RemoveMember(t.Context(), e.operator(), m.ID), fault.Conflict)
			_, err := e.SetRole(t.Context(), e.operator(), m.ID, access.Viewer)
			wantFault(t, err, fault.Conflict)
			_, err = e.Remove(t.Context(), identity.ByOperator(""), string(m.ID))
			wantFault(t, err, fault.Conflict)
		}
	}
	if owners != 1 {
		t.Error(owners)
	}
}

func TestOperators(t *testing.T) {
	e := newEnv(t)
	p, link, err := e.AddOperator(t.Context(), identity.ByOperator(""), "op@example.com", "Op")
	if err != nil || !p.Operator {
		t.Fatal(p, err)
	}
	_, err = e.SignIn(t.Context(), "op@example.com", vault.NewSecret(""), client())
	wantFault(t, err, fault.Unauthorized)
	if err := e.UseReset(t.Context(), link.Token.Reveal(), vault.NewSecret(password)); err != nil {
		t.Fatal(err)
	}
	in := e.signIn("op@example.com")
	if !in.Session.Person.MustSetUpTOTP() || in.Session.ExpiresAt.Sub(in.Session.CreatedAt) != OperatorLifetime {
		t.Errorf("%+v", in.Session)
	}
	_, err = e.Principal(t.Context(), in.Session)
	wantFault(t, err, fault.Forbidden)
	_, recovery := e.setUpTOTP(in.Session)
	in.Session = must(e.Session(t.Context(), in.Token.Reveal()))(t)
	if in.Session.Person.MustSetUpTOTP() || in.Session.AccountID != "" {
		t.Errorf("%+v", in.Session)
	}
	_, err = e.Principal(t.Context(), in.Session)
	wantFault(t, err, fault.Forbidden) // an operator is in no account
	wantFault(t, e.RemoveTOTP(t.Context(), in.Session, recovery[0].Reveal()), fault.Conflict)
	_, _, err = e.AddOperator(t.Context(), identity.ByOperator(""), "op@example.com", "")
	wantFault(t, err, fault.Conflict)

	// Invited like anybody, which the account's log has.
	_, invitation, err := e.Invite(t.Context(), e.operator(), "op@example.com", access.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	joined := must(e.UseInvitation(t.Context(), invitation.Token.Reveal(), in.Session, NewPerson{}, client()))(t)
	if who := must(e.Principal(t.Context(), joined.Session))(t); who.Role != access.Viewer || who.Operator {
		t.Errorf("%+v", who)
	}
	events := must(e.events.List(t.Context(), e.account, event.Filter{Topic: Topic(p.ID), Limit: 10}))(t)
	if len(events) == 0 || events[0].Kind != "member.joined" || events[0].Actor.ID != string(p.ID) {
		t.Errorf("%+v", events)
	}

	ada := e.join(e.account, "ada@example.com", access.Owner)
	if _, link, err := e.AddOperator(t.Context(), identity.ByOperator(""), "ada@example.com", ""); err != nil || !link.Token.Empty() {
		t.Error(link, err)
	}
	_, err = e.Session(t.Context(), ada.Token.Reveal())
	wantFault(t, err, fault.Unauthorized)
}

// A deleted account leaves nothing of its people but themselves.
func TestDeletedAccountsLeaveNothing(t *testing.T) {
	e := newEnv(t)
	in := e.join(e.account, "ada@example.com", access.Owner)
	_, link, err := e.Invite(t.Context(), e.operator(), "grace@example.com", access.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	e.exec(`INSERT INTO swarms (id, account_id, name, slug, description, icon, created_at, updated_at) VALUES ('s', $1, 'S', 's', '', '', 1, 1)`, e.account)
	if err := e.AddToSwarm(t.Context(), e.operator(), "s", in.Session.Person.ID); err != nil {
		t.Fatal(err)
	}
	if err := e.access.DeleteAccount(t.Context(), e.operator(), "main"); err != nil {
		t.Fatal(err)
	}
	_, err = e.UseInvitation(t.Context(), link.Token.Reveal(), Session{}, newPerson(""), client())
	wantFault(t, err, fault.NotFound)
	s := must(e.Session(t.Context(), in.Token.Reveal()))(t)
	_, err = e.Principal(t.Context(), s)
	wantFault(t, err, fault.Forbidden)
	if err := e.db.DeleteAccount(t.Context(), string(e.account)); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"memberships", "user_links", "swarm_members"} {
		if n := must(database.One(t.Context(), e.db, database.Scalar[int], `SELECT COUNT(*) FROM `+table))(t); n != 0 {
			t.Errorf("%d rows of %s", n, table)
		}
	}
	if _, err := e.Remove(t.Context(), identity.ByOperator(""), "ada@example.com"); err != nil {
		t.Error(err)
	}
	_, err = e.Session(t.Context(), in.Token.Reveal())
	wantFault(t, err, fault.Unauthorized)
}

func TestDisabledAccountsRefuseTheirPeople(t *testing.T) {
	e := newEnv(t)
	in := e.join(e.account, "ada@example.com", access.Owner)
	if err := e.access.Disable(t.Context(), e.operator()); err != nil {
		t.Fatal(err)
	}
	_, err := e.Principal(t.Context(), must(e.Session(t.Context(), in.Token.Reveal()))(t))
	wantFault(t, err, fault.Forbidden)
	e.signIn("ada@example.com") // to see why
}

// Streams end with what they were opened with.
func TestStreamsEnd(t *testing.T) {
	e := newEnv(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	e.join(e.account, "owner@example.com", access.Owner)
	in := e.join(e.account, "ada@example.com", access.Developer)
	other := e.signIn("ada@example.com")
	who := must(e.Principal(t.Context(), in.Session))(t)
	stream, stop := e.WhileValid(t.Context(), who)
	defer stop()
	page, stopPage := e.WhileSignedIn(t.Context(), other.Session)
	defer stopPage()
	unchanged, stopUnchanged := e.WhileValid(t.Context(), must(e.Principal(t.Context(), e.signIn("owner@example.com").Session))(t))
	defer stopUnchanged()
	if err := e.SignOut(t.Context(), in.Session); err != nil {
		t.Fatal(err)
	}
	<-stream.Done()
	if f := fault.From(context.Cause(stream)); f.Code != fault.Unauthorized {
		t.Error(f)
	}
	if page.Err() != nil {
		t.Error("another session's stream has ended")
	}
	e.exec(`UPDATE memberships SET role = 'viewer' WHERE user_id = $1`, who.UserID) // by another process: it is looked up again
	<-page.Done()
	if unchanged.Err() != nil || !errors.Is(page.Err(), context.Canceled) {
		t.Error(unchanged.Err(), page.Err())
	}
}

// Who is removed, lowered or revoked leaves no way in.
func TestInvitationsEndWithWhoMadeThem(t *testing.T) {
	e := newEnv(t)
	e.join(e.account, "owner@example.com", access.Owner)
	for name, end := range map[string]func(id identity.UserID) error{
		"lowered": func(id identity.UserID) error {
			_, err := e.SetRole(t.Context(), e.operator(), id, access.Viewer)
			return err
		},
		"removed": func(id identity.UserID) error { return e.RemoveMember(t.Context(), e.operator(), id) },
		"removed altogether": func(id identity.UserID) error {
			_, err := e.Remove(t.Context(), identity.ByOperator(""), string(id))
			return err
		},
	} {
		admin := e.join(e.account, strings.ReplaceAll(name, " ", "-")+"@example.com", access.Admin).Session.Person.ID
		_, link, err := e.Invite(t.Context(), identity.ByUser(e.account, admin), "second-"+string(admin)+"@example.com", access.Developer)
		if err != nil {
			t.Fatal(err)
		}
		must(e.Inspect(t.Context(), Invite, link.Token.Reveal()))(t)
		if err := end(admin); err != nil {
			t.Fatal(err)
		}
		_, err = e.UseInvitation(t.Context(), link.Token.Reveal(), Session{}, newPerson(""), client())
		if !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	k, _, err := e.access.CreateKey(t.Context(), e.operator(), access.NewKey{Scopes: access.AllScopes().With(access.AccountAdmin), RateLimit: 10})
	if err != nil {
		t.Fatal(err)
	}
	_, link, err := e.Invite(t.Context(), identity.ByKey(e.account, k.ID), "of-a-key@example.com", access.Admin)
	if err != nil {
		t.Fatal(err)
	}
	must(e.Inspect(t.Context(), Invite, link.Token.Reveal()))(t)
	if err := e.access.RevokeKey(t.Context(), e.operator(), k.ID); err != nil {
		t.Fatal(err)
	}
	_, err = e.Inspect(t.Context(), Invite, link.Token.Reveal())
	wantFault(t, err, fault.NotFound)
}
