package reconciler_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/reconciler"
	"agento.host/agento/internal/runtime"
)

// linger is how long agents of these tests stay awake.
const linger = 25 * time.Second

func sleeping(s *agenttest.Settings) { s.Timing.Linger = linger }

func isAsleep(a agent.Agent) bool { return a.IsAsleep() }

func isAwake(a agent.Agent) bool { return a.IsRunning() && !a.IsAsleep() }

// TestAgentSleepsAndWakes: an agent that is not used sleeps, and a message wakes it.
func TestAgentSleepsAndWakes(t *testing.T) {
	agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("ada")
		began := time.Now()
		asleep := e.Until(a.ID, isAsleep)
		if after := time.Since(began); after < linger-2*time.Second || after > linger+5*time.Second {
			t.Errorf("it sleeps after %s", after)
		}
		if asleep.Status != client.Running || asleep.Place != a.Place || e.Driver.RunningCount() != 0 {
			t.Errorf("asleep: %+v", asleep)
		}
		live, err := e.Status.Status(t.Context(), agenttest.Account, a.ID)
		if err != nil || live.ContainerStatus != "asleep" || !live.Live || live.Status != client.Running || live.Resources != nil || live.WokeAt != nil {
			t.Errorf("status of an agent that sleeps: %+v, %v", live, err)
		}
		time.Sleep(time.Hour) // nothing wakes it
		if _, err := e.Agents.View(t.Context(), agenttest.Account, a.ID); err != nil {
			t.Error(err)
		}
		if now := e.Find(a.ID); !now.IsAsleep() {
			t.Errorf("it woke without a message: %+v", now)
		}
		text, err := e.Turn(a.ID)
		if err != nil || text != "I am at "+string(a.Place) {
			t.Errorf("%q, %v", text, err)
		}
		awake := e.Find(a.ID)
		if awake.IsAsleep() || awake.Sleep.WokeAt.IsZero() || awake.Sleep.Suspension != "" || !awake.Sleep.WakeWanted.IsZero() || len(awake.Retry.Failures) > 0 {
			t.Errorf("awake: %+v", awake)
		}
		live, err = e.Status.Status(t.Context(), agenttest.Account, a.ID)
		if err != nil || live.ContainerStatus != "running" || live.WokeAt == nil {
			t.Errorf("status of an agent that woke: %+v, %v", live, err)
		}
		if e.Driver.Starts(a.ID) != 1 || e.Driver.Resumes(a.ID) != 1 || e.Scripts.WorkResumes.Load() != 1 {
			t.Errorf("%d starts, %d resumes, %d times resumed work", e.Driver.Starts(a.ID), e.Driver.Resumes(a.ID), e.Scripts.WorkResumes.Load())
		}
		e.Until(a.ID, isAsleep) // again
	})
}

// TestWakesAreReported with their kind, and suspends with their result.
func TestWakesAreReported(t *testing.T) {
	var mu sync.Mutex
	var got []string
	add := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		if len(got) == 0 || got[len(got)-1] != text { // a gateway can be busy many times
			got = append(got, text)
		}
	}
	adjust := func(s *agenttest.Settings) {
		sleeping(s)
		s.Woke = func(w reconciler.Wake) { add("woke " + string(w.Kind)) }
		s.Slept = func(s reconciler.Sleep) { add("slept " + string(s.Result)) }
	}
	agenttest.InBubble(t, adjust, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("ada")
		e.Scripts.Busy.Store(true)
		time.Sleep(2 * linger)
		e.Scripts.Busy.Store(false)
		e.UntilHours(a.ID, isAsleep)
		turn := func() {
			t.Helper()
			if _, err := e.Turn(a.ID); err != nil {
				t.Error(err)
			}
		}
		turn()
		e.Driver.FailSuspend(1, errors.New("no room"))
		e.UntilHours(a.ID, isAsleep)
		e.Driver.FailResume(1, errors.New("no such page"))
		turn()
		if now := e.Find(a.ID); now.Sleep.Wakes != 2 {
			t.Errorf("%d wakes are recorded", now.Sleep.Wakes)
		}
	})
	want := []string{"slept busy", "slept done", "woke checkpoint", "slept failed", "slept done", "woke cold"}
	if !slices.Equal(got, want) {
		t.Errorf("reported %q, want %q", got, want)
	}
}

// TestMessagesOfChannelsAreUse: an agent lingers after a message of a channel as after any other, and
// makes no room for others before it has begun with it.
func TestMessagesOfChannelsAreUse(t *testing.T) {
	agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("ada")
		time.Sleep(linger - 2*time.Second)
		e.Must(e.Gateways.Deliver(e.Context(), a.ID))
		if last, busy := e.Gateways.LastUse(a.ID); !busy || time.Since(last) > time.Second {
			t.Errorf("with a message that it may not have begun with: used %s ago, busy %t", time.Since(last), busy)
		}
		time.Sleep(11 * time.Second)
		if _, busy := e.Gateways.LastUse(a.ID); busy {
			t.Error("it is busy for ever")
		}
		e.Gateways.Replied(a.ID)
		time.Sleep(linger - 2*time.Second)
		if now := e.Find(a.ID); !isAwake(now) {
			t.Error("it sleeps before it has lingered after its answer")
		}
		e.Until(a.ID, isAsleep)
	})
}

// TestManyMessagesWakeOnce: each is answered.
func TestManyMessagesWakeOnce(t *testing.T) {
	agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("ada")
		for life := range 3 {
			e.Until(a.ID, isAsleep)
			var messages sync.WaitGroup
			for range 20 {
				messages.Go(func() {
					if text, err := e.Turn(a.ID); err != nil || text != "I am at "+string(a.Place) {
						t.Errorf("%q, %v", text, err)
					}
				})
			}
			messages.Wait()
			if n := e.Driver.Resumes(a.ID); n != life+1 {
				t.Fatalf("%d wakes in life %d", n, life)
			}
		}
	})
}

// TestMessageDuringTheSuspend waits, and is answered by the gateway that wakes.
func TestMessageDuringTheSuspend(t *testing.T) {
	agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("ada")
		for range 10 {
			c, err := e.Gateways.Connect(e.Context(), a.ID)
			e.Must(err)
			e.Until(a.ID, isAsleep) // the connection is to a gateway that sleeps by now
			if text, err := e.TurnOn(c); err != nil || text != "I am at "+string(a.Place) {
				t.Fatalf("%q, %v", text, err)
			}
		}
	})
}

// TestBusyAgentStaysAwake as long as its gateway says so, or cannot say anything.
func TestBusyAgentStaysAwake(t *testing.T) {
	for name, set := range map[string]func(e *agenttest.Env, on bool){
		"busy":        func(e *agenttest.Env, on bool) { e.Scripts.Busy.Store(on) },
		"no answer":   func(e *agenttest.Env, on bool) { e.Scripts.NoAnswer.Store(on) },
		"refused":     func(e *agenttest.Env, on bool) { e.Scripts.RefuseCalls.Store(on) },
		"not healthy": func(e *agenttest.Env, on bool) { e.Scripts.Unhealthy.Store(on) },
	} {
		t.Run(name, func(t *testing.T) {
			agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
				a := e.Create("ada")
				set(e, true)
				time.Sleep(40 * time.Second) // more than the linger, and less than three checks
				if now := e.Find(a.ID); !isAwake(now) {
					t.Errorf("it sleeps: %+v", now)
				}
				set(e, false)
				e.UntilHours(a.ID, isAsleep)
				if text, err := e.Turn(a.ID); err != nil || text != "I am at "+string(a.Place) {
					t.Errorf("%q, %v", text, err)
				}
			})
		})
	}
}

// TestWhatStaysAwake: agents that nothing could wake, and those whose owner says so.
func TestWhatStaysAwake(t *testing.T) {
	agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
		kept := agenttest.NewAgent("kept")
		kept.Config = map[string]any{"keepAwake": true}
		telegram := agenttest.NewAgent("telegram")
		telegram.Config = map[string]any{"channels": map[string]any{"telegram": true}}
		telegram.Secrets["telegramBotToken"] = "12345:abc"
		usual := e.Create("usual")
		slack := agenttest.NewAgent("slack")
		slack.Secrets["slackBotToken"], slack.Secrets["slackAppToken"] = "xoxb-1", "xapp-1"
		stay := []identity.AgentID{e.CreateFrom(kept).ID, e.CreateFrom(telegram).ID, e.CreateFrom(slack).ID}
		e.Until(usual.ID, isAsleep)
		time.Sleep(10 * time.Minute)
		for _, id := range stay {
			a := e.Find(id)
			if !isAwake(a) {
				t.Errorf("%s sleeps", a.Name)
			}
			live, err := e.Status.Status(t.Context(), agenttest.Account, id)
			if why := map[string]string{"kept": "keepAwake", "telegram": "Telegram", "slack": "Slack"}[a.Name]; err != nil || !strings.Contains(live.KeptAwake, why) {
				t.Errorf("%s stays awake because of %q, %v", a.Name, live.KeptAwake, err)
			}
		}
		e.Driver.SetNoSuspend("for the test")
		e.Driver.SetNoFreeze("for the test")
		if _, err := e.Turn(usual.ID); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Minute)
		if a := e.Find(usual.ID); !isAwake(a) {
			t.Error("an agent sleeps although the driver cannot suspend it")
		}
	})
}

// TestFailedSuspend leaves the gateway as it was, and is tried again later and later.
func TestFailedSuspend(t *testing.T) {
	agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("ada")
		e.Driver.FailSuspend(3, errors.New("criu is in a bad mood"))
		time.Sleep(time.Minute)
		now := e.Find(a.ID)
		if !isAwake(now) || len(now.Retry.Failures) > 0 || e.Scripts.WorkResumes.Load() < 1 {
			t.Errorf("after a suspend that failed: %+v, %d times resumed work", now, e.Scripts.WorkResumes.Load())
		}
		if text, err := e.Turn(a.ID); err != nil || text != "I am at "+string(a.Place) {
			t.Errorf("%q, %v", text, err)
		}
		e.UntilHours(a.ID, isAsleep)
		if e.Driver.Starts(a.ID) != 1 {
			t.Errorf("%d starts", e.Driver.Starts(a.ID))
		}
	})
}

// TestFailedWakeIsAColdStart: no message is lost, and the agent has not failed.
func TestFailedWakeIsAColdStart(t *testing.T) {
	for name, spoil := range map[string]func(e *agenttest.Env, a agent.Agent){
		"the driver fails":       func(e *agenttest.Env, _ agent.Agent) { e.Driver.FailResume(1, errors.New("no such page")) },
		"the checkpoint is gone": func(e *agenttest.Env, a agent.Agent) { e.Driver.LoseCheckpoint(a.ID) },
		"the gateway is mute":    func(e *agenttest.Env, _ agent.Agent) { e.Scripts.NoAnswer.Store(true) },
		"it is never ready":      func(e *agenttest.Env, _ agent.Agent) { e.Scripts.NeverReady.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
				a := e.Create("ada")
				e.Until(a.ID, isAsleep)
				spoil(e, a)
				var messages sync.WaitGroup
				messages.Go(func() { // what makes a gateway useless ends with that gateway
					for e.Driver.Starts(a.ID) < 2 {
						time.Sleep(100 * time.Millisecond)
					}
					e.Scripts.NoAnswer.Store(false)
					e.Scripts.NeverReady.Store(false)
				})
				for range 5 {
					messages.Go(func() {
						text, err := e.Turn(a.ID)
						if err != nil || !strings.HasPrefix(text, "I am at ") || strings.HasSuffix(text, string(a.Place)) {
							t.Errorf("%q, %v", text, err)
						}
					})
				}
				messages.Wait()
				now := e.Find(a.ID)
				if !isAwake(now) || e.Driver.Starts(a.ID) != 2 || len(now.Retry.Failures) > 0 || now.Sleep.WokeAt.IsZero() {
					t.Errorf("%+v, %d starts", now, e.Driver.Starts(a.ID))
				}
			})
		})
	}
}

// TestSleepingAgentIsStoppedRestartedAndDeleted as one that is awake is.
func TestSleepingAgentIsStoppedRestartedAndDeleted(t *testing.T) {
	agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("ada")
		e.Until(a.ID, isAsleep)
		if stopped := e.Stop(a.ID); stopped.Status != client.Stopped || stopped.Power != agent.PowerAwake || e.Driver.Resumes(a.ID) != 0 {
			t.Errorf("stopped: %+v", stopped)
		}
		e.Start(a.ID)
		e.Until(a.ID, isAsleep)
		restarted := e.Restart(a.ID)
		if !isAwake(restarted) || e.Driver.Starts(a.ID) != 3 || e.Driver.Resumes(a.ID) != 0 {
			t.Errorf("restarted: %+v", restarted)
		}
		e.Until(a.ID, isAsleep)
		e.Delete(a.ID)
		e.CheckNothingLeft(a.ID)
	})
}

// TestChangesDuringSleep do not wake an agent, and hold when it wakes.
func TestChangesDuringSleep(t *testing.T) {
	agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("ada")
		e.Until(a.ID, isAsleep)
		e.SetSecrets(a.ID, map[string]string{"anthropicApiKey": "sk-ant-changed"})
		soul := "Be brief."
		_, _, err := e.Workspace.SetSoul(e.Context(), e.Actor, a.ID, soul, "")
		e.Must(err)
		e.Must(e.Gateways.SyncHome(e.Context(), a.ID)) // as a request does that changes something
		_, err = e.Agents.RotateTokens(e.Context(), e.Actor, a.ID)
		e.Must(err)
		time.Sleep(time.Minute)
		if now := e.Find(a.ID); !now.IsAsleep() || e.Driver.Resumes(a.ID) != 0 {
			t.Errorf("a change woke it: %+v", now)
		}
		if _, err := e.Turn(a.ID); err != nil {
			t.Fatal(err)
		}
		if n := e.Scripts.SecretReloads.Load(); n != 1 {
			t.Errorf("the gateway has read its secrets %d times", n)
		}
		if got, err := e.ReadHome(a.ID, "workspace/SOUL.md"); err != nil || !strings.Contains(got, soul) {
			t.Errorf("SOUL.md: %q, %v", got, err)
		}
	})
}

// TestServerRestartsDuringSleep: agents sleep on, and wake with the next server.
func TestServerRestartsDuringSleep(t *testing.T) {
	agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("ada")
		e.Until(a.ID, isAsleep)
		e.RestartServer(sleeping)
		time.Sleep(time.Minute)
		if now := e.Find(a.ID); !now.IsAsleep() || e.Driver.Resumes(a.ID) != 0 {
			t.Errorf("%+v", now)
		}
		if text, err := e.Turn(a.ID); err != nil || text != "I am at "+string(a.Place) {
			t.Errorf("%q, %v", text, err)
		}
		if e.Driver.Starts(a.ID) != 1 {
			t.Errorf("%d starts", e.Driver.Starts(a.ID))
		}
	})
}

// TestServerKilledAroundTheSuspend: what the record does not know yet is repaired.
func TestServerKilledAroundTheSuspend(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, e *agenttest.Env, a agent.Agent){
		"suspended, but not recorded": func(t *testing.T, e *agenttest.Env, a agent.Agent) {
			e.Must(e.Driver.Suspend(t.Context(), a.Place, a.ID))
		},
		"resumed, but not recorded": func(t *testing.T, e *agenttest.Env, a agent.Agent) {
			e.Must(e.Driver.Suspend(t.Context(), a.Place, a.ID))
			e.Exec(`UPDATE agents SET power = 'asleep', suspension = 'of-the-test', wake_wanted = 1 WHERE id = $1`, a.ID)
			e.Must(e.Driver.Resume(t.Context(), a.Place, a.ID))
		},
		"wanted, but not resumed": func(t *testing.T, e *agenttest.Env, a agent.Agent) {
			e.Must(e.Driver.Suspend(t.Context(), a.Place, a.ID))
			e.Exec(`UPDATE agents SET power = 'asleep', suspension = 'of-the-test', wake_wanted = 1 WHERE id = $1`, a.ID)
		},
		"the machine was restarted": func(t *testing.T, e *agenttest.Env, a agent.Agent) {
			e.Must(e.Driver.Suspend(t.Context(), a.Place, a.ID))
			e.Exec(`UPDATE agents SET power = 'asleep', suspension = 'of-the-test' WHERE id = $1`, a.ID)
			e.Driver.LoseCheckpoint(a.ID)
		},
	} {
		t.Run(name, func(t *testing.T) {
			agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
				a := e.Create("ada")
				e.StopServer()
				leave(t, e, a)
				e.StartServer()
				if text, err := e.Turn(a.ID); err != nil || !strings.HasPrefix(text, "I am at ") {
					t.Errorf("%q, %v", text, err)
				}
				if now := e.Find(a.ID); !isAwake(now) || len(now.Retry.Failures) > 0 {
					t.Errorf("%+v", now)
				}
				e.Until(a.ID, isAsleep)
			})
		})
	}
}

// TestWakeMakesRoom: an agent that wakes suspends the one that was used longest ago.
func TestWakeMakesRoom(t *testing.T) {
	const agentMemory = 11 << 30 / 10
	adjust := func(s *agenttest.Settings) {
		s.Timing.Linger, s.Memory = 10*time.Minute, 2*agentMemory+agentMemory/2
	}
	agenttest.InBubble(t, adjust, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("a")
		e.UntilHours(a.ID, isAsleep)
		b := e.Create("b")
		c := e.Create("c")
		if _, err := e.Turn(b.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if _, err := e.Turn(c.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, err := e.Turn(a.ID); err != nil {
			t.Fatal(err)
		}
		if now := e.Find(b.ID); !now.IsAsleep() {
			t.Errorf("b was used longest ago and is awake: %+v", now)
		}
		if now := e.Find(c.ID); now.IsAsleep() {
			t.Error("c sleeps although there is room")
		}
	})
}

// TestWhatStaysAwakeMakesNoRoom: the agent that was used longest ago must stay awake, so another
// one makes room. A new agent gets room too.
func TestWhatStaysAwakeMakesNoRoom(t *testing.T) {
	adjust := func(s *agenttest.Settings) { s.Timing.Linger, s.Memory = 10*time.Minute, roomFor(2) }
	agenttest.InBubble(t, adjust, func(t *testing.T, e *agenttest.Env) {
		in := agenttest.NewAgent("kept")
		in.Config = map[string]any{"keepAwake": true}
		kept := e.CreateFrom(in)
		idle := e.Create("idle")
		if _, err := e.Turn(idle.ID); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		fresh, err := e.Agents.CreateWithRoom(t.Context(), e.Actor, agenttest.NewAgent("fresh"))
		if err != nil {
			t.Fatal(err)
		}
		e.UntilStatus(fresh.ID, client.Running)
		if took := time.Since(began); took > time.Minute {
			t.Errorf("it waited for %s, as if for the linger", took)
		}
		if !e.Find(idle.ID).IsAsleep() || e.Find(kept.ID).IsAsleep() {
			t.Error("the wrong agent has made room")
		}
	})
}

// TestCheckpointsMakeRoom: when checkpoints use the memory, that of the agent used longest ago is
// given up, and this agent's next message starts its gateway anew.
func TestCheckpointsMakeRoom(t *testing.T) {
	adjust := func(s *agenttest.Settings) { s.Timing.Linger, s.Memory = linger, roomFor(2) }
	agenttest.InBubble(t, adjust, func(t *testing.T, e *agenttest.Env) {
		e.Driver.SetCheckpointMemory(roomFor(1) / 4)
		busy := e.Create("busy")
		var old []identity.AgentID
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			old = append(old, e.Create(name).ID)
			e.UntilHours(old[len(old)-1], isAsleep)
			if _, err := e.Turn(busy.ID); err != nil {
				t.Fatal(err)
			}
		}
		count := func() (checkpoints int) {
			for _, id := range old {
				if s, err := e.Driver.Inspect(t.Context(), e.Find(id).Place, id); err == nil && s.Phase == runtime.Suspended {
					checkpoints++
				}
			}
			return checkpoints
		}
		if n := count(); n == 0 || n == len(old) {
			t.Errorf("%d checkpoints", n)
		}
		if s, err := e.Driver.Inspect(t.Context(), e.Find(old[0]).Place, old[0]); err != nil || s.Phase == runtime.Suspended {
			t.Errorf("the oldest checkpoint is still there: %+v, %v", s, err)
		}
		if a := e.Find(old[0]); !a.IsAsleep() || len(a.Retry.Failures) > 0 {
			t.Errorf("%+v", a)
		}
		starts := e.Driver.Starts(old[0])
		if text, err := e.Turn(old[0]); err != nil || !strings.HasPrefix(text, "I am at ") || e.Driver.Starts(old[0]) != starts+1 {
			t.Errorf("%q, %v, %d starts", text, err, e.Driver.Starts(old[0]))
		}
	})
}

// TestCheckpointsStayWithinTheMemory: agents that use the server one after the other always get
// room, but their checkpoints do not add up.
func TestCheckpointsStayWithinTheMemory(t *testing.T) {
	adjust := func(s *agenttest.Settings) { s.Timing.Linger, s.Memory = linger, roomFor(1) }
	agenttest.InBubble(t, adjust, func(t *testing.T, e *agenttest.Env) {
		const checkpoint = 1 << 29
		e.Driver.SetCheckpointMemory(checkpoint)
		var ids []identity.AgentID
		for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
			ids = append(ids, e.Create(name).ID)
			e.UntilHours(ids[len(ids)-1], isAsleep)
		}
		time.Sleep(time.Second)
		var left []identity.AgentID
		for _, id := range ids {
			if s, err := e.Driver.Inspect(t.Context(), e.Find(id).Place, id); err == nil && s.Phase == runtime.Suspended {
				left = append(left, id)
			}
		}
		if len(left) == 0 || int64(len(left))*checkpoint > roomFor(1) {
			t.Errorf("%d checkpoints in %d bytes", len(left), roomFor(1))
		}
		if last := ids[len(ids)-1]; len(left) == 0 || left[len(left)-1] != last {
			t.Errorf("the newest checkpoint, of %s, is not among %v", last, left)
		}
	})
}

// TestSleepWithoutLinger: agents sleep only if that was asked for.
func TestSleepWithoutLinger(t *testing.T) {
	agenttest.InBubble(t, nil, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("ada")
		time.Sleep(time.Hour)
		if now := e.Find(a.ID); now.IsAsleep() || e.Find(a.ID).Power != agent.PowerAwake {
			t.Error("an agent sleeps although agents should not")
		}
		if s, err := e.Driver.Inspect(t.Context(), a.Place, a.ID); err != nil || s.Phase != runtime.Running {
			t.Errorf("%+v, %v", s, err)
		}
	})
}

// TestHoldOfASleepingAgent, for a backup: it wakes nothing, and a message waits until its end.
func TestHoldOfASleepingAgent(t *testing.T) {
	for name, why := range map[string]string{"asleep": "", "frozen": "for the test"} {
		t.Run(name, func(t *testing.T) {
			agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
				e.Driver.SetNoSuspend(why)
				wakes := func(a agent.Agent) int { return e.Driver.Resumes(a.ID) + e.Driver.Thaws(a.ID) }
				a := e.Create("ada")
				e.Until(a.ID, func(a agent.Agent) bool { return string(a.Power) == name })
				release, err := e.Gateways.Hold(e.Context(), a.ID)
				e.Must(err)
				var message sync.WaitGroup
				message.Go(func() {
					if text, err := e.Turn(a.ID); err != nil || text != "I am at "+string(a.Place) {
						t.Errorf("%q, %v", text, err)
					}
				})
				time.Sleep(2 * time.Second)
				if n := wakes(a); n != 0 {
					t.Errorf("%d wakes during the hold", n)
				}
				if _, err := release(); err != nil {
					t.Error(err)
				}
				message.Wait()
				if n := wakes(a); n != 1 {
					t.Errorf("%d wakes", n)
				}
			})
		})
	}
}
