package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// helpCommand is only for the help itself: run turns "help COMMAND" into
// "COMMAND --help".
type helpCommand struct {
	Command []string `arg:"" optional:"" help:"The command."`
}

// Run does nothing; see helpCommand.
func (helpCommand) Run() error { return nil }

// shortHelp prints what agento is and what it can do, in one screen.
func shortHelp(parser *kong.Kong, w io.Writer) error {
	var text strings.Builder
	text.WriteString(`agento hosts OpenClaw agents on your own machine.

  agento dev                     try it: a server, a key and a scripted model
  agento serve                   run the server
  agento agents create NAME      create an agent on it
  agento chat NAME               talk to the agent

`)
	var titles []string
	commands := map[string][]string{} // by the title of their group
	for _, c := range parser.Model.Children {
		if c.Hidden || c.Group == nil {
			continue
		}
		title := c.Group.Title
		if len(commands[title]) == 0 {
			titles = append(titles, title)
		}
		commands[title] = append(commands[title], c.Name)
	}
	for _, title := range titles {
		fmt.Fprintf(&text, "%s\n%s\n", title, wrapWords(commands[title], tableWidth))
	}
	text.WriteString("agento help COMMAND shows what a command does.\n")
	_, err := io.WriteString(w, text.String())
	return err
}

// wrapWords returns the words in lines of at most width columns.
func wrapWords(words []string, width int) string {
	var text strings.Builder
	line := " "
	for _, w := range words {
		if len(line)+1+len(w) > width {
			text.WriteString(line + "\n")
			line = " "
		}
		line += " " + w
	}
	text.WriteString(line + "\n")
	return text.String()
}
