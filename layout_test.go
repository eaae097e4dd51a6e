// Package agento_test checks the table of packages in ARCHITECTURE.md against the code.
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

// row is a row of the table: a directory, and the rows that it may import.
type row struct {
	name      string
	mayImport []string
}

func TestImportsFollowTheTable(t *testing.T) {
	rows := readTable(t)
	seen := map[string]bool{}
	for _, p := range packages(t) {
		own, ok := rowOf(rows, p.ImportPath)
		if !ok {
			t.Errorf("%s has no row in ARCHITECTURE.md", p.ImportPath)
			continue
		}
		seen[own.name] = true
		for _, imported := range p.Imports {
			if !strings.HasPrefix(imported, module+"/") {
				continue
			}
			to, ok := rowOf(rows, imported)
			if !ok || to.name == own.name || slices.Contains(own.mayImport, to.name) {
				continue
			}
			t.Errorf("%s imports %s: the row %s may not import %s", p.ImportPath, imported, own.name, to.name)
		}
	}
	for _, r := range rows {
		if !seen[r.name] {
			t.Errorf("ARCHITECTURE.md has the row %s, which has no package", r.name)
		}
	}
}

func TestRowsImportOnlyRowsBelow(t *testing.T) {
	index := map[string]int{}
	rows := readTable(t)
	for i, r := range rows {
		index[r.name] = i
	}
	for _, r := range rows {
		for _, imported := range r.mayImport {
			if index[imported] <= index[r.name] {
				t.Errorf("%s may import %s, which is not below it in the table", r.name, imported)
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

// readTable reads the rows "| `package` | owns | `a` `b` |".
func readTable(t *testing.T) []row {
	t.Helper()
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(text), "| package | owns | may import |")
	if !ok {
		t.Fatal("ARCHITECTURE.md has no table of packages")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	var rows []row
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 5 || !strings.Contains(cells[1], "`") {
			continue
		}
		rows = append(rows, row{name: strings.Trim(cells[1], " `"), mayImport: strings.Fields(strings.ReplaceAll(cells[3], "`", ""))})
	}
	return rows
}

// rowOf returns the row with the longest name that contains the package.
func rowOf(rows []row, pkg string) (best row, ok bool) {
	path := strings.TrimPrefix(pkg, module+"/")
	for _, r := range rows {
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
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", module+"/client/...", "./cmd/...", "./docs/...", "./internal/...").Output()
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
