package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/mattn/go-isatty"
	"github.com/mattn/go-runewidth"
	"golang.org/x/term"
)

// print writes one result: text, or v with --json.
func (t *terminal) print(v any, text string) error {
	if t.json {
		return t.printJSON(v)
	}
	_, err := fmt.Fprintln(t.out, escapeText(commandWords(text)))
	return err
}

func (t *terminal) printJSON(v any) error { return writeJSON(t.out, v) }

// progress writes a line about what goes on, which is no result.
func (t *terminal) progress(format string, args ...any) {
	_, _ = fmt.Fprintln(t.err, escapeText(commandWords(fmt.Sprintf(format, args...)))) // the command goes on without it
}

// content writes a text as it is, so that it can be written to a file; on a terminal it
// writes nothing that controls it.
func (t *terminal) content(text string) error {
	if isTerminal(t.out) {
		text = escapeText(text)
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
	}
	_, err := io.WriteString(t.out, text)
	return err
}

// field is a line of the description of one thing.
type field struct {
	name  string
	value any
}

// describe writes what is known of one thing, line by line, or v with --json. Fields
// without a value are left out.
func (t *terminal) describe(v any, fields ...field) error {
	if t.json {
		return t.printJSON(v)
	}
	width := 0
	for _, f := range fields {
		width = max(width, runewidth.StringWidth(f.name))
	}
	var text strings.Builder
	for _, f := range fields {
		value := cell(f.value)
		if m, ok := f.value.(moment); ok {
			value = m.String() + " (" + m.ago() + ")"
		}
		if value == "" || value == noValue {
			continue
		}
		fmt.Fprintf(&text, "%s  %s\n", runewidth.FillRight(f.name, width), commandWords(value))
	}
	_, err := io.WriteString(t.out, text.String())
	return err
}

const (
	tableWidth = 80  // of a table where no wider terminal shows it
	columnGap  = 2   // between two columns
	minColumn  = 8   // no column is cut to less
	noValue    = "-" // the cell without a value
)

// table writes rows with a header, or as JSON with --json. Where the rows are wider than
// the terminal, the widest columns are cut: their last character is then an ellipsis. Ids
// are never cut.
func (t *terminal) table(rows []map[string]any, columns ...string) error {
	if t.json {
		return t.printJSON(rows)
	}
	_, err := io.WriteString(t.out, tableText(rows, columns, t.width()))
	return err
}

// tableText returns a table for a terminal of a width.
func tableText(rows []map[string]any, columns []string, width int) string {
	lines := make([][]string, 0, len(rows)+1)
	header := make([]string, len(columns))
	for i, c := range columns {
		header[i] = title(c)
	}
	lines = append(lines, header)
	for _, row := range rows {
		cells := make([]string, len(columns))
		for i, c := range columns {
			cells[i] = cell(row[c])
		}
		lines = append(lines, cells)
	}
	widths := columnWidths(lines, columns, width)
	var text strings.Builder
	for _, cells := range lines {
		var line strings.Builder
		for i, c := range cells {
			line.WriteString(runewidth.FillRight(runewidth.Truncate(c, widths[i], "…"), widths[i]+columnGap))
		}
		text.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return text.String()
}

// title returns the title of a column with a name such as createdAt.
func title(name string) string {
	if base := strings.TrimSuffix(name, "At"); base != "" {
		name = base
	}
	var b strings.Builder
	for _, r := range name {
		if unicode.IsUpper(r) {
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}

// columnWidths returns the widths of the columns, cut so that they fit together.
func columnWidths(lines [][]string, columns []string, width int) []int {
	widths := make([]int, len(columns))
	total := columnGap * (len(columns) - 1)
	for i := range columns {
		for _, cells := range lines {
			widths[i] = max(widths[i], runewidth.StringWidth(cells[i]))
		}
		total += widths[i]
	}
	for ; total > width; total-- {
		widest := -1
		for i, c := range columns {
			if c != "id" && widths[i] > minColumn && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	return widths
}

// cell returns the text of a cell.
func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return noValue
	case moment:
		return v.ago()
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case fmt.Stringer:
		return escapeLine(v.String())
	}
	if text := escapeLine(fmt.Sprint(v)); text != "" {
		return text
	}
	return noValue
}

// width returns the width of the terminal that tables must fit.
func (t *terminal) width() int {
	if f, ok := t.out.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > tableWidth {
			return width
		}
	}
	return tableWidth
}

func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// moment is a time that JSON shows as the API does, and a table as the time that has
// passed since.
type moment struct{ time.Time }

// String returns the time as the API formats it.
func (m moment) String() string { return m.UTC().Format("2006-01-02T15:04:05.000Z") }

// MarshalJSON implements json.Marshaler.
func (m moment) MarshalJSON() ([]byte, error) { return []byte(`"` + m.String() + `"`), nil }

// ago returns how long ago the time was, or how far ahead it is.
func (m moment) ago() string {
	since := time.Since(m.Time)
	switch {
	case since < -time.Second:
		return "in " + formatDuration(time.Minute/2-since) // an hour that has just begun is one
	case since < time.Second:
		return "now"
	}
	return formatDuration(since) + " ago"
}

// formatDuration returns a duration in its largest whole unit, such as 3 min.
func formatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d < 730*day:
		return fmt.Sprintf("%d days", d/day)
	}
	return fmt.Sprintf("%d years", d/(365*day))
}

// count returns a number with what it counts: 1 key, 2 keys.
func count[N ~int | ~int64](n N, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// formatBytes returns a size in binary units.
func formatBytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, units := float64(n)/unit, "KMGTP"
	for value >= unit && len(units) > 1 {
		value, units = value/unit, units[1:]
	}
	return fmt.Sprintf("%.1f %ciB", value, units[0])
}

// section writes a table under a title.
func (t *terminal) section(title string, rows []map[string]any, columns ...string) error {
	if _, err := fmt.Fprintf(t.out, "\n%s\n", title); err != nil {
		return err
	}
	return t.table(rows, columns...)
}
