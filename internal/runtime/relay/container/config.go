//go:build linux

// Package container is the relay: the first process of an agent's container. It launches the
// gateway when the control plane says so, and carries what goes in and out. The agent has the
// same user and is hostile: nothing that it does here gives it more than it has.
package container

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"agento.host/agento/internal/runtime/relay/wire"
)

// config is where things are, and whose the relay is.
type config struct {
	socket      string
	volume      string
	run         string
	gatewayPort int
	server      string // where the gateway calls the server
	proxy       string
	filesOnly   bool
	filesIdle   time.Duration // after which a relay without a gateway ends

	claim wire.Claim
	key   ed25519.PublicKey
}

func (c config) home() string    { return filepath.Join(c.volume, wire.HomeName) }
func (c config) trash() string   { return filepath.Join(c.volume, wire.TrashName) }
func (c config) secrets() string { return filepath.Join(c.run, wire.SecretsName) }

func (c config) paths() wire.Paths {
	return wire.Paths{Home: c.home(), Secrets: c.secrets(), Server: c.server, Port: c.gatewayPort}
}

// Main is the program. It returns its exit code.
func Main(args []string, stdin io.Reader, stdout, stderr *os.File) int {
	if len(args) == 0 {
		args = []string{""}
	}
	var err error
	switch args[0] {
	case "run", "files":
		var code int
		if code, err = run(args[0], args[1:], stderr); err == nil {
			return code
		}
	case "connect":
		err = connect(args[1:], stdin, stdout)
	default:
		err = errors.New("use: agento-relay run | files | connect")
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "agento-relay:", err)
		return wire.ExitFailed
	}
	return 0
}

// hide keeps other processes of this user from reading this one's memory and environment, and
// from tracing it.
func hide() error {
	return errors.Join(unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0), unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
}

// parse reads the flags, which are for tests: in a container everything is where wire says.
func parse(mode string, args []string) (config, error) {
	c := config{filesOnly: mode == "files"}
	flags := flag.NewFlagSet(mode, flag.ContinueOnError)
	flags.StringVar(&c.socket, "socket", wire.Socket, "unix socket for connect")
	flags.StringVar(&c.volume, "volume", wire.VolumePath, "directory of the home and its trash")
	flags.StringVar(&c.run, "run", wire.RunPath, "directory of the secrets file")
	flags.IntVar(&c.gatewayPort, "gateway-port", wire.GatewayPort, "port of the gateway")
	flags.StringVar(&c.server, "server", fmt.Sprintf("127.0.0.1:%d", wire.ServerPort), "address where the gateway calls the server")
	flags.StringVar(&c.proxy, "proxy", fmt.Sprintf("127.0.0.1:%d", wire.ProxyPort), "address of the proxy")
	flags.DurationVar(&c.filesIdle, "files-idle", 30*time.Second, "when files ends after its last session")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	return c, c.readEnvironment()
}

// readEnvironment reads whose relay this is, and clears the environment.
func (c *config) readEnvironment() error {
	defer os.Clearenv()
	key, err := base64.StdEncoding.DecodeString(os.Getenv(wire.EnvKey))
	if err != nil || len(key) != ed25519.PublicKeySize {
		return fmt.Errorf("%s has no ed25519 public key in base64", wire.EnvKey)
	}
	c.key = key
	c.claim = wire.Claim{Agent: os.Getenv(wire.EnvAgent), Place: os.Getenv(wire.EnvPlace)}
	if c.claim.Epoch, err = strconv.ParseInt(os.Getenv(wire.EnvEpoch), 10, 64); err != nil || c.claim.Agent == "" || c.claim.Place == "" {
		return fmt.Errorf("%s, %s and %s must say whose relay this is", wire.EnvAgent, wire.EnvPlace, wire.EnvEpoch)
	}
	return nil
}
