package pool

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/pool/sshlink"
	"agento.host/agento/internal/vault"
)

// Topic is notified of each change of the servers of the pool.
const Topic event.Topic = "pool/servers"

// Settings configure a Service.
type Settings struct {
	DB     *database.DB
	Events *event.Log
	Vault  *vault.Vault // nil: nothing connects, and no key is made
	Log    *slog.Logger
	Image  string // that servers need, for Check; empty: none
	Engine string // of Local, the path of its socket, in place of the record's; empty: the record's

	PingEvery time.Duration // how often an engine is asked whether it answers; 0: 15 s
	Keepalive time.Duration // between two keepalives of a connection; 0: sshlink's

	// AgentsOn returns how many agents are on a server. Nil: none.
	AgentsOn func(ctx context.Context, server string) (int, error)
}

// Service holds what the operator may do with pool servers.
type Service struct{ Settings }

// New returns the service.
func New(s Settings) *Service {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if s.PingEvery == 0 {
		s.PingEvery = 15 * time.Second
	}
	return &Service{s}
}

// List returns the servers: local first, then by name.
func (s *Service) List(ctx context.Context) ([]Server, error) { return list(ctx, s.DB) }

// Find returns a server by its name. Faults: NotFound.
func (s *Service) Find(ctx context.Context, name string) (Server, error) {
	return find(ctx, s.DB, name)
}

// Regions returns every region that an agent can be in, sorted.
func (s *Service) Regions(ctx context.Context) ([]string, error) {
	all, err := list(ctx, s.DB)
	return Regions(all), err
}

// NewServer is a server to add.
type NewServer struct {
	Name     string
	Login    string // user@host[:port]
	Socket   string // of its engine; empty: DefaultSocket
	Regions  []string
	Memory   int64 // bytes; 0: no limit
	Agents   int   // 0: no limit
	HostKeys []ssh.PublicKey
	Identity vault.Secret // the private key to log in with; empty: one is made
}

// HostKeys returns the host keys that a server shows, for somebody to confirm. Faults:
// Invalid; Upstream, if it cannot be reached.
func (s *Service) HostKeys(ctx context.Context, login string) ([]ssh.PublicKey, error) {
	_, address, err := ParseSSH(login)
	if err != nil {
		return nil, err
	}
	keys, err := sshlink.ScanHostKeys(ctx, address)
	if err != nil {
		return nil, fault.New(fault.Upstream, "The host keys of %s cannot be read: %v. Is sshd there, and does a firewall let it be reached?", login, err)
	}
	return keys, nil
}

// Add stores a server, and the private key for it in the vault. The operator puts
// Server.PublicKey into authorized_keys then. Faults: Invalid; Conflict, if there is one of
// that name or address.
func (s *Service) Add(ctx context.Context, actor identity.Actor, in NewServer) (Server, error) {
	user, address, err := ParseSSH(in.Login)
	if err != nil {
		return Server{}, err
	}
	if in.Socket == "" {
		in.Socket = DefaultSocket
	}
	n := Server{
		ID: "server_" + uuid.Must(uuid.NewV7()).String(), Name: in.Name, User: user, Address: address, Socket: in.Socket, Regions: slices.Clone(in.Regions),
		Memory: in.Memory, Agents: in.Agents, State: Active, HostKeys: in.HostKeys, CreatedAt: time.Now().UTC().Truncate(time.Millisecond), DiskFree: -1,
	}
	if err := n.check(); err != nil {
		return Server{}, err
	}
	private, line, err := useKey(in.Identity, n.Name)
	if err != nil {
		return Server{}, err
	}
	n.PublicKey = line
	return n, s.DB.Tx(ctx, "pool.add", func(ctx context.Context, tx *database.Tx) error {
		all, err := list(ctx, tx)
		if err != nil {
			return err
		}
		for _, o := range all {
			if o.Name == n.Name || o.User == n.User && o.Address == n.Address && o.Socket == n.Socket {
				return fault.New(fault.Conflict, "The pool has the server %s at %s already. Remove it first, or choose another name or login.", o.Name, o.SSH())
			}
		}
		if err := insert(ctx, tx, n); err != nil {
			return err
		}
		if err := s.Vault.PutServerKey(ctx, tx, n.ID, private, false); err != nil {
			return err
		}
		return s.append(ctx, tx, actor, n, "server.added", map[string]any{"login": n.SSH(), "regions": n.Regions, "hostKeys": sshlink.Fingerprints(n.HostKeys)})
	})
}

// Cordon keeps further agents from a server, or lets them come again. Faults: NotFound;
// Conflict, if the server is being drained or was abandoned.
func (s *Service) Cordon(ctx context.Context, actor identity.Actor, name string, on bool) (Server, error) {
	to, kind := Active, "server.uncordoned"
	if on {
		to, kind = Cordoned, "server.cordoned"
	}
	return s.change(ctx, actor, name, kind, nil, func(ctx context.Context, tx *database.Tx, n *Server) error {
		if n.State != Active && n.State != Cordoned {
			return fault.New(fault.Conflict, "The server %s is %s.", n.Name, n.State)
		}
		n.State = to
		return set(ctx, tx, n.ID, "state", to)
	})
}

// RotateKey makes another key for a server, or takes the one that is given. Both keys are
// offered until the new one has worked; then the former is deleted. Faults: NotFound; Invalid.
func (s *Service) RotateKey(ctx context.Context, actor identity.Actor, name string, given vault.Secret) (Server, error) {
	private, line, err := useKey(given, name)
	if err != nil {
		return Server{}, err
	}
	return s.change(ctx, actor, name, "server.key_rotated", nil, func(ctx context.Context, tx *database.Tx, n *Server) error {
		if n.IsLocal() {
			return errNoLogin
		}
		n.NewKey = line
		if err := set(ctx, tx, n.ID, "new_key", line); err != nil {
			return err
		}
		return s.Vault.PutServerKey(ctx, tx, n.ID, private, true)
	})
}

var errNoLogin = fault.New(fault.Conflict, "The server local is the machine that agento runs on: nobody logs in to it.")

// ConfirmHostKeys replaces the host keys that a server may have, by those of the keys whose
// fingerprints are named. Faults: NotFound; Invalid.
func (s *Service) ConfirmHostKeys(ctx context.Context, actor identity.Actor, name string, keys []ssh.PublicKey) (Server, error) {
	if len(keys) == 0 {
		return Server{}, fault.New(fault.Invalid, "No host key was confirmed.")
	}
	return s.change(ctx, actor, name, "server.host_keys_confirmed", map[string]any{"hostKeys": sshlink.Fingerprints(keys)}, func(ctx context.Context, tx *database.Tx, n *Server) error {
		if n.IsLocal() {
			return errNoLogin
		}
		n.HostKeys, n.Problem = keys, ""
		if err := set(ctx, tx, n.ID, "host_keys", FormatHostKeys(keys)); err != nil {
			return err
		}
		return set(ctx, tx, n.ID, "problem", "")
	})
}

// Remove removes a server without agents, and destroys its key. Faults: NotFound; Conflict.
func (s *Service) Remove(ctx context.Context, actor identity.Actor, name string) (Server, error) {
	if s.AgentsOn != nil {
		n, err := s.AgentsOn(ctx, name)
		if err != nil {
			return Server{}, err
		}
		if n > 0 {
			return Server{}, fault.New(fault.Conflict, "The server %s has %d agents: move them away first.", name, n)
		}
	}
	return s.change(ctx, actor, name, "server.removed", nil, func(ctx context.Context, tx *database.Tx, n *Server) error {
		if n.IsLocal() {
			return fault.New(fault.Conflict, "The server local is the machine that agento runs on and cannot be removed: agento servers cordon local keeps agents from it.")
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM pool_servers WHERE id = $1`, n.ID); err != nil {
			return fmt.Errorf("remove pool server %s: %w", n.Name, err)
		}
		return vault.ShredServer(ctx, tx, n.ID)
	})
}

// change changes a server in a transaction, and appends the event.
func (s *Service) change(ctx context.Context, actor identity.Actor, name, kind string, data map[string]any, f func(ctx context.Context, tx *database.Tx, n *Server) error) (n Server, err error) {
	err = s.DB.Tx(ctx, "pool.change", func(ctx context.Context, tx *database.Tx) error {
		if n, err = find(ctx, tx, name); err != nil {
			return err
		}
		if err := f(ctx, tx, &n); err != nil {
			return err
		}
		return s.append(ctx, tx, actor, n, kind, data)
	})
	return n, err
}

// append appends to the audit log without an account: servers are the operator's.
func (s *Service) append(ctx context.Context, tx *database.Tx, actor identity.Actor, n Server, kind string, data map[string]any) error {
	if data == nil {
		data = map[string]any{}
	}
	data["name"] = n.Name
	actor.AccountID = vault.InstallationAccount
	s.Events.NotifyAfterCommit(tx, Topic)
	return s.Events.Append(ctx, tx, actor, event.Event{Topic: event.Topic("server/" + n.Name), Kind: kind, Data: data})
}
