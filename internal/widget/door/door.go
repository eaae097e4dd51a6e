// Package door serves chat widgets to the pages of websites: the script, and what a visitor may do,
// which is to send messages, to follow and cancel their turns, and to read the history of one peer of
// one agent. It translates and nothing else: package widget knows who a visitor is and what may be
// used, package chat has the rules of conversations.
//
// Its routes are the only ones that scripts of other origins may call. They take no cookies.
package door

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"agento.host/agento/client"
	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/rest"
	"agento.host/agento/internal/widget"
)

const (
	// Prefix begins the paths of the door.
	Prefix = "/widget/v1/"

	keyHeader     = "X-Widget-Key"
	visitorHeader = "X-Widget-Visitor"
	turnHeader    = "X-Turn-Id"

	// maxBody has room for a long message, however its characters are escaped.
	maxBody = 128 << 10
	// maxMessage is the longest message of a visitor, in characters.
	maxMessage = 8000
	// maxAnswer is what a page of the history takes of the caller's memory.
	maxAnswer = 12 << 20
	// The number of messages of a page of the history.
	defaultPage = 30
	maxPage     = 100
)

// Settings of the door. All are required.
type Settings struct {
	Widgets  *widget.Service
	Chat     *chat.Service
	Draining context.Context                                            // ends when the server shuts down
	Address  func(*http.Request) netip.Addr                             // of the client
	Admit    func(context.Context, *http.Request, widget.Visitor) error // takes the connection; nil error: the request may go on
	Quiet    func() bool                                                // whether the installation changes nothing
}

type server struct{ Settings }

// New returns the door.
func New(s Settings) rest.Foreign {
	v := &server{s}
	return rest.Foreign{
		Prefix: Prefix, Fail: fail, Authenticate: v.authenticate,
		Routes: []rest.ForeignRoute{
			{Pattern: "OPTIONS " + Prefix + "{path...}", Authorize: anybody, Handle: preflight},
			{Pattern: "POST " + Prefix + "visits", MaxBody: maxBody, Authorize: visitors, Handle: v.visit},
			{Pattern: "GET " + Prefix + "messages", MaxAnswer: maxAnswer, Authorize: peers, Handle: v.history},
			{Pattern: "POST " + Prefix + "messages", MaxBody: maxBody, Holds: true, Authorize: v.writers, Handle: v.send},
			{Pattern: "GET " + Prefix + "turns/{id}/stream", Holds: true, Authorize: peers, Handle: v.follow},
			{Pattern: "POST " + Prefix + "turns/{id}/cancel", MaxBody: 1 << 10, Authorize: v.writers, Handle: v.cancel},
		},
	}
}

// visitorKey is the context key of the visitor.
type visitorKey struct{}

// VisitorOf returns the visitor whose request a context belongs to.
func VisitorOf(ctx context.Context) (v widget.Visitor, ok bool) {
	v, ok = ctx.Value(visitorKey{}).(widget.Visitor)
	return v, ok
}

// authenticate identifies the visitor of a request. Every response may be read by scripts of every
// origin: there is nothing in it that the one who asks does not have the tokens for.
func (s *server) authenticate(w http.ResponseWriter, r *http.Request) (context.Context, error) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", strings.Join([]string{turnHeader, "Retry-After", "X-Request-Id"}, ", "))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodOptions {
		return r.Context(), nil
	}
	if err := s.Widgets.CheckAddress(s.Address(r)); err != nil {
		return nil, err
	}
	token, err := bearer(r.Header)
	if err != nil {
		return nil, err
	}
	v, err := s.Widgets.Identify(r.Context(), widget.Presented{Key: r.Header.Get(keyHeader), Token: token, Visitor: r.Header.Get(visitorHeader), Origin: originOf(r)})
	if err != nil {
		return nil, err
	}
	if err := s.Admit(r.Context(), r, v); err != nil {
		return nil, err
	}
	return context.WithValue(r.Context(), visitorKey{}, v), nil
}

// originOf returns the origin of the page of a request; empty, if it is that of this server: that of
// a frame, or of a website behind the same proxy.
func originOf(r *http.Request) string {
	origin := r.Header.Get("Origin")
	if u, err := url.Parse(origin); r.Header.Get("Sec-Fetch-Site") == "same-origin" || err == nil && u.Host != "" && u.Host == r.Host {
		return ""
	}
	return origin
}

func bearer(h http.Header) (string, error) {
	text := h.Get("Authorization")
	if text == "" {
		return "", nil
	}
	scheme, token, _ := strings.Cut(text, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", fault.New(fault.Unauthorized, "Send the signed token of the visitor as Authorization: Bearer TOKEN.")
	}
	return strings.TrimSpace(token), nil
}

func anybody(context.Context) error { return nil }

// visitors lets those pass whose widget is known.
func visitors(ctx context.Context) error {
	if _, ok := VisitorOf(ctx); !ok {
		return fault.New(fault.Unauthorized, "Send the key of a chat widget in %s.", keyHeader)
	}
	return nil
}

// peers lets those pass who are a peer.
func peers(ctx context.Context) error {
	v, ok := VisitorOf(ctx)
	if !ok || v.PeerID == "" {
		return fault.New(fault.Unauthorized, "This visitor is not known. Get a token with POST %svisits and send it in %s, or send one that your backend has signed.", Prefix, visitorHeader).With("token", "is missing")
	}
	return nil
}

// writers are peers, while the installation takes changes.
func (s *server) writers(ctx context.Context) error {
	if s.Quiet() {
		return fault.New(fault.Unavailable, "This chat is not available at the moment.").Expected()
	}
	return peers(ctx)
}

// preflight answers a browser that asks what scripts of a page may send.
func preflight(w http.ResponseWriter, _ *http.Request, _ []byte) (*rest.Stream, error) {
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "GET, POST")
	h.Set("Access-Control-Allow-Headers", strings.Join([]string{"Authorization", "Content-Type", "Last-Event-ID", keyHeader, visitorHeader}, ", "))
	h.Set("Access-Control-Max-Age", "7200")
	w.WriteHeader(http.StatusNoContent)
	return nil, nil //nolint:nilnil // the response is written
}

// fail writes a fault as the API does.
func fail(w http.ResponseWriter, f *fault.Fault, status int) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(client.ErrorEnvelope{Error: &client.Error{Code: string(f.Code), Message: f.Message, RequestID: w.Header().Get("X-Request-Id"), Details: f.Details}}) // fails if the client has disconnected
}

// notFromPage are what only the token of a visitor says.
var notFromPage = []string{"peerId", "peer_id", "context"}

// readBody decodes a body of a page into fields that it may have.
func readBody(body []byte, v map[string]*string) error {
	if len(body) == 0 {
		return nil
	}
	var in map[string]any
	if err := rest.DecodeJSON(body, &in); err != nil {
		return err
	}
	wrong := fault.Fields{}
	for name, value := range in {
		into, known := v[name]
		text, isText := value.(string)
		switch {
		case slices.Contains(notFromPage, name):
			return fromPage(name)
		case !known:
			wrong.Add(name, "is not a field of this request")
		case !isText:
			wrong.Add(name, "must be a text")
		default:
			*into = text
		}
	}
	return wrong.Err()
}

// checkQuery returns a fault if a request has another parameter.
func checkQuery(r *http.Request, allowed ...string) error {
	wrong := fault.Fields{}
	for name := range r.URL.Query() {
		switch {
		case slices.Contains(notFromPage, name):
			return fromPage(name)
		case !slices.Contains(allowed, name):
			wrong.Add(name, "is not a parameter of this request")
		}
	}
	return wrong.Err()
}

func fromPage(name string) error {
	return fault.New(fault.Invalid, "A page cannot say %s: whoever opens it could choose it. Put it into the token that your backend signs.", name).With(name, "comes from the token of the visitor alone")
}

// visit is the answer to a page that shows a widget.
type visit struct {
	Name      string       `json:"name,omitempty"` // of the visitor
	Visitor   string       `json:"visitor,omitempty"`
	ExpiresAt *client.Time `json:"expiresAt,omitempty"` // of Visitor
	Title     string       `json:"title"`
	Greeting  string       `json:"greeting"`
	Theme     widget.Theme `json:"theme"`
}

// visit tells a page how the widget looks, and gives a visitor whose backend names no peer a token.
func (s *server) visit(w http.ResponseWriter, r *http.Request, body []byte) (*rest.Stream, error) {
	if err := errors.Join(checkQuery(r), readBody(body, nil)); err != nil {
		return nil, err
	}
	v, _ := VisitorOf(r.Context())
	out := visit{Name: v.Name, Title: v.Widget.Theme.Title, Greeting: v.Widget.Greeting, Theme: v.Widget.Theme}
	if out.Title == "" {
		out.Title = v.Widget.Name
	}
	if !v.NamesPeer() {
		if v.PeerID == "" {
			if err := s.Widgets.CheckNewVisitor(s.Address(r)); err != nil {
				return nil, err
			}
		}
		token, until, err := s.Widgets.NewVisitorToken(r.Context(), v)
		if err != nil {
			return nil, err
		}
		out.Visitor, out.ExpiresAt = token, &client.Time{Time: until}
	}
	rest.WriteJSON(w, http.StatusOK, client.Data[visit]{Data: out})
	return nil, nil //nolint:nilnil // the response is written
}

func callerOf(v widget.Visitor) chat.Caller {
	return chat.Caller{Actor: v.Actor(), Source: chat.FromWidget}
}

// message is one of the history.
type message struct {
	ID        string      `json:"id"`
	Role      string      `json:"role"`
	Content   string      `json:"content"`
	Timestamp client.Time `json:"timestamp"`
}

// messages is a page of the history. Turn is the one that is being answered or waits.
type messages struct {
	Data       []message  `json:"data"`
	Turn       *string    `json:"turn"`
	Pagination pagination `json:"pagination"`
}

type pagination struct {
	HasMore bool    `json:"hasMore"`
	Before  *string `json:"before"`
}

func (s *server) history(w http.ResponseWriter, r *http.Request, _ []byte) (*rest.Stream, error) {
	if err := checkQuery(r, "before", "limit"); err != nil {
		return nil, err
	}
	limit := defaultPage
	if text := r.URL.Query().Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxPage {
			return nil, fault.Fields{"limit": fmt.Sprintf("must be from 1 to %d", maxPage)}.Err()
		}
		limit = n
	}
	v, _ := VisitorOf(r.Context())
	before := identity.MessageID(r.URL.Query().Get("before"))
	out := messages{Data: []message{}}
	if before == "" { // first, so that a turn that ends meanwhile is in the history
		turn, err := s.openTurn(r.Context(), v)
		if err != nil {
			return nil, hide(err)
		}
		out.Turn = turn
	} else if err := s.checkMessage(r.Context(), v, before); err != nil {
		return nil, err
	}
	found, err := s.Chat.History(r.Context(), callerOf(v), v.Widget.AgentID, chat.HistoryQuery{Peer: v.PeerID, Before: before, Limit: limit})
	if err != nil {
		return nil, hide(err)
	}
	for _, m := range found.Messages {
		out.Data = append(out.Data, message{ID: string(m.ID), Role: m.Role, Content: m.Content, Timestamp: client.Time{Time: m.At}})
	}
	if out.Pagination.HasMore = found.HasMore; len(out.Data) > 0 {
		out.Pagination.Before = &out.Data[0].ID
	}
	rest.WriteJSON(w, http.StatusOK, out)
	return nil, nil //nolint:nilnil // the response is written
}

// openTurn returns the newest turn of the visitor's latest session, unless it has ended.
func (s *server) openTurn(ctx context.Context, v widget.Visitor) (*string, error) {
	sessions, _, err := s.Chat.Sessions(ctx, callerOf(v), v.Widget.AgentID, chat.SessionQuery{Peer: v.PeerID, Limit: 1})
	if err != nil || len(sessions) == 0 {
		return nil, err
	}
	turns, _, err := s.Chat.Turns(ctx, callerOf(v), v.Widget.AgentID, chat.TurnQuery{Session: sessions[0].ID, Limit: 1})
	if err != nil || len(turns) == 0 || turns[0].Ended() {
		return nil, err
	}
	id := string(turns[0].ID)
	return &id, nil
}

// checkMessage returns a fault unless a message is one of the visitor's peer.
func (s *server) checkMessage(ctx context.Context, v widget.Visitor, id identity.MessageID) error {
	unknown := fault.Fields{"before": "must be the id of a message of this conversation"}.Err()
	session, ok := chat.SessionOf(id)
	if !ok {
		return unknown
	}
	return s.checkSession(ctx, v, session, unknown)
}

// checkSession returns unknown unless a session is one of the visitor's peer.
func (s *server) checkSession(ctx context.Context, v widget.Visitor, id identity.SessionID, unknown error) error {
	session, err := s.Chat.FindSession(ctx, callerOf(v), v.Widget.AgentID, id)
	if fault.Is(err, fault.NotFound) || err == nil && (session.PeerID != v.PeerID || v.PeerID == "") {
		return unknown
	}
	return hide(err)
}

// turn returns the turn in the path of a request, if it is one of the visitor's peer.
func (s *server) turn(r *http.Request) (chat.Turn, error) {
	v, _ := VisitorOf(r.Context())
	unknown := fault.New(fault.NotFound, "There is no such turn in this conversation.")
	t, _, err := s.Chat.FindTurn(r.Context(), callerOf(v), v.Widget.AgentID, identity.TurnID(r.PathValue("id")))
	if fault.Is(err, fault.NotFound) {
		return t, unknown
	}
	if err != nil {
		return t, hide(err)
	}
	return t, s.checkSession(r.Context(), v, t.SessionID, unknown)
}

func (s *server) send(_ http.ResponseWriter, r *http.Request, body []byte) (*rest.Stream, error) {
	var text string
	if err := errors.Join(checkQuery(r), readBody(body, map[string]*string{"message": &text})); err != nil {
		return nil, err
	}
	if err := checkMessageText(text); err != nil {
		return nil, err
	}
	v, _ := VisitorOf(r.Context())
	ticket, err := s.Widgets.CountMessage(r.Context(), v, s.Address(r))
	if limit := (*widget.LimitError)(nil); errors.As(err, &limit) {
		return sentence(limit.Sentence), nil
	}
	if err != nil {
		return nil, err
	}
	turn, err := s.Chat.Start(r.Context(), callerOf(v), v.Widget.AgentID, client.ChatRequest{Message: text, PeerID: v.PeerID, Context: v.Context})
	if err != nil {
		s.Widgets.GiveBack(r.Context(), ticket)
		return nil, hide(err)
	}
	s.Widgets.Began(r.Context(), ticket, turn.ID)
	return s.stream(turn, 0), nil
}

func checkMessageText(text string) error {
	switch n := len([]rune(text)); {
	case fault.IsBlank(text):
		return fault.Fields{"message": "must not be empty"}.Err()
	case n > maxMessage:
		return fault.Fields{"message": fmt.Sprintf("must have at most %d characters, it has %d", maxMessage, n)}.Err()
	}
	return nil
}

func (s *server) follow(_ http.ResponseWriter, r *http.Request, _ []byte) (*rest.Stream, error) {
	if err := checkQuery(r, "after"); err != nil {
		return nil, err
	}
	var after int64
	for _, text := range []string{r.Header.Get("Last-Event-ID"), r.URL.Query().Get("after")} {
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return nil, fault.Fields{"after": "must be the id of the last event that you have received"}.Err()
		}
		after = max(after, n)
	}
	t, err := s.turn(r)
	if err != nil {
		return nil, err
	}
	return s.stream(t, after), nil
}

func (s *server) cancel(w http.ResponseWriter, r *http.Request, body []byte) (*rest.Stream, error) {
	if err := errors.Join(checkQuery(r), readBody(body, nil)); err != nil {
		return nil, err
	}
	t, err := s.turn(r)
	if err != nil {
		return nil, err
	}
	v, _ := VisitorOf(r.Context())
	if t, err = s.Chat.Cancel(r.Context(), callerOf(v), v.Widget.AgentID, t.ID); err != nil {
		return nil, hide(err)
	}
	rest.WriteJSON(w, http.StatusOK, map[string]any{"data": map[string]any{"id": t.ID, "state": t.State}})
	return nil, nil //nolint:nilnil // the response is written
}

// event is one of an answer. It says nothing of what the answer has cost.
type event struct {
	Type       string `json:"type"` // text, done or error
	Content    string `json:"content,omitempty"`
	StopReason string `json:"stopReason,omitempty"`
	Code       string `json:"code,omitempty"`
	Message    string `json:"message,omitempty"`
}

// stream returns the events of a turn whose number is greater than after.
func (s *server) stream(t chat.Turn, after int64) *rest.Stream {
	last, why := after, ""
	return &rest.Stream{
		Header:  http.Header{turnHeader: {string(t.ID)}},
		Waiting: func() string { return "ping" },
		Serve: func(ctx context.Context, out *rest.Events) error {
			_ = out.Begin() // the turn is stored: a failure is an event, and the page has its id
			end, err := s.Chat.Follow(ctx, t, after, func(seq int64, text string) error {
				last = seq
				return out.SendNumbered(seq, event{Type: "text", Content: text})
			})
			why = end.Why()
			if end.Ended() {
				if after > end.LastSeq {
					return nil // the page has had the last event
				}
				last = end.LastSeq + 1
			}
			if err != nil {
				return err
			}
			return out.SendNumbered(last, event{Type: "done", StopReason: why})
		},
		Fail: func(out *rest.Events, f *fault.Fault) {
			f = fault.From(hide(f))
			_ = out.SendNumbered(last, event{Type: "error", Code: string(f.Code), Message: f.Message, StopReason: why}) // fails if the page has gone
		},
	}
}

// sentence returns an answer that is not the agent's.
func sentence(text string) *rest.Stream {
	return &rest.Stream{Serve: func(_ context.Context, out *rest.Events) error {
		if err := out.Send(event{Type: "text", Content: text}); err != nil {
			return err
		}
		return out.Send(event{Type: "done", StopReason: "limit"})
	}}
}

// hide returns what a visitor may know of a failure. What the agent or its provider says is for the
// account, which reads it in its own history and log.
func hide(err error) error {
	f := fault.From(err)
	if err == nil || f.Code == fault.Invalid || f.Code == fault.Unauthorized || f.Code == fault.Internal {
		return err
	}
	shown := fault.New(f.Code, "I cannot answer at the moment. Please try again in a few minutes.").Because(err)
	shown.RetryAfter = f.RetryAfter
	if !f.NeedsOperator() {
		shown = shown.Expected()
	}
	return shown
}
