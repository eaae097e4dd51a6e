package dashboard

import (
	"fmt"
	"testing"

	"agento.host/agento/internal/dashboard/browsertest"
	"agento.host/agento/internal/identity"
)

// TestChaosLogInABrowser follows, pauses, filters, and goes on after a lost connection without doubles.
func TestChaosLogInABrowser(t *testing.T) {
	needsChaos(t)
	env := newEnv(t)
	id := env.agent("Ada")
	n := 0
	say := func(level string) {
		n++
		env.Driver.Print(identity.AgentID(id), fmt.Sprintf(`{"time":"2026-02-10T14:00:%02d.%03dZ","level":%q,"subsystem":"gateway","message":"number %d."}`, n/1000%60, n%1000, level, n))
	}
	for range 1500 {
		say("info")
	}
	line := browsertest.NewLine(t, env.URL)
	tab := env.open(browsertest.Start(t), "owner")
	tab.SetZone("Asia/Tokyo")
	tab.Open(line.URL + root + "/agents/" + id + "/logs")
	tab.UntilText("Follows the log. Times are in Asia/Tokyo.")
	tab.UntilText("02-10 23:00:01.500")
	for range 5 {
		for range 1000 { // a reader may be so far behind
			say("info")
		}
		tab.UntilText(fmt.Sprintf("number %d.", n))
	}
	tab.Until(`document.querySelectorAll("#lines li").length === 5000`)
	say("error")
	tab.UntilText("number 6501.")
	tab.Select(browsertest.Label("Level"), "errors only")
	tab.Until(`document.querySelectorAll("#lines li").length === 1 && location.search === "?level=error"`)
	tab.Select(browsertest.Label("Level"), "every level")
	tab.Fill(browsertest.Label("Only lines with this text"), "NUMBER 65")
	tab.Until(`location.search === "?search=NUMBER+65" && document.querySelectorAll("#lines li").length === 12`) // 650 to 659, 6500 and 6501
	tab.Fill(browsertest.Label("Only lines with this text"), "")
	tab.Until(`document.querySelectorAll("#lines li").length === 5000`)
	tab.Click(browsertest.Button("Pause"))
	say("info")
	tab.UntilText("Paused: 1 new line.")
	tab.Click(browsertest.Button("Go on"))
	tab.UntilText("number 6502.")

	line.Cut()
	tab.UntilText("The connection is lost. It is tried again.")
	say("warn")
	line.Mend(env.URL)
	tab.UntilText("number 6503.")
	once := func(n int) {
		t.Helper()
		text := fmt.Sprintf("number %d.", n)
		if got := tab.Eval(`[...document.querySelectorAll("#lines li")].filter(l => l.textContent.includes(` + quoteJSON(t, text) + `)).length`); got != 1.0 {
			t.Errorf("%s is there %v times", text, got)
		}
	}
	once(6502)
	once(6503)
	line.Cut()
	for range 3000 {
		say("info")
	}
	line.Mend(env.URL)
	tab.UntilText("lines may be missing here: the connection was lost")
	tab.UntilText("number 9503.")
}
