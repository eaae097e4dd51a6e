package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"agento.host/agento/client"
)

// TestSleepingGateway: a real gateway sleeps and wakes many times over, with its history, its
// personality and its tools, and goes on after its server was killed anywhere in a suspend or a
// resume. make chaos-suspend runs it.
func TestSleepingGateway(t *testing.T) {
	if os.Getenv("AGENTO_CHAOS") == "" {
		t.Skip("make chaos-suspend runs it")
	}
	t.Setenv("AGENTO_SLEEP", "auto")
	t.Setenv("AGENTO_LINGER", "5s")
	in := newInstallation(t, "acme")
	in.start()
	c := in.client("acme")
	request := in.newAgent("ada")
	request.SoulMD = "# SOUL.md\n\nYou speak like a lighthouse keeper."
	agent, err := c.CreateAgent(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	state := func() client.LiveStatus {
		t.Helper()
		s, err := in.client("acme").AgentStatus(t.Context(), agent.ID)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	untilAsleep := func() {
		t.Helper()
		waitUntil(t, "the agent sleeps", func() bool { return state().ContainerStatus == "asleep" })
	}
	firstToken(t, c, agent.ID) // what is done once

	const colds, wakes = 2, 20
	var cold, wake []time.Duration
	for range colds {
		began := time.Now()
		if _, err := c.RestartAgent(t.Context(), agent.ID); err != nil {
			t.Fatal(err)
		}
		firstToken(t, c, agent.ID)
		cold = append(cold, time.Since(began))
	}
	first := in.gateways()[0].Place
	for n := range wakes {
		untilAsleep()
		wake = append(wake, life(t, in, agent.ID, n, "lighthouse keeper"))
		if n%5 == 4 {
			if out := execute(t, c, agent.ID, "echo $((40+2))"); !strings.Contains(out, "42") {
				t.Errorf("life %d: exec: %s", n, out)
			}
		}
	}
	if place := in.gateways()[0].Place; place != first {
		t.Error("the gateway was started anew")
	}
	slices.Sort(cold)
	slices.Sort(wake)
	t.Logf("restart to first token %.1f s; message to first token asleep %.2f to %.2f s, median %.2f s; awake %.2f s",
		cold[0].Seconds(), wake[0].Seconds(), wake[wakes-1].Seconds(), wake[wakes/2].Seconds(), firstToken(t, c, agent.ID).Seconds())
	if wake[wakes/2] > cold[0]/2 {
		t.Errorf("a wake takes %s, a restart %s", wake[wakes/2], cold[0])
	}

	// The server is killed at moments of a suspend, which takes about a second.
	for n := range 6 {
		waitUntil(t, "the agent is awake", func() bool {
			return send(t, in.client("acme"), agent.ID, client.ChatRequest{Message: "echo ready"}) == "ready"
		})
		time.Sleep(5*time.Second + time.Duration(n)*250*time.Millisecond)
		in.kill()
		in.start()
		killed(t, in, agent.ID, n)
	}
	// And of a wake.
	for n := range 6 {
		untilAsleep()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range in.client("acme").Chat(t.Context(), agent.ID, client.ChatRequest{Message: "echo lost with the server"}) {
				continue // it ends with the crash
			}
		}()
		time.Sleep(time.Duration(n) * 200 * time.Millisecond)
		in.kill()
		<-done
		in.start()
		killed(t, in, agent.ID, n)
	}
	if _, err := in.client("acme").DeleteAgent(t.Context(), agent.ID); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "nothing is left", func() bool { return len(in.gateways()) == 0 })
}

// killed checks an agent after a crash of the server: it answers, and has one gateway. Before the
// answer there may be that to the last message, if the gateway had got it: OpenClaw sends both then.
func killed(t *testing.T, in *installation, id string, n int) {
	t.Helper()
	want := fmt.Sprintf("still here %d", n)
	if text := send(t, in.client("acme"), id, client.ChatRequest{Message: "echo " + want}); !strings.HasSuffix(text, want) {
		t.Errorf("after a crash the agent answers %q", text)
	}
	a, err := in.client("acme").Agent(t.Context(), id)
	if err != nil || a.Status != client.Running || a.LastError != nil {
		t.Errorf("after a crash: %+v, %v", a, err)
	}
	if found := in.gateways(); len(found) != 1 || !found[0].Running {
		t.Errorf("after a crash: %+v", found)
	}
}

// life wakes an agent for the n-th time and returns how long its first token took. The model gets what
// was said in the life before, and the texts of remembered.
func life(t *testing.T, in *installation, id string, n int, remembered ...string) time.Duration {
	t.Helper()
	calls := in.model.Count()
	took := firstToken(t, in.client("acme"), id)
	call, err := in.model.Wait(t.Context(), calls+1)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range append(remembered, fmt.Sprintf("life-%d", n-1)) {
		if n > 0 && !strings.Contains(string(call.Body), want) {
			t.Errorf("life %d: the model does not get %q", n, want)
		}
	}
	if text := send(t, in.client("acme"), id, client.ChatRequest{Message: fmt.Sprintf("echo life-%d", n)}); text != fmt.Sprintf("life-%d", n) {
		t.Errorf("life %d answers %q", n, text)
	}
	return took
}

// TestSleepingGatewayOfABot: messages of Telegram wake an agent, and each is answered once, in order,
// also if its server is killed while the agent sleeps or wakes. make chaos-suspend runs it.
func TestSleepingGatewayOfABot(t *testing.T) {
	if os.Getenv("AGENTO_CHAOS") == "" {
		t.Skip("make chaos-suspend runs it")
	}
	t.Setenv("AGENTO_SLEEP", "auto")
	t.Setenv("AGENTO_LINGER", "5s")
	in := newInstallation(t, "acme")
	in.start()
	request := in.newAgent("ada")
	request.Secrets["telegramBotToken"] = "1:bot"
	agent, err := in.client("acme").CreateAgent(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	number := 0
	write := func(text string) {
		number++
		in.bot.Write(number, 42, "Eve", "echo "+text)
	}
	answered := func(want ...string) {
		t.Helper()
		for _, text := range want {
			select {
			case sent := <-in.bot.Sent():
				if !strings.Contains(sent, text) {
					t.Errorf("the bot sends %q, want %q", sent, text)
				}
			case <-time.After(2 * time.Minute):
				t.Fatalf("no answer to %q", text)
			}
		}
	}
	untilAsleep := func() {
		t.Helper()
		waitUntil(t, "the agent sleeps", func() bool {
			s, err := in.client("acme").AgentStatus(t.Context(), agent.ID)
			return err == nil && s.ContainerStatus == "asleep"
		})
	}
	write("awake-at-first")
	answered("awake-at-first")
	for n := range 3 {
		untilAsleep()
		a, err := in.client("acme").Agent(t.Context(), agent.ID)
		if err != nil || a.Channels["telegram"].Status != "connected" || a.Status != client.Running {
			t.Errorf("asleep: %+v, %v", a.Channels, err)
		}
		began := time.Now()
		write(fmt.Sprintf("life-%d", n))
		answered(fmt.Sprintf("life-%d", n))
		t.Logf("message of Telegram to answer %.2f s", time.Since(began).Seconds())
	}
	untilAsleep()
	in.kill()
	write("while-no-server-ran") // the agent sleeps on
	in.start()
	answered("while-no-server-ran")
	untilAsleep()
	write("in-the-wake")
	in.kill()
	in.start()
	answered("in-the-wake")
	write("the-last")
	answered("the-last")
	waitUntil(t, "all of it is in the history, once", func() bool { return len(telegramHistory(t, in.client("acme"), agent.ID)) == 14 })
	if n := in.bot.Unconfirmed(); n > 1 { // the gateway confirms the last one with its next call
		t.Errorf("%d updates are not confirmed", n)
	}
	if found := in.gateways(); len(found) != 1 {
		t.Errorf("gateways: %+v", found)
	}
}

// TestFrozenGateway: a real gateway is frozen and thawed, with its history and its tools, and goes on
// after its server was killed around a freeze or a thaw. make chaos-freeze runs it.
func TestFrozenGateway(t *testing.T) {
	if os.Getenv("AGENTO_CHAOS") == "" {
		t.Skip("make chaos-freeze runs it")
	}
	t.Setenv("AGENTO_SLEEP", "freeze")
	t.Setenv("AGENTO_LINGER", "5s")
	in := newInstallation(t, "acme")
	in.start()
	agent, err := in.client("acme").CreateAgent(t.Context(), in.newAgent("ada"))
	if err != nil {
		t.Fatal(err)
	}
	untilFrozen := func() {
		t.Helper()
		waitUntil(t, "the agent is frozen", func() bool {
			s, err := in.client("acme").AgentStatus(t.Context(), agent.ID)
			return err == nil && s.ContainerStatus == "frozen"
		})
	}
	firstToken(t, in.client("acme"), agent.ID)
	first := in.gateways()[0].Place
	var thaws []time.Duration
	for n := range 5 {
		untilFrozen()
		thaws = append(thaws, life(t, in, agent.ID, n))
	}
	if out := execute(t, in.client("acme"), agent.ID, "echo $((40+2))"); !strings.Contains(out, "42") {
		t.Errorf("exec: %s", out)
	}
	slices.Sort(thaws)
	t.Logf("message to first token frozen: %.2f to %.2f s", thaws[0].Seconds(), thaws[len(thaws)-1].Seconds())
	for n := range 4 { // around a freeze, which takes some ten milliseconds after the linger
		killed(t, in, agent.ID, n)
		time.Sleep(5*time.Second + time.Duration(n)*100*time.Millisecond)
		in.kill()
		in.start()
		killed(t, in, agent.ID, n)
	}
	for n := range 3 { // around a thaw
		untilFrozen()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range in.client("acme").Chat(t.Context(), agent.ID, client.ChatRequest{Message: "echo lost with the server"}) {
				continue // it ends with the crash
			}
		}()
		time.Sleep(time.Duration(n) * 30 * time.Millisecond)
		in.kill()
		<-done
		in.start()
		killed(t, in, agent.ID, n)
	}
	if place := in.gateways()[0].Place; place != first {
		t.Error("the gateway was started anew")
	}
	untilFrozen()
	if _, err := in.client("acme").DeleteAgent(t.Context(), agent.ID); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "nothing is left", func() bool { return len(in.gateways()) == 0 })
}
