package chat

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// maxHistory is how many bytes of text one page of the history has, unless it is a single
// message.
const maxHistory = 4 << 20

// HistoryQuery selects messages of an agent, and a page of them.
type HistoryQuery struct {
	Session identity.SessionID // empty: all
	Peer    string             // only of sessions of this peer; empty: all
	Since   time.Time          // only messages after this time; zero: all

	// At most one of these begins the page somewhere else than at the newest message.
	Before identity.MessageID // the messages before this one; empty: none
	After  identity.MessageID // the messages after this one or HistoryStart, the oldest of them first; empty: none
	Offset int                // how many to skip, counted from the newest

	Limit int
}

// HistoryStart is the HistoryQuery.After of the oldest messages.
const HistoryStart identity.MessageID = client.HistoryStart

// HistoryPage is a page of a history.
type HistoryPage struct {
	Messages []Message // oldest first
	Total    int       // how many the query selects on all pages
	HasMore  bool      // in the direction of the query: newer ones with After, otherwise older ones
}

// History returns a page of the messages that a query selects. Messages have the order in
// which they became visible, which no clock changes: all that become visible later come
// after them. The answer of a turn becomes visible when the turn ends.
// Faults: Invalid; NotFound, for the agent or the session.
func (s *Service) History(ctx context.Context, caller Caller, agentID identity.AgentID, query HistoryQuery) (HistoryPage, error) {
	if err := s.checkSession(ctx, caller, agentID, query.Session, query.Peer); err != nil {
		return HistoryPage{}, err
	}
	r, err := s.historyRange(ctx, caller, agentID, query)
	if err != nil {
		return HistoryPage{}, err
	}
	key, err := s.textKey(ctx, s.db, caller.AccountID, agentID)
	if err != nil {
		return HistoryPage{}, err
	}
	return listMessages(ctx, s.db, key, caller, agentID, query, r)
}

// historyRange is a part of a history. A bound that is 0 is none.
type historyRange struct {
	before, after int64 // numbers of messages
	oldestFirst   bool  // the page begins at the oldest message of the part, otherwise at the newest
}

// historyRange returns the part of the history that the cursors of a query select.
// Faults: Invalid, with every invalid field.
func (s *Service) historyRange(ctx context.Context, caller Caller, agentID identity.AgentID, query HistoryQuery) (r historyRange, err error) {
	fields := fault.Fields{}
	checkPeer(fields, query.Peer)
	r.oldestFirst = query.After != ""
	for _, c := range []struct {
		field  string
		id     identity.MessageID
		number *int64
	}{{"before", query.Before, &r.before}, {"after", query.After, &r.after}} {
		if c.id == "" || c.id == HistoryStart && c.field == "after" {
			continue
		}
		if *c.number, err = s.findMessage(ctx, caller, agentID, c.id); err != nil {
			if !fault.Is(err, fault.NotFound) {
				return r, err
			}
			fields.Add(c.field, "must be the id of a message of this agent, such as pagination.%s of the page before", c.field)
		}
	}
	switch {
	case query.Before != "" && query.After != "":
		fields.Add("after", "cannot be combined with before: a page begins at one of them")
	case query.Offset > 0 && (query.Before != "" || query.After != ""):
		fields.Add("offset", "cannot be combined with before or after: a page begins at one of them")
	}
	return r, fields.Err()
}

// condition returns the condition that a column with numbers of messages is in the part. It
// leaves out what selects all, so that the index is used for what is left.
func (r historyRange) condition(column string) (and string) {
	if r.after > 0 {
		and += fmt.Sprintf(" AND %s > %d", column, r.after)
	}
	if r.before > 0 {
		and += fmt.Sprintf(" AND %s < %d", column, r.before)
	}
	return and
}

// findMessage returns the number of a message from its id. The message may have left the
// history since: then the number is the place where it was.
// Faults: NotFound, if the id is none of the agent, or of a session that does not exist for
// the caller.
func (s *Service) findMessage(ctx context.Context, caller Caller, agentID identity.AgentID, id identity.MessageID) (int64, error) {
	session, number, ok := parseMessageID(id)
	if !ok {
		return 0, fault.New(fault.NotFound, "There is no message %q.", id)
	}
	_, err := findSession(ctx, s.db, caller, agentID, session, "")
	return number, err
}

const (
	sessionPrefix = "sess_"
	messagePrefix = "msg_"
)

// newMessageID returns the id of the message of a session with that number. It needs no
// column, and no index: the number is the place in the history.
func newMessageID(session identity.SessionID, number int64) identity.MessageID {
	return identity.MessageID(messagePrefix + strings.TrimPrefix(string(session), sessionPrefix) + "_" + strconv.FormatInt(number, 10))
}

// SessionOf returns the session that a message belongs to; ok is false if the id is none of a
// message.
func SessionOf(id identity.MessageID) (session identity.SessionID, ok bool) {
	session, _, ok = parseMessageID(id)
	return session, ok
}

// parseMessageID returns what newMessageID made an id of. ok is false for any other text.
func parseMessageID(id identity.MessageID) (session identity.SessionID, number int64, ok bool) {
	rest, ok := strings.CutPrefix(string(id), messagePrefix)
	at := strings.LastIndexByte(rest, '_')
	if !ok || at < 0 {
		return "", 0, false
	}
	number, err := strconv.ParseInt(rest[at+1:], 10, 64)
	session = identity.SessionID(sessionPrefix + rest[:at])
	return session, number, err == nil && number > 0 && newMessageID(session, number) == id
}

// listedMessage is a message with what listMessages needs to know of its page.
type listedMessage struct {
	Message
	found int // how many messages there are, up to one more than the page may have
}

// damagedMessage keeps a message whose time, number or text cannot be decoded.
func damagedMessage(*listedMessage, error) (row string, keep bool) { return "a message", true }

// listMessages returns the messages of a page that fit in maxHistory. The message of a turn
// that runs is in the row of the turn.
func listMessages(ctx context.Context, q database.Reader, key vault.TextKey, caller Caller, agent identity.AgentID, query HistoryQuery, r historyRange) (HistoryPage, error) {
	ofSession := ` AND $5 = '' AND $6 = ''` // every session
	if caller.visible() != "" || query.Peer != "" {
		ofSession = ` AND session_id IN (SELECT id FROM sessions WHERE account_id = $1 AND agent_id = $2 AND ($5 = '' OR entry = $5) AND ($6 = '' OR peer_id = $6))`
	}
	ended := ` FROM messages WHERE account_id = $1 AND agent_id = $2 AND ($3 = '' OR session_id = $3) AND at > $4` + ofSession
	running := ` FROM turns WHERE state = 'running' AND state IN ('queued', 'running') AND NOT one_shot AND account_id || '' = $1 AND agent_id || '' = $2
		AND ($3 = '' OR session_id = $3) AND started_at > $4` + ofSession
	args := []any{caller.AccountID, agent, query.Session, database.Millis(query.Since), caller.visible(), query.Peer}
	order := "DESC"
	if r.oldestFirst {
		order = "ASC"
	}
	rows, err := database.AllReadable(ctx, q, scanMessageWith(key), damagedMessage,
		`SELECT page.session_id, turn_id, role, gateway_id, content, at, page.number, peer_id, channel, imported, coalesce(turns.source, ''), found FROM (
			SELECT *, sum(octet_length(content) - CASE typeof(content) WHEN 'blob' THEN $7 ELSE 0 END) OVER page AS bytes, row_number() OVER page AS place, count(*) OVER () AS found FROM (
				SELECT session_id, coalesce(turn_id, '') AS turn_id, role, coalesce(gateway_id, '') AS gateway_id, content, at, number`+ended+r.condition("number")+`
				UNION ALL SELECT session_id, id, 'user', '', message, started_at, message_number`+running+r.condition("message_number")+`
				ORDER BY number `+order+` LIMIT $8 + 1 OFFSET $9) AS nearest
			WINDOW page AS (ORDER BY number `+order+`)
		 ) AS page JOIN sessions ON sessions.id = page.session_id LEFT JOIN turns ON turns.id = page.turn_id WHERE place <= $8 AND (bytes <= $10 OR place = 1) ORDER BY page.number`,
		append(args[:len(args):len(args)], vault.TextOverhead, query.Limit, query.Offset, maxHistory)...)
	if err != nil {
		return HistoryPage{}, err
	}
	p := HistoryPage{Messages: make([]Message, len(rows))}
	for i, row := range rows {
		p.Messages[i] = row.Message
		p.HasMore = row.found > len(rows)
	}
	p.Total, err = database.One(ctx, q, database.Scalar[int], `SELECT (SELECT count(*)`+ended+`) + (SELECT count(*)`+running+`)`, args...) // after listing, as in listSessions
	return p, err
}

// scanMessageWith returns a function that scans a message, with what it is sealed for, and
// opens it.
func scanMessageWith(key vault.TextKey) func(database.Row) (listedMessage, error) {
	return func(r database.Row) (listedMessage, error) {
		var m listedMessage
		var gatewayID string
		var content vault.Text
		var at, number int64
		err := r.Scan(&m.SessionID, &m.TurnID, &m.Role, &gatewayID, &content, &at, &number, &m.PeerID, &m.Channel, &m.Imported, &m.Source, &m.found)
		if m.Channel != apiChannel {
			m.Source = Source(m.Channel)
		}
		m.At, m.ID = database.Time(at), newMessageID(m.SessionID, number)
		if err != nil {
			return m, err
		}
		m.Content, err = openColumn(key, "content", content, messagePlace(m.SessionID, m.TurnID, m.Role, gatewayID)...)
		return m, err
	}
}
