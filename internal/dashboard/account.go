package dashboard

import (
	"agento.host/agento/client"
	"agento.host/agento/internal/access"
)

// accountRoutes are the pages of the account and its people.
func (s *Server) accountRoutes() []route {
	return []route{
		page("GET /account", member(), s.accountPage),
		page("POST /account/invitations", has(access.AccountAdmin), s.invite),
		page("POST /account/invitations/{invitation}/revoke", has(access.AccountAdmin), s.revokeInvitation),
		page("POST /account/members/{member}/role", has(access.AccountAdmin), s.changeRole),
		page("POST /account/members/{member}/remove", has(access.AccountAdmin), s.removeMember),
	}
}

// accountData is the data of the page of the account.
type accountData struct {
	Account     client.Account
	Shares      []share
	Features    []feature
	Members     []client.Member
	Invitations []client.Invitation
	Roles       []choice
	Form        *form
	Link        *client.InvitationLink // that was made now, and is shown once
}

// share is how much of a limit is used.
type share struct {
	Name, Used, Limit string
	Percent           int // -1: there is no limit
	Page              string
}

type feature struct {
	Name string
	Has  bool
}

// Limits that are none; see client.PlanLimits.
const (
	noCountLimit = 2147483647
	noByteLimit  = 9007199254740991
)

func roleChoices() []choice {
	return []choice{
		{"viewer", "viewer: sees everything but keys and people, and changes nothing"},
		{"developer", "developer: also chats, and changes agents, knowledge, skills and swarms"},
		{"admin", "admin: also API keys, and people other than owners"},
		{"owner", "owner: everything"},
	}
}

func (s *Server) accountPage(v *visit) error { return s.showAccount(v, nil, nil) }

func (s *Server) showAccount(v *visit, f *form, link *client.InvitationLink) error {
	a, err := v.API.Account(v.Context())
	if err != nil {
		return err
	}
	data := accountData{Account: a, Roles: roleChoices(), Form: f, Link: link}
	data.Shares = []share{
		shareOf("Agents", number(a.Usage.Agents), number(a.Plan.Limits.MaxAgents), int64(a.Usage.Agents), int64(a.Plan.Limits.MaxAgents), noCountLimit, "/agents"),
		shareOf("Storage", bytesText(a.Usage.StorageBytes), bytesText(a.Plan.Limits.StorageBytes), a.Usage.StorageBytes, a.Plan.Limits.StorageBytes, noByteLimit, "/knowledge"),
	}
	for _, name := range []choice{{"api_access", "API"}, {"swarms", "Swarms"}, {"knowledge", "Knowledge"}, {"custom_skills", "Skills of your own"}, {"clawhub", "Skills of ClawHub"}} {
		data.Features = append(data.Features, feature{name.Title, a.Plan.Features[name.Value]})
	}
	if v.Can(access.AccountAdmin) {
		people, err := v.API.ListMembers(v.Context())
		if err != nil {
			return err
		}
		invited, err := v.API.ListInvitations(v.Context())
		if err != nil {
			return err
		}
		data.Members, data.Invitations = people.Data, invited.Data
	}
	if f != nil && !f.Valid() {
		return v.RenderRefused("account", "Account", data)
	}
	data.Form = newForm("role", "developer")
	return v.Render("account", "Account", data)
}

func shareOf(name, used, limit string, n, of, none int64, page string) share {
	s := share{Name: name, Used: used, Limit: limit, Percent: -1, Page: page}
	if of < none && of > 0 {
		s.Percent = int(min(100, 100*n/of))
	}
	return s
}

// invite makes an invitation, whose link the next page shows once.
func (s *Server) invite(v *visit) error {
	f := v.Form()
	link, err := v.API.CreateInvitation(v.Context(), client.CreateInvitationRequest{Email: f.Value("email"), Role: f.Value("role")})
	if err != nil {
		if f.Refused(err) {
			return s.showAccount(v, f, nil)
		}
		return err
	}
	return s.showAccount(v, nil, &link)
}

func (s *Server) revokeInvitation(v *visit) error {
	if _, err := v.API.RevokeInvitation(v.Context(), v.Arg("invitation")); err != nil {
		return err
	}
	return v.Redirect("/account", good("The invitation has ended: its link does not work any more."))
}

func (s *Server) changeRole(v *visit) error {
	m, err := v.API.UpdateMember(v.Context(), v.Arg("member"), client.UpdateMemberRequest{Role: v.Form().Value("role")})
	return s.afterMember(v, err, m.Email+" is "+m.Role+" now.")
}

func (s *Server) removeMember(v *visit) error {
	_, err := v.API.RemoveMember(v.Context(), v.Arg("member"))
	return s.afterMember(v, err, "The person was removed from the account.")
}

func (s *Server) afterMember(v *visit, err error, done string) error {
	if err != nil {
		message, _, ok := refusal(err)
		if !ok {
			return err
		}
		return v.Redirect("/account", bad(message))
	}
	return v.Redirect("/account", good(done))
}
