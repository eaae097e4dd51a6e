package client

import (
	"context"
	"net/http"
	"net/url"
)

// Member is a person of the account.
type Member struct {
	ID           string  `json:"id" doc:"Id of the person." example:"user_abc123"`
	Email        string  `json:"email" doc:"E-mail address." example:"ada@example.com"`
	Name         *string `json:"name" doc:"Name; null: none."`
	Role         string  `json:"role" doc:"What the person may do in the account: viewer, developer, admin or owner." example:"developer"`
	SecondFactor bool    `json:"secondFactor" doc:"Whether the person signs in with a second factor."`
	JoinedAt     Time    `json:"joinedAt" doc:"When the person joined the account."`
	SignedInAt   *Time   `json:"signedInAt" doc:"When the person last signed in; null: never."`
}

// UpdateMemberRequest changes a person of the account.
type UpdateMemberRequest struct {
	Role string `json:"role" doc:"New role. Only an owner makes owners, and changes the role of one." values:"viewer,developer,admin,owner"`
}

// RemovedMember is the result of RemoveMember.
type RemovedMember struct {
	ID      string `json:"id" doc:"Id of the person."`
	Removed bool   `json:"removed" doc:"True."`
}

// Invitation is one that waits for its person.
type Invitation struct {
	ID        string `json:"id" doc:"Id of the invitation." example:"link_abc123"`
	Email     string `json:"email" doc:"E-mail address of the person." example:"grace@example.com"`
	Role      string `json:"role" doc:"Role that the person will have." example:"developer"`
	CreatedBy string `json:"createdBy" doc:"Who has invited: the id of a person or an API key, or operator."`
	CreatedAt Time   `json:"createdAt" doc:"When the invitation was made."`
	ExpiresAt Time   `json:"expiresAt" doc:"When it ends."`
}

// InvitationLink is an invitation with its link, which no other response has.
type InvitationLink struct {
	Invitation
	URL string `json:"url" doc:"The link, which can be used once. Send it to the person: agento sends no e-mail."`
}

// CreateInvitationRequest invites somebody to the account.
type CreateInvitationRequest struct {
	Email string `json:"email" doc:"E-mail address of the person." bounds:"3..254" example:"grace@example.com"`
	Role  string `json:"role" doc:"Role that the person will have. Only an owner invites owners; an API key gives no role that has scopes which it lacks." values:"viewer,developer,admin,owner"`
}

// RevokedInvitation is the result of RevokeInvitation.
type RevokedInvitation struct {
	ID      string `json:"id" doc:"Id of the invitation."`
	Revoked bool   `json:"revoked" doc:"True."`
}

// SwarmMember is a person of a swarm.
type SwarmMember struct {
	ID      string  `json:"id" doc:"Id of the person." example:"user_abc123"`
	Email   string  `json:"email" doc:"E-mail address." example:"ada@example.com"`
	Name    *string `json:"name" doc:"Name; null: none."`
	Role    string  `json:"role" doc:"What the person may do in the account." example:"developer"`
	AddedAt Time    `json:"addedAt" doc:"When the person was added to the swarm."`
}

// AddSwarmMemberRequest adds a person of the account to a swarm.
type AddSwarmMemberRequest struct {
	UserID string `json:"userId" doc:"Id of the person, who is a member of the account." example:"user_abc123"`
}

// ListMembers lists the people of the account, owners first.
func (c *Client) ListMembers(ctx context.Context) (List[Member], error) {
	return call[List[Member]](ctx, c, http.MethodGet, "/v1/members", nil)
}

// Member returns a person of the account.
func (c *Client) Member(ctx context.Context, id string) (Member, error) {
	return data[Member](ctx, c, http.MethodGet, memberPath(id), nil)
}

// UpdateMember changes what a person may do in the account. The person's streams end.
func (c *Client) UpdateMember(ctx context.Context, id string, in UpdateMemberRequest) (Member, error) {
	return data[Member](ctx, c, http.MethodPatch, memberPath(id), in)
}

// RemoveMember removes a person from the account.
func (c *Client) RemoveMember(ctx context.Context, id string) (RemovedMember, error) {
	return data[RemovedMember](ctx, c, http.MethodDelete, memberPath(id), nil)
}

// ListInvitations lists the invitations that wait, newest first.
func (c *Client) ListInvitations(ctx context.Context) (List[Invitation], error) {
	return call[List[Invitation]](ctx, c, http.MethodGet, "/v1/members/invitations", nil)
}

// CreateInvitation invites somebody to the account. Only this result has the link.
func (c *Client) CreateInvitation(ctx context.Context, in CreateInvitationRequest) (InvitationLink, error) {
	return data[InvitationLink](ctx, c, http.MethodPost, "/v1/members/invitations", in)
}

// RevokeInvitation ends an invitation.
func (c *Client) RevokeInvitation(ctx context.Context, id string) (RevokedInvitation, error) {
	return data[RevokedInvitation](ctx, c, http.MethodDelete, "/v1/members/invitations/"+url.PathEscape(id), nil)
}

// ListSwarmMembers lists the people of a swarm.
func (c *Client) ListSwarmMembers(ctx context.Context, swarm string) (List[SwarmMember], error) {
	return call[List[SwarmMember]](ctx, c, http.MethodGet, swarmMembersPath(swarm), nil)
}

// AddSwarmMember adds a person of the account to a swarm, and returns everybody in it. Adding
// somebody again changes nothing.
func (c *Client) AddSwarmMember(ctx context.Context, swarm string, in AddSwarmMemberRequest) (List[SwarmMember], error) {
	return call[List[SwarmMember]](ctx, c, http.MethodPost, swarmMembersPath(swarm), in)
}

// RemoveSwarmMember removes a person from a swarm.
func (c *Client) RemoveSwarmMember(ctx context.Context, swarm, id string) (RemovedMember, error) {
	return data[RemovedMember](ctx, c, http.MethodDelete, swarmMembersPath(swarm)+"/"+url.PathEscape(id), nil)
}

func memberPath(id string) string { return "/v1/members/" + url.PathEscape(id) }

func swarmMembersPath(swarm string) string { return "/v1/swarms/" + url.PathEscape(swarm) + "/members" }
