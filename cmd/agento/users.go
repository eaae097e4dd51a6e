package main

import (
	"context"
	"fmt"
	"strings"

	"agento.host/agento/internal/admin"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

type usersCommand struct {
	FirstLink   userFirstLink   `cmd:"" help:"Print a link that makes the first owner of an account, for 15 minutes."`
	Invite      userInvite      `cmd:"" help:"Print a link that makes somebody a member of an account, for 7 days."`
	Invitations userInvitations `cmd:"" help:"List the invitations of an account that wait."`
	Revoke      userRevoke      `cmd:"" help:"End an invitation."`
	List        userList        `cmd:"" help:"List who can sign in."`
	SetRole     userSetRole     `cmd:"" help:"Change what somebody may do in an account."`
	Reset       userReset       `cmd:"" help:"Print a link with which somebody sets a new password, for 15 minutes."`
	Remove      userRemove      `cmd:"" help:"Remove somebody from an account, or altogether."`
	Operator    userOperator    `cmd:"" help:"Make operators, who are outside every account."`
}

// linkFlags say where links lead.
type linkFlags struct {
	dataFlags
	PublicURL string `help:"Address at which people reach the server, for the link. Default: what the server was started with." name:"public-url" placeholder:"URL"`
}

// noServer is the address of links that were made without a server.
const noServer = "http://127.0.0.1:8080"

// link returns a link with the address that the flags say.
func (f linkFlags) link(l admin.Link) string {
	base, path, _ := strings.Cut(l.URL, "/app/")
	switch {
	case f.PublicURL != "":
		base = strings.TrimRight(f.PublicURL, "/")
	case base == "":
		base = noServer
	}
	return base + "/app/" + path
}

// printLink prints a link alone, and for whom it is beside it.
func (f linkFlags) printLink(t *terminal, l admin.Link, what string) error {
	row := map[string]any{"for": l.For, "account": l.Account, "role": l.Role, "url": f.link(l), "expiresAt": formatTime(l.ExpiresAt)}
	if !t.json {
		t.progress("%s It can be used once, until %s.", what, moment{l.ExpiresAt})
	}
	return t.print(row, f.link(l))
}

type userFirstLink struct {
	linkFlags
	Account string `arg:"" optional:"" help:"Id or name of the account. Default: the only one; if there is none, it is made."`
}

// Run prints the link.
func (c userFirstLink) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, writing, nil, func(api *admin.Client) error {
		l, err := api.FirstLink(ctx, c.Account)
		if err != nil {
			return err
		}
		return c.printLink(t, l, fmt.Sprintf("Whoever opens this link becomes the owner of the account %s.", l.Account))
	})
}

type userInvite struct {
	linkFlags
	Account string `arg:"" help:"Id or name of the account."`
	Email   string `arg:"" help:"E-mail address of the person, who gets the link from you."`
	Role    string `help:"What the person may do: viewer, developer, admin or owner." enum:"viewer,developer,admin,owner" default:"developer" env:"-"`
}

// Run prints the link.
func (c userInvite) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, writing, nil, func(api *admin.Client) error {
		l, err := api.InviteUser(ctx, c.Account, admin.NewUser{Email: c.Email, Role: c.Role})
		if err != nil {
			return err
		}
		return c.printLink(t, l, fmt.Sprintf("Send this link to %s, who becomes %s of the account %s by it.", l.For, l.Role, l.Account))
	})
}

type userInvitations struct{ accountArg }

// Run lists the invitations.
func (c userInvitations) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, reading, nil, func(api *admin.Client) error {
		all, err := api.Invitations(ctx, c.Account)
		if err != nil {
			return err
		}
		rows := make([]map[string]any, len(all))
		for i, v := range all {
			rows[i] = map[string]any{"id": v.ID, "email": v.Email, "role": v.Role, "by": v.CreatedBy, "createdAt": formatTime(v.CreatedAt), "expiresAt": formatTime(v.ExpiresAt)}
		}
		return t.table(rows, "id", "email", "role", "by", "expiresAt")
	})
}

type userRevoke struct {
	accountArg
	Invitation string `arg:"" help:"Id of the invitation."`
}

// Run ends the invitation.
func (c userRevoke) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, writing, nil, func(api *admin.Client) error {
		if err := api.RevokeInvitation(ctx, c.Account, c.Invitation); err != nil {
			return err
		}
		return t.print(map[string]any{"id": c.Invitation, "revoked": true}, "revoked "+c.Invitation)
	})
}

type userList struct {
	dataFlags
	Account string `help:"Only the people of this account, by id or name." env:"-"`
}

// Run lists the people.
func (c userList) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, reading, nil, func(api *admin.Client) error {
		if c.Account != "" {
			if _, err := api.Account(ctx, c.Account); err != nil {
				return err
			}
		}
		all, err := api.Users(ctx)
		if err != nil {
			return err
		}
		rows := []map[string]any{}
		for _, u := range all {
			if !c.lists(u) {
				continue
			}
			row := map[string]any{
				"id": u.ID, "email": u.Email, "name": u.Name, "operator": u.Operator, "secondFactor": u.SecondFactor, "accounts": u.Accounts,
				"createdAt": formatTime(u.CreatedAt), "signedInAt": formatTime(u.SignedInAt),
			}
			if !t.json {
				row["accounts"], row["secondFactor"] = describeAccounts(u), map[bool]string{true: "yes", false: "no"}[u.SecondFactor]
			}
			rows = append(rows, row)
		}
		return t.table(rows, "email", "name", "accounts", "secondFactor", "signedInAt")
	})
}

func (c userList) lists(u admin.User) bool {
	if c.Account == "" {
		return true
	}
	for _, m := range u.Accounts {
		if m.ID == c.Account || m.Name == c.Account {
			return true
		}
	}
	return false
}

func describeAccounts(u admin.User) string {
	var all []string
	if u.Operator {
		all = append(all, "(operator)")
	}
	for _, m := range u.Accounts {
		all = append(all, m.Name+": "+m.Role)
	}
	return strings.Join(all, ", ")
}

// userArg names a person of an account.
type userArg struct {
	dataFlags
	Account string `arg:"" help:"Id or name of the account."`
	User    string `arg:"" help:"E-mail address or id of the person."`
}

type userSetRole struct {
	userArg
	Role string `arg:"" help:"viewer, developer, admin or owner." enum:"viewer,developer,admin,owner"`
}

// Run changes the role.
func (c userSetRole) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, writing, nil, func(api *admin.Client) error {
		u, err := api.SetRole(ctx, c.Account, c.User, c.Role)
		if err != nil {
			return err
		}
		return t.print(map[string]any{"id": u.ID, "email": u.Email, "role": c.Role}, fmt.Sprintf("%s is %s now", u.Email, c.Role))
	})
}

type userReset struct {
	linkFlags
	User         string `arg:"" help:"E-mail address or id of the person."`
	SecondFactor bool   `help:"Remove the second factor, too, and end every session now: for somebody who has lost the phone." env:"-"`
}

// Run prints the link.
func (c userReset) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, writing, nil, func(api *admin.Client) error {
		l, err := api.ResetUser(ctx, c.User, c.SecondFactor)
		if err != nil {
			return err
		}
		return c.printLink(t, l, fmt.Sprintf("Whoever opens this link sets the password of %s.", l.For))
	})
}

type userRemove struct {
	dataFlags
	confirmation
	User    string `arg:"" help:"E-mail address or id of the person."`
	Account string `help:"Only from this account, by id or name. Otherwise the person is removed altogether." env:"-"`
}

// Run removes the person, after it has asked.
func (c userRemove) Run(ctx context.Context, t *terminal) error {
	question, done := fmt.Sprintf("Remove %s altogether, from every account and with all sessions?", c.User), "removed "
	if c.Account != "" {
		question = fmt.Sprintf("Remove %s from the account %s?", c.User, c.Account)
	}
	if err := c.ask(t, question); err != nil {
		return err
	}
	return c.withAdmin(ctx, writing, nil, func(api *admin.Client) error {
		u, err := api.RemoveUser(ctx, c.User, c.Account)
		if err != nil {
			return err
		}
		return t.print(map[string]any{"id": u.ID, "email": u.Email, "removed": true}, done+u.Email)
	})
}

type userOperator struct {
	Add userOperatorAdd `cmd:"" help:"Make somebody an operator, and print a link to set a password. Operators need a second factor."`
}

type userOperatorAdd struct {
	linkFlags
	Email string `arg:"" help:"E-mail address of the person."`
	Name  string `help:"Name of the person." env:"-"`
}

// Run makes the operator.
func (c userOperatorAdd) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, writing, nil, func(api *admin.Client) error {
		l, err := api.AddOperator(ctx, admin.NewUser{Email: c.Email, Name: c.Name})
		if err != nil {
			return err
		}
		if l.URL == "" {
			return t.print(map[string]any{"for": l.For}, l.For+" is an operator now, and signs in as before. The second factor must be set up first.")
		}
		return c.printLink(t, l, fmt.Sprintf("Whoever opens this link sets the password of the operator %s.", l.For))
	})
}

// hintFirstOwner says how the first person comes in, if nobody can sign in and somebody reads it.
func (s *server) hintFirstOwner(ctx context.Context, f serveFlags, t *terminal) error {
	nobody, err := s.people.IsEmpty(ctx)
	if err != nil || !nobody || !isTerminal(t.out) {
		return err
	}
	t.progress("Nobody can sign in to the dashboard yet. For a link that makes the first owner: agento users first-link --data %s", f.Data)
	return nil
}

// firstLink returns a link that makes the first owner of an account; empty, if it has one.
func (s *server) firstLink(ctx context.Context, account identity.AccountID) (vault.Secret, error) {
	l, err := s.people.FirstLink(ctx, identity.ByOperator(account))
	if fault.Is(err, fault.Conflict) {
		return vault.Secret{}, nil
	}
	return l.URL, err
}
