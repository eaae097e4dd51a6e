package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/devmodel"
)

// TestAgentsOnRealGateways follows two agents of two accounts on real gateways, from
// create to delete.
func TestAgentsOnRealGateways(t *testing.T) {
	in := newInstallation(t, "acme", "rival")
	traces := newCollector(t)
	in.start()
	acme, rival := in.client("acme"), in.client("rival")

	request := in.newAgent("ada")
	request.SoulMD = "# SOUL.md\n\nYou speak like a lighthouse keeper."
	request.WorkflowMD = "# Workflow\n\nAlways ask for the ship's name first."
	request.Secrets["telegramBotToken"] = "1:bot"
	request.Secrets["DOOR_CODE"] = "open-sesame-4711"
	type created struct {
		client.CreatedAgent
		err error
	}
	others := make(chan created, 1)
	go func() { // two boots at once
		a, err := rival.CreateAgent(t.Context(), in.newAgent("bob"))
		others <- created{a, err}
	}()
	ada, err := acme.CreateAgent(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	bob := <-others
	if bob.err != nil {
		t.Fatal(bob.err)
	}
	if ada.Status != client.Running || ada.StartedAt == nil {
		t.Fatalf("created: %+v", ada)
	}

	t.Run("the prompt contains the agent's documents", func(t *testing.T) { promptContents(t, in, acme, ada.ID) })
	t.Run("a trace leads from the request to the model call", func(t *testing.T) { tracesOfTurns(t, in, acme, ada.ID, traces) })
	t.Run("peers share nothing", func(t *testing.T) { peers(t, in, acme, ada.ID) })
	t.Run("a disconnect aborts the model call", func(t *testing.T) { disconnect(t, in, acme, ada.ID) })
	t.Run("a refused key is reported and a new key is used at once", func(t *testing.T) { refusedKey(t, in, acme, ada.ID) })
	t.Run("six failures of the provider at the same time", func(t *testing.T) { providerFailures(t, in, map[string]*client.Client{ada.ID: acme, bob.ID: rival}) })
	t.Run("the model's words reach the caller", func(t *testing.T) { trueText(t, in, acme, ada.ID) })
	t.Run("a program of the agent has no part in its answers", func(t *testing.T) { forgedCall(t, in, acme, ada.ID) })
	t.Run("a turn ends at its limits", func(t *testing.T) { turnLimits(t, in, acme, ada.ID) })
	t.Run("the sandbox isolates the agent", func(t *testing.T) { sandbox(t, in, acme, ada.ID, bob.ID) })
	t.Run("documents change while it runs", func(t *testing.T) { documents(t, in, acme, ada.ID) })
	t.Run("the agent searches its knowledge", func(t *testing.T) { knowledgeTool(t, acme, rival, ada.ID, bob.ID) })
	t.Run("skills reach the model", func(t *testing.T) { skills(t, in, acme, ada.ID) })
	t.Run("Telegram messages are in the history", func(t *testing.T) { telegram(t, in, acme, ada.ID) })
	t.Run("another account has no access", func(t *testing.T) { otherAccount(t, rival, ada.ID) })
	if err := errors.Join(deleted(rival, bob.ID)); err != nil {
		t.Fatal(err)
	}
	t.Run("a killed gateway is restarted", func(t *testing.T) { killedGateway(t, in, acme, ada.ID) })
	t.Run("stop, start, restart, delete", func(t *testing.T) { lifecycle(t, in, acme, ada.ID) })
	in.stop()
}

func promptContents(t *testing.T, in *installation, c *client.Client, id string) {
	answer := send(t, c, id, client.ChatRequest{Message: "echo aye aye", Context: map[string]any{"plan": "Pro", "name": "Alice"}})
	if answer != "aye aye" {
		t.Errorf("answer %q", answer)
	}
	asked := lastCall(t, in, "echo aye aye")
	for _, want := range []string{
		"You speak like a lighthouse keeper", "Always ask for the ship's name first", "plan: Pro", "name: Alice", "**Name:** ada",
	} {
		if !strings.Contains(asked.System+string(asked.Body), want) {
			t.Errorf("the prompt does not contain %q", want)
		}
	}
	if asked.Key.Reveal() != "sk-ant-ada" {
		t.Error("the provider did not get the agent's key")
	}
	history, err := c.History(t.Context(), id, client.HistoryQuery{})
	if err != nil || len(history) != 2 || history[0].Content != "echo aye aye" || history[1].Content != "aye aye" {
		t.Errorf("history %+v, %v", history, err)
	}
}

// lastCall returns the latest model call whose user message contains text.
func lastCall(t *testing.T, in *installation, text string) *devmodel.Call {
	t.Helper()
	calls := in.model.Requests()
	for i := len(calls) - 1; i >= 0; i-- {
		if strings.Contains(calls[i].LastUser(), text) {
			return calls[i]
		}
	}
	t.Fatalf("no model call contains %q", text)
	return nil
}

func peers(t *testing.T, in *installation, c *client.Client, id string) {
	send(t, c, id, client.ChatRequest{Message: "echo my number is 5550100", PeerID: "alice"})
	send(t, c, id, client.ChatRequest{Message: "echo who is there", PeerID: "mallory"})
	if body := string(lastCall(t, in, "who is there").Body); strings.Contains(body, "5550100") {
		t.Error("a message of one peer is in the model call of another")
	}
	send(t, c, id, client.ChatRequest{Message: "echo still me", PeerID: "alice"})
	if body := string(lastCall(t, in, "still me").Body); !strings.Contains(body, "5550100") {
		t.Error("the session of a peer lost a message")
	}
	sessions, err := c.Sessions(t.Context(), id)
	if err != nil || len(sessions) < 3 {
		t.Errorf("%d sessions, %v", len(sessions), err)
	}
	// What a message has used is counted when it is answered, for the peer and the key that have sent it.
	requests := map[string]int64{}
	for _, by := range []string{"peer", "key"} {
		used, err := c.AgentUsage(t.Context(), id, client.UsageQuery{By: by})
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range used.Data {
			if u.Group != nil && u.InputTokens > 0 && u.OutputTokens > 0 && u.EstimatedRequests == 0 {
				requests[by+" "+*u.Group] = u.Requests
				requests["named "+by] += u.Requests
			}
			requests[by] += u.Requests
		}
	}
	if requests["peer alice"] != 2 || requests["peer mallory"] != 1 || requests["named key"] < 4 || requests["peer"] != requests["key"] {
		t.Errorf("counted %v", requests)
	}
	// A peer cannot use the session of another peer.
	for _, s := range sessions {
		_, err := trySend(t.Context(), c, id, client.ChatRequest{Message: "echo hello", PeerID: "nobody-yet", SessionID: s.ID})
		if !client.IsCode(err, "not_found") {
			t.Errorf("session %s is open to another peer: %v", s.ID, err)
		}
	}
}

func disconnect(t *testing.T, in *installation, c *client.Client, id string) {
	defer in.model.Script(devmodel.When("hold the line", longReply()))()
	ctx, leave := context.WithTimeout(t.Context(), waitTimeout)
	defer leave()
	for e, err := range c.Chat(ctx, id, client.ChatRequest{Message: "hold the line", OnDisconnect: "cancel"}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == "text" {
			break // the client disconnects during the answer
		}
	}
	leave()
	cut, err := lastCall(t, in, "hold the line").Cancelled(t.Context())
	if err != nil || !cut {
		t.Errorf("the model call was not aborted: %v, %v", cut, err)
	}
}

// longReply is an answer that takes minutes unless it is aborted.
func longReply() devmodel.Reply {
	return devmodel.Reply{Chunks: strings.SplitAfter(strings.Repeat("and then ", 10_000), " "), Delay: 20 * time.Millisecond}
}

func refusedKey(t *testing.T, in *installation, c *client.Client, id string) {
	remove := in.model.Script(devmodel.OnlyKey("sk-ant-new"))
	defer remove()
	_, err := trySend(t.Context(), c, id, client.ChatRequest{Message: "echo one"})
	var refusal *client.Error
	if !errors.As(err, &refusal) || !strings.Contains(refusal.Message, "key") {
		t.Fatalf("a refused key gave %v", err)
	}
	waitUntil(t, "the agent shows that its key was refused", func() bool {
		a, err := c.Agent(t.Context(), id)
		return err == nil && a.ErrorCategory != nil && *a.ErrorCategory == "credentials" && a.Status == client.Running
	})
	updated, err := c.SetSecrets(t.Context(), id, client.SecretsRequest{Secrets: map[string]string{"anthropic_api_key": "sk-ant-new"}})
	if err != nil || updated.NeedsRestart {
		t.Fatalf("%+v, %v", updated, err)
	}
	if got := send(t, c, id, client.ChatRequest{Message: "echo two"}); got != "two" {
		t.Errorf("with the new key: %q", got)
	}
	waitUntil(t, "the agent shows no error", func() bool {
		a, err := c.Agent(t.Context(), id)
		return err == nil && a.ErrorCategory == nil && a.LastError == nil
	})
}

// providerFailures lets model calls fail in six ways at the same time on each agent. The caller
// gets the reason, what cannot succeed is not repeated, and no failure holds up what comes
// after it.
func providerFailures(t *testing.T, in *installation, agents map[string]*client.Client) {
	type failure struct {
		reply    devmodel.Reply
		says     string
		repeated bool
		calls    atomic.Int32
	}
	failures := map[string]*failure{
		"no-credit":   {reply: devmodel.Reply{Status: 400, Reason: "invalid_request_error", Error: "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."}, says: "no credit left: Your credit balance"},
		"no-payment":  {reply: devmodel.Reply{Status: 402, Reason: "billing_error", Error: "Payment required"}, says: "no credit left: Payment required"},
		"words":       {reply: devmodel.Reply{Status: 400, Reason: "invalid_request_error", Error: "401 unauthorized"}, says: "refused this agent's key: 401 unauthorized"},
		"quota":       {reply: devmodel.Reply{Status: 429, Reason: "insufficient_quota", Error: "You exceeded your current quota."}, says: "no credit left: You exceeded"},
		"overloaded":  {reply: devmodel.Reply{Status: 529, Reason: "overloaded_error", Error: "Overloaded"}, says: "is overloaded (HTTP 529): Overloaded", repeated: true},
		"broken-off!": {reply: devmodel.Reply{Chunks: []string{"some ", "words"}, Drop: true}, says: "broke off its answer", repeated: true},
	}
	for name, f := range failures {
		// A gateway that goes on with an answer has a message of its own after the caller's.
		defer in.model.Script(func(r devmodel.Request) (devmodel.Reply, bool) {
			ok := slices.ContainsFunc(r.Messages, func(m devmodel.Message) bool { return strings.Contains(m.Text, name) })
			if ok {
				f.calls.Add(1)
			}
			return f.reply, ok
		})()
	}
	var sent sync.WaitGroup
	for id, c := range agents {
		for name, f := range failures {
			sent.Go(func() {
				text, err := trySend(t.Context(), c, id, client.ChatRequest{Message: name, PeerID: name})
				var failed *client.Error
				if !errors.As(err, &failed) || failed.Code != "upstream_error" || !strings.Contains(failed.Message, f.says) {
					t.Errorf("%s: %q, %v", name, text, err)
				}
			})
		}
	}
	sent.Wait()
	for name, f := range failures {
		if n := int(f.calls.Load()); (n > len(agents)) != f.repeated || n < len(agents) {
			t.Errorf("%s: %d calls", name, n)
		}
	}
	for id, c := range agents {
		if got := send(t, c, id, client.ChatRequest{Message: "echo still here", PeerID: "another"}); got != "still here" {
			t.Errorf("after the failures: %q", got)
		}
		waitUntil(t, "the agent shows no error", func() bool {
			a, err := c.Agent(t.Context(), id)
			return err == nil && a.ErrorCategory == nil && a.LastError == nil
		})
	}
}

// sandbox lets the agent try to read files and processes that are not its own.
func sandbox(t *testing.T, in *installation, c *client.Client, mine, other string) {
	private := filepath.Join(in.data, "agents", other, "home", "workspace", "SOUL.md")
	if _, err := os.Stat(private); err != nil {
		t.Fatalf("the path of the test is wrong: %v", err)
	}
	for name, try := range map[string]struct{ command, leak string }{
		"another agent's home":     {"cat " + private + " || ls " + filepath.Dir(private), "SOUL.md\n"},
		"the data directory":       {"cat " + filepath.Join(in.data, "master.key") + " && echo LEAKED || ls -A " + in.data, "LEAKED"},
		"the database":             {"head -c 15 " + filepath.Join(in.data, "agento.db"), "SQLite format"},
		"the server's environment": {"cat /proc/*/environ | tr '\\0' '\\n' | grep SERVER_ONLY", "hidden-from-agents"},
		"the server's processes":   {"cat /proc/*/cmdline | tr '\\0' ' '", "telegram-url"},
	} {
		t.Run(name, func(t *testing.T) {
			got := execute(t, c, mine, try.command)
			if strings.Contains(got, try.leak) {
				t.Errorf("the agent read it:\n%s", got)
			}
		})
	}
	// The same tool reads the agent's own files, so the checks above are effective.
	if got := execute(t, c, mine, "cat SOUL.md; echo $DOOR_CODE"); !strings.Contains(got, "lighthouse keeper") || !strings.Contains(got, "open-sesame-4711") {
		t.Errorf("the agent cannot read its own files: %s", got)
	}
	// The gateway contains no provider key.
	if got := execute(t, c, mine, "grep -rl sk-ant- $HOME /run /tmp /dev/shm /proc/*/environ 2>/dev/null; echo searched"); !strings.Contains(got, "searched") || strings.Contains(got, "/proc") || strings.Contains(got, "openclaw.json") {
		t.Errorf("a provider key is inside the gateway: %s", got)
	}
}

// execute runs a shell command with the agent's exec tool and returns the output that
// the model got.
func execute(t testing.TB, c *client.Client, id, command string) string {
	t.Helper()
	return send(t, c, id, client.ChatRequest{Message: fmt.Sprintf("call exec {\"command\": %q}", command)})
}

// documents checks that changed documents are used in the next turn, and that the
// agent's own edits are kept.
func documents(t *testing.T, in *installation, c *client.Client, id string) {
	ctx := t.Context()
	soul, err := c.Personality(ctx, id)
	if err != nil || !strings.Contains(soul.SoulMD, "lighthouse keeper") {
		t.Fatalf("%+v, %v", soul, err)
	}
	set, err := c.SetPersonality(ctx, id, client.SetPersonalityRequest{SoulMD: "# SOUL.md\n\nYou speak like a tram driver.", ExpectedHash: soul.SoulMDHash})
	if err != nil || set.NeedsRestart {
		t.Fatalf("%+v, %v", set, err)
	}
	if _, err := c.SetPersonality(ctx, id, client.SetPersonalityRequest{SoulMD: "x", ExpectedHash: soul.SoulMDHash}); !client.IsCode(err, "conflict") {
		t.Errorf("a stale hash gave %v", err)
	}
	if _, err := c.SetWorkflow(ctx, id, client.SetWorkflowRequest{WorkflowMD: "# Workflow\n\nCheck tickets before anything else."}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutRule(ctx, id, "lost-luggage", client.PutRuleRequest{Content: "# Lost luggage\n\nAsk for the line number."}); err != nil {
		t.Fatal(err)
	}
	send(t, c, id, client.ChatRequest{Message: "echo all aboard", PeerID: "passenger"})
	prompt := lastCall(t, in, "all aboard").System
	for _, want := range []string{"tram driver", "Check tickets before anything else", "rules/lost-luggage.md"} {
		if !strings.Contains(prompt, want) {
			t.Errorf("the prompt does not contain %q", want)
		}
	}
	if strings.Contains(prompt, "lighthouse") {
		t.Error("the prompt contains the old personality")
	}
	execute(t, c, id, "echo 'You love punctuality.' >> SOUL.md")
	if soul, err := c.Personality(ctx, id); err != nil || !strings.Contains(soul.SoulMD, "You love punctuality.") || !strings.Contains(soul.SoulMD, "tram driver") {
		t.Errorf("the agent's own edit was lost: %+v, %v", soul, err)
	}
}

func knowledgeTool(t *testing.T, c, rival *client.Client, id, other string) {
	in := client.KnowledgeIngest{AgentID: id, Chunks: []client.KnowledgeChunk{
		{Text: "Parcels over 30 kilograms are collected at the harbour gate on Tuesdays.", Source: "shipping.md"},
		{Text: "The canteen serves soup.", Source: "canteen.md"},
	}}
	if done, err := c.IngestKnowledge(t.Context(), in, client.IngestOptions{}); err != nil || done.Stored != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	ask := client.ChatRequest{Message: `call platform__knowledge_search {"query":"where are heavy parcels collected?"}`}
	if got := send(t, c, id, ask); !strings.Contains(got, "harbour gate") || !strings.Contains(got, "shipping.md") {
		t.Errorf("the agent's search gave %q", got)
	}
	ask.PeerID = "customer"
	if got := send(t, c, id, ask); !strings.Contains(got, "harbour gate") {
		t.Errorf("a peer's search gave %q", got)
	}
	if got := send(t, rival, other, ask); strings.Contains(got, "harbour gate") || !strings.Contains(got, "nothing on this") {
		t.Errorf("another agent's search gave %q", got)
	}
}

func skills(t *testing.T, in *installation, c *client.Client, id string) {
	offered, err := c.ListSkills(t.Context(), client.SkillQuery{PageSize: 100})
	if err != nil || len(offered.Data) < 8 {
		t.Fatalf("%d skills, %v", len(offered.Data), err)
	}
	for _, s := range offered.Data {
		done, err := c.InstallSkill(t.Context(), id, client.InstallSkillRequest{SkillID: s.ID, TrustLevel: "verified"})
		if err != nil || done.NeedsRestart {
			t.Fatalf("install %s: %+v, %v", s.ID, done, err)
		}
	}
	// OpenClaw looks for new skills a quarter of a second after a change.
	missing := slices.Clone(offered.Data)
	waitUntil(t, "the prompt lists every skill", func() bool {
		send(t, c, id, client.ChatRequest{Message: "echo what can you do", PeerID: "newcomer"})
		prompt := lastCall(t, in, "what can you do").System
		missing = slices.DeleteFunc(missing, func(s client.Skill) bool { return strings.Contains(prompt, "skills/"+s.ID+"/SKILL.md") })
		return len(missing) == 0
	})
	if _, err := c.UninstallSkill(t.Context(), id, "web-search"); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the prompt no longer lists it", func() bool {
		send(t, c, id, client.ChatRequest{Message: "echo and now", PeerID: "newcomer"})
		return !strings.Contains(lastCall(t, in, "and now").System, "skills/web-search/SKILL.md")
	})
}

func telegram(t *testing.T, in *installation, c *client.Client, id string) {
	in.bot.Write(5, 42, "Eve", "echo from afar")
	var session client.ChatSession
	waitUntil(t, "the conversation is listed", func() bool {
		all, err := c.Sessions(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(all, func(s client.ChatSession) bool { return s.Channel == "telegram" })
		if at >= 0 {
			session = all[at]
		}
		return at >= 0
	})
	var messages []client.ChatMessage
	waitUntil(t, "both sides are in the history", func() bool {
		var err error
		if messages, err = c.History(t.Context(), id, client.HistoryQuery{SessionID: session.ID}); err != nil {
			t.Fatal(err)
		}
		return len(messages) == 2
	})
	if messages[0].Role != "user" || messages[0].Content != "echo from afar" || messages[1].Role != "assistant" || messages[1].Content != "from afar" {
		t.Errorf("history %+v", messages)
	}
	if session.Name == nil || *session.Name != "Eve" {
		t.Errorf("session %+v", session)
	}
}

func otherAccount(t *testing.T, c *client.Client, id string) {
	_, errGet := c.Agent(t.Context(), id)
	_, errChat := trySend(t.Context(), c, id, client.ChatRequest{Message: "hello"})
	_, errLogs := c.Logs(t.Context(), id, 10)
	_, errStop := c.StopAgent(t.Context(), id)
	for what, err := range map[string]error{"get": errGet, "chat": errChat, "logs": errLogs, "stop": errStop} {
		if !client.IsCode(err, "not_found") {
			t.Errorf("%s from another account: %v", what, err)
		}
	}
}

func deleted(c *client.Client, id string) error {
	_, err := c.DeleteAgent(context.Background(), id)
	return err
}

func killedGateway(t *testing.T, in *installation, c *client.Client, id string) {
	pid := gatewayPID(t, in, id)
	group, err := syscall.Getpgid(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(-group, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the agent is starting again", func() bool {
		a, err := c.Agent(t.Context(), id)
		return err == nil && a.Status == client.Starting
	})
	if got := send(t, c, id, client.ChatRequest{Message: "echo back again"}); got != "back again" {
		t.Errorf("after the crash: %q", got)
	}
	if now := gatewayPID(t, in, id); now == pid {
		t.Error("the gateway was not replaced")
	}
}

// gatewayPID returns the process that the driver started for an agent. It is the leader
// of its process group.
func gatewayPID(t testing.TB, in *installation, id string) int {
	t.Helper()
	pid, err := readGatewayPID(in, id)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// readGatewayPID is gatewayPID for a moment at which a gateway may just be started, and has
// no pid yet.
func readGatewayPID(in *installation, id string) (pid int, err error) {
	text, err := os.ReadFile(filepath.Join(in.data, "agents", id, "pid"))
	if err == nil {
		_, err = fmt.Sscan(string(text), &pid)
	}
	return pid, err
}

func lifecycle(t *testing.T, in *installation, c *client.Client, id string) {
	ctx := t.Context()
	before, err := c.History(ctx, id, client.HistoryQuery{Limit: 200})
	if err != nil {
		t.Fatal(err)
	}
	stopped, err := c.StopAgent(ctx, id)
	if err != nil || stopped.Status != client.Stopped || stopped.StoppedAt == nil {
		t.Fatalf("%+v, %v", stopped, err)
	}
	for _, f := range in.gateways() {
		if f.Running {
			t.Error("the gateway of a stopped agent runs")
		}
	}
	if _, err := trySend(ctx, c, id, client.ChatRequest{Message: "hello"}); !client.IsCode(err, "agent_not_running") {
		t.Errorf("chat with a stopped agent: %v", err)
	}
	logs, err := c.Logs(ctx, id, 10_000)
	if err != nil || !strings.Contains(logs, "[info]") {
		t.Errorf("logs of a stopped agent: %q, %v", logs, err)
	}
	for _, m := range before {
		if len(m.Content) >= 8 && strings.Contains(logs, m.Content) {
			t.Errorf("the log has the text %q of a conversation", m.Content)
		}
	}
	if after, err := c.History(ctx, id, client.HistoryQuery{Limit: 200}); err != nil || len(after) != len(before) {
		t.Errorf("history of a stopped agent: %d messages of %d, %v", len(after), len(before), err)
	}
	started, err := c.StartAgent(ctx, id)
	if err != nil || started.Status != client.Running {
		t.Fatalf("%+v, %v", started, err)
	}
	pid := gatewayPID(t, in, id)
	changed, err := c.UpdateAgent(ctx, id, client.UpdateAgentRequest{Config: map[string]any{"model": "claude-haiku-4-5"}})
	if err != nil || !changed.NeedsRestart {
		t.Fatalf("%+v, %v", changed, err)
	}
	restarted, err := c.RestartAgent(ctx, id)
	if err != nil || restarted.Status != client.Running || gatewayPID(t, in, id) == pid {
		t.Fatalf("%+v, %v", restarted, err)
	}
	if a, err := c.Agent(ctx, id); err != nil || a.NeedsRestart {
		t.Errorf("after the restart: %+v, %v", a, err)
	}
	send(t, c, id, client.ChatRequest{Message: "echo my number is what", PeerID: "alice"})
	asked := lastCall(t, in, "my number is what")
	if !strings.Contains(string(asked.Body), "5550100") {
		t.Error("the session did not survive stop and restart")
	}
	if !strings.Contains(asked.System, "skills/meeting-notes/SKILL.md") {
		t.Error("a skill did not survive stop and restart")
	}
	if asked.Model != "claude-haiku-4-5" {
		t.Errorf("the model is %s", asked.Model)
	}
	if gone, err := c.DeleteAgent(ctx, id); err != nil || !gone.Deleted {
		t.Fatalf("%+v, %v", gone, err)
	}
	if left := in.gateways(); len(left) != 0 {
		t.Errorf("not removed: %+v", left)
	}
	if _, err := c.Agent(ctx, id); !client.IsCode(err, "not_found") {
		t.Errorf("a deleted agent returns %v", err)
	}
}
