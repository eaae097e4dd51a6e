package main

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

type logsCommand struct {
	agentArg
	Tail   int    `help:"Number of lines." default:"100"`
	Follow bool   `help:"Print new lines as they appear." short:"f"`
	Level  string `help:"Only lines of this level or a worse one: debug, info, warn or error." enum:",debug,info,warn,error" default:""`
	Grep   string `help:"Only lines that match this regular expression." placeholder:"REGEXP"`
}

// maxTail is the most lines that the server returns of a log.
const maxTail = 10000

// Run prints the log. With a filter, --tail counts the lines that it lets through.
func (c logsCommand) Run(ctx context.Context, t *terminal) error {
	if c.Tail < 1 || c.Tail > maxTail {
		return usageError("--tail must be from 1 to %d", maxTail)
	}
	filter, err := newLogFilter(c.Level, c.Grep)
	if err != nil {
		return err
	}
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	tail := c.Tail
	if filter.filters() {
		tail = maxTail
	}
	if c.Follow {
		return c.follow(ctx, t, filter, func(yield func(string, error) bool) { api.FollowLogs(ctx, id, c.Tail)(yield) })
	}
	text, err := api.Logs(ctx, id, tail)
	if err != nil {
		return err
	}
	var lines []logLine
	for line := range strings.Lines(text) {
		if l := parseLogLine(strings.TrimRight(line, "\r\n")); filter.lets(l) {
			lines = append(lines, l)
		}
	}
	lines = lines[max(0, len(lines)-c.Tail):]
	if t.json {
		return t.printJSON(append([]logLine{}, lines...))
	}
	for _, l := range lines {
		if _, err := fmt.Fprintln(t.out, escapeText(l.line)); err != nil {
			return err
		}
	}
	return nil
}

// follow prints lines as they appear; with --json, an object a line.
func (c logsCommand) follow(ctx context.Context, t *terminal, filter logFilter, lines func(func(string, error) bool)) error {
	for line, err := range lines {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		l := parseLogLine(line)
		if !filter.lets(l) {
			continue
		}
		text := escapeText(line)
		if t.json {
			object, err := json.Marshal(l)
			if err != nil {
				return err
			}
			text = escapeJSON(string(object))
		}
		if _, err := fmt.Fprintln(t.out, text); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// logLine is a line of a log. Lines of a program that does not name a time and a level
// have only a message.
type logLine struct {
	Time    string `json:"time,omitempty"`
	Level   string `json:"level,omitempty"`
	Message string `json:"message"`

	line string
}

var logLinePattern = regexp.MustCompile(`^(\S+) \[(\w+)\] (.*)$`)

func parseLogLine(line string) logLine {
	if m := logLinePattern.FindStringSubmatch(line); m != nil {
		return logLine{Time: m[1], Level: m[2], Message: m[3], line: line}
	}
	return logLine{Message: line, line: line}
}

// logLevels has the levels of gateways, from the least to the worst.
var logLevels = map[string]int{"trace": 0, "debug": 1, "info": 2, "warn": 3, "error": 4, "fatal": 5}

// logFilter says which lines are printed.
type logFilter struct {
	level   int
	pattern *regexp.Regexp
}

func newLogFilter(level, pattern string) (logFilter, error) {
	f := logFilter{level: logLevels[level]}
	if pattern == "" {
		return f, nil
	}
	var err error
	if f.pattern, err = regexp.Compile(pattern); err != nil {
		return f, usageError("--grep: %v", err)
	}
	return f, nil
}

func (f logFilter) filters() bool { return f.level > 0 || f.pattern != nil }

// lets reports whether a line is printed. One without a level counts as info.
func (f logFilter) lets(l logLine) bool {
	level, ok := logLevels[strings.ToLower(l.Level)]
	if !ok {
		level = logLevels["info"]
	}
	return level >= f.level && (f.pattern == nil || f.pattern.MatchString(l.line))
}
