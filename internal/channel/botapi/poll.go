package botapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

const methodGetUpdates = "getupdates"

const (
	// maxPause is the longest pause between calls for updates that fail.
	maxPause = 15 * time.Second
	// holdTime is how long a gateway waits for updates that it asked for without a time-out,
	// if the call fails. Source: it gives up after 45 s.
	holdTime = 20 * time.Second
	// maxPollTime bounds the time-out of a call for updates. Source: as above.
	maxPollTime = 40 * time.Second
	// answerTime is how long Telegram has to answer a call for updates after its time-out.
	answerTime = 10 * time.Second
	// maxUpdates bounds the answer to a call for updates. Source: OpenClaw reads no more.
	maxUpdates = 4 << 20
	// maxPollRequest bounds a gateway's request for updates.
	maxPollRequest = 64 << 10
)

// passedUpdates are the kinds of updates that gateways get. With others a stranger could
// press the buttons of OpenClaw's menus.
var passedUpdates = []string{messageUpdate, "edited_message", "message_reaction"}

const messageUpdate = "message"

// memberUpdate is the kind of update that says that the bot was added to a chat or removed
// from it. The proxy reads it.
const memberUpdate = "my_chat_member"

// pollRequest is a call for updates.
type pollRequest struct {
	Offset  int64    `json:"offset,omitempty"`
	Limit   int      `json:"limit,omitempty"`
	Timeout int64    `json:"timeout"` // seconds
	Allowed []string `json:"allowed_updates"`
}

// poll answers a gateway's call for updates. A call to Telegram that fails is repeated while
// the gateway waits, and the gateway is told that there are no updates: OpenClaw would not
// poll for up to ten minutes after a failure, or not any more.
func (p *Proxy) poll(w http.ResponseWriter, r *http.Request, bot Bot) {
	request, err := readPollRequest(w, r)
	if err != nil {
		fail(w, http.StatusBadRequest, "Bad Request: "+err.Error())
		return
	}
	ctx, done := p.polls.begin(r.Context(), bot.Agent)
	defer done()
	ends := time.Now().Add(min(time.Duration(request.Timeout)*time.Second, maxPollTime))
	giveUp := ends
	if least := time.Now().Add(holdTime); giveUp.Before(least) {
		giveUp = least
	}
	if p.giveKept(ctx, w, bot, request, giveUp) {
		return
	}
	watch := p.watches.of(bot)
	retryAt := watch.mayPollAt()
	release := func() {} // gives back the memory of the updates
	defer func() { release() }()
	for sleepUntil(ctx, retryAt, giveUp) {
		request.Timeout = max(0, int64(time.Until(ends)/time.Second))
		release()
		var updates []json.RawMessage
		var failed *answer
		updates, failed, release, err = p.getUpdates(ctx, bot, request)
		switch {
		case ctx.Err() != nil:
			panic(http.ErrAbortHandler) // the gateway has gone, polls again, or will poll another server
		case err != nil:
			retryAt = watch.pollUnreachable(err)
		case failed != nil:
			retryAt = watch.pollFailed(*failed)
			if failed.ErrorCode == http.StatusConflict && isWebhook(*failed) {
				p.deleteWebhook(ctx, bot)
			}
		default:
			watch.polledOnce()
			passed, last := p.filter(watch, updates)
			if len(passed) > 0 && p.deliver(ctx, bot.Agent) != nil {
				panic(http.ErrAbortHandler)
			}
			if len(passed) > 0 || last < request.Offset || time.Now().After(ends) {
				writeUpdates(w, textsOf(passed))
				return
			}
			// Telegram sends again what the next call does not confirm, and the gateway cannot
			// confirm what it does not get.
			request.Offset = last + 1
		}
	}
	if ctx.Err() != nil {
		panic(http.ErrAbortHandler)
	}
	writeUpdates(w, nil)
}

// keptPause is the pause after the updates that are kept could not be read.
const keptPause = time.Second

// giveKept gives a gateway what was kept for it while it was suspended, and reports whether it has
// answered. Nothing newer comes before that.
func (p *Proxy) giveKept(ctx context.Context, w http.ResponseWriter, bot Bot, request pollRequest, giveUp time.Time) (answered bool) {
	if p.keeper == nil {
		return false
	}
	limit := request.Limit
	if limit <= 0 || limit > maxKept {
		limit = maxKept
	}
	texts, err := p.keeper.take(ctx, bot, request.Offset, limit)
	for err != nil && ctx.Err() == nil {
		p.log.ErrorContext(ctx, "the messages that were kept for an agent cannot be read; it is tried again", "agent", bot.Agent, "error", err)
		if !sleepUntil(ctx, time.Now().Add(keptPause), giveUp) {
			break
		}
		texts, err = p.keeper.take(ctx, bot, request.Offset, limit)
	}
	if ctx.Err() != nil || len(texts) > 0 && p.deliver(ctx, bot.Agent) != nil {
		panic(http.ErrAbortHandler)
	}
	if len(texts) == 0 && err == nil {
		return false
	}
	writeUpdates(w, texts)
	return true
}

// holdUnusable lets a gateway wait whose bot cannot be used until its owner changes
// something. It would otherwise stop to poll.
func (p *Proxy) holdUnusable(w http.ResponseWriter, r *http.Request, bot Bot, err error) {
	p.watches.of(bot).unusable(fault.From(err).Message)
	ctx, done := p.polls.begin(r.Context(), bot.Agent)
	defer done()
	if ends := time.Now().Add(holdTime); !sleepUntil(ctx, ends, ends) {
		panic(http.ErrAbortHandler)
	}
	writeUpdates(w, nil)
}

// sleepUntil waits until a time. It reports false, and waits no longer than until giveUp or
// the end of ctx, if that is earlier.
func sleepUntil(ctx context.Context, at, giveUp time.Time) bool {
	ok := !at.After(giveUp)
	if !ok {
		at = giveUp
	}
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ok
	case <-ctx.Done():
		return false
	}
}

func readPollRequest(w http.ResponseWriter, r *http.Request) (pollRequest, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPollRequest))
	if err != nil {
		return pollRequest{}, errors.New("the request cannot be read")
	}
	var request pollRequest
	if len(bytes.TrimSpace(body)) > 0 {
		if err := json.Unmarshal(body, &request); err != nil {
			return pollRequest{}, errors.New("the request is not JSON")
		}
	}
	request.Timeout = max(0, min(request.Timeout, int64(maxPollTime/time.Second)))
	request.Allowed = allowedUpdates()
	return request, nil
}

// allowedUpdates are the kinds of updates that the proxy asks for.
func allowedUpdates() []string { return append(append([]string{}, passedUpdates...), memberUpdate) }

// errNoMemory is the error of a call for updates whose answer has no room in the memory that
// agents share.
var errNoMemory = errors.New("this server has no memory left")

// getUpdates makes one call for updates. failed is the answer of a server that refuses it. The
// caller calls release when it needs the updates no more.
func (p *Proxy) getUpdates(ctx context.Context, bot Bot, request pollRequest) (updates []json.RawMessage, failed *answer, release func(), err error) {
	release = func() {}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(request.Timeout)*time.Second+answerTime)
	defer cancel()
	res, err := p.post(ctx, bot, "getUpdates", request)
	if err != nil {
		return nil, nil, release, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		a := readFailure(res)
		return nil, &a, release, nil
	}
	if release, err = p.holdMemory(ctx, bot, res.ContentLength); err != nil {
		return nil, nil, func() {}, err
	}
	text, err := io.ReadAll(bot.maskReader(io.LimitReader(res.Body, maxUpdates+1)))
	if err != nil {
		return nil, nil, release, errors.New(bot.mask(err.Error()))
	}
	var a answer
	if len(text) > maxUpdates || json.Unmarshal(text, &a) != nil || !a.OK || json.Unmarshal(a.Result, &updates) != nil {
		return nil, &answer{ErrorCode: http.StatusBadGateway, Description: "the server's answer is not one of the Bot API"}, release, nil
	}
	return updates, nil, release, nil
}

// copies is how often updates are in memory at once: as they came, decoded, and encoded again.
const copies = 3

// holdMemory takes the memory for an answer of a length; -1: unknown.
func (p *Proxy) holdMemory(ctx context.Context, bot Bot, length int64) (release func(), err error) {
	if length < 0 || length > maxUpdates {
		length = maxUpdates
	}
	release, err = p.memory.Acquire(ctx, string(bot.Agent), copies*length)
	if err != nil && ctx.Err() == nil {
		return nil, errNoMemory
	}
	return release, err
}

// deleteWebhook lets the bot be polled again. It keeps the updates that wait.
func (p *Proxy) deleteWebhook(ctx context.Context, bot Bot) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if res, err := p.post(ctx, bot, "deleteWebhook", struct{}{}); err == nil { // else the next call for updates fails again
		_ = res.Body.Close()
	}
}

// post makes a call of the proxy's own.
func (p *Proxy) post(ctx context.Context, bot Bot, method string, params any) (*http.Response, error) {
	body, err := json.Marshal(params)
	if err != nil {
		return nil, fmt.Errorf("encode a call of the Bot API: %w", err)
	}
	return p.send(ctx, bot, http.MethodPost, p.base+"/bot"+bot.Token.Reveal()+"/"+method, "application/json", bytes.NewReader(body), int64(len(body)))
}

// filter returns the updates that a gateway gets, and the number of the last update; -1 if
// there is none.
func (p *Proxy) filter(w *watch, updates []json.RawMessage) (passed []update, last int64) {
	last = -1
	for _, u := range updates {
		var kinds map[string]json.RawMessage
		var id int64
		if json.Unmarshal(u, &kinds) != nil || json.Unmarshal(kinds["update_id"], &id) != nil {
			continue
		}
		last = max(last, id)
		if member, ok := kinds[memberUpdate]; ok {
			w.readMember(member)
			continue
		}
		for _, kind := range passedUpdates {
			if content, ok := kinds[kind]; ok {
				passed = append(passed, update{id, isTurn(kind, content), pass(u, kinds, kind, asText(content))})
				break
			}
		}
	}
	return passed, last
}

// isTurn reports whether an update begins a turn, so that it wakes an agent that sleeps: a message
// in a private chat does. Gateways take no messages of groups, and wait with a reaction or an edit
// for the next message. A chat of which nothing is known is private.
func isTurn(kind string, content json.RawMessage) bool {
	var m struct {
		Chat struct {
			Type string `json:"type"`
		} `json:"chat"`
	}
	if kind != messageUpdate {
		return false
	}
	return json.Unmarshal(content, &m) != nil || m.Chat.Type == "private" || m.Chat.Type == ""
}

func textsOf(updates []update) (texts []json.RawMessage) {
	for _, u := range updates {
		texts = append(texts, u.text)
	}
	return texts
}

// pass returns an update whose content of a kind is replaced, if it is another one.
func pass(update json.RawMessage, kinds map[string]json.RawMessage, kind string, content json.RawMessage) json.RawMessage {
	if bytes.Equal(kinds[kind], content) {
		return update
	}
	kinds[kind] = content
	text, err := encode(kinds)
	if err != nil {
		return update
	}
	return text
}

// maxTitle is how much of a group's title is shown, in characters.
const maxTitle = 64

// readMember reads that the bot was added to a group or removed from it. A private chat is
// left when its person blocks the bot.
func (w *watch) readMember(update json.RawMessage) {
	var m struct {
		Chat struct {
			Type  string `json:"type"`
			Title string `json:"title"`
		} `json:"chat"`
		New struct {
			Status string `json:"status"`
		} `json:"new_chat_member"`
	}
	if json.Unmarshal(update, &m) != nil || m.Chat.Type == "private" {
		return
	}
	switch m.New.Status {
	case "kicked", "left":
		w.left(shorten(m.Chat.Title))
	case "member", "administrator":
		w.joined()
	}
}

func shorten(title string) string {
	title = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, title)
	if runes := []rune(title); len(runes) > maxTitle {
		return string(runes[:maxTitle]) + "…"
	}
	return title
}

func writeUpdates(w http.ResponseWriter, updates []json.RawMessage) {
	if updates == nil {
		updates = []json.RawMessage{}
	}
	text, err := json.Marshal(updates)
	if err != nil {
		panic(err) // they were decoded
	}
	writeJSON(w, http.StatusOK, answer{OK: true, Result: text})
}

// polls are the calls for updates that gateways wait for, one of each: a gateway that asks
// again has given up the last one.
type polls struct {
	mu      sync.Mutex
	closed  bool                           // guarded by mu
	byAgent map[identity.AgentID]*openPoll // guarded by mu
}

// openPoll is a call for updates that has not been answered.
type openPoll struct{ end context.CancelFunc }

func newPolls() *polls { return &polls{byAgent: map[identity.AgentID]*openPoll{}} }

// begin returns the context of a call, and what the caller calls at its end.
func (p *polls) begin(ctx context.Context, id identity.AgentID) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	poll := &openPoll{cancel}
	p.mu.Lock()
	defer p.mu.Unlock()
	if former := p.byAgent[id]; former != nil {
		former.end()
	}
	if p.closed {
		cancel()
	}
	p.byAgent[id] = poll
	return ctx, func() {
		cancel()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.byAgent[id] == poll {
			delete(p.byAgent, id)
		}
	}
}

// close ends all calls, and those that begin later.
func (p *polls) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, poll := range p.byAgent {
		poll.end()
	}
}
