package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/channel"
	"agento.host/agento/internal/channel/botapi"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/openclaw/openclawtest"
	"agento.host/agento/internal/vault"
)

// chat is an agent with a bot that sleeps when nobody uses it. The test is its gateway: it polls.
type chat struct {
	*agenttest.Env
	t        *testing.T
	telegram *openclawtest.Telegram
	agent    agent.Agent
	token    vault.Secret // of the gateway
	offset   int
}

func isAsleep(a agent.Agent) bool { return a.IsAsleep() }
func isAwake(a agent.Agent) bool  { return a.IsRunning() && !a.IsAsleep() }

// newChat returns one whose agent sleeps, and whose bot is asked for updates.
func newChat(t *testing.T) *chat {
	t.Helper()
	telegram := openclawtest.NewTelegram()
	t.Cleanup(telegram.Close)
	e := agenttest.New(t, func(s *agenttest.Settings) {
		s.TelegramURL = telegram.URL
		s.Timing.Linger = time.Second
	})
	c := &chat{Env: e, t: t, telegram: telegram}
	c.agent = createWith(t, e, "ada", map[string]string{"telegramBotToken": "777:real"})
	c.token = botToken(t, e, c.agent.ID)
	c.poll() // a gateway that did not connect stays awake
	c.sleeps()
	return c
}

func (c *chat) sleeps() {
	c.t.Helper()
	c.Until(c.agent.ID, isAsleep)
	c.Eventually("the bot is asked for updates", func() bool { return c.telegram.Waiting() > 0 })
}

// poll polls once as the gateway does, and returns the numbers of the updates.
func (c *chat) poll() (got []int) {
	c.t.Helper()
	server := httptest.NewServer(c.Bots)
	defer server.Close()
	body := fmt.Sprintf(`{"timeout":0,"limit":100,"offset":%d}`, c.offset)
	res, err := http.Post(server.URL+botapi.Path(c.agent.ID)+"/bot"+c.token.Reveal()+"/getUpdates", "application/json", strings.NewReader(body))
	c.Must(err)
	defer func() { _ = res.Body.Close() }()
	var r struct {
		OK     bool
		Result []struct {
			ID int `json:"update_id"`
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&r); err != nil || !r.OK {
		c.t.Fatalf("a gateway that polls is answered with %d, %v", res.StatusCode, err)
	}
	for _, u := range r.Result {
		got = append(got, u.ID)
		c.offset = u.ID + 1
	}
	return got
}

// take polls until nothing comes, and checks what came.
func (c *chat) take(want ...int) {
	c.t.Helper()
	var got []int
	for {
		some := c.poll()
		if len(some) == 0 {
			break
		}
		got = append(got, some...)
	}
	if !slices.Equal(got, want) {
		c.t.Errorf("the gateway got %v, want %v", got, want)
	}
	if n := c.telegram.Unconfirmed(); n > 0 {
		c.t.Errorf("%d updates are not confirmed", n)
	}
	c.CheckCount(0, `SELECT count(*) FROM telegram_updates`)
}

func (c *chat) kept() (n int) {
	c.t.Helper()
	c.Must(c.DB.QueryRowContext(c.t.Context(), `SELECT count(*) FROM telegram_updates`).Scan(&n))
	return n
}

func (c *chat) state() channel.State {
	c.t.Helper()
	v, err := c.Agents.View(c.t.Context(), agenttest.Account, c.agent.ID)
	c.Must(err)
	return v.Channels[channel.Telegram]
}

// A message to the bot of an agent that sleeps wakes the agent. Its gateway gets everything in
// order, each once, also when the server crashes in between.
func TestAMessageOfTelegramWakesTheAgent(t *testing.T) {
	c := newChat(t)
	c.Eventually("the channel is connected", func() bool { return c.state().Status == channel.Connected })
	c.telegram.Write(1, 42, "Eve", "the first message")
	c.telegram.Write(2, 42, "Eve", "the second")
	c.Until(c.agent.ID, isAwake)
	if c.kept() == 0 {
		t.Error("nothing was kept")
	}
	c.CheckCount(0, `SELECT count(*) FROM telegram_updates WHERE instr(CAST(content AS BLOB), CAST('message' AS BLOB)) > 0`) // it is sealed
	c.CheckCount(0, `SELECT count(*) FROM account_storage WHERE bytes < 0`)
	if got := c.poll(); len(got) == 0 || got[0] != 1 {
		t.Fatalf("the gateway got %v", got)
	}
	c.offset = 0 // the answer got lost
	adjust := c.Adjust
	c.RestartServer(func(s *agenttest.Settings) {
		adjust(s)
		s.Timing.Linger = time.Hour // what it has got is not known any more
	})
	c.telegram.Write(3, 42, "Eve", "the third")
	c.take(1, 2, 3)
	if n := c.Driver.Resumes(c.agent.ID); n != 1 {
		t.Errorf("%d wakes", n)
	}
	if now := c.Find(c.agent.ID); now.LastUsedAt.IsZero() {
		t.Error("the agent was not used")
	}
}

// What begins no turn is kept and wakes nobody, unless there is no more room.
func TestWhatBeginsNoTurnWakesNobody(t *testing.T) {
	c := newChat(t)
	group := `{"message_id":%d,"date":1,"chat":{"id":-5,"type":"group","title":"g"},"from":{"id":42,"is_bot":false,"first_name":"Eve"},"text":"hi"}`
	c.telegram.Update(1, "message_reaction", `{"chat":{"id":42,"type":"private"},"message_id":1}`)
	c.telegram.Update(2, "edited_message", `{"message_id":1,"chat":{"id":42,"type":"private"},"text":"x"}`)
	c.telegram.Update(3, "callback_query", `{"id":"1"}`)
	c.telegram.Update(4, "message", fmt.Sprintf(group, 4))
	c.Eventually("they are kept and confirmed", func() bool { return c.kept() == 3 && c.telegram.Unconfirmed() <= 1 })
	if now := c.Find(c.agent.ID); !now.IsAsleep() || !now.NextWake().IsZero() {
		t.Errorf("they wake the agent: %+v", now.Sleep)
	}
	want := []int{1, 2, 4}
	for n := 5; n < 110; n++ {
		c.telegram.Update(n, "message", fmt.Sprintf(group, n))
		want = append(want, n)
	}
	c.Until(c.agent.ID, isAwake)
	if n := c.kept(); n != 100 {
		t.Errorf("%d updates are kept", n)
	}
	c.take(want...)
}

// A message that is longer than what is kept stays with Telegram, and wakes the agent.
func TestWhatIsTooLongStaysWithTelegram(t *testing.T) {
	c := newChat(t)
	c.telegram.Write(1, 42, "Eve", strings.Repeat("x", 1<<20))
	c.Until(c.agent.ID, isAwake)
	if n := c.kept(); n != 0 {
		t.Errorf("%d updates are kept", n)
	}
	c.take(1)
}

// A gateway that does not take what it was woken for is not woken again and again.
func TestWhatAGatewayDoesNotTakeIsTriedLater(t *testing.T) {
	c := newChat(t)
	c.telegram.Write(1, 42, "Eve", "hello")
	c.Until(c.agent.ID, isAwake)
	asleep := c.Until(c.agent.ID, func(a agent.Agent) bool { return a.IsAsleep() && !a.NextWake().IsZero() })
	if in := time.Until(asleep.NextWake()); in < 30*time.Second || in > time.Minute {
		t.Errorf("it is woken again in %s", in)
	}
	c.Eventually("the bot is asked for updates", func() bool { return c.telegram.Waiting() > 0 })
	c.telegram.Write(2, 42, "Eve", "are you there?")
	c.Until(c.agent.ID, func(a agent.Agent) bool { return c.Driver.Resumes(a.ID) == 2 && isAwake(a) })
	c.take(1, 2)
}

// A wake that somebody has withdrawn, such as a caller of the API who waited for room, is asked for
// again.
func TestAWithdrawnWakeIsAskedForAgain(t *testing.T) {
	c := newChat(t)
	c.Exec(`CREATE TRIGGER withdrawn AFTER UPDATE OF wake_wanted ON agents WHEN new.wake_wanted > 0 AND new.region = '' BEGIN
		UPDATE agents SET wake_wanted = 0, region = 'withdrawn' WHERE id = new.id;
	END`)
	c.Exec(`UPDATE agents SET region = ''`)
	c.telegram.Write(1, 42, "Eve", "hello")
	c.Until(c.agent.ID, isAwake)
	c.take(1)
	c.CheckCount(1, `SELECT count(*) FROM agents WHERE region = 'withdrawn'`)
}

// Messages of the API and of Telegram at once are one wake.
func TestMessagesOfAllKindsAreOneWake(t *testing.T) {
	c := newChat(t)
	var turns sync.WaitGroup
	for range 5 {
		turns.Go(func() {
			if _, err := c.Turn(c.agent.ID); err != nil {
				t.Error(err)
			}
		})
	}
	c.telegram.Write(1, 42, "Eve", "hello")
	turns.Wait()
	c.Until(c.agent.ID, isAwake)
	c.take(1)
	if n := c.Driver.Resumes(c.agent.ID); n != 1 {
		t.Errorf("%d wakes", n)
	}
}

// What ends the agent's use of the bot ends the calls at once.
func TestNobodyListensWithoutAnAgentThatSleeps(t *testing.T) {
	for name, end := range map[string]func(c *chat){
		"stopped": func(c *chat) { c.Stop(c.agent.ID) },
		"deleted": func(c *chat) { c.Delete(c.agent.ID) },
		"without a token": func(c *chat) {
			_, err := c.Agents.SetSecrets(c.Context(), c.Actor, c.agent.ID, client.SecretsRequest{DeleteSecrets: []string{"telegramBotToken"}})
			c.Must(err)
		},
		"another server has the lease": func(c *chat) {
			c.Exec(`UPDATE agents SET holder = 'other', lease_number = lease_number + 1, lease_until = $1`, database.Millis(time.Now().Add(time.Hour)))
		},
		"the server stops": func(c *chat) { c.StopServer() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newChat(t)
			c.telegram.Update(1, "message_reaction", `{"chat":{"id":42,"type":"private"},"message_id":1}`)
			c.Eventually("it is kept", func() bool { return c.kept() == 1 })
			end(c)
			c.Eventually("nobody asks for updates", func() bool { return c.telegram.Waiting() == 0 })
			c.telegram.Write(2, 42, "Eve", "hello")
			switch name {
			case "deleted", "without a token":
				c.Eventually("nothing is kept", func() bool { return c.kept() == 0 })
			default:
				c.CheckCount(1, `SELECT count(*) FROM telegram_updates`)
			}
			if n := c.telegram.Unconfirmed(); n == 0 {
				t.Error("the message was taken from Telegram")
			}
		})
	}
}

// What Telegram refuses while the agent sleeps shows as usual, and ends as usual.
func TestFailuresShowWhileTheAgentSleeps(t *testing.T) {
	c := newChat(t)
	c.telegram.Fail("getUpdates", openclawtest.Fail{Status: 401, Description: "Unauthorized"})
	c.Eventually("the error shows", func() bool {
		s := c.state()
		return s.Status == channel.Failed && strings.Contains(s.Error, "does not know the bot's token")
	})
	if now := c.Find(c.agent.ID); !now.IsAsleep() {
		t.Errorf("it woke: %+v", now.Sleep)
	}
	c.telegram.Recover()
	c.Eventually("it ends", func() bool { return c.state().Status == channel.Connected })
	c.telegram.Write(1, 42, "Eve", "hello")
	c.Until(c.agent.ID, isAwake)
	c.take(1)
}

// What reads an agent's channels connects to a gateway that runs, and wakes none.
func TestConnectAwakeWakesNobody(t *testing.T) {
	c := newChat(t)
	if _, err := c.Gateways.ConnectAwake(c.Context(), c.agent.ID); !fault.Is(err, fault.NotRunning) {
		t.Errorf("asleep: %v", err)
	}
	if now := c.Find(c.agent.ID); !now.IsAsleep() || !now.NextWake().IsZero() {
		t.Errorf("it wakes: %+v", now.Sleep)
	}
	if _, err := c.Turn(c.agent.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Gateways.ConnectAwake(c.Context(), c.agent.ID); err != nil {
		t.Errorf("awake: %v", err)
	}
	if _, err := c.Gateways.ConnectAwake(c.Context(), "unknown"); !fault.Is(err, fault.NotFound) {
		t.Errorf("unknown: %v", err)
	}
}

// An agent whose gateway has not connected to Telegram, as that of a token that is new to it, stays
// awake and says why: nobody else would have its messages.
func TestAGatewayThatDoesNotPollStaysAwake(t *testing.T) {
	telegram := openclawtest.NewTelegram()
	t.Cleanup(telegram.Close)
	agenttest.InBubble(t, func(s *agenttest.Settings) {
		s.TelegramURL = telegram.URL
		s.Timing.Linger = 25 * time.Second
	}, func(t *testing.T, e *agenttest.Env) {
		a := createWith(t, e, "ada", map[string]string{"telegramBotToken": "777:real"})
		time.Sleep(time.Hour)
		if now := e.Find(a.ID); !isAwake(now) {
			t.Errorf("it sleeps: %+v", now)
		}
		live, err := e.Status.Status(t.Context(), agenttest.Account, a.ID)
		if err != nil || !strings.Contains(live.KeptAwake, "Telegram") {
			t.Errorf("it stays awake because of %q, %v", live.KeptAwake, err)
		}
	})
}

// Another bot's updates are not the present one's.
func TestAnotherBotBeginsAnew(t *testing.T) {
	c := newChat(t)
	c.telegram.Update(900, "message_reaction", `{"chat":{"id":42,"type":"private"},"message_id":1}`)
	c.Eventually("it is kept and confirmed", func() bool { return c.kept() == 1 && c.telegram.Unconfirmed() == 0 })
	c.SetSecrets(c.agent.ID, map[string]string{"telegramBotToken": "778:real"})
	c.Eventually("the other bot is asked for updates", func() bool { return slices.Contains(c.telegram.Paths(), "/bot778:real/getUpdates") })
	c.telegram.Write(1, 42, "Eve", "hello")
	c.Until(c.agent.ID, isAwake)
	c.token = botToken(t, c.Env, c.agent.ID)
	c.take(1)
}
