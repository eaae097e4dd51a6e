package dashboard

import (
	"context"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/dashboard/browsertest"
)

// noProblems fails the test if the browser complains, of a script or of the content policy.
func noProblems(t *testing.T, tab *browsertest.Tab) {
	t.Helper()
	for _, p := range tab.Problems() {
		t.Errorf("the browser says: %s", p)
	}
}

// TestChatInABrowser: a conversation as a person has it.
func TestChatInABrowser(t *testing.T) {
	env := newEnv(t)
	id := env.agent("Ada")
	pieces := make(chan string, 10)
	env.Gateways.SetScript(func(ctx context.Context, _ *apitest.Turn, send apitest.Send) {
		for {
			select {
			case p, ok := <-pieces:
				if !ok || send(p) != nil {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	b := browsertest.Start(t)
	tab := env.open(b, "owner")
	tab.Open(env.URL + root + "/agents/" + id + "/chat")

	// Enter of an input method sends nothing, in both orders of events; Shift and Enter is a new line.
	tab.Fill(browsertest.Label("Message to Ada"), "Hello")
	for _, order := range []string{
		`m.dispatchEvent(new KeyboardEvent("keydown", {key: "Enter", isComposing: true, bubbles: true, cancelable: true}))`,
		`m.dispatchEvent(new KeyboardEvent("keydown", {key: "Enter", keyCode: 229, bubbles: true, cancelable: true}))`,
		`m.dispatchEvent(new CompositionEvent("compositionend", {data: "日", bubbles: true})); m.dispatchEvent(new KeyboardEvent("keydown", {key: "Enter", bubbles: true, cancelable: true}))`,
		`m.dispatchEvent(new KeyboardEvent("keydown", {key: "Enter", shiftKey: true, bubbles: true, cancelable: true}))`,
	} {
		tab.Eval(`(() => { const m = document.getElementById("message"); ` + order + `; })()`)
	}
	if n := tab.Eval(`document.querySelectorAll(".message").length`); n != 0.0 {
		t.Fatalf("%v messages were sent by composing keys", n)
	}

	// A draft survives navigation.
	tab.Open(env.URL + root + "/agents/" + id + "/logs")
	tab.Open(env.URL + root + "/agents/" + id + "/chat")
	tab.Until(`document.getElementById("message").value === "Hello"`)
	tab.Until(`performance.now() > 200`)
	tab.Focus(browsertest.Label("Message to Ada"))
	tab.Press("Enter")
	pieces <- "# Answer\n\nThis is **bold**"
	tab.Until(`document.querySelector(".message.assistant strong")?.textContent === "bold"`)
	tab.Until(`location.search.startsWith("?session=sess_") && document.getElementById("message").value === "" && !document.getElementById("stop").hidden`)

	// Another tab follows the same answer, and a reload goes on with it.
	other := env.open(b, "owner")
	other.Open(tab.URL())
	other.UntilText("This is bold")
	tab.Reload()
	tab.UntilText("This is bold")
	pieces <- " and <img src=x onerror=alert(1)> ![x](http://example.com/x.png)\n\n```js\nlet x = 1;\n```\n"
	close(pieces)
	for _, at := range []*browsertest.Tab{tab, other} {
		at.Until(`document.querySelector(".message.assistant .code code")?.textContent === "let x = 1;\n"`)
		at.Until(`document.querySelector(".message.assistant details.steps-of") && !document.querySelector("[aria-busy=true]")`)
		if n := at.Eval(`document.querySelectorAll(".message.assistant").length`); n != 1.0 {
			t.Errorf("%v answers", n)
		}
		if n := at.Eval(`document.querySelectorAll("#messages img").length`); n != 0.0 {
			t.Errorf("%v images", n)
		}
		at.Until(`document.querySelectorAll("#sessions li").length === 1`)
	}
	tab.Until(`document.getElementById("heard").textContent.includes("This is bold")`)

	// A message of a program appears by itself, in the tab that shows its session.
	env.Gateways.SetScript(apitest.Echo)
	session := strings.TrimPrefix(tab.Eval(`location.search`).(string), "?session=")
	env.ask(id, client.ChatRequest{Message: "From a program", SessionID: session})
	tab.Until(`[...document.querySelectorAll(".message.user")].some(m => m.textContent.includes("From a program") && m.querySelector(".from").textContent === "API")`)
	tab.UntilText("You said: From a program")
	for _, at := range []*browsertest.Tab{tab, other} {
		noProblems(t, at)
	}
}

// TestChatStops an answer, and sends a message again whose answer has failed.
func TestChatStops(t *testing.T) {
	env := newEnv(t)
	id := env.agent("Ada")
	env.Gateways.SetScript(func(ctx context.Context, _ *apitest.Turn, send apitest.Send) {
		_ = send("An endless")
		<-ctx.Done()
	})
	tab := env.open(browsertest.Start(t), "owner")
	tab.Open(env.URL + root + "/agents/" + id + "/chat")
	tab.Fill(browsertest.Label("Message to Ada"), "Hello")
	tab.Click(browsertest.Button("Send"))
	tab.UntilText("An endless")
	tab.Click(browsertest.Button("Stop the answer"))
	tab.UntilText("Somebody stopped this answer.")
	tab.Until(`document.getElementById("stop").hidden`)
	env.Gateways.SetScript(apitest.Echo)
	tab.Click(browsertest.Button("Send it again"))
	tab.UntilText("You said: Hello")
	noProblems(t, tab)
}

// TestChaosChatGoesOn after a lost connection, where it was, and repeats nothing.
func TestChaosChatGoesOn(t *testing.T) {
	needsChaos(t)
	env := newEnv(t)
	id := env.agent("Ada")
	pieces := make(chan string, 10)
	env.Gateways.SetScript(func(ctx context.Context, _ *apitest.Turn, send apitest.Send) {
		for p := range pieces {
			if send(p) != nil {
				return
			}
		}
	})
	line := browsertest.NewLine(t, env.URL)
	tab := env.open(browsertest.Start(t), "owner")
	tab.Open(line.URL + root + "/agents/" + id + "/chat")
	tab.Fill(browsertest.Label("Message to Ada"), "Hello")
	tab.Click(browsertest.Button("Send"))
	pieces <- "One, two, "
	tab.UntilText("One, two,")
	line.Cut()
	tab.UntilText("The connection is lost. It goes on where it was")
	pieces <- "three, "
	line.Mend(env.URL)
	tab.UntilText("One, two, three,")
	pieces <- "four."
	close(pieces)
	tab.Until(`document.querySelector(".message.assistant .text").textContent === "One, two, three, four."`)
	tab.Until(`document.querySelector("details.steps-of") !== null`)

	// The connection is lost before the answer: nobody knows, until the server is asked.
	env.Gateways.SetScript(apitest.Echo)
	line.Cut()
	tab.Fill(browsertest.Label("Message to Ada"), "Are you there?")
	tab.Click(browsertest.Button("Send"))
	tab.UntilText("it is not known whether the message has arrived")
	line.Mend(env.URL)
	tab.UntilText("The message has not arrived.")
	if n := len(env.Gateways.Turns()); n != 1 {
		t.Fatalf("%d messages have arrived", n)
	}
	tab.Click(browsertest.Button("Send it again"))
	tab.UntilText("You said: Are you there?")
	if n := len(env.Gateways.Turns()); n != 2 {
		t.Errorf("%d messages have arrived", n)
	}
}
