package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// completeCommand is what the scripts of completion call with the words of a command
// line. The libraries that complete for kong (kongplete, kong-completion) were last
// released in 2023 and 2022.
const completeCommand = "__complete"

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// The scripts ask agento itself, so that they fit every version. Where it has no answer,
// the shell completes file names.
var completionScripts = map[string]string{
	"bash": `# In ~/.bashrc: source <(agento completion bash)
_agento() {
	local IFS=$'\n'
	COMPREPLY=($(agento ` + completeCommand + ` "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _agento agento
`,
	"zsh": `# In ~/.zshrc, after compinit: source <(agento completion zsh)
_agento() {
	local -a found
	found=("${(@f)$(agento ` + completeCommand + ` "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	if [[ -n "$found[1]" ]]; then compadd -a found; else _files; fi
}
compdef _agento agento
`,
	"fish": `# In ~/.config/fish/completions/agento.fish: agento completion fish | source
function __agento_complete
	set -l words (commandline -opc) (commandline -ct)
	agento ` + completeCommand + ` $words[2..-1] 2>/dev/null
end
complete -c agento -a '(__agento_complete)'
`,
}

// Run prints the script.
func (c completionCommand) Run(t *terminal) error {
	script := completionScripts[c.Shell]
	if t.json {
		return t.printJSON(map[string]any{"shell": c.Shell, "script": script})
	}
	_, err := io.WriteString(t.out, script)
	return err
}

// complete prints what can be the last of the words: commands, flags, or values of a flag
// or argument that has only some.
func complete(_ context.Context, node *kong.Node, words []string, w io.Writer) error {
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	var flag *kong.Flag // whose value is next
	arguments := 0
	for _, word := range words[:len(words)-1] {
		switch {
		case flag != nil:
			flag = nil
		case strings.HasPrefix(word, "-"):
			if f := findFlag(node, word); f != nil && !f.IsBool() && !strings.Contains(word, "=") {
				flag = f
			}
		default:
			if child := findCommand(node, word); child != nil {
				node, arguments = child, 0
			} else {
				arguments++
			}
		}
	}
	var found []string
	switch {
	case flag != nil:
		found = valuesOf(flag.Value)
	case strings.HasPrefix(last, "-"):
		for _, flags := range node.AllFlags(true) {
			for _, f := range flags {
				found = append(found, "--"+f.Name)
			}
		}
	case len(node.Children) > 0:
		for _, child := range node.Children {
			if !child.Hidden {
				found = append(found, child.Name)
			}
		}
	case arguments < len(node.Positional):
		found = valuesOf(node.Positional[arguments])
	}
	slices.Sort(found)
	for _, f := range slices.Compact(found) {
		if strings.HasPrefix(f, last) {
			if _, err := fmt.Fprintln(w, f); err != nil {
				return err
			}
		}
	}
	return nil
}

func valuesOf(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return slices.DeleteFunc(v.EnumSlice(), func(s string) bool { return s == "" })
}

func findCommand(node *kong.Node, name string) *kong.Node {
	for _, child := range node.Children {
		if child.Name == name || slices.Contains(child.Aliases, name) {
			return child
		}
	}
	return nil
}

func findFlag(node *kong.Node, word string) *kong.Flag {
	name, _, _ := strings.Cut(word, "=")
	for _, flags := range node.AllFlags(false) {
		for _, f := range flags {
			if name == "--"+f.Name || f.Short != 0 && name == "-"+string(f.Short) {
				return f
			}
		}
	}
	return nil
}
