package power_test

import (
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/power"
)

var (
	whole  = flag.Bool("whole", false, "simulate 100, 1,000 and 10,000 agents, and print the table")
	update = flag.Bool("update", false, "simulate as -whole does, and write docs/sleep-simulation.md and .svg")
)

// strategies are what is compared.
func strategies() []strategy {
	fixed := func(minutes int) strategy {
		linger := time.Duration(minutes) * time.Minute
		return strategy{name: fmt.Sprintf("fixed, %d min", minutes), links: inMemory, Policy: power.Policy{Linger: linger}, noRoom: true}
	}
	return []strategy{
		{name: "agento", links: onDisk, Policy: policy},
		{name: "agento, --linger 1m", links: onDisk, Policy: power.Policy{Linger: time.Minute, DiskAfter: policy.DiskAfter}},
		{name: "agento, nothing on the disk", links: inMemory, Policy: policy},
		{name: "LRU", links: inMemory, Policy: power.Policy{Linger: 1000 * time.Hour}},
		fixed(1), fixed(5), fixed(15),
		{name: "always on", links: inMemory, alwaysOn: true},
		{name: "agento, base checkpoint *", links: fromBase, Policy: policy},
	}
}

// TestSimulation is the small version: two hundred agents. Every message is answered or refused,
// nothing busy is suspended, and the memory suffices.
func TestSimulation(t *testing.T) {
	const agents = 200
	for _, k := range traffics {
		day := map[string]outcome{}
		for _, s := range strategies() {
			o, problems := simulate(s, agents, k.arrivals(agents, warmUp+secondsOfDay))
			for _, p := range problems {
				t.Errorf("%s, %s: %s", k.name, s.name, p)
			}
			if sum := o.kinds[byAwake] + o.kinds[byWake] + o.kinds[byCold] + o.kinds[failed]; sum != o.messages || o.messages < agents*perDay/2 {
				t.Errorf("%s, %s: %d of %d messages have an outcome", k.name, s.name, sum, o.messages)
			}
			day[s.name] = o
		}
		if ours := day["agento"]; ours.kinds[failed] > 0 || ours.peak > free-system {
			t.Errorf("%s: %+v", k.name, ours.kinds)
		}
		if on := day["always on"]; on.kinds[failed] < on.messages/2 {
			t.Errorf("%s: %d of %d messages fail if nothing sleeps", k.name, on.kinds[failed], on.messages)
		}
	}
}

// TestSimulationWhole prints the table of docs/sleep-simulation.md, or writes it.
func TestSimulationWhole(t *testing.T) {
	if !*whole && !*update {
		t.Skip("-whole or -update asks for it")
	}
	var tables strings.Builder
	var bars []bar
	for _, agents := range []int{100, 1000, 10_000} {
		fmt.Fprintf(&tables, "\n## %s agents\n\n| traffic | what decides | p50 s | p99 s | in 3 s %% | awake %% | wake %% | cold %% | 503 %% | waited %% | CPU %% | CPU-s | peak GB | refused |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n", thousands(agents))
		for _, k := range traffics {
			for _, s := range strategies() {
				o, problems := simulate(s, agents, k.arrivals(agents, warmUp+secondsOfDay))
				for _, p := range problems {
					t.Errorf("%d, %s, %s: %s", agents, k.name, s.name, p)
				}
				fmt.Fprintf(&tables, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %.0f | %.1f | %.1f | %d |\n", k.name, s.name, seconds(o.quantile(0.5)), seconds(o.quantile(0.99)), o.share(o.within(3)),
					o.share(o.kinds[byAwake]), o.share(o.kinds[byWake]), o.share(o.kinds[byCold]), o.share(o.kinds[failed]), o.share(o.waits),
					100*o.cpu/secondsOfDay/cores, o.cpu/float64(max(o.messages-o.kinds[failed], 1)), o.peak/1000, o.refused)
				if k.name == "bursty" {
					bars = append(bars, bar{agents: agents, name: s.name, outcome: o})
				}
			}
		}
	}
	t.Log(tables.String())
	if !*update {
		return
	}
	page, err := os.ReadFile("testdata/simulation.md")
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{"../../docs/sleep-simulation.md": string(page) + tables.String(), "../../docs/sleep-simulation.svg": picture(bars)} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// quantile returns a quantile of the time to the first token; NaN if nothing was answered.
func (o outcome) quantile(q float64) float64 {
	if len(o.latencies) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(o.latencies))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// within returns how many messages got their first token within some seconds.
func (o outcome) within(seconds float64) (n int) {
	for _, s := range o.latencies {
		if s <= seconds {
			n++
		}
	}
	return n
}

// share returns a part of the messages in percent.
func (o outcome) share(n int) string {
	return fmt.Sprintf("%.1f", 100*float64(n)/float64(o.messages))
}

func seconds(s float64) string {
	if s < 10 {
		return fmt.Sprintf("%.2f", s)
	}
	return fmt.Sprintf("%.0f", s)
}

func thousands(n int) string {
	if n >= 1000 {
		return fmt.Sprintf("%d,%03d", n/1000, n%1000)
	}
	return fmt.Sprint(n)
}

// bar is a bar of the picture.
type bar struct {
	agents int
	name   string
	outcome
}

// picture shows how the messages of bursty days were answered.
func picture(bars []bar) string {
	const (
		left, width, line = 210, 330, 20
		style             = `text{font:12px sans-serif;fill:#24292f}.t{font-weight:bold}.awake{fill:#2da44e}.wake{fill:#0a7ac2}.cold{fill:#d4900f}.failed{fill:#cf222e}@media(prefers-color-scheme:dark){text{fill:#e6edf3}}`
	)
	classes := [kinds]string{"awake", "wake", "cold", "failed"}
	var b strings.Builder
	y := 16
	text := func(x, y int, class, s string) {
		fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" class=\"%s\">%s</text>\n", x, y, class, s)
	}
	for i, name := range []string{"awake gateway", "wake", "cold start", "503"} {
		fmt.Fprintf(&b, "<rect x=\"%d\" y=\"%d\" width=\"10\" height=\"10\" class=\"%s\"/>\n", left+i*118, y-9, classes[i])
		text(left+i*118+14, y, "", name)
	}
	agents := 0
	for _, bar := range bars {
		if bar.agents != agents {
			agents = bar.agents
			y += line + 8
			text(0, y, "t", thousands(agents)+" agents, bursty day")
			text(left+width+8, y, "t", "in 3 s; p50 / p99")
			y += 6
		}
		y += line
		text(0, y, "", bar.name)
		x := float64(left)
		for kind, n := range bar.kinds {
			w := width * float64(n) / float64(bar.messages)
			fmt.Fprintf(&b, "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"14\" class=\"%s\"/>\n", x, y-11, w, classes[kind])
			x += w
		}
		text(left+width+8, y, "", bar.share(bar.within(3))+" %; "+seconds(bar.quantile(0.5))+" / "+seconds(bar.quantile(0.99))+" s")
	}
	y += 2 * line
	text(0, y, "", "* not built")
	head := fmt.Sprintf("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 %d\" width=\"720\" height=\"%d\" role=\"img\" aria-label=\"How messages are answered in the simulation, for each policy\">\n<style>%s</style>\n", y+8, y+8, style)
	return head + b.String() + "</svg>\n"
}
