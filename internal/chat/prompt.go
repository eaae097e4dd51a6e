package chat

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/vault"
)

// This file starts the turns of clients that keep conversations themselves and send all of one
// with each message, as those of OpenAI's API do.

// Limits of one Prompt. The gateway takes no more images.
const (
	MaxImages         = 8
	MaxImageBytes     = 10 << 20 // of one, before it is encoded
	maxImages         = 18 << 20 // of all, as data URLs: a gateway takes requests of 20 MB
	maxConversation   = 256      // characters of a name
	comparedMessages  = 50       // of the past, the last ones
	maxIdempotencyKey = 255      // bytes
)

// A Prompt is a message with the conversation that it belongs to.
type Prompt struct {
	// Conversation is the client's name of the conversation. It belongs to the caller, the agent
	// and the peer. Empty means none: the message then belongs to the peer's default session or,
	// without a peer, to a session of its own that serves nothing else and leaves nothing.
	Conversation string
	PeerID       string

	// Chore makes the turn one-shot in any case, without tools and without anything of the agent
	// but its model.
	Chore bool

	System  string // what the client tells the agent with every message
	Past    []Said // before the message, oldest first
	Message string
	Images  []string // data URLs

	// Request is all by which the client's requests differ, such as the body of one. A request
	// that is equal to another one may be its repetition.
	Request        []byte
	IdempotencyKey string // empty: none
	Repeats        bool   // the client says that it has sent the request before
}

// Said is a message of the past of a Prompt.
type Said struct {
	Role   string // user or assistant
	Text   string
	Images []string // data URLs
}

// told is what an agent is told of a past that it has not heard.
type told struct {
	text   string
	images []string
}

// tell returns a past as it is told.
func tell(past []Said) told {
	v := told{text: transcript(past)}
	for _, m := range past {
		v.images = append(v.images, m.Images...)
	}
	return v
}

func (p Prompt) oneShot() bool { return p.Chore || p.Conversation == "" && p.PeerID == "" }

// check returns what is wrong with a prompt for an agent. Faults: Invalid, with every invalid field.
func (p Prompt) check(a agent.Agent) error {
	fields := fault.Fields{}
	past := ""
	if p.oneShot() {
		past = transcript(p.Past)
	}
	switch n := utf8.RuneCountInString(past) + utf8.RuneCountInString(p.Message); {
	case fault.IsBlank(p.Message):
		fields.Add("messages", "must end with a message of the user that has a text")
	case n > maxMessage:
		fields.Add("messages", "must have at most %d characters together, they have %d. With a name of the conversation only the last one is sent to the agent", maxMessage, n)
	case strings.ContainsRune(past+p.Message+p.System, 0):
		fields.Add("messages", "must not contain a NUL character")
	case utf8.RuneCountInString(p.System) > maxMessage:
		fields.Add("messages", "must have at most %d characters in the roles system and developer", maxMessage)
	case len(p.Images) > MaxImages:
		fields.Add("messages", "must have at most %d images in the last message, it has %d", MaxImages, len(p.Images))
	case size(p.Images) > maxImages:
		fields.Add("messages", "must have images of at most %d bytes together in the last message, they have %d", maxImages, size(p.Images))
	case len(p.Images) > 0 && !openclaw.TakesImages(a.Config.Model()):
		fields.Add("messages", "must have no images: the agent's model %q takes none", a.Config.Model())
	}
	checkPeer(fields, p.PeerID)
	if n := utf8.RuneCountInString(p.Conversation); n > maxConversation || strings.ContainsRune(p.Conversation, 0) {
		fields.Add("conversation", "must have at most %d characters and no NUL, it has %d", maxConversation, n)
	}
	if len(p.IdempotencyKey) > maxIdempotencyKey || strings.ContainsFunc(p.IdempotencyKey, func(c rune) bool { return c < ' ' || c > '~' }) {
		fields.Add("Idempotency-Key", "must be 1 to %d printable ASCII characters", maxIdempotencyKey)
	}
	return fields.Err()
}

// StartPrompt stores a prompt as a turn, or joins the turn of an equal request that it repeats:
//   - one whose readers have all disconnected, before its end and less than three seconds ago,
//   - with Repeats or the same IdempotencyKey, any that has not failed and whose end is at most
//     ten minutes ago.
//
// The turn is cancelled if nobody reads it for three seconds: the caller calls Leave of the Reading.
// Faults: as of Start; KeyReused, if another request had the IdempotencyKey.
func (s *Service) StartPrompt(ctx context.Context, caller Caller, agentID identity.AgentID, p Prompt) (*Reading, error) {
	a, err := s.agents.Find(ctx, caller.AccountID, agentID)
	if err != nil {
		return nil, err
	}
	if err := p.check(a); err != nil {
		return nil, err
	}
	names, err := s.namesOf(ctx, caller, a, p)
	if err != nil {
		return nil, err
	}
	if !p.Repeats && names.idempotencyKey == "" {
		s.readers.awaitClosing(ctx, names.request)
	}
	if r, err := s.join(ctx, s.db, caller, a, p, names); r != nil || err != nil {
		return r, err
	}
	stores := len(p.Message)
	if p.oneShot() {
		stores = 0
	}
	if err := s.admit(ctx, a, stores); err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx) // as in Start
	var reading *Reading
	var session Session
	err = s.db.GroupTx(ctx, "chat.start_prompt", func(ctx context.Context, tx *database.Tx) (err error) {
		if err := tx.Lock(ctx, database.LockSession, string(a.ID)); err != nil {
			return err
		}
		if reading, err = s.join(ctx, tx, caller, a, p, names); reading != nil || err != nil {
			return err
		}
		var t Turn
		if t, session, err = s.insertPrompt(ctx, tx, caller, a, p, names); err != nil {
			return err
		}
		reading = s.readers.begin(s, t, names.request)
		return nil
	})
	switch {
	case err != nil && reading != nil:
		reading.Leave(false)
		return nil, err
	case err != nil:
		return nil, err
	case !reading.joined:
		s.accepted(ctx, reading.Turn, session, a)
	}
	return reading, nil
}

func size(texts []string) (n int) {
	for _, t := range texts {
		n += len(t)
	}
	return n
}

// newestImages returns the images of a past and of a message, without the oldest if they are too
// many.
func newestImages(past, message []string) []string {
	all := slices.Concat(past, message)
	for len(all) > MaxImages || size(all) > maxImages {
		all = all[1:]
	}
	return all
}

// insertPrompt stores a prompt as a new turn of its session.
func (s *Service) insertPrompt(ctx context.Context, tx *database.Tx, caller Caller, a agent.Agent, p Prompt, names requestNames) (Turn, Session, error) {
	session, past, err := s.sessionOf(ctx, tx, caller, a, p)
	if err != nil {
		return Turn{}, session, err
	}
	t := Turn{
		ID: newTurnID(), AccountID: a.AccountID, AgentID: a.ID, SessionID: session.ID, CreatedAt: now(), onDisconnect: cancelOnDisconnect, oneShot: session.oneShot, Source: caller.Source,
	}
	images := p.Images
	if openclaw.TakesImages(a.Config.Model()) {
		images = newestImages(past.images, p.Images)
	}
	t.hasInput = past.text != "" || len(images) > 0
	if caller.Kind == identity.Key {
		t.key = identity.KeyID(caller.ID)
	}
	if t.message, t.context, err = s.sealRequest(ctx, tx, t, p.Message, p.System); err != nil {
		return t, session, err
	}
	if t, err = s.insertTurn(ctx, tx, t); err != nil {
		return t, session, err
	}
	if t.hasInput {
		if err := s.insertInput(ctx, tx, t, past.text, images); err != nil {
			return t, session, err
		}
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO turn_requests (turn_id, account_id, request, idempotency_key) VALUES ($1, $2, $3, $4)`, t.ID, t.AccountID, names.request, names.idempotencyKey)
	if err != nil {
		return t, session, fmt.Errorf("store what a turn is recognized by: %w", err)
	}
	if t.State == Running && !t.oneShot {
		err = s.setTitle(ctx, tx, session, t, p.Message)
	}
	return t, session, err
}

// sessionOf returns the session of a prompt, which it inserts if it is new, and the past that the
// agent must be told: it has not heard it in this session. A named conversation whose past is not
// that of its session goes on in a new one, like a branch.
func (s *Service) sessionOf(ctx context.Context, tx *database.Tx, caller Caller, a agent.Agent, p Prompt) (_ Session, past told, err error) {
	v := newSession(caller, a, p.PeerID)
	if p.oneShot() {
		// A turn of the main entry could leave something in the agent's files.
		v.Entry, v.oneShot = openclaw.Guest, true
		if p.Chore {
			v.Entry = openclaw.Task
		}
		v.Owner, v.GatewayKey = "once:"+string(v.ID), openclaw.OneShotKey(v.Entry, string(v.ID))
		return v, tell(p.Past), insertSession(ctx, tx, v)
	}
	if p.Conversation != "" {
		v.Owner = conversationOwner(caller, p)
	}
	found, err := latestSession(ctx, tx, v)
	switch {
	case err == nil:
		heard := p.Conversation == "" || len(p.Past) == 0
		if !heard {
			heard, err = s.heard(ctx, tx, found, p.Past)
		}
		if heard || err != nil {
			return found, told{}, err
		}
	case !errors.Is(err, sql.ErrNoRows):
		return v, told{}, err
	}
	past = tell(p.Past)
	if n := utf8.RuneCountInString(past.text) + utf8.RuneCountInString(p.Message); n > maxMessage {
		return v, told{}, fault.Fields{"messages": fmt.Sprintf("must have at most %d characters together, because the agent has not heard them in this conversation; they have %d", maxMessage, n)}.Err()
	}
	return v, past, insertSession(ctx, tx, v)
}

// conversationOwner returns the owner of the sessions of a named conversation. Names are the
// client's: those of two keys, or of two peers, never meet.
func conversationOwner(caller Caller, p Prompt) string {
	sum := sha256.Sum256([]byte(caller.String() + "\x00" + p.PeerID + "\x00" + p.Conversation))
	return "conversation:" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:20]))
}

// heard reports whether the last messages of the user in a session are those of a past.
func (s *Service) heard(ctx context.Context, tx *database.Tx, session Session, past []Said) (bool, error) {
	var texts []string
	for _, m := range past {
		if m.Role == openclaw.RoleUser {
			texts = append(texts, m.Text)
		}
	}
	texts = texts[max(0, len(texts)-comparedMessages):]
	key, err := s.textKey(ctx, tx, session.AccountID, session.AgentID)
	if err != nil {
		return false, err
	}
	scan := func(r database.Row) (text string, err error) {
		var turn identity.TurnID
		var stored vault.Text
		if err := r.Scan(&turn, &stored); err != nil {
			return "", err
		}
		return openColumn(key, "content", stored, messagePlace(session.ID, turn, openclaw.RoleUser, "")...)
	}
	stored, err := database.AllReadable(ctx, tx, scan, func(*string, error) (string, bool) { return "a message of session " + string(session.ID), true },
		`SELECT turn_id, content FROM (
			SELECT turn_id, content, 0 AS open, number AS place FROM messages WHERE session_id = $1 AND role = 'user' AND turn_id IS NOT NULL
			UNION ALL SELECT id, message, 1, position FROM turns WHERE session_id = $1 AND state IN ('queued', 'running'))
		 ORDER BY open DESC, place DESC LIMIT $2`, session.ID, len(texts))
	if err != nil {
		return false, fmt.Errorf("read the last messages of a session: %w", err)
	}
	slices.Reverse(stored)
	same := func(a, b string) bool { return strings.TrimSpace(a) == strings.TrimSpace(b) }
	return slices.EqualFunc(stored, texts, same), nil
}

// Marks of a past in a message. No line of it can be one of them, because only those with a
// speaker's name begin in the first column.
const (
	pastBegins = "[Earlier messages of this conversation, as the application has kept them]"
	pastEnds   = "[The user's message now]"
)

// transcript returns a past as a text before a message; empty if there is none.
func transcript(past []Said) string {
	if len(past) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString(pastBegins + "\n")
	for _, m := range past {
		speaker := "User"
		if m.Role == openclaw.RoleAssistant {
			speaker = "You"
		}
		lines := strings.Split(strings.ReplaceAll(strings.TrimSpace(m.Text), "\r\n", "\n"), "\n")
		b.WriteString(speaker + ": " + strings.Join(lines, "\n  ") + "\n")
	}
	b.WriteString(pastEnds + "\n\n")
	return b.String()
}

// insertInput stores what the agent gets with the message of a turn.
func (s *Service) insertInput(ctx context.Context, tx *database.Tx, t Turn, past string, images []string) error {
	urls := ""
	if len(images) > 0 {
		encoded, err := json.Marshal(images)
		if err != nil {
			return fmt.Errorf("encode images: %w", err)
		}
		urls = string(encoded)
	}
	sealedPast, err := s.seal(ctx, tx, t, past, inputPlace(t.ID, "past"))
	if err != nil {
		return err
	}
	sealedImages, err := s.seal(ctx, tx, t, urls, inputPlace(t.ID, "images"))
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO turn_inputs (turn_id, account_id, past, images) VALUES ($1, $2, $3, $4)`, t.ID, t.AccountID, sealedPast, sealedImages)
	if err != nil {
		return fmt.Errorf("store the input of a turn: %w", err)
	}
	return nil
}

// inputPlace returns what a column of the input of a turn is sealed for.
func inputPlace(turn identity.TurnID, column string) []string {
	return []string{"input", string(turn), column}
}

// addInput adds to a request what was stored with the message of its turn.
func (s *Service) addInput(ctx context.Context, t Turn, request *openclaw.TurnRequest) error {
	if !t.hasInput {
		return nil
	}
	key, err := s.textKey(ctx, s.db, t.AccountID, t.AgentID)
	if err != nil {
		return err
	}
	var past, images vault.Text
	if err := s.db.QueryRowContext(ctx, `SELECT past, images FROM turn_inputs WHERE turn_id = $1`, t.ID).Scan(&past, &images); err != nil {
		return fmt.Errorf("read the input of a turn: %w", err)
	}
	before, err := key.Open(past, inputPlace(t.ID, "past")...)
	if err != nil {
		return fmt.Errorf("open the past of a turn: %w", err)
	}
	request.Message = before + request.Message
	urls, err := key.Open(images, inputPlace(t.ID, "images")...)
	if err != nil || urls == "" {
		return err
	}
	if err := json.Unmarshal([]byte(urls), &request.Images); err != nil {
		return fmt.Errorf("decode the images of a turn: %w", err)
	}
	return nil
}

const (
	// forgetTime is how long the end of a one-shot turn waits until its gateway has deleted the
	// session. A gateway refuses that for a moment after a turn was cancelled.
	forgetTime  = 3 * time.Second
	forgetPause = 100 * time.Millisecond
)

// forget deletes a one-shot session in its gateway, which has it in memory only.
func (s *Service) forget(ctx context.Context, session Session, conn *gateway.Connection) {
	ctx, cancel := context.WithTimeout(ctx, forgetTime)
	defer cancel()
	err := conn.DeleteSession(ctx, session.GatewayKey)
	for refused := (*openclaw.CallError)(nil); errors.As(err, &refused) && wait(ctx, forgetPause); {
		err = conn.DeleteSession(ctx, session.GatewayKey)
	}
	if err != nil {
		s.log.InfoContext(ctx, "a one-shot session stays in the memory of its gateway until that ends", "agent", session.AgentID, "session", session.ID, "error", err)
	}
}

// requestNames are the HMACs that a request is recognized by.
type requestNames struct {
	request        string
	idempotencyKey string // empty: it has none
}

// namesOf returns the names of a prompt's request, with a key of the agent: a request has texts.
func (s *Service) namesOf(ctx context.Context, caller Caller, a agent.Agent, p Prompt) (requestNames, error) {
	key, err := s.vault.Token(ctx, s.db, a.AccountID, vault.OfAgent(a.ID), "repeated requests")
	if unreadable := (*vault.UnreadableError)(nil); errors.Is(err, vault.ErrNoKey) || errors.As(err, &unreadable) {
		return requestNames{}, fault.New(fault.Conflict, "The agent's data key is damaged. GET /v1/agents/%s says what to do.", a.ID).Because(err)
	}
	if err != nil {
		return requestNames{}, fmt.Errorf("derive the key of requests: %w", err)
	}
	name := func(kind string, text []byte) string {
		mac := hmac.New(sha256.New, []byte(key.Reveal()))
		_, _ = mac.Write(bytes.Join([][]byte{[]byte(kind), []byte(caller.String()), []byte(p.PeerID), []byte(p.Conversation), text}, []byte{0})) // a Hash never fails
		return hex.EncodeToString(mac.Sum(nil))
	}
	names := requestNames{request: name("request", p.Request)}
	if p.IdempotencyKey != "" {
		names.idempotencyKey = name("key", []byte(p.IdempotencyKey))
	}
	return names, nil
}

// maxEqual is how many turns of equal requests are looked at, the newest ones.
const maxEqual = 20

// join returns a reading of the turn that a prompt's request repeats, or nil.
// Faults: KeyReused.
func (s *Service) join(ctx context.Context, q database.Reader, caller Caller, a agent.Agent, p Prompt, names requestNames) (*Reading, error) {
	if !p.Repeats && names.idempotencyKey == "" && !s.readers.anyLeft() {
		return nil, nil //nolint:nilnil // most requests repeat none
	}
	if names.idempotencyKey != "" {
		reused, err := database.One(ctx, q, database.Scalar[bool],
			`SELECT EXISTS (SELECT 1 FROM turn_requests WHERE account_id = $1 AND idempotency_key = $2 AND request <> $3)`, a.AccountID, names.idempotencyKey, names.request)
		if err != nil {
			return nil, fmt.Errorf("find requests with an idempotency key: %w", err)
		}
		if reused {
			return nil, fault.New(fault.KeyReused, "This Idempotency-Key was used for another request with a different body. Use a new key for each request.")
		}
	}
	type candidate struct {
		turn identity.TurnID
		key  string
	}
	equal, err := database.All(ctx, q, func(r database.Row) (c candidate, err error) { return c, r.Scan(&c.turn, &c.key) },
		`SELECT turn_id, idempotency_key FROM turn_requests WHERE account_id = $1 AND request = $2 ORDER BY turn_id DESC LIMIT $3`, a.AccountID, names.request, maxEqual)
	if err != nil {
		return nil, fmt.Errorf("find equal requests: %w", err)
	}
	for _, c := range equal {
		said := p.Repeats || names.idempotencyKey != "" && c.key == names.idempotencyKey
		if !said && !s.readers.left(c.turn) {
			continue
		}
		t, err := findTurn(ctx, q, a.AccountID, a.ID, "", c.turn)
		if fault.Is(err, fault.NotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		if t.State == Failed || t.State == Cancelled || t.State == Done && now().Sub(t.EndedAt) > replayTime {
			continue
		}
		if !t.oneShot {
			if _, err := findTurn(ctx, q, a.AccountID, a.ID, caller.visible(), c.turn); err != nil {
				continue // the key has had more rights
			}
		}
		if r := s.readers.join(s, t, said); r != nil {
			return r, nil
		}
	}
	return nil, nil
}

// prunePrompts deletes what repeated requests are recognized by, and one-shot turns, ten minutes
// after the ends of their turns.
func (s *Service) prunePrompts(ctx context.Context) error {
	before := database.Millis(now().Add(-replayTime))
	old, err := database.All(ctx, s.db, database.Scalar[identity.TurnID],
		`SELECT turn_id FROM turn_requests LEFT JOIN turns ON id = turn_id WHERE id IS NULL OR ended_at > 0 AND ended_at < $1 LIMIT $2`, before, pruneSize)
	if err != nil {
		return fmt.Errorf("list old requests: %w", err)
	}
	for batch := range slices.Chunk(old, emptiedRows) {
		err := s.db.Tx(ctx, "chat.prune_prompts", func(ctx context.Context, tx *database.Tx) error {
			for _, id := range batch {
				if err := deletePrompt(ctx, tx, id); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// deletePrompt deletes what the request of a turn is recognized by, and the turn if it is one-shot.
func deletePrompt(ctx context.Context, tx *database.Tx, id identity.TurnID) error {
	session, err := database.One(ctx, tx, database.Scalar[identity.SessionID], `SELECT session_id FROM turns WHERE id = $1 AND one_shot`, id)
	queries := []string{`DELETE FROM turn_requests WHERE turn_id = $1`}
	switch {
	case err == nil:
		queries = append(queries, `DELETE FROM turn_pieces WHERE turn_id = $1`, `DELETE FROM turns WHERE id = $1`)
	case !errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("find a one-shot turn: %w", err)
	}
	for _, query := range queries {
		if _, err := tx.ExecContext(ctx, query, id); err != nil {
			return fmt.Errorf("delete an old request: %w", err)
		}
	}
	if session == "" {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM sessions WHERE id = $1 AND one_shot`, session); err != nil {
		return fmt.Errorf("delete a one-shot session: %w", err)
	}
	return nil
}
