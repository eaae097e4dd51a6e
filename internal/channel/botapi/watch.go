package botapi

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"agento.host/agento/internal/channel"
	"agento.host/agento/internal/identity"
)

const (
	// conflictMemory is how long a bot counts as polled by others after Telegram said so.
	// Two pollers end each other's calls, so that some of ours succeed in between.
	// A call without messages takes 30 s.
	conflictMemory = 30 * time.Second
	// maxPassing is how many failures in a row that pass by themselves, such as a lost
	// connection, are not reported.
	maxPassing = 1
	// maxRetryAfter is the longest pause that Telegram may ask for.
	maxRetryAfter = time.Minute
	// idleWatch is how long a watch is kept that nothing was added to. A gateway polls
	// every 30 s.
	idleWatch = time.Hour
)

// watch is what is known of one bot. It is reported after each change.
type watch struct {
	reporter Reporter

	mu         sync.Mutex
	bot        Bot
	polled     bool      // a call for updates has succeeded; guarded by mu
	problem    string    // why the last call failed; guarded by mu
	passing    int       // failures in a row that pass by themselves; guarded by mu
	failures   int       // of calls for updates, in a row; guarded by mu
	retryAt    time.Time // when the next call for updates may be made; guarded by mu
	conflictAt time.Time // when others were last seen to poll; guarded by mu
	conflict   string    // guarded by mu
	removed    string    // why a chat does not get the bot's messages; guarded by mu
	usedAt     time.Time // guarded by mu
}

// watches are those of all bots.
type watches struct {
	reporter Reporter
	mu       sync.Mutex
	byAgent  map[identity.AgentID]*watch // guarded by mu
	sweptAt  time.Time                   // guarded by mu
}

func newWatches(r Reporter) *watches {
	return &watches{reporter: r, byAgent: map[identity.AgentID]*watch{}, sweptAt: time.Now()}
}

// of returns the watch of a bot. A new gateway and a new token begin a new one.
func (w *watches) of(bot Bot) *watch {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if now.Sub(w.sweptAt) > idleWatch {
		w.sweptAt = now
		for id, one := range w.byAgent {
			if one.isIdle(now) {
				delete(w.byAgent, id)
			}
		}
	}
	one := w.byAgent[bot.Agent]
	if one == nil || one.bot.Gateway != bot.Gateway || one.bot.Token.Reveal() != bot.Token.Reveal() {
		one = &watch{reporter: w.reporter, bot: bot}
		w.byAgent[bot.Agent] = one
	}
	one.touch(now)
	return one
}

func (w *watch) touch(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.usedAt = now
}

func (w *watch) isIdle(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return now.Sub(w.usedAt) > idleWatch
}

// report reports the state. The caller holds mu.
func (w *watch) report(now time.Time) {
	r := channel.Report{Account: w.bot.Account, Agent: w.bot.Agent, Gateway: w.bot.Gateway, Channel: channel.Telegram, Status: channel.Failed}
	switch {
	case w.problem != "":
		r.Error = w.problem
	case w.conflict != "" && now.Sub(w.conflictAt) < conflictMemory:
		r.Error = w.conflict
	case w.removed != "":
		r.Error = w.removed
	case w.polled:
		r.Status = channel.Connected
	default:
		return // not connected yet, and nothing failed
	}
	w.reporter.Report(r)
}

// polledOnce takes note of a call for updates that succeeded.
func (w *watch) polledOnce() {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.polled, w.problem, w.passing, w.failures, w.retryAt = true, "", 0, 0, time.Time{}
	w.report(now)
}

// succeeded takes note of another call that succeeded.
func (w *watch) succeeded(method string) {
	if !delivers(method) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.removed != "" {
		w.removed = ""
		w.report(time.Now())
	}
}

// failed takes note of another call that Telegram refused. Most refusals concern one message
// and are the gateway's.
func (w *watch) failed(method string, a answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case isDeadToken(method, a):
		w.problem = w.deadToken(a)
	case a.ErrorCode == http.StatusForbidden && delivers(method) && isRemoval(a.Description):
		w.removed = fmt.Sprintf("Telegram does not deliver the bot's messages to a chat: %s. Add the bot there again, or leave it as it is: the next message that is delivered anywhere ends this notice.", w.bot.mask(a.Description))
	default:
		return
	}
	w.report(time.Now())
}

// pollFailed takes note of a call for updates that Telegram refused, and returns when the
// next one may be made.
func (w *watch) pollFailed(a answer) time.Time {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case isDeadToken(methodGetUpdates, a):
		w.problem, w.passing = w.deadToken(a), 0
	case a.ErrorCode == http.StatusConflict:
		w.problem, w.passing = "", 0
		w.conflict, w.conflictAt = w.conflictText(a), now
	default:
		w.pass(fmt.Sprintf("Telegram refuses the calls for the bot's messages: %s. They are repeated.", w.bot.mask(a.Description)))
	}
	w.report(now)
	return w.backOff(now, a.retryAfter())
}

// pollUnreachable takes note of a call for updates that did not reach Telegram, and returns
// when the next one may be made.
func (w *watch) pollUnreachable(err error) time.Time {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pass(unreachableText(err))
	w.report(now)
	return w.backOff(now, 0)
}

// unreachable takes note of another call that did not reach Telegram.
func (w *watch) unreachable(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pass(unreachableText(err))
	w.report(time.Now())
}

func unreachableText(err error) string {
	if errors.Is(err, errNoMemory) {
		return "This server has no memory left for the bot's messages. They stay with Telegram and are fetched later."
	}
	return fmt.Sprintf("Telegram cannot be reached: %s. The calls are repeated.", err)
}

// pass takes note of a failure that passes by itself. The caller holds mu.
func (w *watch) pass(text string) {
	if w.passing++; w.passing > maxPassing {
		w.problem = text
	}
}

// unusable takes note of why the bot cannot be used at all.
func (w *watch) unusable(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.problem = text
	w.report(time.Now())
}

// backOff returns when the next call for updates may be made. The caller holds mu.
func (w *watch) backOff(now time.Time, asked time.Duration) time.Time {
	pause := min(time.Second<<min(w.failures, 5), maxPause)
	w.failures++
	w.retryAt = now.Add(max(pause, asked))
	return w.retryAt
}

// mayPollAt returns when the next call for updates may be made.
func (w *watch) mayPollAt() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.retryAt
}

// joined and left take note of the groups that the bot is added to and removed from.
func (w *watch) joined() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.removed = ""
	w.report(time.Now())
}

func (w *watch) left(group string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.removed = fmt.Sprintf("The bot was removed from the Telegram group %q. Add it again, or leave it as it is: the next message that is delivered anywhere ends this notice.", group)
	w.report(time.Now())
}

func (w *watch) setSecrets() string {
	return fmt.Sprintf("PUT /v1/agents/%s/secrets", w.bot.Agent)
}

func (w *watch) deadToken(a answer) string {
	return fmt.Sprintf("Telegram does not know the bot's token (%s). Get the token from BotFather and set it as telegramBotToken with %s.", w.bot.mask(a.Description), w.setSecrets())
}

func (w *watch) conflictText(a answer) string {
	if isWebhook(a) {
		return "Another program has set a webhook for the bot, so that Telegram sends it the messages. agento removes the webhook; stop that program, or make a new token with BotFather and set it as telegramBotToken with " + w.setSecrets() + "."
	}
	return "Another program asks Telegram for the messages of this bot too, so that each of them goes to one of the two. Stop that program, or make a new token with BotFather and set it as telegramBotToken with " + w.setSecrets() + "."
}

// isDeadToken reports whether a refusal concerns the token. Telegram says "Not Found" of a
// token that it has never seen, and of a method or a file.
func isDeadToken(method string, a answer) bool {
	return a.ErrorCode == http.StatusUnauthorized ||
		a.ErrorCode == http.StatusNotFound && (method == methodGetUpdates || method == "getme")
}

func isWebhook(a answer) bool { return strings.Contains(strings.ToLower(a.Description), "webhook") }

// delivers reports whether a method brings something into a chat.
func delivers(method string) bool {
	for _, prefix := range []string{"send", "forward", "copy"} {
		if strings.HasPrefix(method, prefix) && method != "sendchataction" {
			return true
		}
	}
	return false
}

// isRemoval reports whether the bot was removed from a chat. A person who blocks the bot, or
// has deleted the account, is no problem of the agent: everybody could make it look broken.
func isRemoval(description string) bool {
	d := strings.ToLower(description)
	return strings.Contains(d, "kicked") || strings.Contains(d, "not a member") || strings.Contains(d, "no rights to send")
}
