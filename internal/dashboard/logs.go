package dashboard

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"agento.host/agento/client"
)

const (
	logsRead  = 1000   // lines that the first paint chooses from
	logsShown = 300    // of them, the newest
	logsWhole = 10_000 // of a download, the most that the API gives
)

// logPage is the data of the log of an agent.
type logPage struct {
	Lines  []logLine
	Levels []choice
	Read   int // how many lines were looked at
}

// logLine is a line of a log.
type logLine struct {
	At    *client.Time // nil: it has none
	Level string       // empty: it goes on with the line before
	Text  string
	Gap   bool // it says that lines are missing
}

// logLineFormat is that of logs.js, too.
var logLineFormat = regexp.MustCompile(`^(\d{4}-\d\d-\d\dT\S+) \[(\w+)\] ?(.*)$`)

// lostLines begins the line that a reader gets who is too slow.
const lostLines = "… "

func parseLogLine(text string) logLine {
	if m := logLineFormat.FindStringSubmatch(text); m != nil {
		if at, err := time.Parse(time.RFC3339Nano, m[1]); err == nil {
			return logLine{At: &client.Time{Time: at}, Level: m[2], Text: m[3]}
		}
	}
	return logLine{Text: text, Gap: strings.HasPrefix(text, lostLines)}
}

// logLevels are the levels by how much they ask for attention.
func logLevels() []string { return []string{"debug", "info", "warn", "error"} }

// rankOf returns the place of a level in logLevels.
func rankOf(level string) int {
	switch level {
	case "trace":
		return 0
	case "warning":
		return 2
	case "fatal":
		return 3
	}
	if i := slices.Index(logLevels(), level); i >= 0 {
		return i
	}
	return 1
}

// chooseLines returns the lines that a level and a text select. A line without a level belongs
// to the one before.
func chooseLines(text, level, search string) []logLine {
	var chosen []logLine
	least, current := 0, 1
	if level != "" {
		least = rankOf(level)
	}
	search = strings.ToLower(search)
	for raw := range strings.Lines(text) {
		line := parseLogLine(strings.TrimRight(raw, "\r\n"))
		if line.Level != "" {
			current = rankOf(line.Level)
		}
		if line.Gap || current >= least && strings.Contains(strings.ToLower(line.Text), search) {
			chosen = append(chosen, line)
		}
	}
	return chosen
}

func (s *Server) agentLogs(v *visit) error {
	a, err := v.API.Agent(v.Context(), v.Arg("id"))
	if err != nil {
		return err
	}
	text, err := v.API.Logs(v.Context(), a.ID, logsRead)
	if err != nil {
		return err
	}
	lines := chooseLines(text, v.Query("level"), v.Query("search"))
	lines = lines[max(0, len(lines)-logsShown):]
	return v.RenderAgent("logs", a, "Logs", logPage{
		Lines: lines, Read: strings.Count(text, "\n"),
		Levels: []choice{{"", "every level"}, {"info", "info and above"}, {"warn", "warnings and errors"}, {"error", "errors only"}},
	})
}

// downloadLogs answers with the log as a file.
func (s *Server) downloadLogs(v *visit) error {
	text, err := v.API.Logs(v.Context(), v.Arg("id"), logsWhole)
	if err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	v.w.Header().Set("Content-Disposition", `attachment; filename="`+headerText(v.Arg("id"))+`.log"`)
	v.w.WriteHeader(http.StatusOK)
	_, _ = v.w.Write([]byte(text)) // fails if the browser has gone
	return nil
}

// headerText returns a text as it can stand in a header.
func headerText(text string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			return c
		}
		return '-'
	}, text)
}
