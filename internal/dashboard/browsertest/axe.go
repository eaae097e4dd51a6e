package browsertest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Finding is what axe-core objects to.
type Finding struct {
	ID, Impact, Help string
	Nodes            []struct {
		HTML           string
		FailureSummary string
	}
}

// String returns the finding with the elements that it is about.
func (f Finding) String() string {
	out := &strings.Builder{}
	fmt.Fprintf(out, "%s (%s): %s", f.ID, f.Impact, f.Help)
	for i, n := range f.Nodes {
		if i == 3 {
			fmt.Fprintf(out, "\n  and %d more", len(f.Nodes)-i)
			break
		}
		fmt.Fprintf(out, "\n  %.300s: %s", n.HTML, strings.ReplaceAll(n.FailureSummary, "\n", " "))
	}
	return out.String()
}

// Axe returns the serious and critical findings of axe-core on the page. AGENTO_AXE names the directory in which
// scripts/axe is installed. The page's Content-Security-Policy does not stop it: it is no script of the page.
func (tab *Tab) Axe() (serious []Finding) {
	tab.t.Helper()
	dir := os.Getenv("AGENTO_AXE")
	if dir == "" {
		tab.t.Fatal("AGENTO_AXE does not say where axe-core is: make chaos-dashboard")
	}
	source, err := os.ReadFile(filepath.Join(dir, "node_modules/axe-core/axe.min.js"))
	if err != nil {
		tab.t.Fatal(err)
	}
	if tab.Eval("typeof axe") == "undefined" {
		tab.Eval(string(source) + "\n;0")
	}
	text, _ := tab.Eval("axe.run(document, {resultTypes: ['violations'], preload: false}).then(r => JSON.stringify(r.violations))").(string)
	var all []Finding
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		tab.t.Fatalf("axe-core: %v in %s", err, text)
	}
	for _, f := range all {
		if f.Impact == "serious" || f.Impact == "critical" {
			serious = append(serious, f)
		}
	}
	return serious
}
