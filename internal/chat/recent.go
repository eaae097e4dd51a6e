package chat

import (
	"context"
	"slices"
	"strings"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// RecentSessions returns the sessions of all agents of the caller's account that a query
// selects, the one with the newest message first, and how many there are on all pages. A
// session without a message counts from its start. A search looks at the newest 5,000.
// Faults: Invalid.
func (s *Service) RecentSessions(ctx context.Context, caller Caller, query SessionQuery) ([]Session, int, error) {
	fields := fault.Fields{}
	if checkPeer(fields, query.Peer); fields.Err() != nil {
		return nil, 0, fields.Err()
	}
	const where = ` FROM sessions JOIN agents ON agents.id = sessions.agent_id AND agents.desired_state <> 'deleted'
		WHERE sessions.account_id = $1 AND NOT one_shot AND ($2 = '' OR entry = $2) AND ($3 = '' OR peer_id = $3)`
	args := []any{caller.AccountID, caller.visible(), query.Peer}
	limit, offset := query.Limit, query.Offset
	if query.Search != "" {
		limit, offset = maxSearched, 0
	}
	all, err := database.AllReadable(ctx, s.db, scanRecentSession, damagedSession,
		`SELECT `+recentSessionColumns+where+` ORDER BY max(sessions.started_at, last_message_at) DESC, agents.created_at DESC, number DESC LIMIT $4 OFFSET $5`, append(args[:len(args):len(args)], limit, offset)...)
	if err != nil {
		return nil, 0, err
	}
	if err := s.openNames(ctx, all); err != nil {
		return nil, 0, err
	}
	if query.Search != "" {
		all = slices.DeleteFunc(all, func(v Session) bool { return !v.contains(query.Search) })
		total := len(all)
		all = all[min(query.Offset, total):]
		return all[:min(query.Limit, len(all))], total, nil
	}
	total, err := database.One(ctx, s.db, database.Scalar[int], `SELECT count(*)`+where, args...) // after listing, as in listSessions
	return all, total, err
}

// maxSearched is how many sessions are searched: their names are sealed, so that each is opened.
const maxSearched = 5000

// contains reports whether the name, the peer or the id of a session has a text, in any case.
func (s *Session) contains(text string) bool {
	return strings.Contains(strings.ToLower(s.Name+"\n"+s.PeerID+"\n"+string(s.ID)), strings.ToLower(text))
}

// openNames sets the names of sessions of several agents.
func (s *Service) openNames(ctx context.Context, all []Session) (err error) {
	keys := map[identity.AgentID]vault.TextKey{}
	for i := range all {
		v := &all[i]
		key, ok := keys[v.AgentID]
		if !ok {
			if key, err = s.textKey(ctx, s.db, v.AccountID, v.AgentID); err != nil {
				return err
			}
			keys[v.AgentID] = key
		}
		if v.openName(key) != nil {
			v.Name = "" // what cannot be opened is damaged; the session is listed all the same
		}
	}
	return nil
}

// recentSessionColumns are those of scanRecentSession.
const recentSessionColumns = `sessions.id, sessions.account_id, agent_id, owner, peer_id, entry, gateway_key, sessions.name, title, channel, imported, sessions.started_at, one_shot,
	message_count, last_message_at, agents.name`

func scanRecentSession(r database.Row) (Session, error) {
	var s Session
	var started, last int64
	err := r.Scan(append(s.columns(&started), &s.MessageCount, &last, &s.AgentName)...)
	s.StartedAt, s.LastMessageAt = database.Time(started), database.Time(last)
	return s, err
}
