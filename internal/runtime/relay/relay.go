// Package relay is the control plane's end of the one connection to a container: the relay at
// the other end is the container's first process, which launches the gateway. The relay is
// trusted for its own container only, and what comes from it is taken as hostile.
package relay

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/relay/wire"
)

// What a container needs, and what its exit code says.
const (
	// VolumePath is where the volume of the agent's home is mounted. Its root must belong to
	// AgentUser, or hold the directories of HomePath and TrashPath, which do.
	VolumePath = wire.VolumePath
	// HomePath is the home: HOME of the gateway.
	HomePath = VolumePath + "/" + wire.HomeName
	// TrashPath has what Home.RemoveAll has removed. It is deleted before a start.
	TrashPath = VolumePath + "/" + wire.TrashName
	// RunPath is a tmpfs of mode 0700 that belongs to AgentUser.
	RunPath = wire.RunPath
	// SecretsPath is the secrets file.
	SecretsPath = RunPath + "/" + wire.SecretsName
	// GatewayPort is the port at which the gateway listens.
	GatewayPort = wire.GatewayPort
	// AgentUser is the user of the container.
	AgentUser = "10001:10001"
	// ConnectUser is the user of ConnectCommand. It is another one, so that no process of the
	// agent can trace it.
	ConnectUser = "10002:10002"
	// ExitOverDisk is the exit code of a container that was ended because the agent's files
	// exceed a limit. A gateway that exits with it by itself is reported as 1.
	ExitOverDisk = wire.ExitOverDisk
)

// RunCommand is the command of a container that runs a gateway.
func RunCommand() []string { return []string{"/agento-relay", "run"} }

// FilesCommand is the command of a container that only serves a home. It ends 30 s after the
// last session.
func FilesCommand() []string { return []string{"/agento-relay", "files"} }

// ConnectCommand is the command to execute in a running container. Its standard input and output
// are the connection for Connect.
func ConnectCommand() []string { return []string{"/agento-relay", "connect"} }

// ErrRefused means that the relay belongs to another key, agent, place or epoch.
var ErrRefused = wire.ErrRefused

// Identity is what a session is opened with: the gateway, and the key of its place.
type Identity struct {
	Agent identity.AgentID
	Place runtime.Place
	Epoch int64
	Key   ed25519.PrivateKey
}

// NewKey returns a key for a place.
func NewKey() (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return key, err
}

// Environment returns the whole environment of the container that takes only sessions of this
// identity. It has no secrets.
func (i Identity) Environment() []string {
	public, _ := i.Key.Public().(ed25519.PublicKey)
	return []string{
		wire.EnvKey + "=" + base64.StdEncoding.EncodeToString(public),
		wire.EnvAgent + "=" + string(i.Agent),
		wire.EnvPlace + "=" + string(i.Place),
		wire.EnvEpoch + "=" + strconv.FormatInt(i.Epoch, 10),
	}
}

func (i Identity) claim() wire.Claim {
	return wire.Claim{Agent: string(i.Agent), Place: string(i.Place), Epoch: i.Epoch}
}

// proofTimeout is how long a proof may take. Source: the command waits 10 s for a relay that has
// just been started.
const proofTimeout = 20 * time.Second

// Connect proves to the relay at the other end who opens the session, and returns the session,
// which ends an older one. conn is closed with the session, and if Connect fails. Errors:
// ErrRefused.
func Connect(ctx context.Context, conn io.ReadWriteCloser, who Identity) (*Session, error) {
	s, err := connect(ctx, conn, who)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("open a session with the relay of %s: %w", who.Agent, err)
	}
	return s, nil
}

func connect(ctx context.Context, conn io.ReadWriteCloser, who Identity) (*Session, error) {
	if len(who.Key) != ed25519.PrivateKeySize {
		return nil, errors.New("no key")
	}
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	paths, err := wire.Prove(conn, who.claim(), who.Key)
	if !stop() {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	if err := checkPaths(paths); err != nil {
		return nil, err
	}
	mux, err := wire.NewMux(conn, true)
	if err != nil {
		return nil, err
	}
	s := &Session{mux: mux, paths: paths, incoming: make(chan struct{}, maxIncoming), done: make(chan struct{})}
	go s.acceptAll()
	return s, nil
}

// checkPaths checks what goes into the gateway's arguments and files.
func checkPaths(p wire.Paths) error {
	for _, s := range []string{p.Home, p.Secrets, p.Server} {
		if s == "" || wire.Printable(s, 200) != s {
			return errors.New("the relay names paths that are none")
		}
	}
	return nil
}
