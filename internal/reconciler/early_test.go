package reconciler_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agenttest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime/fake"
)

// TestStopDoesNotWaitForTheHome: the loop of the agent is busy with its home, and does not
// come back whatever it is told. The gateway ends nevertheless, and at once.
func TestStopDoesNotWaitForTheHome(t *testing.T) {
	for name, request := range map[string]func(e *agenttest.Env, id identity.AgentID) (agent.Accepted, error){
		"stop": func(e *agenttest.Env, id identity.AgentID) (agent.Accepted, error) {
			return e.Agents.Stop(e.Context(), e.Actor, id)
		},
		"delete": func(e *agenttest.Env, id identity.AgentID) (agent.Accepted, error) {
			return e.Agents.Delete(e.Context(), e.Actor, id)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var busy atomic.Bool
			stuck, free := make(chan struct{}, 10), make(chan struct{})
			e := agenttest.New(t, func(s *agenttest.Settings) {
				s.Driver = agenttest.HookedDriver{Driver: s.Driver.(*fake.Driver), Before: func(method string) error {
					if method == "Home" && busy.Load() {
						stuck <- struct{}{}
						<-free
					}
					return nil
				}}
			})
			t.Cleanup(func() {
				if busy.Swap(false) {
					close(free)
				}
			})
			a := e.Create("ada")
			busy.Store(true)
			e.Events.Notify(event.ReconcileTopic(a.ID))
			<-stuck
			accepted, err := request(e, a.ID)
			e.Must(err)
			e.Eventually("the gateway has ended", func() bool { return e.Driver.RunningCount() == 0 })
			busy.Store(false)
			close(free)
			if name == "delete" {
				e.Must(e.Agents.AwaitDeleted(e.Context(), accepted))
				e.CheckNothingLeft(a.ID)
				return
			}
			stopped, err := e.Agents.AwaitStopped(e.Context(), accepted)
			if err != nil || stopped.Status != client.Stopped {
				t.Errorf("%+v, %v", stopped, err)
			}
			if e.Start(a.ID); e.Driver.RunningCount() != 1 { // what has ended the gateway does not end the next one
				t.Error("it does not run")
			}
		})
	}
}

// TestDeletionDoesNotWaitForAStop: the gateway takes long to stop, and is killed.
func TestDeletionDoesNotWaitForAStop(t *testing.T) {
	agenttest.InBubble(t, nil, func(t *testing.T, e *agenttest.Env) {
		e.Scripts.NeverReady.Store(true)
		accepted, err := e.Agents.Create(t.Context(), e.Actor, agenttest.NewAgent("ada"))
		e.Must(err)
		e.Eventually("it boots", func() bool { return e.Driver.RunningCount() == 1 })
		e.Driver.DelayStop(time.Hour) // until the grace period ends
		_, err = e.Agents.Stop(t.Context(), e.Actor, accepted.ID)
		e.Must(err)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		deletion, err := e.Agents.Delete(ctx, e.Actor, accepted.ID)
		e.Must(err)
		if err := e.Agents.AwaitDeleted(ctx, deletion); err != nil {
			t.Error(err)
		}
	})
}
