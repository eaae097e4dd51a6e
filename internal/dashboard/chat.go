package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
)

const (
	chatMessages = 50  // of a conversation, on its first page
	chatSearched = 500 // sessions whose names are searched: they are sealed, so that no database can
)

// chatPage is the data of the chat of an agent.
type chatPage struct {
	Sessions []client.ChatSession
	Pages    pager               // of the sessions
	Session  *client.ChatSession // that is shown; nil: a new one
	Peer     string              // of the session, or that a new one is for
	Peers    []string            // of the sessions, to choose from
	Items    []chatItem
	Earlier  string // the message before which there are earlier ones; empty: none
	Running  bool   // the agent can answer
	Guest    string // why the agent has neither shell nor files here; empty: it has
	ReadOnly string // why nothing can be sent; empty: it can
	Form     *form
}

// chatItem is a message, or a turn without one.
type chatItem struct {
	client.ChatMessage
	Turn *client.ChatTurn // of an answer, or of a turn that has no message
	Open bool             // the turn has not ended
	Who  string
}

func (s *Server) agentChat(v *visit) error {
	a, data, err := v.chat()
	if err != nil {
		return err
	}
	return v.RenderAgent("chat", a, "Chat", data)
}

// chat reads the page that the address names.
func (v *visit) chat() (client.Agent, *chatPage, error) {
	a, err := v.API.Agent(v.Context(), v.Arg("id"))
	if err != nil {
		return a, nil, err
	}
	data := &chatPage{Peer: strings.TrimSpace(v.Query("peer")), Running: a.Status == client.Running, Form: newForm()}
	if err := v.chatSessions(a, data); err != nil {
		return a, nil, err
	}
	if id := v.Query("session"); id != "" {
		if err := v.chatHistory(a, data, id); err != nil {
			return a, nil, err
		}
	}
	switch owner := v.Can(access.ChatOwner) || v.Can(access.AgentsWrite); {
	case data.Peer != "":
		data.Guest = "The agent answers this peer as a guest: without a shell, and without changing its files."
	case isShared(a):
		data.Guest = "This agent is in shared mode: it answers everybody as a guest, without a shell, and without changing its files."
	case !owner:
		data.Guest = "Your role makes you a guest: the agent answers without a shell, and without changing its files."
	}
	return a, data, nil
}

// isShared reports whether everybody is a guest of an agent.
func isShared(a client.Agent) bool {
	shared, _ := a.Config["sharedMode"].(bool)
	return shared
}

// chatSessions reads the list of sessions.
func (v *visit) chatSessions(a client.Agent, data *chatPage) error {
	data.Pages = v.page(50)
	query := client.SessionQuery{Limit: data.Pages.Size, Offset: data.Pages.Offset()}
	if search := strings.ToLower(strings.TrimSpace(v.Query("search"))); search != "" {
		for query.Limit, query.Offset = 100, 0; query.Offset < chatSearched; query.Offset += query.Limit {
			page, err := v.API.SessionPage(v.Context(), a.ID, query)
			if err != nil {
				return err
			}
			for _, one := range page.Data {
				if strings.Contains(strings.ToLower(sessionName(one)+" "+textOf(one.PeerID)+" "+one.Channel), search) {
					data.Sessions = append(data.Sessions, one)
				}
			}
			if !page.Pagination.HasMore {
				break
			}
		}
		data.Pages = pager{Page: 1, Size: chatSearched, Total: len(data.Sessions)}
	} else {
		page, err := v.API.SessionPage(v.Context(), a.ID, query)
		if err != nil {
			return err
		}
		data.Sessions, data.Pages.Total = page.Data, page.Pagination.Total
	}
	seen := map[string]bool{"": true}
	for _, one := range data.Sessions {
		if peer := textOf(one.PeerID); !seen[peer] && one.Channel == "api" {
			seen[peer] = true
			data.Peers = append(data.Peers, peer)
		}
	}
	return nil
}

func textOf(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// sessionName returns what a session is called.
func sessionName(s client.ChatSession) string {
	if name := textOf(s.Name); name != "" {
		return name
	}
	return "Without a name"
}

// chatHistory reads the session that is shown.
func (v *visit) chatHistory(a client.Agent, data *chatPage, id string) error {
	found, err := v.findSession(a.ID, id, data.Sessions)
	if err != nil {
		return err
	}
	data.Session, data.Peer = found, textOf(found.PeerID)
	switch {
	case found.Imported:
		data.ReadOnly = "This conversation was imported with the agent. It can be read; the agent does not remember it."
	case found.Channel != "api":
		data.ReadOnly = "This conversation takes place in " + sourceName(found.Channel) + ". Reply there."
	}
	page, err := v.API.HistoryPage(v.Context(), a.ID, client.HistoryQuery{SessionID: id, Limit: chatMessages, Before: v.Query("before")})
	if err != nil {
		return err
	}
	if page.Pagination.HasMore && page.Pagination.Before != nil {
		data.Earlier = *page.Pagination.Before
	}
	turns, err := v.API.TurnPage(v.Context(), a.ID, client.TurnQuery{SessionID: id, Limit: 2 * chatMessages})
	if err != nil {
		return err
	}
	data.Items, err = v.chatItems(a, page.Data, turns.Data, v.Query("before") == "")
	return err
}

// findSession returns a session. The API has a list only, in which it may be on a later page.
func (v *visit) findSession(agent, id string, listed []client.ChatSession) (*client.ChatSession, error) {
	for offset, all := 0, listed; ; offset += 100 {
		for _, one := range all {
			if one.ID == id {
				return &one, nil
			}
		}
		page, err := v.API.SessionPage(v.Context(), agent, client.SessionQuery{Limit: 100, Offset: offset})
		if err != nil {
			return nil, err
		}
		if all = page.Data; len(all) == 0 {
			return nil, fault.New(fault.NotFound, "There is no such conversation with this agent, or it is not for your role.")
		}
	}
}

// chatItems joins messages with their turns. newest says that the messages are the newest ones:
// then those turns follow that have no message there.
func (v *visit) chatItems(a client.Agent, messages []client.ChatMessage, turns []client.ChatTurn, newest bool) ([]chatItem, error) {
	byID, answered := map[string]*client.ChatTurn{}, map[string]bool{}
	for i := range turns {
		byID[turns[i].ID] = &turns[i]
	}
	for _, m := range messages {
		if m.Role == "assistant" {
			answered[textOf(m.TurnID)] = true
		}
	}
	var items []chatItem
	last := time.Time{}
	shown := map[string]bool{}
	for _, m := range messages {
		t := byID[textOf(m.TurnID)]
		item := chatItem{ChatMessage: m, Who: a.Name}
		if m.Role == "user" {
			if item.Who = textOf(m.PeerID); item.Who == "" {
				item.Who = "User"
			}
		} else {
			item.Turn = t
		}
		items = append(items, item)
		if t == nil {
			continue
		}
		shown[t.ID], last = true, t.CreatedAt.Time
		if m.Role == "user" && !answered[t.ID] {
			open, err := v.unanswered(a, *t)
			if err != nil {
				return nil, err
			}
			items = append(items, open)
		}
	}
	if !newest {
		return items, nil
	}
	for i := len(turns) - 1; i >= 0; i-- { // queued, or refused and without a trace in the history
		if t := turns[i]; !shown[t.ID] && t.CreatedAt.After(last) {
			items = append(items, chatItem{ChatMessage: client.ChatMessage{Role: "assistant", TurnID: &t.ID, Timestamp: t.CreatedAt}, Turn: &t, Open: t.EndedAt == nil, Who: a.Name})
		}
	}
	return items, nil
}

// unanswered returns the item of a turn that has no answer in the history.
func (v *visit) unanswered(a client.Agent, t client.ChatTurn) (chatItem, error) {
	item := chatItem{ChatMessage: client.ChatMessage{Role: "assistant", TurnID: &t.ID, Timestamp: t.CreatedAt}, Turn: &t, Open: t.EndedAt == nil, Who: a.Name}
	if item.Open {
		whole, err := v.API.Turn(v.Context(), a.ID, t.ID)
		if err != nil {
			return item, err
		}
		item.Turn, item.Open, item.Content = &whole, whole.EndedAt == nil, textOf(whole.Text)
	}
	return item, nil
}

// From returns the name of what a message came through; empty: it is not known.
func (i chatItem) From() string { return sourceName(textOf(i.Source)) }

// End says why the turn has ended, unless that is the ordinary end.
func (i chatItem) End() string {
	if i.Turn == nil {
		return ""
	}
	return endOf(*i.Turn)
}

// Failed reports whether the message can be sent again.
func (i chatItem) Failed() bool {
	return i.Turn != nil && (i.Turn.State == "failed" || i.Turn.State == "cancelled")
}

// Took returns how long the turn has taken.
func (i chatItem) Took() string { return took(*i.Turn) }

// Name returns what a session is called.
func (chatPage) Name(s client.ChatSession) string { return sessionName(s) }

// From returns the name of the channel of a session.
func (chatPage) From(s client.ChatSession) string { return sourceName(s.Channel) }

// sourceName returns the name of a source of messages, or of a channel.
func sourceName(name string) string {
	switch name {
	case "api":
		return "API"
	case "openai":
		return "OpenAI API"
	case "mcp":
		return "MCP"
	case "telegram", "slack", "discord", "whatsapp":
		return strings.ToUpper(name[:1]) + name[1:]
	}
	return name
}

// endOf says why a turn has ended, unless that is the ordinary end.
func endOf(t client.ChatTurn) string {
	switch textOf(t.StopReason) {
	case "", "completed":
		return ""
	case "length":
		return "The answer is longer than the model may write at once. Ask it to go on."
	case "truncated":
		return "The answer was ended at 1 MB. Ask for the rest."
	case "refusal":
		return "The model refused to answer."
	case "filter":
		return "A filter of the model's provider ended the answer."
	case "limit":
		return "The answer was ended at a limit of the agent."
	case "cancelled":
		return "Somebody stopped this answer."
	}
	if t.Error != nil {
		return t.Error.Message
	}
	return "The answer failed."
}

// took returns how long a turn has taken.
func took(t client.ChatTurn) string {
	if t.StartedAt == nil || t.EndedAt == nil {
		return ""
	}
	d := t.EndedAt.Sub(t.StartedAt.Time)
	if d < 10*time.Second {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// sendChat sends a message without scripts: the page that follows shows the answer so far.
func (s *Server) sendChat(v *visit) error {
	f := v.Form()
	agent, session := v.Arg("id"), f.Value("session")
	in := client.ChatRequest{Message: f.Raw("message"), SessionID: session}
	if text := f.Value("context"); strings.HasPrefix(text, "{") {
		var object map[string]any
		if err := json.Unmarshal([]byte(text), &object); err != nil {
			f.Wrong("context", "is no JSON object: "+err.Error())
		}
		in.Context = object
	} else if text != "" {
		in.Context = text
	}
	err := error(nil)
	if f.Valid() && session == "" {
		var made client.NewSession
		made, err = v.API.NewSession(v.Context(), agent, client.NewSessionRequest{PeerID: f.Value("peer")})
		session, in.SessionID = made.ID, made.ID
	}
	if err == nil && f.Valid() {
		err = v.beginTurn(agent, in)
	}
	if f.Refused(err) || !f.Valid() {
		a, data, err := v.chat()
		if err != nil {
			return err
		}
		data.Form = f
		return v.RenderAgentRefused("chat", a, "Chat", data)
	}
	if err != nil {
		return err
	}
	return v.Redirect(path("/agents/%s/chat", agent)+"?session="+session+"#end", silent())
}

// beginTurn sends a message and waits until it was accepted. The turn goes on.
func (v *visit) beginTurn(agent string, in client.ChatRequest) error {
	ctx, cancel := context.WithTimeout(v.Context(), 2*time.Second)
	defer cancel()
	for e, err := range v.API.Chat(ctx, agent, in) {
		if err == nil || e.TurnID != "" && errors.Is(err, context.DeadlineExceeded) {
			return nil
		}
		return err
	}
	return nil
}

func (s *Server) renameSession(v *visit) error {
	f := v.Form()
	agent, session := v.Arg("id"), v.Arg("session")
	name := client.Some(f.Value("name"))
	if name.Value == "" {
		name = client.Null[string]()
	}
	back := path("/agents/%s/chat", agent) + "?session=" + session
	if _, err := v.API.UpdateSession(v.Context(), agent, session, client.UpdateSessionRequest{Name: name}); err != nil {
		if f.Refused(err) {
			return v.Redirect(back, bad(f.Error))
		}
		return err
	}
	return v.Redirect(back, silent())
}
