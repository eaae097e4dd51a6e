package chat

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/vault"
)

// This file writes the sessions of an agent into an archive and reads them from one. The
// texts of an archive are whatever somebody has written there: they are for readers, and no
// model gets them as what was said.

const (
	// importOwner is the Owner of imported sessions, which is nobody's default session.
	importOwner = "import"
	// maxImportedText is the longest text of an imported message, in bytes: a little more than
	// the longest answer of a turn.
	maxImportedText = 2 << 20
	// archivePage is how many rows are read at a time. A message may have a megabyte.
	archivePage = 100
	// archivePageBytes bounds the texts that are read at a time, unless it is a single message.
	archivePageBytes = 1 << 20
)

// ArchivedSession is a session as an archive has it. Number is what its messages name it by.
type ArchivedSession struct {
	Number    int64
	Entry     openclaw.Entry
	PeerID    string
	Channel   string
	Name      string
	StartedAt time.Time
}

// ArchivedMessage is a message as an archive has it.
type ArchivedMessage struct {
	Session int64 // Number of its session
	Role    string
	Content string
	At      time.Time
}

// ExportSessions calls yield with the sessions of an agent that the caller sees, oldest first.
// It leaves out what cannot be read, and returns how many texts that are.
// Errors: yield's. Faults: NotFound.
func (s *Service) ExportSessions(ctx context.Context, caller Caller, agentID identity.AgentID, yield func(ArchivedSession) error) (damaged int, err error) {
	key, err := s.archiveKey(ctx, caller, agentID)
	if err != nil {
		return 0, err
	}
	scan := func(r database.Row) (v ArchivedSession, err error) {
		var id identity.SessionID
		var name, title vault.Text
		var started int64
		if err := r.Scan(&v.Number, &id, &v.Entry, &v.PeerID, &v.Channel, &name, &title, &started); err != nil {
			return v, err
		}
		v.StartedAt = database.Time(started)
		column, text := "name", name
		if text.IsEmpty() {
			column, text = "title", title
		}
		opened, err := openColumn(key, column, text, sessionPlace(id, column)...)
		v.Name = cutName(opened)
		return v, err
	}
	keep := func(v *ArchivedSession, _ error) (row string, keep bool) {
		damaged++
		return fmt.Sprintf("session %d of agent %s", v.Number, agentID), true
	}
	for after := int64(0); ; {
		rows, err := database.AllReadable(ctx, s.db, scan, keep,
			`SELECT number, id, entry, peer_id, channel, name, title, started_at FROM sessions
			 WHERE account_id = $1 AND agent_id = $2 AND number > $3 AND typeof(number) = 'integer' AND NOT one_shot AND ($4 = '' OR entry = $4) ORDER BY number LIMIT $5`,
			caller.AccountID, agentID, after, caller.visible(), archivePage)
		if err != nil {
			return damaged, fmt.Errorf("read the sessions of agent %s: %w", agentID, err)
		}
		for _, v := range rows {
			after = v.Number
			if v.Check() != nil { // what is damaged is not only the name
				continue
			}
			if err := yield(v); err != nil {
				return damaged, err
			}
		}
		if len(rows) < archivePage {
			return damaged, nil
		}
	}
}

// ExportMessages calls yield with the messages of an agent's sessions that the caller sees, in
// the order of the history, up to the one that is the last when it is called. It leaves out what
// cannot be read, and returns how many messages that are. Errors: yield's. Faults: NotFound.
func (s *Service) ExportMessages(ctx context.Context, caller Caller, agentID identity.AgentID, yield func(ArchivedMessage) error) (damaged int, err error) {
	key, err := s.archiveKey(ctx, caller, agentID)
	if err != nil {
		return 0, err
	}
	last, err := database.One(ctx, s.db, database.Scalar[int64], `SELECT coalesce(max(number), 0) FROM messages WHERE account_id = $1 AND agent_id = $2 AND typeof(number) = 'integer'`, caller.AccountID, agentID)
	if err != nil {
		return 0, fmt.Errorf("find the last message of agent %s: %w", agentID, err)
	}
	type row struct {
		ArchivedMessage
		number int64
	}
	scan := func(r database.Row) (v row, err error) {
		var id identity.SessionID
		var turn identity.TurnID
		var gatewayID string
		var content vault.Text
		var at int64
		if err := r.Scan(&v.number, &v.Session, &id, &turn, &v.Role, &gatewayID, &content, &at); err != nil {
			return v, err
		}
		v.At = database.Time(at)
		v.Content, err = openColumn(key, "content", content, messagePlace(id, turn, v.Role, gatewayID)...)
		return v, err
	}
	keep := func(v *row, _ error) (string, bool) {
		v.Role = "" // it is left out
		return fmt.Sprintf("message %d of agent %s", v.number, agentID), true
	}
	for after := int64(0); after < last; {
		rows, err := database.AllReadable(ctx, s.db, scan, keep,
			`SELECT number, session, session_id, turn_id, role, gateway_id, content, at FROM (
				SELECT m.number, s.number AS session, m.session_id, coalesce(m.turn_id, '') AS turn_id, m.role, coalesce(m.gateway_id, '') AS gateway_id, m.content, m.at,
					sum(octet_length(m.content)) OVER page AS bytes, row_number() OVER page AS place
				FROM messages m JOIN sessions s ON s.id = m.session_id
				WHERE m.account_id = $1 AND m.agent_id = $2 AND m.number > $3 AND m.number <= $4 AND typeof(m.number) = 'integer' AND ($5 = '' OR s.entry = $5)
				WINDOW page AS (ORDER BY m.number) ORDER BY m.number LIMIT $6
			 ) AS page WHERE bytes <= $7 OR place = 1 ORDER BY number`,
			caller.AccountID, agentID, after, last, caller.visible(), archivePage, archivePageBytes)
		if err != nil {
			return damaged, fmt.Errorf("read the messages of agent %s: %w", agentID, err)
		}
		for _, v := range rows {
			after = v.number
			if v.Check() != nil {
				damaged++
				continue
			}
			if err := yield(v.ArchivedMessage); err != nil {
				return damaged, err
			}
		}
		if len(rows) == 0 {
			return damaged, nil
		}
	}
	return damaged, nil
}

func (s *Service) archiveKey(ctx context.Context, caller Caller, agentID identity.AgentID) (vault.TextKey, error) {
	if _, err := s.agents.Find(ctx, caller.AccountID, agentID); err != nil {
		return vault.TextKey{}, err
	}
	return s.textKey(ctx, s.db, caller.AccountID, agentID)
}

// cutName returns a name that an import takes: a sender in a channel may have any.
func cutName(name string) string {
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, name)
	if runes := []rune(name); len(runes) > maxSessionName {
		name = string(runes[:maxSessionName])
	}
	return strings.TrimSpace(name)
}

var channelName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// Check returns what is wrong with a session of an archive. Faults: Invalid.
func (v ArchivedSession) Check() error {
	fields := fault.Fields{}
	if v.Number < 1 {
		fields.Add("number", "must be 1 or more")
	}
	if v.Entry != openclaw.Main && v.Entry != openclaw.Guest {
		fields.Add("entry", "must be main or guest")
	}
	if !channelName.MatchString(v.Channel) {
		fields.Add("channel", "must be a channel, such as api or telegram")
	}
	checkPeer(fields, v.PeerID)
	checkSessionName(fields, v.Name)
	checkArchivedTime(fields, "startedAt", v.StartedAt)
	return fields.Err()
}

// Check returns what is wrong with a message of an archive. Faults: Invalid.
func (m ArchivedMessage) Check() error {
	fields := fault.Fields{}
	if m.Role != "user" && m.Role != "assistant" {
		fields.Add("role", "must be user or assistant")
	}
	switch {
	case m.Content == "":
		fields.Add("content", "must not be empty")
	case len(m.Content) > maxImportedText:
		fields.Add("content", "must have at most %d bytes, it has %d", maxImportedText, len(m.Content))
	case strings.ContainsRune(m.Content, 0) || !utf8.ValidString(m.Content):
		fields.Add("content", "must be UTF-8 text without a NUL character")
	}
	checkArchivedTime(fields, "at", m.At)
	return fields.Err()
}

// checkArchivedTime refuses a time that the database cannot hold, or that is ahead of the
// clock by more than clocks differ.
func checkArchivedTime(fields fault.Fields, name string, at time.Time) {
	if at.Before(time.Unix(0, 0)) || at.After(time.Now().Add(24*time.Hour)) {
		fields.Add(name, "must be a time from 1970 to now")
	}
}

// SessionImport stores the sessions of an archive, in the transactions of its caller.
type SessionImport struct {
	service *Service
	account identity.AccountID
	agent   identity.AgentID
	ids     map[int64]identity.SessionID // by ArchivedSession.Number
	stored  int64                        // messages
}

// ImportSessions returns a SessionImport into an agent without sessions.
func (s *Service) ImportSessions(account identity.AccountID, agent identity.AgentID) *SessionImport {
	return &SessionImport{service: s, account: account, agent: agent, ids: map[int64]identity.SessionID{}}
}

// AddSessions stores sessions. Faults: Invalid.
func (i *SessionImport) AddSessions(ctx context.Context, tx *database.Tx, sessions []ArchivedSession) error {
	key, err := i.service.textKey(ctx, tx, i.account, i.agent)
	if err != nil {
		return err
	}
	for _, a := range sessions {
		if err := a.Check(); err != nil {
			return err
		}
		v := Session{
			ID: newSessionID(), AccountID: i.account, AgentID: i.agent, Owner: importOwner, PeerID: a.PeerID, Entry: a.Entry,
			Channel: a.Channel, Imported: true, StartedAt: a.StartedAt,
		}
		v.GatewayKey = importOwner + ":" + string(v.ID) // no key of a gateway
		if v.name, err = key.Seal(a.Name, sessionPlace(v.ID, "name")...); err != nil {
			return err
		}
		if err := insertSession(ctx, tx, v); err != nil {
			return err
		}
		i.ids[a.Number] = v.ID
	}
	return nil
}

// AddMessages stores messages of sessions that were added before. Faults: Invalid; PlanLimit.
func (i *SessionImport) AddMessages(ctx context.Context, tx *database.Tx, messages []ArchivedMessage) error {
	key, err := i.service.textKey(ctx, tx, i.account, i.agent)
	if err != nil {
		return err
	}
	size := int64(0)
	for _, m := range messages {
		size += int64(len(m.Content))
	}
	if quota := i.service.quota; quota != nil {
		if err := quota.CheckStorage(ctx, tx, i.account, size); err != nil {
			return err
		}
	}
	for _, m := range messages {
		if err := m.Check(); err != nil {
			return err
		}
		id, ok := i.ids[m.Session]
		if !ok {
			return fault.Fields{"session": "names no session of the archive"}.Err()
		}
		i.stored++
		v := Session{ID: id, AccountID: i.account, AgentID: i.agent}
		if _, err := insertMessage(ctx, tx, key, v, Message{Role: m.Role, Content: m.Content, At: m.At}, importOwner+"-"+strconv.FormatInt(i.stored, 10)); err != nil {
			return err
		}
	}
	return nil
}
