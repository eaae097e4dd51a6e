package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"unicode"

	"agento.host/agento/internal/fault"
)

// print writes one result: text, or v with --json.
func (t *terminal) print(v any, text string) error {
	if t.json {
		return t.printJSON(v)
	}
	_, err := fmt.Fprintln(t.out, text)
	return err
}

func (t *terminal) printJSON(v any) error {
	enc := json.NewEncoder(t.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// table writes rows with a header, or as JSON with --json.
func (t *terminal) table(rows []map[string]any, columns ...string) error {
	if t.json {
		return t.printJSON(rows)
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(w, strings.ToUpper(strings.Join(columns, "\t")))
	for _, row := range rows {
		cells := make([]string, len(columns))
		for i, c := range columns {
			if cells[i] = "-"; row[c] != nil {
				cells[i] = strings.Map(replaceControl, fmt.Sprint(row[c]))
			}
		}
		_, e := fmt.Fprintln(w, strings.Join(cells, "\t"))
		err = errors.Join(err, e)
	}
	return errors.Join(err, w.Flush())
}

// replaceControl replaces control characters. Text of others, such as the name of a
// community skill, must not control the terminal or break the table.
func replaceControl(r rune) rune {
	if unicode.IsControl(r) {
		return '\uFFFD'
	}
	return r
}

// readable turns a fault into its message and details, without the code, which is for
// programs.
func readable(err error) error {
	var f *fault.Fault
	if !errors.As(err, &f) || f.Code == fault.Internal {
		return err
	}
	text := f.Message
	for field, what := range f.Details {
		if !strings.Contains(text, what) {
			text += fmt.Sprintf("\n  %s: %s", field, what)
		}
	}
	return errors.New(text)
}
