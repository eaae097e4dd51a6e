package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/user"
)

// personCaller calls the API as a person who is signed in.
type personCaller struct {
	env   *testEnv
	token string
}

func (env *testEnv) person(in user.SignedIn) personCaller {
	return personCaller{env: env, token: in.Token.Reveal()}
}

// handler returns the API as the person, as the dashboard serves it.
func (p personCaller) handler() http.Handler {
	return p.env.Server.For(func(ctx context.Context) (access.Principal, error) {
		session, err := p.env.People.Session(ctx, p.token)
		if err != nil {
			return access.Principal{}, err
		}
		return p.env.People.Principal(ctx, session)
	})
}

func (p personCaller) do(o fixture, row string, body any, path string) *response {
	p.env.T.Helper()
	method, _, _ := strings.Cut(row, " ")
	req := o.request(p.env.T.Context(), method, path, body)
	req.Header.Del("X-Api-Key")
	out := httptest.NewRecorder()
	p.handler().ServeHTTP(out, req)
	t, _ := p.env.T.(*testing.T)
	return &response{t: t, request: row, status: out.Code, header: out.Header(), body: out.Body.String()}
}

// scopesOf are those of design.md, written out.
func scopesOf(role access.Role) []access.Scope {
	scopes := []access.Scope{"", access.AgentsRead, access.KnowledgeRead, access.SwarmsRead, access.Logs}
	if role != access.Viewer {
		scopes = append(scopes, access.Chat, access.AgentsWrite, access.KnowledgeWrite, access.Skills, access.SwarmsWrite)
	}
	if role == access.Admin || role == access.Owner {
		scopes = append(scopes, access.AccountAdmin)
	}
	return scopes
}

// TestEachRoleHasExactlyItsRoutes walks the table as people of every role: what their role has not
// is forbidden, and names the role; everything else is not.
func TestEachRoleHasExactlyItsRoutes(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newFixture("mine")
	other := env.person(env.NewPerson(env.NewAccount("other", ""), "other@example.com", access.Owner))
	for _, role := range access.Roles() {
		p := env.person(env.NewPerson(mine.account, string(role)+"@example.com", role))
		allowed := map[access.Scope]bool{}
		for _, s := range scopesOf(role) {
			allowed[s] = true
		}
		for _, row := range env.Server.Table() {
			if row.Stream {
				continue // TestStreamsOfPeopleEnd
			}
			name, path, body := row.Method+" "+row.Path, mine.path(row), mine.body(row)
			if !allowed[row.Scope] {
				a := p.do(mine, name, body, path).expectError(http.StatusForbidden, "forbidden")
				if !strings.Contains(a.field("error.message"), string(role)) || a.field("error.details.scope") != string(row.Scope) {
					t.Errorf("%s as %s: %s", name, role, a.body)
				}
				continue
			}
			if row.Method != http.MethodGet { // nothing is to change: the ids are of nothing
				path = strings.NewReplacer(mine.agent, "none", mine.swarm, "none", mine.member, "none", mine.invitation, "none", mine.key, "none").Replace(path)
				if !strings.Contains(path, "none") {
					body = `{"unknown":1}`
				}
			}
			if a := p.do(mine, name, body, path); a.status == http.StatusForbidden || a.status == http.StatusUnauthorized || a.status >= 500 {
				t.Errorf("%s as %s: %d %s", name, role, a.status, a.body)
			}
			if belongsToAccount(row) && row.Method == http.MethodGet {
				other.do(mine, name, nil, path).expectError(http.StatusNotFound, "not_found")
			}
		}
	}
}

// TestPeopleManagePeople: admins manage everybody but owners, the last owner stays, and a key gives
// no role that has more rights than it has.
func TestPeopleManagePeople(t *testing.T) {
	env := newEnv(t, options{})
	mine := fixture{caller: env.newAccount("mine", "")}
	owner, admin, viewer := env.NewPerson(mine.account, "owner@example.com", access.Owner), env.NewPerson(mine.account, "admin@example.com", access.Admin), env.NewPerson(mine.account, "viewer@example.com", access.Viewer)
	id := func(in user.SignedIn) string { return string(in.Session.Person.ID) }
	as, boss := env.person(admin), env.person(owner)

	as.do(mine, "PATCH /v1/members/{id}", `{"role":"developer"}`, "/v1/members/"+id(viewer)).expect(200)
	as.do(mine, "PATCH /v1/members/{id}", `{"role":"owner"}`, "/v1/members/"+id(viewer)).expectError(403, "forbidden")
	as.do(mine, "PATCH /v1/members/{id}", `{"role":"owner"}`, "/v1/members/"+id(admin)).expectError(403, "forbidden")
	as.do(mine, "PATCH /v1/members/{id}", `{"role":"viewer"}`, "/v1/members/"+id(owner)).expectError(403, "forbidden")
	as.do(mine, "DELETE /v1/members/{id}", nil, "/v1/members/"+id(owner)).expectError(403, "forbidden")
	as.do(mine, "POST /v1/members/invitations", `{"email":"a@example.com","role":"owner"}`, "/v1/members/invitations").expectError(403, "forbidden")
	boss.do(mine, "PATCH /v1/members/{id}", `{"role":"viewer"}`, "/v1/members/"+id(owner)).expectError(409, "conflict")
	boss.do(mine, "DELETE /v1/members/{id}", nil, "/v1/members/"+id(owner)).expectError(409, "conflict")

	// A key with account:admin alone would otherwise make itself a person with every right.
	small := fixture{caller: env.newKey(mine.account, access.NewScopes(access.AccountAdmin, access.AgentsRead), access.MaxRateLimit)}
	small.do("POST", "/v1/members/invitations", `{"email":"a@example.com","role":"developer"}`).expectError(403, "forbidden")
	small.do("PATCH", "/v1/members/"+id(viewer), `{"role":"admin"}`).expectError(403, "forbidden")
	mine.do("POST", "/v1/members/invitations", `{"email":"a@example.com","role":"owner"}`).expectError(403, "forbidden")
	mine.do("POST", "/v1/members/invitations", `{"email":"A@Example.com","role":"admin"}`).expect(201)
	if list := mine.do("GET", "/v1/members/invitations", nil).expect(200); list.field("data.0.email") != "a@example.com" || strings.Contains(list.body, "token") {
		t.Error(list.body)
	}

	// The audit log has every change with its person.
	log := mine.do("GET", "/v1/audit?target=user/"+id(viewer), nil).expect(200)
	if log.field("data.0.action") != "member.role_changed" || log.field("data.0.actor") != id(admin) || log.field("data.0.actorName") != "admin@example.com" || log.field("data.0.targetName") != "viewer@example.com" {
		t.Error(log.body)
	}
}

// TestSwarmMembers: a person who creates a swarm is in it, and who leaves the account leaves it.
func TestSwarmMembers(t *testing.T) {
	env := newEnv(t, options{})
	mine := fixture{caller: env.newAccount("mine", "")}
	owner, second := env.NewPerson(mine.account, "owner@example.com", access.Owner), env.NewPerson(mine.account, "second@example.com", access.Developer)
	boss := env.person(owner)
	created := boss.do(mine, "POST /v1/swarms", `{"name":"A"}`, "/v1/swarms").expect(201)
	swarm := created.field("data.id")
	if created.field("data.memberCount") != "1" {
		t.Error(created.body)
	}
	for range 2 {
		boss.do(mine, "POST /v1/swarms/{id}/members", `{"userId":"`+string(second.Session.Person.ID)+`"}`, "/v1/swarms/"+swarm+"/members").expect(200)
	}
	if list := mine.do("GET", "/v1/swarms", nil).expect(200); list.field("data.0.memberCount") != "2" {
		t.Error(list.body)
	}
	boss.do(mine, "DELETE /v1/members/{id}", nil, "/v1/members/"+string(second.Session.Person.ID)).expect(200)
	if one := mine.do("GET", "/v1/swarms/"+swarm, nil).expect(200); one.field("data.memberCount") != "1" {
		t.Error(one.body)
	}
	stranger := env.NewPerson(env.NewAccount("other", ""), "stranger@example.com", access.Owner)
	mine.do("POST", "/v1/swarms/"+swarm+"/members", `{"userId":"`+string(stranger.Session.Person.ID)+`"}`).expectError(404, "not_found")
	if key := mine.do("POST", "/v1/swarms", `{"name":"B"}`).expect(201); key.field("data.memberCount") != "0" {
		t.Error(key.body)
	}
}

// TestStreamsOfPeopleEnd: a stream ends within seconds of each change of what its person may do.
func TestStreamsOfPeopleEnd(t *testing.T) {
	env := newEnv(t, options{})
	mine := env.newFixture("mine")
	env.NewPerson(mine.account, "owner@example.com", access.Owner)
	second := env.NewAccount("second", "")
	operator := identity.ByOperator(mine.account)
	for name, change := range map[string]func(ctx context.Context, s user.Session) error{
		"signed out": env.People.SignOut,
		"another role": func(ctx context.Context, s user.Session) error {
			_, err := env.People.SetRole(ctx, operator, s.Person.ID, access.Developer)
			return err
		},
		"removed": func(ctx context.Context, s user.Session) error {
			return env.People.RemoveMember(ctx, operator, s.Person.ID)
		},
		"removed altogether": func(ctx context.Context, s user.Session) error {
			_, err := env.People.Remove(ctx, identity.ByOperator(""), string(s.Person.ID))
			return err
		},
		"second factor reset": func(ctx context.Context, s user.Session) error {
			_, err := env.People.ResetLink(ctx, identity.ByOperator(""), string(s.Person.ID), true)
			return err
		},
		"another account": func(ctx context.Context, s user.Session) error {
			_, link, err := env.People.Invite(ctx, identity.ByOperator(second), s.Person.Email, access.Viewer)
			if err != nil {
				return err
			}
			_, err = env.People.UseInvitation(ctx, link.Token.Reveal(), s, user.NewPerson{}, user.Client{})
			return err
		},
		"disabled account": func(ctx context.Context, _ user.Session) error { return env.Access.Disable(ctx, operator) },
	} {
		t.Run(name, func(t *testing.T) {
			in := env.NewPerson(mine.account, strings.ReplaceAll(name, " ", "-")+"@example.com", access.Viewer)
			begun, ended := make(chan struct{}), make(chan time.Time, 1)
			server := httptest.NewServer(env.person(in).handler())
			defer server.Close()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/v1/agents/"+mine.agent+"/logs/stream", nil)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				res, err := http.DefaultClient.Do(req)
				if err != nil || res.StatusCode != http.StatusOK {
					t.Errorf("%v %v", res, err)
					close(begun)
					return
				}
				close(begun)
				for buffer := make([]byte, 1024); err == nil; {
					_, err = res.Body.Read(buffer)
				}
				_ = res.Body.Close()
				ended <- time.Now()
			}()
			<-begun
			if err := change(t.Context(), in.Session); err != nil {
				t.Fatal(err)
			}
			select {
			case <-ended:
			case <-time.After(apitest.WaitTimeout):
				t.Error("the stream goes on")
			}
			if err := env.Access.Enable(t.Context(), operator); err != nil {
				t.Error(err)
			}
		})
	}
}
