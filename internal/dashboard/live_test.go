package dashboard

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
)

// openLive opens the stream of a page, and returns its lines.
func (b *browser) openLive(from string) (*bufio.Reader, io.Closer) {
	b.env.t.Helper()
	ctx, cancel := context.WithTimeout(b.env.t.Context(), apitest.WaitTimeout)
	b.env.t.Cleanup(cancel)
	req := b.request(ctx, http.MethodGet, "/live?from="+from, nil)
	res, err := b.http.Do(req)
	if err != nil {
		b.env.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("Content-Encoding") != "" {
		b.env.t.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	b.env.t.Cleanup(func() { res.Body.Close() })
	return bufio.NewReader(res.Body), res.Body
}

// until reads lines until one has the text, and returns the id of its event.
func until(t *testing.T, r *bufio.Reader, text string) (id string) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("the stream ended before %q: %v", text, err)
		}
		if after, ok := strings.CutPrefix(line, "id: "); ok {
			id = strings.TrimSpace(after)
		}
		if strings.Contains(line, text) {
			return id
		}
	}
}

// waitForEnd reads until the stream ends.
func waitForEnd(t *testing.T, r io.Reader) {
	t.Helper()
	if _, err := io.ReadAll(r); err != nil {
		t.Errorf("the stream does not end: %v", err)
	}
}

func TestAPageIsToldWhatChangesInItsAccount(t *testing.T) {
	env := newEnv(t)
	b := env.as("viewer")
	from := env.pages.activity.moment(env.account)
	lines, _ := b.openLive(from)
	until(t, lines, "open")
	other := env.NewAccount("Other", "")
	hidden := string(env.NewAgent(env.Client(other), "Hidden"))
	id := env.agent("Support")
	moment := until(t, lines, `"agent/`+id+`"`)
	if topics, _, all := env.pages.activity.after(env.account, from); all || slices.Contains(topics, event.Topic("agent/"+hidden)) {
		t.Errorf("%v %v", topics, all)
	}
	// A page that comes back is told what it has missed, and nothing else.
	if _, err := env.Client(env.account).UpdateAgent(t.Context(), id, client.UpdateAgentRequest{Name: client.Some("Sales")}); err != nil {
		t.Fatal(err)
	}
	again, _ := b.openLive(moment)
	until(t, again, `"agent/`+id+`"`)
}

func TestAnUnknownMomentMeansEverything(t *testing.T) {
	env := newEnv(t)
	for _, from := range []string{"", "x", "other-5", env.pages.activity.epoch + "-99999"} {
		lines, body := env.as("viewer").openLive(from)
		until(t, lines, "event: reset")
		body.Close()
	}
}

func TestStreamsEndWhenTheServerStops(t *testing.T) {
	env := newEnv(t)
	lines, _ := env.as("viewer").openLive("")
	until(t, lines, "reset")
	env.pages.Drain()
	if _, err := io.ReadAll(lines); err != nil {
		t.Error(err)
	}
}

func TestTopicsAreForgottenBeforeTheyFillTheMemory(t *testing.T) {
	a := newActivity(nil, nil)
	id := identity.AccountID("acct_1")
	first := a.moment(id)
	for i := range maxTopics + 10 {
		a.changed(id, event.Topic(fmt.Sprint("agent/", i)))
	}
	if _, _, all := a.after(id, first); !all {
		t.Error("topics that are forgotten are not told")
	}
	_, now, _ := a.after(id, "")
	a.changed(id, "agent/x")
	if topics, _, all := a.after(id, now); all || len(topics) != 1 {
		t.Errorf("%v %v", topics, all)
	}
}
