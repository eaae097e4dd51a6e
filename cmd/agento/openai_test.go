package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/devmodel"
	"agento.host/agento/internal/openaiapi/clienttest"
	"agento.host/agento/internal/openclaw/install"
)

// TestOpenAIClientsWithARealGateway: what each of the real clients of OpenAI's API says to an
// agent, and what the model sees of it. make chaos-openai runs it.
func TestOpenAIClientsWithARealGateway(t *testing.T) {
	if os.Getenv("AGENTO_CHAOS") == "" {
		t.Skip("make chaos-openai runs it")
	}
	runtime, err := install.Install(t.Context(), install.Settings{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	in := newInstallation(t, "acme")
	in.model.Script(tellName)
	in.start()
	ctx := openAITimeout(t)
	agent, err := in.client("acme").CreateAgent(ctx, in.newAgent("ada"))
	if err != nil {
		t.Fatal(err)
	}
	breaker := clienttest.NewBreaker(t, in.url)
	clients := clienttest.New(t, runtime.Node, breaker.URL+"/openai/v1", strings.TrimSpace(in.keys["acme"]))
	for _, name := range clienttest.All() {
		for _, conversation := range []string{"", "conversation of " + name} {
			t.Run(name+" "+conversation, func(t *testing.T) {
				before := in.model.Count()
				secret := "Plum-" + name
				r := clienttest.Request{Model: "ada", Stream: true, Conversation: conversation, Messages: []clienttest.Message{{Role: "user", Content: "My name is " + secret + "."}}}
				first := clients.Ask(name, r)
				r.Messages = append(r.Messages, clienttest.Message{Role: "assistant", Content: first.Text}, clienttest.Message{Role: "user", Content: "What is my name?"})
				second := clients.Ask(name, r)
				if first.Text != "Noted." || second.Text != "Your name is "+secret || second.Finish != "stop" || second.Tokens == 0 {
					t.Fatalf("got %+v and %+v", first, second)
				}
				if n := in.model.Count() - before; n != 2 {
					t.Errorf("%d model calls", n)
				}
				call, err := in.model.Wait(openAITimeout(t), before+2)
				if err != nil {
					t.Fatal(err)
				}
				for _, text := range []string{secret, "Noted.", "What is my name?"} {
					if n := timesSeen(call, text); n != 1 {
						t.Errorf("the model sees %q %d times", text, n)
					}
				}
				if conversation == "" {
					assertNoFile(t, in, secret)
				}
			})
		}
	}
	t.Run("a retry while the model answers", func(t *testing.T) {
		gate := make(chan struct{})
		defer in.model.Script(devmodel.When("Wait for me.", devmodel.Reply{Chunks: []string{"one ", "two"}, Gate: gate}))()
		before := in.model.Count()
		breaker.Break(clienttest.Cut)
		time.AfterFunc(2*time.Second, func() { close(gate) }) // the connection is cut before
		got := clients.Ask("openai-7", clienttest.Request{Model: agent.ID, Conversation: "retry", Messages: []clienttest.Message{{Role: "user", Content: "Wait for me."}}})
		if got.Text != "one two" || in.model.Count()-before != 1 || breaker.Requests() < 2 {
			t.Errorf("got %+v after %d requests and %d model calls", got, breaker.Requests(), in.model.Count()-before)
		}
	})
	t.Run("a chore", func(t *testing.T) {
		before := in.model.Count()
		got := clients.Ask("openai-7", clienttest.Request{Model: "ada:task", Conversation: "chore", Messages: []clienttest.Message{{Role: "user", Content: "echo A title of Plum-chore"}}})
		call, err := in.model.Wait(openAITimeout(t), before+1)
		if err != nil || got.Text != "A title of Plum-chore" || len(call.Tools) != 0 || strings.Contains(call.System, "You speak with one person") {
			t.Errorf("got %+v, %v; the model has %d tools", got, err, len(call.Tools))
		}
		assertNoFile(t, in, "Plum-chore")
	})
}

// openAITimeout bounds one step on a busy machine.
func openAITimeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	t.Cleanup(cancel)
	return ctx
}

var nameIsTold = regexp.MustCompile(`My name is ([\w-]+)`)

// tellName is a model that finds in what it is sent who speaks.
func tellName(r devmodel.Request) (devmodel.Reply, bool) {
	switch asks := strings.HasSuffix(r.LastUser(), "What is my name?"); {
	case !asks && strings.Contains(r.LastUser(), "My name is"):
		return devmodel.Say("Noted."), true
	case !asks:
		return devmodel.Reply{}, false
	}
	for _, m := range r.Messages {
		if found := nameIsTold.FindStringSubmatch(m.Text); found != nil {
			return devmodel.Say("Your name is %s", found[1]), true
		}
	}
	return devmodel.Say("I do not know."), true
}

// timesSeen returns how often a text is in the messages of a model call.
func timesSeen(call *devmodel.Call, text string) (n int) {
	for _, m := range call.Messages {
		n += strings.Count(m.Text, text)
	}
	return n
}

// assertNoFile fails the test if a file of the data directory, homes and databases among them,
// has a text.
func assertNoFile(t *testing.T, in *installation, text string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(in.data, func(name string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil //nolint:nilerr // it has vanished meanwhile
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		if files++; strings.Contains(string(content), text) {
			t.Errorf("%s has %q", name, text)
		}
		return nil
	})
	if err != nil || files < 10 {
		t.Errorf("read %d files, %v", files, err)
	}
}
