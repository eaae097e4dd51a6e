package api_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/identity"
)

// TestNoRoom: requests that need a gateway wait and answer 503, a creation leaves nothing
// behind, and an agent that waits starts by itself.
func TestNoRoom(t *testing.T) {
	env := newEnv(t, options{Memory: 1300 << 20, RoomTimeout: 300 * time.Millisecond})
	who := env.newAccount("acme", "plan_self_hosted")
	ada := who.newAgent("ada")
	audit := func() string { return who.do("GET", "/v1/audit", nil).expect(200).body }
	events := audit()
	refused := func(r *response) {
		t.Helper()
		r.expectError(http.StatusServiceUnavailable, "unavailable")
		if after, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || after < 1 {
			t.Errorf("%s: Retry-After %q", r.request, r.header.Get("Retry-After"))
		}
	}
	refused(who.do("POST", "/v1/agents", createBody))
	refused(who.post("/v1/agents", "key-1", createBody))
	if total := who.do("GET", "/v1/agents", nil).expect(200).field("pagination.total"); total != "1" {
		t.Errorf("%s agents", total)
	}
	if now := audit(); now != events {
		t.Errorf("the refused creations left events: %s", now)
	}
	if found, err := env.Driver.List(t.Context()); err != nil || len(found) != 1 {
		t.Errorf("the driver has %+v, %v", found, err)
	}

	r := who.do("POST", "/v1/agents", createBody, "Prefer", "respond-async").expect(202)
	bob := r.field("data.id")
	if status := r.field("data.status"); status != "provisioning" {
		t.Errorf("it is %s", status)
	}
	apitest.WaitUntil(t, "the agent waits", func() bool {
		return who.do("GET", "/v1/agents/"+bob, nil).expect(200).field("data.errorCategory") == "capacity"
	})
	refused(who.do("POST", "/v1/agents/"+bob+"/start", nil))
	refused(who.do("POST", "/v1/agents/"+bob+"/restart", nil))
	refused(who.do("POST", "/v1/agents/"+bob+"/chat/messages", map[string]string{"message": "hello"}))
	got := who.do("GET", "/v1/agents/"+bob, nil).expect(200)
	if status := got.field("data.status"); status != "provisioning" && status != "starting" {
		t.Errorf("it is %s", status)
	}

	who.do("POST", "/v1/agents/"+ada+"/stop", nil).expect(200)
	apitest.WaitUntil(t, "the waiting agent runs", func() bool {
		return who.do("GET", "/v1/agents/"+bob, nil).expect(200).field("data.status") == "running"
	})
	got = who.do("GET", "/v1/agents/"+bob, nil).expect(200)
	if !strings.Contains(got.body, `"lastError":null,"errorCategory":null`) || env.Driver.Starts(identity.AgentID(ada)) != 1 {
		t.Errorf("%s", got.body)
	}
	who.do("DELETE", "/v1/agents/"+bob, nil).expect(200)
	who.post("/v1/agents", "key-1", createBody).expect(201)
}

// TestMessageWaitsForRoomToWake: a message to an agent that sleeps waits for room, and the stream says
// so. If there is none, it is refused with 503, or with an event once the response has begun, and
// leaves nothing behind: the agent is running as before, and answers when there is room.
func TestMessageWaitsForRoomToWake(t *testing.T) {
	for name, heartbeat := range map[string]time.Duration{"begun": 20 * time.Millisecond, "not begun": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newEnv(t, options{
				Memory: 1300 << 20, RoomTimeout: 3 * time.Second, Heartbeat: heartbeat, Waiting: budget.New(budget.Settings{Each: 16 << 10, Refusal: "Too many messages wait."}),
			})
			who := env.newAccount("acme", "plan_self_hosted")
			ada := who.newAgent("ada")
			status := func(want string) {
				t.Helper()
				apitest.WaitUntil(t, "the agent is "+want, func() bool {
					return who.do("GET", "/v1/agents/"+ada+"/status", nil).expect(200).field("data.containerStatus") == want
				})
				if got := who.do("GET", "/v1/agents/"+ada, nil).expect(200).field("data.status"); got != "running" {
					t.Errorf("an agent that is %s has the status %s", want, got)
				}
			}
			if err := env.Driver.Suspend(t.Context(), env.Driver.Gateway(identity.AgentID(ada)).Place, identity.AgentID(ada)); err != nil {
				t.Fatal(err)
			}
			status("asleep")
			busy := who.newAgent("busy")
			message := map[string]string{"message": "hello"}
			refuseMore := func() {
				t.Helper()
				r := who.do("POST", "/v1/agents/"+ada+"/chat/messages", map[string]string{"message": "one too many", "peerId": "another"})
				r.expectError(http.StatusTooManyRequests, "rate_limited")
				if r.header.Get("Retry-After") == "" {
					t.Error("a message that is refused has no Retry-After")
				}
			}
			if heartbeat > 0 {
				e := who.openStream("POST", "/v1/agents/"+ada+"/chat/messages", message)
				e.expect(": wake")
				refuseMore()
				e.expect(": room")
				if last := e.expectPrefix(`data: {"type":"error","code":"unavailable"`); !strings.Contains(last, "memory") {
					t.Errorf("the last event is %s", last)
				}
				e.expect("EOF")
			} else {
				r := who.do("POST", "/v1/agents/"+ada+"/chat/messages", message)
				r.expectError(http.StatusServiceUnavailable, "unavailable")
				if after, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || after < 1 {
					t.Errorf("Retry-After %q", r.header.Get("Retry-After"))
				}
			}
			status("asleep")
			if got := who.do("GET", "/v1/agents/"+ada+"/chat/messages", nil).expect(200).field("pagination.total"); got != "0" {
				t.Errorf("the history has %s messages", got)
			}
			who.do("POST", "/v1/agents/"+busy+"/stop", nil).expect(200)
			who.chat(ada, "hello").expect(textEvent("You said: "))
			status("running")
		})
	}
}
