// Command agento is a self-hosted control plane for OpenClaw agents. serve and dev run
// the server; accounts, plans, keys, secrets, gc and doctor work on the data directory, through
// the socket of its server if one runs; migrate and gateways work on it alone; the other
// commands call a running server through its API.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"reflect"
	"syscall"

	"github.com/alecthomas/kong"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/runtime/process"
)

// version is set by the linker.
var version = "dev"

// defaultPath is where programs such as bwrap are found without a PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func main() {
	process.MarkCloseOnExec() // what the parent has left open is for none of the programs that are started
	if os.Getenv("PATH") == "" { // a service may have no environment
		if err := os.Setenv("PATH", defaultPath); err != nil {
			fmt.Fprintln(os.Stderr, "agento:", err)
			os.Exit(1)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "agento:", err)
		os.Exit(1)
	}
}

// commands is the command line. Every flag can also be set in the environment, as AGENTO_….
type commands struct {
	Serve     serveCommand     `cmd:"" help:"Run the control plane."`
	Dev       devCommand       `cmd:"" help:"Run it with a temporary account, a printed key, and a scripted model that needs no provider key."`
	Accounts  accountsCommand  `cmd:"" help:"Create, show, change, disable and delete accounts."`
	Plans     plansCommand     `cmd:"" help:"List plans, and check a plans file."`
	Keys      keysCommand      `cmd:"" help:"Create, list, change, rotate and revoke API keys."`
	Secrets   secretsCommand   `cmd:"" help:"Set, list and delete secrets of the installation."`
	Vault     vaultCommand     `cmd:"" help:"Replace the master key."`
	Migrate   migrateCommand   `cmd:"" help:"Create the database, or copy and migrate it, without starting a server."`
	Gateways  gatewaysCommand  `cmd:"" help:"List and stop the gateways of a data directory without a server."`
	GC        gcCommand        `cmd:"" name:"gc" help:"Remove what is kept until you remove it: older copies of the database, files of agents in quarantine."`
	Doctor    doctorCommand    `cmd:"" help:"Show what is installed, what is missing and how to fix it."`
	Install   installCommand   `cmd:"" help:"Install the pinned agent runtime."`
	Agents    agentsCommand    `cmd:"" help:"Manage agents of a running server."`
	Chat      chatCommand      `cmd:"" help:"Send a message to an agent and print its answer while it arrives."`
	Logs      logsCommand      `cmd:"" help:"Print an agent's log."`
	Skills    skillsCommand    `cmd:"" help:"Browse skills and install them on agents."`
	Knowledge knowledgeCommand `cmd:"" help:"Add texts to knowledge bases and search them."`
	Swarms    swarmsCommand    `cmd:"" help:"Manage swarms."`
	Version   versionCommand   `cmd:"" help:"Print the version."`
	JSON      bool             `help:"Print JSON."`
}

// terminal is where a command writes: results to out, progress and messages to err.
type terminal struct {
	out, err io.Writer
	json     bool
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if err := refuseKeyArgument(args); err != nil {
		return err
	}
	var c commands
	exited := errors.New("exited")
	parser, err := kong.New(&c,
		kong.Name("agento"), kong.Description("A self-hosted control plane for OpenClaw agents."),
		kong.Writers(stdout, stderr), kong.UsageOnError(),
		kong.DefaultEnvars("AGENTO"), kong.Vars{"data": defaultData()},
		kong.Exit(func(int) { panic(exited) }))
	if err != nil {
		return err
	}
	parsed, err := parse(parser, args, exited)
	if parsed == nil {
		return hideSecretArgument(err) // nil if kong has printed the help
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	return parsed.Run(&terminal{out: stdout, err: stderr, json: c.JSON})
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
	_, err := fmt.Fprintln(t.out, "agento", version)
	return err
}

// remote has the address and key of the API.
type remote struct {
	URL    string `help:"Address of the server." default:"http://127.0.0.1:8080"`
	APIKey string `help:"API key." required:""`
}

// AfterApply refuses arguments that are empty, such as --peer "$USER_ID" of a script whose
// variable is not set: the request would be that of a caller who names no peer.
func (remote) AfterApply(parsed *kong.Context) error {
	for _, p := range parsed.Path {
		switch {
		case p.Flag != nil && isEmptyText(p.Flag.Value):
			return fmt.Errorf("--%s must not be empty: leave it out, or give a value", p.Flag.Name)
		case p.Positional != nil && isEmptyText(p.Positional):
			return fmt.Errorf("<%s> must not be empty", p.Positional.Name)
		}
	}
	return nil
}

func isEmptyText(v *kong.Value) bool {
	return v.Target.Kind() == reflect.String && fault.IsBlank(v.Target.String())
}

func (r remote) client() *client.Client { return &client.Client{URL: r.URL, APIKey: r.APIKey} }
