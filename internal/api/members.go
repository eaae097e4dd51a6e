package api

import (
	"context"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/user"
)

// MemberID is the part of a path that names a person.
type MemberID struct {
	ID identity.UserID `path:"id" doc:"Id of the person." example:"user_abc123"`
}

func (s *Server) listMembers(ctx context.Context, who access.Principal, _ *struct{}) (*listReply[client.Member], error) {
	all, err := s.people.Members(ctx, who.AccountID)
	if err != nil {
		return nil, err
	}
	rows := make([]client.Member, len(all))
	for i, m := range all {
		rows[i] = memberJSON(m)
	}
	return whole(rows), nil
}

func (s *Server) getMember(ctx context.Context, who access.Principal, in *MemberID) (*reply[client.Member], error) {
	m, err := s.people.Member(ctx, who.AccountID, in.ID)
	if err != nil {
		return nil, err
	}
	return one(memberJSON(m)), nil
}

type updateMemberInput struct {
	MemberID
	Body client.UpdateMemberRequest
}

func (s *Server) updateMember(ctx context.Context, who access.Principal, in *updateMemberInput) (*reply[client.Member], error) {
	role, err := access.ParseRole(in.Body.Role)
	if err != nil {
		return nil, err
	}
	m, err := s.people.SetRole(ctx, who.Actor(), in.ID, role)
	if err != nil {
		return nil, err
	}
	return one(memberJSON(m)), nil
}

func (s *Server) removeMember(ctx context.Context, who access.Principal, in *MemberID) (*reply[client.RemovedMember], error) {
	if err := s.people.RemoveMember(ctx, who.Actor(), in.ID); err != nil {
		return nil, err
	}
	return one(client.RemovedMember{ID: string(in.ID), Removed: true}), nil
}

func (s *Server) listInvitations(ctx context.Context, who access.Principal, _ *struct{}) (*listReply[client.Invitation], error) {
	all, err := s.people.Invitations(ctx, who.AccountID)
	if err != nil {
		return nil, err
	}
	rows := make([]client.Invitation, len(all))
	for i, v := range all {
		rows[i] = invitationJSON(v)
	}
	return whole(rows), nil
}

type createInvitationInput struct {
	Body client.CreateInvitationRequest
}

func (s *Server) createInvitation(ctx context.Context, who access.Principal, in *createInvitationInput) (*reply[client.InvitationLink], error) {
	role, err := access.ParseRole(in.Body.Role)
	if err != nil {
		return nil, err
	}
	v, link, err := s.people.Invite(ctx, who.Actor(), in.Body.Email, role)
	if err != nil {
		return nil, err
	}
	return one(client.InvitationLink{Invitation: invitationJSON(v), URL: link.URL.Reveal()}), nil
}

// InvitationID is the part of a path that names an invitation.
type InvitationID struct {
	ID string `path:"id" doc:"Id of the invitation." example:"link_abc123"`
}

func (s *Server) revokeInvitation(ctx context.Context, who access.Principal, in *InvitationID) (*reply[client.RevokedInvitation], error) {
	if err := s.people.RevokeInvitation(ctx, who.Actor(), in.ID); err != nil {
		return nil, err
	}
	return one(client.RevokedInvitation{ID: in.ID, Revoked: true}), nil
}

func (s *Server) listSwarmMembers(ctx context.Context, who access.Principal, in *SwarmID) (*listReply[client.SwarmMember], error) {
	if _, err := s.swarms.Get(ctx, who.AccountID, in.ID); err != nil {
		return nil, err
	}
	all, err := s.people.SwarmMembers(ctx, who.AccountID, in.ID)
	if err != nil {
		return nil, err
	}
	rows := make([]client.SwarmMember, len(all))
	for i, m := range all {
		rows[i] = client.SwarmMember{ID: string(m.ID), Email: m.Email, Name: orNull(m.Name), Role: string(m.Role), AddedAt: client.Time{Time: m.AddedAt}}
	}
	return whole(rows), nil
}

type addSwarmMemberInput struct {
	SwarmID
	Body client.AddSwarmMemberRequest
}

func (s *Server) addSwarmMember(ctx context.Context, who access.Principal, in *addSwarmMemberInput) (*listReply[client.SwarmMember], error) {
	if fault.IsBlank(in.Body.UserID) {
		return nil, fault.Fields{"userId": "must be the id of a person"}.Err()
	}
	if err := s.people.AddToSwarm(ctx, who.Actor(), in.ID, identity.UserID(in.Body.UserID)); err != nil {
		return nil, err
	}
	return s.listSwarmMembers(ctx, who, &in.SwarmID)
}

type swarmMemberInput struct {
	SwarmID
	UserID identity.UserID `path:"userId" doc:"Id of the person." example:"user_abc123"`
}

func (s *Server) removeSwarmMember(ctx context.Context, who access.Principal, in *swarmMemberInput) (*reply[client.RemovedMember], error) {
	if err := s.people.RemoveFromSwarm(ctx, who.Actor(), in.ID, in.UserID); err != nil {
		return nil, err
	}
	return one(client.RemovedMember{ID: string(in.UserID), Removed: true}), nil
}

func memberJSON(m user.Member) client.Member {
	return client.Member{
		ID: string(m.ID), Email: m.Email, Name: orNull(m.Name), Role: string(m.Role), SecondFactor: m.TOTP,
		JoinedAt: client.Time{Time: m.JoinedAt}, SignedInAt: client.NewTime(m.SignedInAt),
	}
}

func invitationJSON(v user.Invitation) client.Invitation {
	return client.Invitation{
		ID: v.ID, Email: v.Email, Role: string(v.Role), CreatedBy: v.CreatedBy, CreatedAt: client.Time{Time: v.CreatedAt}, ExpiresAt: client.Time{Time: v.ExpiresAt},
	}
}
