package chat

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/modelturn"
)

// callModel makes a model call of a turn as the model proxy reports it.
func (env *testEnv) callModel(agent identity.AgentID, session string, result modelturn.Result, pieces ...string) (final string) {
	turn := env.ModelTurn(env.t.Context(), account, agent, session, func() bool { return false })
	if turn == nil {
		return "no turn"
	}
	call, final := turn.Begin()
	if call == nil {
		return final
	}
	for _, piece := range pieces {
		call.Text(piece)
	}
	call.End(result)
	return ""
}

// TestTextOfTheModelIsTheTextOfTheTurn: whatever the gateway makes of it, and however it ends
// its run.
func TestTextOfTheModelIsTheTextOfTheTurn(t *testing.T) {
	const prose = "Use the <think> tag to start. After that you answer."
	ended := func(stop modelturn.Stop) modelturn.Result {
		return modelturn.Result{Stop: stop, Usage: modelturn.Usage{Input: 7, Output: 3}}
	}
	for name, c := range map[string]struct {
		model   []string         // the texts of the model calls; all but the last wait for tools
		last    modelturn.Result // the end of the last call
		gateway []string         // what the gateway sends
		state   State
		reason  string
		text    string
		code    fault.Code
	}{
		"cut by the gateway":        {[]string{prose}, ended(modelturn.End), []string{"Use the"}, Done, stopCompleted, prose, ""},
		"a false error":             {[]string{prose}, ended(modelturn.End), []string{"Use the", errorPiece + "Assistant output cannot be represented as an append-only response stream."}, Done, stopCompleted, prose, ""},
		"with tools":                {[]string{"Let me check.", "It is 5."}, ended(modelturn.End), []string{"Let", "It is 5."}, Done, stopCompleted, "Let me check.\n\nIt is 5.", ""},
		"length":                    {[]string{"Half"}, ended(modelturn.Length), []string{"Half"}, Done, stopLength, "Half", ""},
		"refusal":                   {[]string{"I will"}, ended(modelturn.Refusal), []string{errorPiece + "internal error"}, Done, stopRefusal, "I will", ""},
		"filter without text":       {[]string{""}, ended(modelturn.Filter), []string{errorPiece + "internal error"}, Done, stopFilter, "", ""},
		"an empty answer":           {[]string{""}, ended(modelturn.End), []string{"No response from OpenClaw."}, Done, stopCompleted, "", ""},
		"broken off":                {[]string{"Half"}, modelturn.Result{}, []string{"Half", errorPiece + "terminated"}, Failed, stopError, "Half", fault.Upstream},
		"failed with a reason":      {[]string{""}, modelturn.Result{Failure: "Request exceeds the maximum size"}, []string{errorPiece + "internal error"}, Failed, stopError, "", fault.Upstream},
		"told as an answer":         {[]string{""}, modelturn.Result{Failure: "Overloaded"}, []string{"Something went wrong."}, Failed, stopError, "", fault.Upstream},
		"not in time":               {[]string{""}, modelturn.Result{Failure: "Too slow", Timeout: true}, []string{errorPiece + "internal error"}, Failed, stopError, "", fault.UpstreamTimeout},
		"tools that nobody answers": {[]string{"Let me check."}, ended(modelturn.Tools), []string{errorPiece + "internal error"}, Failed, stopError, "Let me check.", fault.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			env := newTestEnv(t)
			a := env.createAgent("ada")
			env.gateways.setScript(func(_ context.Context, r receivedTurn, emit func(string) error) {
				for i, text := range c.model {
					result := ended(modelturn.Tools)
					if i == len(c.model)-1 {
						result = c.last
					}
					if final := env.callModel(a.ID, strings.ToLower(r.Session), result, text); final != "" {
						t.Errorf("the call was answered with %q", final)
					}
				}
				for _, piece := range c.gateway {
					if emit(piece) != nil {
						return
					}
				}
			})
			turn := env.begin(a, client.ChatRequest{Message: "Hello", PeerID: "Alice"})
			var followed strings.Builder
			_, err := env.Follow(env.timeout(), turn, 0, func(_ int64, piece string) error { followed.WriteString(piece); return nil })
			end, text := env.find(turn)
			if end.State != c.state || end.StopReason != c.reason || text != c.text || followed.String() != c.text || end.ErrorCode != c.code {
				t.Errorf("%+v with %q, followed %q, %v", end, text, followed.String(), err)
			}
			if c.last.Failure != "" && end.ErrorMessage != c.last.Failure {
				t.Errorf("the error is %q", end.ErrorMessage)
			}
			if (err == nil) != (c.state == Done) {
				t.Errorf("followed to %v", err)
			}
			want := []string{"user: Hello"}
			if c.text != "" {
				want = append(want, "assistant: "+c.text)
			}
			if c.code != fault.Unavailable {
				wantEqual(t, "the history", env.messages(a, ""), want...)
			}
			if c.state == Done && (end.InputTokens != int64(7*len(c.model)) || end.OutputTokens != int64(3*len(c.model))) {
				t.Errorf("%d and %d tokens", end.InputTokens, end.OutputTokens)
			}
		})
	}
}

// TestModelCallsFindTheirTurn: by the session, of the agent that calls. An agent that names a
// session of another one has no part in its turn.
func TestModelCallsFindTheirTurn(t *testing.T) {
	env := newTestEnv(t)
	ada, bob := env.createAgent("ada"), env.createAgent("bob")
	script, pieces := controlledScript()
	env.gateways.setScript(script)
	turn := env.begin(ada, client.ChatRequest{Message: "Hello", PeerID: "alice"})
	pieces <- "I am here"
	env.waitForStored(turn, "I am here")
	key := env.session(ada, client.ChatRequest{PeerID: "alice"}).GatewayKey
	find := func(agent identity.AgentID, key string) *modelturn.Turn {
		return env.ModelTurn(t.Context(), account, agent, key, func() bool { return true })
	}
	if find(ada.ID, key) == nil {
		t.Fatal("the turn was not found")
	}
	conversation := key[strings.LastIndex(key, ":")+1:]
	for name, other := range map[string]*modelturn.Turn{
		"of another agent":    find(bob.ID, key),
		"of another peer":     find(ada.ID, "agent:guest:peer:"+strings.Repeat("a", 32)+":"+conversation),
		"of the main entry":   find(ada.ID, "agent:main:api:"+conversation),
		"of no session":       find(ada.ID, "agent:guest:peer:x:sess_none"),
		"with another format": find(ada.ID, "nonsense"),
	} {
		if other != nil {
			t.Errorf("a call %s has a turn", name)
		}
	}
	close(pieces)
	if _, err := env.Follow(env.timeout(), turn, 0, func(int64, string) error { return nil }); err != nil {
		t.Error(err)
	}
	if find(ada.ID, key) != nil {
		t.Error("a call after the end has a turn")
	}
}

// TestTurnsOfChannelsHaveLimits: they have no record, so that a message begins one.
func TestTurnsOfChannelsHaveLimits(t *testing.T) {
	env := newTestEnv(t)
	env.limits = modelturn.Limits{ModelCalls: 2}
	a := env.createAgent("ada")
	const key = "agent:guest:telegram:direct:4242"
	call := func(key string, continues bool) (final string) {
		turn := env.ModelTurn(t.Context(), account, a.ID, key, func() bool { return continues })
		c, final := turn.Begin()
		if c != nil {
			c.End(modelturn.Result{Stop: modelturn.Tools})
		}
		return final
	}
	for range 3 {
		for i, continues := range []bool{false, true, true, true} {
			if final := call(key, continues); (final != "") != (i >= 2) {
				t.Errorf("call %d: %q", i, final)
			}
		}
	}
	if final := call(key+"1", true); final != "" {
		t.Errorf("another session: %q", final)
	}
}

// TestTurnEndsAtALimit: with the sentence about it, also if the gateway goes on.
func TestTurnEndsAtALimit(t *testing.T) {
	inSynctest(t, func(t *testing.T, env *testEnv) {
		env.limits = modelturn.Limits{ModelCalls: 40, EqualToolCalls: 1000, Time: 10 * time.Minute}
		a := env.createAgent("ada", func(in *client.CreateAgentRequest) {
			in.Config = map[string]any{"limits": map[string]any{"modelCalls": 3.0}}
		})
		calls := 0
		env.gateways.setScript(func(ctx context.Context, r receivedTurn, emit func(string) error) {
			for ctx.Err() == nil {
				calls++
				env.callModel(a.ID, r.Session, modelturn.Result{Stop: modelturn.Tools}, fmt.Sprintf("Call %d.", calls))
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
				}
			}
		})
		began := time.Now()
		turn := env.begin(a, client.ChatRequest{Message: "Hello"})
		end, err := env.Follow(t.Context(), turn, 0, func(int64, string) error { return nil })
		_, text := env.find(turn)
		if err != nil || end.State != Done || end.StopReason != stopLimit || end.Why() != "limit" || !strings.HasPrefix(text, "Call 1.\n\nCall 2.\n\nCall 3.\n\nThis answer was ended at the limit of 3 model calls") {
			t.Errorf("%+v, %v: %q", end, err, text)
		}
		if took := time.Since(began); took > 8*time.Second { // three calls of a second, and five
			t.Errorf("it took %v", took)
		}
	})
}

// TestTurnEndsAfterItsTime: also while a tool runs, or the model says nothing.
func TestTurnEndsAfterItsTime(t *testing.T) {
	inSynctest(t, func(t *testing.T, env *testEnv) {
		env.limits = modelturn.Limits{Time: 10 * time.Minute}
		a := env.createAgent("ada")
		env.gateways.setScript(func(ctx context.Context, r receivedTurn, _ func(string) error) {
			env.callModel(a.ID, r.Session, modelturn.Result{Stop: modelturn.Tools}, "I begin.")
			<-ctx.Done()
		})
		began := time.Now()
		turn := env.begin(a, client.ChatRequest{Message: "Hello"})
		end, err := env.Follow(t.Context(), turn, 0, func(int64, string) error { return nil })
		_, text := env.find(turn)
		if took := time.Since(began); err != nil || end.StopReason != stopLimit || !strings.HasPrefix(text, "I begin.\n\nThis answer was ended at the limit of 10 minutes") || took > 10*time.Minute+5*time.Second {
			t.Errorf("after %v %+v, %v: %q", took, end, err, text)
		}
	})
}

// TestLongTextOfTheModelIsTruncated is TestEndlessAnswerIsTruncated for the model's own text.
func TestLongTextOfTheModelIsTruncated(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	ended := make(chan struct{})
	env.gateways.setScript(func(ctx context.Context, r receivedTurn, _ func(string) error) {
		defer close(ended)
		turn := env.ModelTurn(t.Context(), account, a.ID, r.Session, func() bool { return false })
		call, _ := turn.Begin()
		for ctx.Err() == nil {
			call.Text(strings.Repeat("x", 10_000))
		}
	})
	turn := env.begin(a, client.ChatRequest{Message: "Hello"})
	end, err := env.Follow(env.timeout(), turn, 0, func(int64, string) error { return nil })
	if _, text := env.find(turn); err != nil || end.StopReason != stopTruncated || end.Why() != "length" || len(text) != 1<<20 {
		t.Errorf("%d bytes: %+v, %v", len(text), end, err)
	}
	<-ended
}

// TestPiecesGrowUntilTheyAreStored: many small texts are few events, and none is lost.
func TestPiecesGrowUntilTheyAreStored(t *testing.T) {
	r := &run{}
	if !r.extend("a") || r.extend("b") {
		t.Error("the first piece is not known")
	}
	if seq, pieces := r.unstored(); seq != 1 || len(pieces) != 1 || pieces[0] != "ab" {
		t.Errorf("%d %q", seq, pieces)
	}
	r.extend("c") // while a transaction stores the first piece
	r.extend("d")
	r.setStored(1)
	if seq, pieces := r.unstored(); seq != 2 || len(pieces) != 1 || pieces[0] != "cd" || r.wholeText() != "abcd" {
		t.Errorf("%d %q", seq, pieces)
	}
}

// TestCallThatWasGivenUpEndsTheTurn, with its reason, also if the gateway goes on; meanwhile a
// reader learns what the turn waits for.
func TestCallThatWasGivenUpEndsTheTurn(t *testing.T) {
	env := newTestEnv(t)
	a := env.createAgent("ada")
	waits, goOn := make(chan struct{}), make(chan struct{})
	env.gateways.setScript(func(ctx context.Context, r receivedTurn, _ func(string) error) {
		turn := env.ModelTurn(env.t.Context(), account, a.ID, strings.ToLower(r.Session), func() bool { return false })
		waits <- struct{}{}
		<-goOn
		call, _ := turn.Begin()
		call.ToolCall("exec", "{}")
		call.End(modelturn.Result{Stop: modelturn.Tools})
		waits <- struct{}{}
		<-goOn
		call, _ = turn.Begin()
		call.GiveUp(modelturn.Result{Failure: "The model provider is down."}, false)
		call.End(modelturn.Result{Failure: "The model provider is down."})
		<-ctx.Done() // a gateway that would try again for a minute
	})
	turn := env.begin(a, client.ChatRequest{Message: "Hello", PeerID: "Alice"})
	for _, want := range []string{"boot", "tool exec"} {
		<-waits
		if got := env.Waiting(turn.ID); got != want {
			t.Errorf("it waits for %q, want %q", got, want)
		}
		if next := env.begin(a, client.ChatRequest{Message: "Next", PeerID: "Alice", SessionID: string(turn.SessionID)}); env.Waiting(next.ID) != "queue" {
			t.Errorf("the next message waits for %q", env.Waiting(next.ID))
		} else if _, err := env.Cancel(env.timeout(), env.caller, a.ID, next.ID); err != nil {
			t.Error(err)
		}
		goOn <- struct{}{}
	}
	_, err := env.Follow(env.timeout(), turn, 0, func(int64, string) error { return nil })
	end, _ := env.find(turn)
	if !fault.Is(err, fault.Upstream) || end.State != Failed || end.ErrorMessage != "The model provider is down." {
		t.Errorf("%v, %+v", err, end)
	}
	if got := env.Waiting(turn.ID); got != "" {
		t.Errorf("an ended turn waits for %q", got)
	}
}
