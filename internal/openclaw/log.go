package openclaw

import (
	"encoding/json"
	"strings"
	"time"
)

const (
	// hiddenText stands in a log for what may be the text of a conversation.
	hiddenText = "(text of a conversation, not shown)"
	// maxPlainLine is the length in bytes of the longest line that is shown although it is
	// not JSON. A longer one may be part of a message.
	maxPlainLine = 16 << 10
)

// LogLine formats one line of a gateway's output as "TIME [level] message". Lines
// that are not OpenClaw's JSON (its first boot prints some, Node prints its crashes)
// stay as they are, without colours.
//
// OpenClaw prints the answer to each turn, whatever its log level is, without a
// subsystem, which all other lines below a warning have. Package install leaves these
// lines out; LogLine hides the message of one that is older, or comes nevertheless, and a line that is a part of JSON, as after a rotation.
func LogLine(line string) string {
	var entry struct {
		Time, Level, Subsystem, Message string
	}
	text := strings.TrimSpace(line)
	if !strings.HasPrefix(text, "{") || json.Unmarshal([]byte(text), &entry) != nil {
		if strings.HasPrefix(text, `{"`) || strings.HasSuffix(text, `"}`) || len(text) > maxPlainLine {
			return hiddenText
		}
		return stripControls(line)
	}
	if entry.Message == "" {
		return stripControls(line)
	}
	if entry.Level == "" {
		entry.Level = "info"
	}
	if entry.Subsystem == "" && entry.Level != "warn" && entry.Level != "error" && entry.Level != "fatal" {
		entry.Message = hiddenText
	}
	out := formatTime(entry.Time) + " [" + entry.Level + "] "
	if entry.Subsystem != "" {
		out += entry.Subsystem + ": "
	}
	return stripControls(out + entry.Message)
}

func formatTime(s string) string {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return s
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

// stripControls removes line breaks, colours and other control characters, because
// logs are read in terminals.
func stripControls(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == 0x1b { // an escape sequence ends with a letter
			for i++; i < len(s) && (s[i] < '@' || s[i] > '~' || s[i] == '['); i++ {
			}
			continue
		}
		switch {
		case s[i] == '\n' || s[i] == '\r' || s[i] == '\t':
			b.WriteByte(' ')
		case s[i] >= ' ' && s[i] != 0x7f:
			b.WriteByte(s[i])
		}
	}
	return strings.TrimRight(b.String(), " ")
}
