package admin

import (
	"encoding/json"
	"net/http"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// User is a person who can sign in.
type User struct {
	ID           string       `json:"id"`
	Email        string       `json:"email"`
	Name         string       `json:"name"`
	Operator     bool         `json:"operator"`
	SecondFactor bool         `json:"secondFactor"`
	CreatedAt    time.Time    `json:"createdAt"`
	SignedInAt   time.Time    `json:"signedInAt,omitzero"` // zero: never
	Accounts     []Membership `json:"accounts"`
}

// Membership is an account that a person is in.
type Membership struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Role string `json:"role"`
}

// Link is a one-time link, which is shown once.
type Link struct {
	For       string    `json:"for"` // an e-mail address, or the name of an account
	Account   string    `json:"account,omitempty"`
	Role      string    `json:"role,omitempty"`
	URL       string    `json:"url,omitempty"` // empty: no link is needed. Without a server it begins with its path
	ExpiresAt time.Time `json:"expiresAt,omitzero"`
}

// NewUser is a request for an invitation, or for an operator.
type NewUser struct {
	Email string `json:"email"`
	Role  string `json:"role"` // of an invitation
	Name  string `json:"name"` // of an operator
}

func (s *server) listUsers(r *http.Request) (any, error) {
	people, err := s.People.People(r.Context())
	if err != nil {
		return nil, err
	}
	accounts, err := s.People.AllMemberships(r.Context())
	if err != nil {
		return nil, err
	}
	all := make([]User, len(people))
	for i, p := range people {
		all[i] = User{ID: string(p.ID), Email: p.Email, Name: p.Name, Operator: p.Operator, SecondFactor: p.TOTP, CreatedAt: p.CreatedAt, SignedInAt: p.SignedInAt, Accounts: []Membership{}}
		for _, m := range accounts[p.ID] {
			all[i].Accounts = append(all[i].Accounts, Membership{ID: string(m.AccountID), Name: m.Account, Role: string(m.Role)})
		}
	}
	return all, nil
}

func (s *server) inviteUser(r *http.Request) (any, error) {
	var in NewUser
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return nil, err
	}
	account, err := s.account(r)
	if err != nil {
		return nil, err
	}
	invitation, link, err := s.People.Invite(r.Context(), identity.ByOperator(account.ID), in.Email, access.Role(in.Role))
	if err != nil {
		return nil, err
	}
	return Link{For: invitation.Email, Account: account.Name, Role: string(invitation.Role), URL: link.URL.Reveal(), ExpiresAt: link.ExpiresAt}, nil
}

func (s *server) resetUser(r *http.Request) (any, error) {
	p, err := s.People.Person(r.Context(), r.URL.Query().Get("user"))
	if err != nil {
		return nil, err
	}
	link, err := s.People.ResetLink(r.Context(), identity.ByOperator(""), string(p.ID), r.URL.Query().Get("secondFactor") == "true")
	if err != nil {
		return nil, err
	}
	return Link{For: p.Email, URL: link.URL.Reveal(), ExpiresAt: link.ExpiresAt}, nil
}

// removeUser removes a person from an account or, without one, altogether.
func (s *server) removeUser(r *http.Request) (any, error) {
	p, err := s.People.Person(r.Context(), r.URL.Query().Get("user"))
	if err != nil {
		return nil, err
	}
	u := User{ID: string(p.ID), Email: p.Email, Accounts: []Membership{}}
	if !r.URL.Query().Has("account") {
		_, err := s.People.Remove(r.Context(), identity.ByOperator(""), string(p.ID))
		return u, err
	}
	account, err := s.account(r)
	if err != nil {
		return nil, err
	}
	return u, s.People.RemoveMember(r.Context(), identity.ByOperator(account.ID), p.ID)
}

// firstLink makes the link for the first owner of an account: the one that is named, the only
// one, or a new one if there is none.
func (s *server) firstLink(r *http.Request) (any, error) {
	name := r.URL.Query().Get("account")
	if name == "" {
		all, err := s.Accounts.Accounts(r.Context())
		if err != nil {
			return nil, err
		}
		switch len(all) {
		case 0:
			a, err := s.Accounts.CreateAccount(r.Context(), identity.ByOperator(""), firstAccount, "")
			if err != nil {
				return nil, err
			}
			name = string(a.ID)
		case 1:
			name = string(all[0].ID)
		default:
			return nil, fault.New(fault.Invalid, "There are %d accounts: name the one that is to get its first owner.", len(all))
		}
	}
	a, err := s.Accounts.Account(r.Context(), name)
	if err != nil {
		return nil, err
	}
	link, err := s.People.FirstLink(r.Context(), identity.ByOperator(a.ID))
	if err != nil {
		return nil, err
	}
	return Link{For: a.Name, Account: a.Name, Role: string(access.Owner), URL: link.URL.Reveal(), ExpiresAt: link.ExpiresAt}, nil
}

// firstAccount is the name of the account that is made if there is none.
const firstAccount = "main"

func (s *server) addOperator(r *http.Request) (any, error) {
	var in NewUser
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return nil, err
	}
	p, link, err := s.People.AddOperator(r.Context(), identity.ByOperator(""), in.Email, in.Name)
	if err != nil {
		return nil, err
	}
	return Link{For: p.Email, URL: link.URL.Reveal(), ExpiresAt: link.ExpiresAt}, nil
}

// Invitation is one that waits.
type Invitation struct {
	ID        string    `json:"id"`
	Email     string    `json:"email"`
	Role      string    `json:"role"`
	CreatedBy string    `json:"createdBy"`
	CreatedAt time.Time `json:"createdAt"`
	ExpiresAt time.Time `json:"expiresAt"`
}

func (s *server) listInvitations(r *http.Request) (any, error) {
	account, err := s.account(r)
	if err != nil {
		return nil, err
	}
	found, err := s.People.Invitations(r.Context(), account.ID)
	all := make([]Invitation, len(found))
	for i, v := range found {
		all[i] = Invitation{ID: v.ID, Email: v.Email, Role: string(v.Role), CreatedBy: v.CreatedBy, CreatedAt: v.CreatedAt, ExpiresAt: v.ExpiresAt}
	}
	return all, err
}

func (s *server) revokeInvitation(r *http.Request) (any, error) {
	account, err := s.account(r)
	if err != nil {
		return nil, err
	}
	return nil, s.People.RevokeInvitation(r.Context(), identity.ByOperator(account.ID), r.URL.Query().Get("invitation"))
}

func (s *server) setRole(r *http.Request) (any, error) {
	account, err := s.account(r)
	if err != nil {
		return nil, err
	}
	p, err := s.People.Person(r.Context(), r.URL.Query().Get("user"))
	if err != nil {
		return nil, err
	}
	m, err := s.People.SetRole(r.Context(), identity.ByOperator(account.ID), p.ID, access.Role(r.URL.Query().Get("role")))
	return User{ID: string(m.ID), Email: m.Email, Name: m.Name, Accounts: []Membership{}}, err
}
