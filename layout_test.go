// Package agento_test holds ARCHITECTURE.md against the code: every package lies
// in a room of its table, and imports only what its room may stand on.
package agento_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "agento.host/agento"

// room is a row of the table: a folder and the rooms that it may import.
type room struct {
	name   string
	stands []string
}

func TestEveryPackageStandsWhereTheTableSays(t *testing.T) {
	rooms := readTable(t)
	seen := map[string]bool{}
	for _, p := range packages(t) {
		at, ok := roomOf(rooms, p.ImportPath)
		if !ok {
			t.Errorf("%s lies in no room of ARCHITECTURE.md", p.ImportPath)
			continue
		}
		seen[at.name] = true
		for _, imported := range p.Imports {
			if !strings.HasPrefix(imported, module+"/") {
				continue
			}
			to, ok := roomOf(rooms, imported)
			if !ok || to.name == at.name || slices.Contains(at.stands, to.name) {
				continue
			}
			t.Errorf("%s imports %s: the room %s may not stand on %s", p.ImportPath, imported, at.name, to.name)
		}
	}
	for _, r := range rooms {
		if !seen[r.name] {
			t.Errorf("ARCHITECTURE.md has the room %s, which holds no package", r.name)
		}
	}
}

func TestImportsRunOneWay(t *testing.T) {
	place := map[string]int{}
	rooms := readTable(t)
	for i, r := range rooms {
		place[r.name] = i
	}
	for _, r := range rooms {
		for _, below := range r.stands {
			if place[below] <= place[r.name] {
				t.Errorf("%s stands on %s, which does not lie below it in the table", r.name, below)
			}
		}
	}
}

// TestOnlyRestImportsHuma: its decoding, validation and messages stay behind one
// package, tests included.
func TestOnlyRestImportsHuma(t *testing.T) {
	const huma, allowed = "github.com/danielgtaylor/huma/", module + "/internal/rest"
	for _, p := range packages(t) {
		for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if strings.HasPrefix(imported, huma) && p.ImportPath != allowed {
				t.Errorf("%s imports %s: only %s may", p.ImportPath, imported, allowed)
			}
		}
	}
}

// readTable reads the rows "| `room` | owns | `a` `b` |".
func readTable(t *testing.T) []room {
	t.Helper()
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(text), "| room | owns | stands on |")
	if !ok {
		t.Fatal("ARCHITECTURE.md has no table of rooms")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	var rooms []room
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 5 || !strings.Contains(cells[1], "`") {
			continue
		}
		rooms = append(rooms, room{name: strings.Trim(cells[1], " `"), stands: strings.Fields(strings.ReplaceAll(cells[3], "`", ""))})
	}
	return rooms
}

// roomOf is the room with the longest name that the package lies in.
func roomOf(rooms []room, pkg string) (best room, ok bool) {
	path := strings.TrimPrefix(pkg, module+"/")
	for _, r := range rooms {
		if (path == r.name || strings.HasPrefix(path, r.name+"/")) && len(r.name) > len(best.name) {
			best, ok = r, true
		}
	}
	return best, ok
}

type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./client/...", "./cmd/...", "./internal/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []goPackage
	for in := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := in.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
