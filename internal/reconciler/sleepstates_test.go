package reconciler_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/runtime"
)

// sleepStates are the ways in which an agent that is running can have no gateway that answers. Each
// brings an agent that is awake there.
var sleepStates = map[string]func(t *testing.T, e *agenttest.Env, a agent.Agent){
	"asleep": func(_ *testing.T, e *agenttest.Env, a agent.Agent) { e.Until(a.ID, isAsleep) },
	"asleep, the checkpoint is gone": func(_ *testing.T, e *agenttest.Env, a agent.Agent) {
		e.Until(a.ID, isAsleep)
		e.Driver.LoseCheckpoint(a.ID)
	},
	"frozen": func(_ *testing.T, e *agenttest.Env, a agent.Agent) {
		e.Driver.SetNoSuspend("for the test")
		e.Until(a.ID, isFrozen)
	},
	"frozen, and ended": func(_ *testing.T, e *agenttest.Env, a agent.Agent) {
		e.Driver.SetNoSuspend("for the test")
		e.Until(a.ID, isFrozen)
		e.Driver.Gateway(a.ID).Exit(137)
	},
	"frozen, which is not saved": func(t *testing.T, e *agenttest.Env, a agent.Agent) {
		e.StopServer()
		e.Must(e.Driver.Freeze(t.Context(), a.Place, a.ID))
		e.StartServer()
		e.Until(a.ID, isFrozen)
	},
	"suspended, which is not saved": func(t *testing.T, e *agenttest.Env, a agent.Agent) {
		e.StopServer()
		e.Must(e.Driver.Suspend(t.Context(), a.Place, a.ID))
		e.StartServer()
		e.Until(a.ID, isAsleep)
	},
	"thawed, which is not saved": func(t *testing.T, e *agenttest.Env, a agent.Agent) {
		e.StopServer()
		e.Exec(`UPDATE agents SET power = 'frozen', suspension = 'of-the-test' WHERE id = $1`, a.ID)
		e.StartServer()
	},
	"booting for a wake": func(_ *testing.T, e *agenttest.Env, a agent.Agent) {
		e.Until(a.ID, isAsleep)
		e.Driver.LoseCheckpoint(a.ID)
		starts := e.Driver.Starts(a.ID)
		e.Scripts.NeverReady.Store(true)
		e.Must(e.Store.WantAwake(e.Context(), a.ID, time.Now()))
		e.Eventually("it boots", func() bool { return e.Driver.Starts(a.ID) > starts })
		e.Scripts.NeverReady.Store(false)
	},
}

func isFrozen(a agent.Agent) bool { return a.Power == agent.PowerFrozen && a.IsAsleep() }

// TestEveryOperationFromEverySleepState: from each state, each of the operations does what it does for
// an agent that is awake, and nothing is left behind.
func TestEveryOperationFromEverySleepState(t *testing.T) {
	for name, bring := range sleepStates {
		for operation, do := range map[string]func(t *testing.T, e *agenttest.Env, a agent.Agent){
			"start": func(t *testing.T, e *agenttest.Env, a agent.Agent) {
				starts, before := e.Driver.Starts(a.ID), e.Find(a.ID)
				got := e.Start(a.ID)
				if got.Status != client.Running || got.Generation != before.Generation || e.Driver.Starts(a.ID) != starts {
					t.Errorf("%+v, %d starts, %d before", got, e.Driver.Starts(a.ID), starts)
				}
			},
			"stop": func(t *testing.T, e *agenttest.Env, a agent.Agent) {
				began := time.Now()
				got := e.Stop(a.ID)
				if got.Status != client.Stopped || got.Power != agent.PowerAwake || got.Place != "" || e.Driver.RunningCount() != 0 {
					t.Errorf("%+v, %d gateways", got, e.Driver.RunningCount())
				}
				if s, err := e.Driver.Inspect(t.Context(), a.Place, a.ID); err != nil || s.Phase == runtime.Running || s.Sleeps() {
					t.Errorf("%+v, %v", s, err)
				}
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("it took %s", took)
				}
				e.Start(a.ID)
			},
			"restart": func(t *testing.T, e *agenttest.Env, a agent.Agent) {
				resumes, thaws, before := e.Driver.Resumes(a.ID), e.Driver.Thaws(a.ID), e.Find(a.ID)
				got := e.Restart(a.ID)
				if !isAwake(got) || got.Place == before.Place || e.Driver.Resumes(a.ID) != resumes || e.Driver.Thaws(a.ID) != thaws || e.Driver.RunningCount() != 1 {
					t.Errorf("%+v, %d gateways", got, e.Driver.RunningCount())
				}
			},
			"message": func(*testing.T, *agenttest.Env, agent.Agent) {},
			"crash": func(_ *testing.T, e *agenttest.Env, _ agent.Agent) {
				e.StopServer()
				e.StartServer()
			},
		} {
			t.Run(name+"/"+operation, func(t *testing.T) {
				agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
					a := e.Create("ada")
					bring(t, e, a)
					do(t, e, a)
					if text, err := e.Turn(a.ID); err != nil || !strings.HasPrefix(text, "I am at ") {
						t.Errorf("%q, %v", text, err)
					}
					if now := e.Find(a.ID); !isAwake(now) || len(now.Retry.Failures) > 0 || now.LastError != "" {
						t.Errorf("after a message: %+v", now)
					}
					bring(t, e, e.Find(a.ID))
					e.Delete(a.ID)
					e.CheckNothingLeft(a.ID)
				})
			})
		}
	}
}

// TestStopAndStartOfASleepingAgent at once: its gateway is kept, as that of an agent that is awake.
func TestStopAndStartOfASleepingAgent(t *testing.T) {
	agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("ada")
		e.Until(a.ID, isAsleep)
		e.StopServer() // the reconciler has not seen the stop when the start comes
		_, err := e.Agents.Stop(t.Context(), e.Actor, a.ID)
		e.Must(err)
		_, err = e.Agents.Start(t.Context(), e.Actor, a.ID)
		e.Must(err)
		e.StartServer()
		now := e.UntilStatus(a.ID, client.Running)
		if !now.IsAsleep() || e.Driver.Starts(a.ID) != 1 {
			t.Errorf("%+v, %d starts", now, e.Driver.Starts(a.ID))
		}
		if text, err := e.Turn(a.ID); err != nil || text != "I am at "+string(a.Place) {
			t.Errorf("%q, %v", text, err)
		}
	})
}

// TestColdWakeStaysRunning: while a new gateway boots for a message, the agent is running and asleep.
// If the boot fails, it is started as any agent is, and is in error after as many failures.
func TestColdWakeStaysRunning(t *testing.T) {
	for name, fails := range map[string]bool{"boots": false, "fails": true} {
		t.Run(name, func(t *testing.T) {
			agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
				a := e.Create("ada")
				e.Until(a.ID, isAsleep)
				e.Driver.LoseCheckpoint(a.ID)
				e.Scripts.NeverReady.Store(true)
				var message sync.WaitGroup
				message.Go(func() {
					text, err := e.Turn(a.ID)
					switch {
					case !fails && (err != nil || !strings.HasPrefix(text, "I am at ")):
						t.Errorf("%q, %v", text, err)
					case fails && !fault.Is(err, fault.NotRunning):
						t.Errorf("a message to an agent that fails: %q, %v", text, err)
					}
				})
				e.Eventually("it boots", func() bool { return e.Driver.Starts(a.ID) == 2 })
				live, err := e.Status.Status(t.Context(), agenttest.Account, a.ID)
				if err != nil || live.Status != client.Running || !live.Live || live.ContainerStatus != "asleep" || live.Resources != nil {
					t.Errorf("during the boot: %+v, %v", live, err)
				}
				if fails {
					e.Driver.ExitAfterStart(a.ID, 100, 1)
					e.Driver.Gateway(a.ID).Exit(1)
				}
				e.Scripts.NeverReady.Store(false)
				message.Wait()
				now := e.Find(a.ID)
				if !fails && (!isAwake(now) || now.Sleep.WokeAt.IsZero() || e.Driver.Starts(a.ID) != 2) || fails && (!now.HasFailed() || now.IsAsleep()) {
					t.Errorf("%+v", now)
				}
			})
		})
	}
}

// TestFrozen: where gateways cannot be suspended they are frozen. Nothing touches them but a message.
func TestFrozen(t *testing.T) {
	agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
		e.Driver.SetNoSuspend("for the test")
		a := e.Create("ada")
		e.Until(a.ID, isFrozen)
		live, err := e.Status.Status(t.Context(), agenttest.Account, a.ID)
		if err != nil || live.ContainerStatus != "frozen" || !live.Live || live.Status != client.Running || live.Resources != nil {
			t.Errorf("status of a frozen agent: %+v, %v", live, err)
		}
		time.Sleep(time.Hour)
		if s, err := e.Driver.Inspect(t.Context(), a.Place, a.ID); err != nil || s.Phase != runtime.Frozen || e.Driver.Thaws(a.ID) != 0 {
			t.Errorf("%+v, %v, %d thaws", s, err, e.Driver.Thaws(a.ID))
		}
		_, err = e.Agents.RotateTokens(e.Context(), e.Actor, a.ID)
		e.Must(err)
		e.RestartServer(sleeping)
		if text, err := e.Turn(a.ID); err != nil || text != "I am at "+string(a.Place) {
			t.Errorf("%q, %v", text, err)
		}
		time.Sleep(10 * time.Second) // a health check gives the gateway nothing that it has
		now := e.Find(a.ID)
		if !isAwake(now) || now.Sleep.WokeAt.IsZero() || e.Driver.Starts(a.ID) != 1 || e.Driver.Thaws(a.ID) != 1 || e.Scripts.SecretReloads.Load() != 1 {
			t.Errorf("%+v, %d starts, %d thaws, %d times read its secrets", now, e.Driver.Starts(a.ID), e.Driver.Thaws(a.ID), e.Scripts.SecretReloads.Load())
		}
	})
}

// TestCannotBeSuspendedIsFrozen: so is a gateway that alone cannot be suspended.
func TestCannotBeSuspendedIsFrozen(t *testing.T) {
	agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("ada")
		e.Driver.FailSuspend(1, &runtime.SuspendError{Missing: "it was started without being prepared for it"})
		e.Until(a.ID, isFrozen)
		if text, err := e.Turn(a.ID); err != nil || text != "I am at "+string(a.Place) {
			t.Errorf("%q, %v", text, err)
		}
		e.Until(a.ID, func(a agent.Agent) bool { return a.Power == agent.PowerAsleep })
	})
}

// TestFailedFreeze leaves the gateway as it was; a thaw that fails is a cold start.
func TestFailedFreeze(t *testing.T) {
	agenttest.InBubble(t, sleeping, func(t *testing.T, e *agenttest.Env) {
		e.Driver.SetNoSuspend("for the test")
		a := e.Create("ada")
		e.Driver.FailFreeze(1, errors.New("a process does not stand still"))
		time.Sleep(time.Minute)
		if now := e.Find(a.ID); !isAwake(now) || len(now.Retry.Failures) > 0 {
			t.Errorf("after a freeze that failed: %+v", now)
		}
		if text, err := e.Turn(a.ID); err != nil || text != "I am at "+string(a.Place) {
			t.Errorf("%q, %v", text, err)
		}
		e.UntilHours(a.ID, isFrozen)
		e.Driver.FailThaw(1, errors.New("a process does not go on"))
		if text, err := e.Turn(a.ID); err != nil || text == "I am at "+string(a.Place) {
			t.Errorf("%q, %v", text, err)
		}
		if now := e.Find(a.ID); !isAwake(now) || len(now.Retry.Failures) > 0 || e.Driver.RunningCount() != 1 {
			t.Errorf("after a thaw that failed: %+v, %d gateways", now, e.Driver.RunningCount())
		}
	})
}

// TestFrozenMakeRoom: frozen gateways count their memory, and the one that was used longest ago is
// ended if another agent needs it. One that thaws needs no more than it has.
func TestFrozenMakeRoom(t *testing.T) {
	adjust := func(s *agenttest.Settings) { s.Timing.Linger, s.Memory = linger, roomFor(2) }
	agenttest.InBubble(t, adjust, func(t *testing.T, e *agenttest.Env) {
		e.Driver.SetNoSuspend("for the test")
		a, b := e.Create("a"), e.Create("b")
		for _, frozen := range []agent.Agent{a, b} {
			e.Driver.SetUsage(frozen.ID, 1<<30, 0)
			e.UntilHours(frozen.ID, isFrozen)
		}
		if text, err := e.Turn(b.ID); err != nil || text != "I am at "+string(b.Place) {
			t.Errorf("%q, %v", text, err)
		}
		e.UntilHours(b.ID, isFrozen)
		if n := e.Driver.RunningCount(); n != 2 {
			t.Errorf("%d gateways before there is need", n)
		}
		began := time.Now()
		c := e.Create("c")
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("a new agent waits for %s", took)
		}
		if now := e.Find(a.ID); now.Power != agent.PowerAsleep || len(now.Retry.Failures) > 0 {
			t.Errorf("a, which was used longest ago: %+v", now)
		}
		if s, err := e.Driver.Inspect(t.Context(), a.Place, a.ID); err != nil || s.Phase == runtime.Frozen {
			t.Errorf("a: %+v, %v", s, err)
		}
		if now := e.Find(b.ID); now.Power != agent.PowerFrozen {
			t.Errorf("b: %+v", now)
		}
		e.UntilHours(c.ID, isFrozen)
		if text, err := e.Turn(a.ID); err != nil || text == "I am at "+string(a.Place) {
			t.Errorf("%q, %v", text, err)
		}
	})
}

// TestWakeWaitsForRoom: if all others are busy, the callers wait for a minute and are told to come
// again, and the agent is running and asleep as before. With room it wakes.
func TestWakeWaitsForRoom(t *testing.T) {
	adjust := func(s *agenttest.Settings) { s.Timing.Linger, s.Memory = linger, roomFor(1) }
	agenttest.InBubble(t, adjust, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("a")
		e.Until(a.ID, isAsleep)
		busy := e.Create("busy")
		e.Scripts.Busy.Store(true)
		var messages sync.WaitGroup
		for range 3 {
			messages.Go(func() {
				began := time.Now()
				_, err := e.TurnFor(2*time.Minute, a.ID)
				refused := (*fault.Fault)(nil)
				if !errors.As(err, &refused) || refused.Code != fault.Unavailable || refused.RetryAfter <= 0 {
					t.Errorf("a message without room: %v", err)
				}
				if took := time.Since(began); took < 55*time.Second || took > 70*time.Second {
					t.Errorf("it waited for %s", took)
				}
			})
		}
		time.Sleep(10 * time.Second)
		if what := e.Gateways.WaitsFor(a.ID); what != "room" {
			t.Errorf("the callers wait for %q", what)
		}
		if now := e.Find(a.ID); now.Status != client.Running || !now.IsAsleep() || now.ErrorCategory != agent.CategoryCapacity {
			t.Errorf("an agent that waits for room: %+v", now)
		}
		messages.Wait()
		time.Sleep(5 * time.Second)
		now := e.Find(a.ID)
		if !now.IsAsleep() || !now.Sleep.WakeWanted.IsZero() || now.LastError != "" || len(now.Retry.Failures) > 0 || e.Gateways.WaitsFor(a.ID) != "" {
			t.Errorf("after the callers have left: %+v", now)
		}
		if room, boot := e.Reconciler.Waiting(); room+boot > 0 {
			t.Errorf("%d wait for room, %d to boot", room, boot)
		}
		messages.Go(func() {
			if text, err := e.Turn(a.ID); err != nil || text != "I am at "+string(a.Place) {
				t.Errorf("%q, %v", text, err)
			}
		})
		time.Sleep(5 * time.Second)
		e.Scripts.Busy.Store(false)
		messages.Wait()
		if now := e.Find(busy.ID); !now.IsAsleep() {
			t.Errorf("the one that is idle now: %+v", now)
		}
	})
}

// TestWakeWaitsForItsTurnToBoot as for room.
func TestWakeWaitsForItsTurnToBoot(t *testing.T) {
	adjust := func(s *agenttest.Settings) {
		s.Timing.Linger, s.Timing.SlotTimeout, s.MaxBoots = linger, 10*time.Minute, 1
	}
	agenttest.InBubble(t, adjust, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("a")
		e.Until(a.ID, isAsleep)
		e.Driver.LoseCheckpoint(a.ID)
		e.Scripts.NeverReady.Store(true)
		boots, err := e.Agents.Create(t.Context(), e.Actor, agenttest.NewAgent("boots"))
		e.Must(err)
		e.Eventually("the other one boots", func() bool { return e.Driver.Starts(boots.ID) == 1 })
		if _, err = e.TurnFor(2*time.Minute, a.ID); !fault.Is(err, fault.Unavailable) {
			t.Errorf("a message without a slot: %v", err)
		}
		time.Sleep(5 * time.Second)
		if now := e.Find(a.ID); !now.IsAsleep() || now.LastError != "" || e.Driver.Starts(a.ID) != 1 {
			t.Errorf("after the caller has left: %+v, %d starts", now, e.Driver.Starts(a.ID))
		}
		e.Scripts.NeverReady.Store(false)
		if text, err := e.Turn(a.ID); err != nil || !strings.HasPrefix(text, "I am at ") {
			t.Errorf("%q, %v", text, err)
		}
	})
}

// TestCallerThatLeavesWakesNobody: the wake waits for nobody then. One that stays gets its answer.
func TestCallerThatLeavesWakesNobody(t *testing.T) {
	adjust := func(s *agenttest.Settings) { s.Timing.Linger, s.Memory = linger, roomFor(1) }
	agenttest.InBubble(t, adjust, func(t *testing.T, e *agenttest.Env) {
		a := e.Create("a")
		e.Until(a.ID, isAsleep)
		e.Create("busy")
		e.Scripts.Busy.Store(true)
		var stays sync.WaitGroup
		for _, others := range []int{0, 1} {
			for range others {
				stays.Go(func() {
					if text, err := e.TurnFor(50*time.Second, a.ID); err != nil || text != "I am at "+string(a.Place) {
						t.Errorf("%q, %v", text, err)
					}
				})
			}
			if _, err := e.TurnFor(10*time.Second, a.ID); err == nil {
				t.Error("a caller that left got an answer")
			}
			time.Sleep(5 * time.Second)
			if now := e.Find(a.ID); now.Sleep.WakeWanted.IsZero() != (others == 0) || !now.IsAsleep() {
				t.Errorf("with %d other callers: %+v", others, now)
			}
			if room, _ := e.Reconciler.Waiting(); room != others {
				t.Errorf("with %d other callers %d agents wait for room", others, room)
			}
		}
		e.Scripts.Busy.Store(false)
		stays.Wait()
	})
}
