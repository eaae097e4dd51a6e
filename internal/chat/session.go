package chat

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/vault"
)

const (
	// MaxSessions is how many sessions one page has, at most. It is in the API contract.
	MaxSessions = 100
	// Lengths in characters of the name that a caller gives a session, and of the one that
	// is taken from its first message.
	maxSessionName  = 100
	maxSessionTitle = 80
)

func newSessionID() identity.SessionID {
	return identity.SessionID(sessionPrefix + strings.ToLower(rand.Text()))
}

// newSession returns a new session of a peer or, if peer is empty, of the caller.
func newSession(caller Caller, a agent.Agent, peer string) Session {
	v := Session{
		ID: newSessionID(), AccountID: a.AccountID, AgentID: a.ID,
		Owner: string(caller.Kind) + ":" + caller.ID, PeerID: peer, Entry: openclaw.EntryFor(peer),
		Channel: apiChannel, StartedAt: time.Now().UTC().Truncate(time.Millisecond),
	}
	if peer != "" {
		v.Owner = "peer:" + peer
	}
	if !caller.Owner || a.Config.SharedMode() {
		v.Entry = openclaw.Guest
	}
	v.GatewayKey = openclaw.SessionKey(v.Entry, peer, string(v.ID))
	return v
}

// SessionQuery selects sessions of an agent, and a page of them.
type SessionQuery struct {
	Peer   string // empty: those of all peers and keys
	Search string // only of RecentSessions: part of the name, the peer or the id; empty: any
	Offset int    // how many to skip
	Limit  int
}

// Sessions returns the agent's sessions that a query selects, the one that was started last
// first, and how many there are on all pages. Faults: Invalid; NotFound.
func (s *Service) Sessions(ctx context.Context, caller Caller, agentID identity.AgentID, query SessionQuery) ([]Session, int, error) {
	if _, err := s.agents.Find(ctx, caller.AccountID, agentID); err != nil {
		return nil, 0, err
	}
	fields := fault.Fields{}
	if checkPeer(fields, query.Peer); fields.Err() != nil {
		return nil, 0, fields.Err()
	}
	key, err := s.textKey(ctx, s.db, caller.AccountID, agentID)
	if err != nil {
		return nil, 0, err
	}
	return listSessions(ctx, s.db, key, caller, agentID, query)
}

// FindSession returns a session. Faults: NotFound, for the agent or the session.
func (s *Service) FindSession(ctx context.Context, caller Caller, agentID identity.AgentID, id identity.SessionID) (Session, error) {
	if _, err := s.agents.Find(ctx, caller.AccountID, agentID); err != nil {
		return Session{}, err
	}
	return s.readSession(ctx, s.db, caller, agentID, id)
}

// readSession is findSession with what only FindSession returns.
func (s *Service) readSession(ctx context.Context, q database.Reader, caller Caller, agentID identity.AgentID, id identity.SessionID) (Session, error) {
	found, err := findSession(ctx, q, caller, agentID, id, "")
	if err != nil {
		return found, err
	}
	key, err := s.textKey(ctx, q, found.AccountID, agentID)
	if err != nil {
		return found, err
	}
	return database.OneReadable(ctx, q, scanListedSessionWith(key), damagedSession, `SELECT `+listedSessionColumns+` FROM sessions WHERE id = $1`, id)
}

// NewSession starts a session: the owner's next message that names no session belongs
// to it, and the agent remembers nothing of the earlier sessions. An empty name is none.
// Faults: Invalid; NotFound; NotRunning.
func (s *Service) NewSession(ctx context.Context, caller Caller, agentID identity.AgentID, peer, name string) (Session, error) {
	a, err := s.agents.Find(ctx, caller.AccountID, agentID)
	if err != nil {
		return Session{}, err
	}
	fields := fault.Fields{}
	checkPeer(fields, peer)
	checkSessionName(fields, name)
	if fields.Err() != nil {
		return Session{}, fields.Err()
	}
	if err := a.CheckRunning(); err != nil {
		return Session{}, err
	}
	v := newSession(caller, a, peer)
	err = s.db.Tx(ctx, "chat.new_session", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockSession, string(v.AgentID)); err != nil {
			return err
		}
		if e, ok, err := s.events.Repeated(ctx, tx, caller.Actor); ok || err != nil {
			if err == nil { // an earlier execution of the request has started it
				id, _ := e.Data["session"].(string)
				v, err = s.readSession(ctx, tx, caller, v.AgentID, identity.SessionID(id))
			}
			return err
		}
		key, err := s.textKey(ctx, tx, v.AccountID, v.AgentID)
		if err != nil {
			return err
		}
		if v.name, err = key.Seal(name, sessionPlace(v.ID, "name")...); err != nil {
			return err
		}
		v.Name = name
		if err := insertSession(ctx, tx, v); err != nil {
			return err
		}
		return s.events.Append(ctx, tx, caller.Actor, event.Event{Topic: event.AgentTopic(v.AgentID), Kind: "session.created", Data: map[string]any{"session": v.ID}})
	})
	return v, err
}

// RenameSession gives a session a name. An empty one removes it: the session then has the
// name of its first message. Faults: Invalid; NotFound, for the agent or the session;
// Conflict, if the agent's data key is damaged.
func (s *Service) RenameSession(ctx context.Context, caller Caller, agentID identity.AgentID, id identity.SessionID, name string) (v Session, err error) {
	if _, err := s.agents.Find(ctx, caller.AccountID, agentID); err != nil {
		return Session{}, err
	}
	fields := fault.Fields{}
	if checkSessionName(fields, name); fields.Err() != nil {
		return Session{}, fields.Err()
	}
	err = s.db.Tx(ctx, "chat.rename_session", func(ctx context.Context, tx *database.Tx) error {
		if _, err := findSession(ctx, tx, caller, agentID, id, ""); err != nil {
			return err
		}
		key, err := s.textKey(ctx, tx, caller.AccountID, agentID)
		if err != nil {
			return err
		}
		sealed, err := key.Seal(name, sessionPlace(id, "name")...)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE sessions SET name = $2 WHERE id = $1`, id, sealed); err != nil {
			return fmt.Errorf("rename session: %w", err)
		}
		if v, err = s.readSession(ctx, tx, caller, agentID, id); err != nil {
			return err
		}
		return s.events.Append(ctx, tx, caller.Actor, event.Event{Topic: event.AgentTopic(agentID), Kind: "session.renamed", Data: map[string]any{"session": id}})
	})
	return v, err
}

func checkSessionName(fields fault.Fields, name string) {
	switch n := utf8.RuneCountInString(name); {
	case name != "" && strings.TrimSpace(name) == "":
		fields.Add("name", "must not be blank; null is no name")
	case n > maxSessionName:
		fields.Add("name", "must have at most %d characters, it has %d", maxSessionName, n)
	case strings.ContainsFunc(name, unicode.IsControl):
		fields.Add("name", "must not contain control characters")
	}
}

// sessionPlace returns what a column of a session is sealed for.
func sessionPlace(id identity.SessionID, column string) []string {
	return []string{"session", string(id), column}
}

// setTitle stores the beginning of the message of a turn as the title of its session, if it
// is the session's first message.
func (s *Service) setTitle(ctx context.Context, tx *database.Tx, session Session, t Turn, message string) error {
	if !session.title.IsEmpty() {
		return nil
	}
	title, err := s.seal(ctx, tx, t, titleOf(message), sessionPlace(session.ID, "title"))
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `UPDATE sessions SET title = $2 WHERE id = $1 AND title = '' AND message_count = 0`, session.ID, title); err != nil {
		return fmt.Errorf("set the title of a session: %w", err)
	}
	return nil
}

// setTitleOf is setTitle with the stored message of a turn. A message that cannot be opened
// gives no title; the turn fails because of it.
func (s *Service) setTitleOf(ctx context.Context, tx *database.Tx, session Session, t Turn) error {
	if !session.title.IsEmpty() {
		return nil
	}
	key, err := s.textKey(ctx, tx, t.AccountID, t.AgentID)
	if err != nil {
		return err
	}
	message, err := key.Open(t.message, messagePlace(t.SessionID, t.ID, "user", "")...)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	return s.setTitle(ctx, tx, session, t, message)
}

// removeTitle removes the title of a session whose first message was refused.
func removeTitle(ctx context.Context, tx *database.Tx, id identity.SessionID) error {
	if _, err := tx.ExecContext(ctx, `UPDATE sessions SET title = '' WHERE id = $1 AND message_count = 0`, id); err != nil {
		return fmt.Errorf("remove the title of a session: %w", err)
	}
	return nil
}

// titleOf returns the beginning of a message in one line, cut at a blank if there is one in
// its second half, and never inside a character that has several code points.
func titleOf(message string) string {
	printable := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, message)
	runes := []rune(strings.Join(strings.Fields(printable), " "))
	if len(runes) <= maxSessionTitle {
		return string(runes)
	}
	end := maxSessionTitle - 1 // room for the ellipsis
	for end > 1 && (joins(runes[end]) || runes[end-1] == zeroWidthJoiner) {
		end--
	}
	for i := end; i > maxSessionTitle/2; i-- {
		if runes[i] == ' ' {
			end = i
			break
		}
	}
	return strings.TrimRight(string(runes[:end]), " ") + "…"
}

const zeroWidthJoiner = '\u200d'

// joins reports whether a code point belongs to the character before it.
func joins(r rune) bool {
	const skinTones, lastSkinTone = '\U0001F3FB', '\U0001F3FF'
	return unicode.Is(unicode.M, r) || r == zeroWidthJoiner || r >= skinTones && r <= lastSkinTone
}

// listedSessionColumns are the columns of scanListedSessionWith. The message of a turn that
// runs is in the row of the turn.
const listedSessionColumns = sessionColumns + `,
	message_count + (SELECT count(*) FROM turns WHERE session_id = sessions.id AND state = 'running' AND state IN ('queued', 'running')),
	max(last_message_at, coalesce((SELECT max(turns.started_at) FROM turns WHERE session_id = sessions.id AND state = 'running' AND state IN ('queued', 'running')), 0))`

// scanListedSessionWith returns a function that scans a session with all that is known of it.
func scanListedSessionWith(key vault.TextKey) func(database.Row) (Session, error) {
	return func(r database.Row) (Session, error) {
		var s Session
		var started, last int64
		err := r.Scan(append(s.columns(&started), &s.MessageCount, &last)...)
		s.StartedAt, s.LastMessageAt = database.Time(started), database.Time(last)
		if err != nil {
			return s, err
		}
		return s, s.openName(key)
	}
}

// openName sets the name of a session that was read.
func (s *Session) openName(key vault.TextKey) (err error) {
	column, text := "name", s.name
	if text.IsEmpty() {
		column, text = "title", s.title
	}
	s.Name, err = openColumn(key, column, text, sessionPlace(s.ID, column)...)
	return err
}

// listSessions returns the sessions that a query selects, newest first, and how many there
// are on all pages.
func listSessions(ctx context.Context, q database.Reader, key vault.TextKey, caller Caller, agent identity.AgentID, query SessionQuery) ([]Session, int, error) {
	const where = ` FROM sessions WHERE account_id = $1 AND agent_id = $2 AND NOT one_shot AND ($3 = '' OR entry = $3) AND ($4 = '' OR peer_id = $4)`
	args := []any{caller.AccountID, agent, caller.visible(), query.Peer}
	all, err := database.AllReadable(ctx, q, scanListedSessionWith(key), damagedSession,
		`SELECT `+listedSessionColumns+where+` ORDER BY number DESC LIMIT $5 OFFSET $6`, append(args[:len(args):len(args)], query.Limit, query.Offset)...)
	if err != nil {
		return nil, 0, err
	}
	// Counted after listing, so that a session that starts in between does not make
	// the list longer than the total.
	total, err := database.One(ctx, q, database.Scalar[int], `SELECT count(*)`+where, args...)
	return all, total, err
}
