// Command agento is a self-hosted control plane for OpenClaw agents. serve and dev run
// the server; accounts, plans, keys, users, installation, backup, gc and doctor work on the data directory,
// through the socket of its server if one runs; migrate and gateways work on it alone; the
// other commands call a running server through its API.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"agento.host/agento/internal/runtime/process"
	"agento.host/agento/internal/textfile/confined"
)

// version is set by the linker.
var version = "dev"

// defaultPath is where programs such as bwrap are found without a PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func main() {
	process.MarkCloseOnExec()    // what the parent has left open is for none of the programs that are started
	if os.Getenv("PATH") == "" { // a service may have no environment
		if err := os.Setenv("PATH", defaultPath); err != nil {
			_, _ = os.Stderr.WriteString("agento: " + err.Error() + "\n")
			os.Exit(1)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := runCommand(ctx, os.Args[1:], &terminal{out: os.Stdout, err: os.Stderr, in: os.Stdin})
	stop()
	if code != 0 {
		os.Exit(code)
	}
}

// runCommand runs a command line, prints its error and returns the exit code.
func runCommand(ctx context.Context, args []string, t *terminal) int {
	t.json = wantsJSON(args)
	err := t.run(ctx, args)
	if err == nil {
		return 0
	}
	r := reportOf(err)
	r.print(t)
	return r.exit
}

// wantsJSON reports whether a command line asks for JSON. It is for errors, which may be
// in the command line itself.
func wantsJSON(args []string) bool {
	if on, err := strconv.ParseBool(os.Getenv("AGENTO_JSON")); err == nil && on {
		return true
	}
	for _, a := range args {
		if a == "--" {
			break
		}
		if a == "--json" || a == "--json=true" {
			return true
		}
	}
	return false
}

// commands is the command line. Every flag can also be set in the environment, as AGENTO_….
type commands struct {
	Agents      agentsCommand      `cmd:"" group:"agents" help:"Create, show, change, start, stop and delete agents."`
	Chat        chatCommand        `cmd:"" group:"agents" help:"Talk to an agent: one message, or a conversation."`
	Sessions    sessionsCommand    `cmd:"" group:"agents" help:"List and start chat sessions of an agent."`
	History     historyCommand     `cmd:"" group:"agents" help:"Print what was said."`
	Turns       turnsCommand       `cmd:"" group:"agents" help:"List, show, follow and cancel turns: a message with its answer."`
	Logs        logsCommand        `cmd:"" group:"agents" help:"Print an agent's log."`
	Personality personalityCommand `cmd:"" group:"agents" help:"Show and change SOUL.md, an agent's personality."`
	Identity    identityCommand    `cmd:"" group:"agents" help:"Show IDENTITY.md, and restore versions of it."`
	Workflow    workflowCommand    `cmd:"" group:"agents" help:"Show and change WORKFLOW.md, an agent's role and procedures."`
	Rules       rulesCommand       `cmd:"" group:"agents" help:"Show and change the rules of an agent."`
	Skills      skillsCommand      `cmd:"" group:"agents" help:"Browse skills and install them on agents."`
	Knowledge   knowledgeCommand   `cmd:"" group:"agents" help:"Import texts into knowledge bases, search and delete them."`
	Swarms      swarmsCommand      `cmd:"" group:"agents" help:"Manage swarms, which share knowledge and keys."`
	Widgets     widgetsCommand     `cmd:"" group:"agents" help:"Manage chat widgets: agents on websites."`
	Account     accountCommand     `cmd:"" group:"agents" help:"Show the account with its plan and use."`
	Usage       usageCommand       `cmd:"" group:"agents" help:"Show tokens, requests and money by day, hour, agent, swarm, peer, session, model or key."`
	Attention   attentionCommand   `cmd:"" group:"agents" help:"List what waits for you: agents in error, refused keys, edits to approve, near limits."`
	Audit       auditCommand       `cmd:"" group:"agents" help:"List who changed what."`

	Serve        serveCommand        `cmd:"" group:"server" help:"Run the control plane."`
	Dev          devCommand          `cmd:"" group:"server" help:"Run it with a temporary account, a printed key, and a scripted model that needs no provider key."`
	Accounts     accountsCommand     `cmd:"" group:"server" help:"Create, show, change, disable and delete accounts."`
	Plans        plansCommand        `cmd:"" group:"server" help:"List plans, and check a plans file."`
	Keys         keysCommand         `cmd:"" group:"server" help:"Create, list, change, rotate and revoke API keys."`
	Users        usersCommand        `cmd:"" group:"server" help:"Invite people, list and remove them, reset passwords, make operators."`
	Servers      serversCommand      `cmd:"" group:"server" help:"Add, show, check, cordon and remove the servers that run agents."`
	Installation installationCommand `cmd:"" group:"server" help:"Manage what belongs to no account."`
	Restore      restoreCommand      `cmd:"" group:"server" help:"Make a data directory from a backup: a new installation, which is quiet until it is activated."`
	Activate     activateCommand     `cmd:"" group:"server" help:"Let a restored installation act, once its original does not any more."`
	Vault        vaultCommand        `cmd:"" group:"server" help:"Replace the master key."`
	Backup       backupCommand       `cmd:"" group:"server" help:"Make, list and verify backups."`
	Migrate      migrateCommand      `cmd:"" group:"server" help:"Create the database, or copy and migrate it, without starting a server."`
	Gateways     gatewaysCommand     `cmd:"" group:"server" help:"List and stop the gateways of a data directory without a server."`
	Top          topCommand          `cmd:"" group:"server" help:"Show what the agents of all accounts use, live."`
	GC           gcCommand           `cmd:"" group:"server" name:"gc" help:"Remove what is kept until you remove it: older copies of the database, files of agents in quarantine."`
	Doctor       doctorCommand       `cmd:"" group:"server" help:"Show what is installed, what is missing and how to fix it."`
	Install      installCommand      `cmd:"" group:"server" help:"Install the pinned agent runtime."`

	Completion completionCommand `cmd:"" group:"other" help:"Print what makes a shell complete the commands."`
	Version    versionCommand    `cmd:"" group:"other" help:"Print the version."`
	Help       helpCommand       `cmd:"" group:"other" help:"Show the commands, or the flags of one."`

	JSON        bool             `help:"Print JSON, errors too."`
	VersionFlag kong.VersionFlag `name:"version" env:"-" help:"Print the version."`
}

// terminal is where a command writes: results to out, progress and messages to err. It
// reads from in.
type terminal struct {
	out, err io.Writer
	in       *os.File
	json     bool
}

func (t *terminal) run(ctx context.Context, args []string) error {
	if err := refuseKeyArgument(args); err != nil {
		return err
	}
	var c commands
	exited := errors.New("exited")
	parser, err := newParser(&c, t.out, t.err, func(int) { panic(exited) })
	if err != nil {
		return err
	}
	switch {
	case len(args) == 0:
		return shortHelp(parser, t.out)
	case args[0] == completeCommand:
		return complete(ctx, parser.Model.Node, args[1:], t.out)
	case args[0] == confined.Command:
		return confined.Main(ctx, args[1:], t.in, t.out)
	case args[0] == "help":
		args = append(slices.Clone(args[1:]), "--help")
	default:
		if err := refuseRenamed(args); err != nil {
			return err
		}
	}
	parsed, err := parse(parser, args, exited)
	if parsed == nil {
		return hideSecretArgument(err) // nil if kong has printed the help
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	t.json = c.JSON
	return parsed.Run(t)
}

// refuseRenamed names the new command for one of an earlier version.
func refuseRenamed(args []string) error {
	words := slices.DeleteFunc(slices.Clone(args), func(a string) bool { return strings.HasPrefix(a, "-") })
	switch {
	case len(words) > 0 && words[0] == "secrets":
		return usageError("the secrets of the installation are at agento installation secrets, those of an agent at agento agents secrets")
	case len(words) > 1 && words[0] == "knowledge" && words[1] == "add":
		return usageError("agento knowledge import has replaced agento knowledge add")
	}
	return nil
}

func newParser(c *commands, stdout, stderr io.Writer, exit func(int)) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("agento"), kong.Description("A self-hosted control plane for OpenClaw agents."),
		kong.Writers(stdout, stderr), kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "agents", Title: "Agents, through a running server:"},
			{Key: "server", Title: "The server and its data directory:"},
			{Key: "other", Title: "Other:"},
		}),
		kong.DefaultEnvars("AGENTO"), kong.Vars{"data": defaultData(), "version": "agento " + version},
		kong.Exit(exit))
}

// parse returns no context if kong has printed its help. Kong then calls Exit, which
// panics here.
func parse(parser *kong.Kong, args []string, exited error) (parsed *kong.Context, err error) {
	defer func() {
		if p := recover(); p != nil {
			if p != any(exited) {
				panic(p)
			}
			parsed, err = nil, nil
		}
	}()
	return parser.Parse(args)
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run(t *terminal) error {
	return t.print(map[string]any{"version": version}, "agento "+version)
}
