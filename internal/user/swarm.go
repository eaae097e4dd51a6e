package user

import (
	"context"
	"fmt"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// SwarmMember is a person of a swarm. Membership says who cares for the swarm's agents; what
// the person may do is decided by its role in the account alone.
type SwarmMember struct {
	Member
	AddedAt time.Time
}

// SwarmMembers lists the people of a swarm, by e-mail address. A swarm of another account has
// none.
func (s *Service) SwarmMembers(ctx context.Context, account identity.AccountID, swarm identity.SwarmID) ([]SwarmMember, error) {
	all, err := database.AllReadable(ctx, s.db, func(r database.Row) (SwarmMember, error) {
		var m SwarmMember
		var joined, signed, added int64
		err := r.Scan(&m.ID, &m.Email, &m.Name, &m.Role, &m.TOTP, &joined, &signed, &added)
		m.JoinedAt, m.SignedInAt, m.AddedAt = database.Time(joined), database.Time(signed), database.Time(added)
		return m, err
	}, func(m *SwarmMember, _ error) (string, bool) { return "member " + string(m.ID), true },
		`SELECT u.id, u.email, u.name, m.role, u.totp_at <> 0, m.created_at, u.signed_in_at, w.added_at
		FROM swarm_members w JOIN memberships m ON m.account_id = w.account_id AND m.user_id = w.user_id JOIN users u ON u.id = w.user_id
		WHERE w.account_id = $1 AND w.swarm_id = $2 ORDER BY u.email`, account, swarm)
	if err != nil {
		return nil, fmt.Errorf("list the members of swarm %s: %w", swarm, err)
	}
	return all, nil
}

// CountBySwarm counts the members of an account's swarms. Swarms without members are missing.
func (s *Service) CountBySwarm(ctx context.Context, q database.Reader, account identity.AccountID) (map[identity.SwarmID]int, error) {
	type row struct {
		swarm identity.SwarmID
		count int
	}
	rows, err := database.All(ctx, q, func(r database.Row) (x row, err error) { return x, r.Scan(&x.swarm, &x.count) },
		`SELECT swarm_id, COUNT(*) FROM swarm_members WHERE account_id = $1 GROUP BY swarm_id`, account)
	if err != nil {
		return nil, fmt.Errorf("count the members of swarms: %w", err)
	}
	counts := make(map[identity.SwarmID]int, len(rows))
	for _, r := range rows {
		counts[r.swarm] = r.count
	}
	return counts, nil
}

// AddToSwarm adds a person of the actor's account to a swarm. Adding it again changes nothing.
// Faults: NotFound, if there is no such swarm or member.
func (s *Service) AddToSwarm(ctx context.Context, actor identity.Actor, swarm identity.SwarmID, id identity.UserID) error {
	return s.db.Tx(ctx, "user.add_to_swarm", func(ctx context.Context, tx *database.Tx) error {
		m, err := findMember(ctx, tx, actor.AccountID, id)
		if err != nil {
			return err
		}
		return s.joinSwarm(ctx, tx, actor, swarm, m)
	})
}

// SwarmCreated adds the person who has created a swarm to it, in the transaction of that. Other
// actors are no members.
func (s *Service) SwarmCreated(ctx context.Context, tx *database.Tx, actor identity.Actor, swarm identity.SwarmID) error {
	if actor.Kind != identity.User {
		return nil
	}
	m, err := findMember(ctx, tx, actor.AccountID, identity.UserID(actor.ID))
	if fault.Is(err, fault.NotFound) {
		return nil // removed meanwhile
	}
	if err != nil {
		return err
	}
	return s.joinSwarm(ctx, tx, actor, swarm, m)
}

func (s *Service) joinSwarm(ctx context.Context, tx *database.Tx, actor identity.Actor, swarm identity.SwarmID, m Member) error {
	if n, err := database.One(ctx, tx, database.Scalar[int], `SELECT COUNT(*) FROM swarms WHERE account_id = $1 AND id = $2`, actor.AccountID, swarm); err != nil {
		return err
	} else if n == 0 {
		return fault.New(fault.NotFound, "There is no swarm with that id. List them with GET /v1/swarms.")
	}
	n, err := database.Exec(ctx, tx, `INSERT INTO swarm_members (account_id, swarm_id, user_id, added_at) VALUES ($1, $2, $3, $4) ON CONFLICT (swarm_id, user_id) DO NOTHING`,
		actor.AccountID, swarm, m.ID, database.Millis(now()))
	if err != nil || n == 0 {
		return err
	}
	return s.appendEvent(ctx, tx, actor, event.SwarmTopic(swarm), "swarm.member_added", map[string]any{"user": m.ID, "email": m.Email})
}

// RemoveFromSwarm removes a person from a swarm of the actor's account. Faults: NotFound.
func (s *Service) RemoveFromSwarm(ctx context.Context, actor identity.Actor, swarm identity.SwarmID, id identity.UserID) error {
	return s.db.Tx(ctx, "user.remove_from_swarm", func(ctx context.Context, tx *database.Tx) error {
		n, err := database.Exec(ctx, tx, `DELETE FROM swarm_members WHERE account_id = $1 AND swarm_id = $2 AND user_id = $3`, actor.AccountID, swarm, id)
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.New(fault.NotFound, "There is no member %q in this swarm.", id)
		}
		return s.appendEvent(ctx, tx, actor, event.SwarmTopic(swarm), "swarm.member_removed", map[string]any{"user": id})
	})
}
