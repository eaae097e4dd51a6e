package pool

import (
	"context"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/pool/sshlink"
	"agento.host/agento/internal/vault"
)

// Connect returns a link to a server, which connects when it is used. It uses the keys that
// the vault has then, ends the use of a key that was replaced, and stores that the host key
// has changed. The caller closes it. Faults: Conflict, if nothing may be done with the server.
func (s *Service) Connect(n Server) (*sshlink.Link, error) {
	switch {
	case n.IsLocal():
		return nil, errNoLogin
	case n.Problem != "":
		return nil, fault.New(fault.Conflict, "Nothing is done with the server %s: %s.", n.Name, n.Problem)
	}
	return sshlink.New(sshlink.Settings{
		Name: n.Name, User: n.User, Address: n.Address, HostKeys: n.HostKeys, Log: s.Log, Keepalive: s.Keepalive,
		Keys:           func(ctx context.Context) ([]ssh.Signer, error) { return s.keys(ctx, n.ID) },
		LoggedIn:       func(used ssh.PublicKey) { s.loggedIn(n, used) },
		HostKeyChanged: func(e *sshlink.HostKeyError) { s.hostKeyChanged(n, e) },
	}), nil
}

// keys returns the keys to log in with: the new one first, so that it is used once it works.
func (s *Service) keys(ctx context.Context, id string) ([]ssh.Signer, error) {
	present, replacement, err := s.Vault.ServerKeys(ctx, s.DB, id)
	if err != nil {
		return nil, err
	}
	var all []ssh.Signer
	for _, private := range []vault.Secret{replacement, present} {
		if private.Empty() {
			continue
		}
		signer, err := parseKey(private)
		if err != nil {
			return nil, err
		}
		all = append(all, signer)
	}
	return all, nil
}

// storeTimeout is for what is stored although nobody waits for it.
const storeTimeout = 10 * time.Second

// loggedIn replaces the key of a server by its new one, if that was used.
func (s *Service) loggedIn(n Server, used ssh.PublicKey) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	present, err := find(ctx, s.DB, n.Name)
	if err == nil && present.ID == n.ID && present.NewKey != "" && strings.TrimSpace(present.NewKey) == keyLine(used, n.Name) {
		_, err = s.change(ctx, identity.BySystem(""), n.Name, "server.key_replaced", nil, s.promoteKey)
	}
	if err != nil {
		s.Log.WarnContext(ctx, "the new key of a server has worked, and the former could not be deleted: it is tried at the next connection", "server", n.Name, "error", err)
	}
}

func (s *Service) promoteKey(ctx context.Context, tx *database.Tx, n *Server) error {
	_, replacement, err := s.Vault.ServerKeys(ctx, tx, n.ID)
	if err != nil || replacement.Empty() {
		return err
	}
	if err := s.Vault.PutServerKey(ctx, tx, n.ID, replacement, false); err != nil {
		return err
	}
	if err := s.Vault.DropNewServerKey(ctx, tx, n.ID); err != nil {
		return err
	}
	if err := set(ctx, tx, n.ID, "public_key", n.NewKey); err != nil {
		return err
	}
	return set(ctx, tx, n.ID, "new_key", "")
}

// hostKeyChanged stores that nothing is done with a server any more.
func (s *Service) hostKeyChanged(n Server, changed *sshlink.HostKeyError) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	data := map[string]any{"pinned": changed.Pinned, "got": changed.Got}
	_, err := s.change(ctx, identity.BySystem(""), n.Name, "server.host_key_changed", data, func(ctx context.Context, tx *database.Tx, now *Server) error {
		return set(ctx, tx, now.ID, "problem", changed.Error())
	})
	if err != nil {
		s.Log.ErrorContext(ctx, "that the host key of a server has changed could not be stored", "server", n.Name, "error", err)
	}
}

// Reached stores that the engine of a server has answered, and how much of its disk is free;
// negative: that is not known.
func (s *Service) Reached(ctx context.Context, n Server, diskFree int64) error {
	return s.DB.Tx(ctx, "pool.reached", func(ctx context.Context, tx *database.Tx) error {
		if err := set(ctx, tx, n.ID, "reached_at", database.Millis(time.Now())); err != nil || diskFree < 0 {
			return err
		}
		return set(ctx, tx, n.ID, "disk_free", diskFree)
	})
}
