package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/egress"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/vault"
	"agento.host/agento/internal/workspace"
)

// SyncHome brings a running agent up to date in both directions: its edits are
// absorbed, and its home and its secrets become what they should be. It does nothing
// for an agent that no longer runs, or that sleeps: what has changed is applied when it wakes. Errors: *SpecError, if a secret cannot be decrypted.
func (m *Manager) SyncHome(ctx context.Context, id identity.AgentID) error {
	unlock, err := m.homes.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	a, err := m.store.FindByID(ctx, m.db, id)
	if errors.Is(err, sql.ErrNoRows) || err == nil && (!a.IsRunning() || a.IsAsleep()) {
		return nil
	}
	if err != nil {
		return err
	}
	m.absorb(ctx, a)
	return errors.Join(m.syncChanged(ctx, a), m.syncSecrets(ctx, a))
}

// AbsorbEdits stores what an agent has written into its own documents. It does
// nothing for an agent without a gateway, which has written nothing, or that is being
// deleted. That the home cannot be read is logged and not returned: it must not keep
// an agent from being stopped or started.
func (m *Manager) AbsorbEdits(ctx context.Context, id identity.AgentID) error {
	unlock, err := m.homes.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	a, err := m.store.FindByID(ctx, m.db, id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // deleted meanwhile, which the caller's next read shows
	}
	if err == nil && a.Place != "" && a.DesiredState != agent.DesiredDeleted {
		m.absorb(ctx, a)
	}
	return err
}

// absorb is AbsorbEdits for a caller that holds the lock of the home.
func (m *Manager) absorb(ctx context.Context, a agent.Agent) {
	home, err := m.driver.Home(ctx, a.Place, a.ID)
	if err == nil {
		_, err = m.workspace.Absorb(ctx, a.AccountID, a.ID, a.Config.SelfEdit(), workspace.Within(home, openclaw.Main.Workspace()))
		_ = home.Close()
	}
	if err != nil && ctx.Err() == nil {
		m.log.ErrorContext(ctx, "absorbing an agent's edits failed", "agent", a.ID, "error", err)
	}
}

// fillHome writes everything into the home of an agent whose gateway does not run.
func (m *Manager) fillHome(ctx context.Context, a agent.Agent) error {
	unlock, err := m.homes.lock(ctx, a.ID)
	if err != nil {
		return err
	}
	defer unlock()
	return m.writeWholeHome(ctx, a)
}

// writeWholeHome is fillHome for a caller who holds the lock of the home.
func (m *Manager) writeWholeHome(ctx context.Context, a agent.Agent) error {
	d, err := m.desiredHome(ctx, a)
	if err != nil {
		return err
	}
	return m.writeHome(ctx, a, d, func(string) bool { return true })
}

// syncChanged writes what has changed into the home of a running agent. It writes
// nothing else, because the agent may be editing it; not even what has just been
// absorbed from there.
func (m *Manager) syncChanged(ctx context.Context, a agent.Agent) error {
	d, err := m.desiredHome(ctx, a)
	if errors.Is(err, workspace.ErrUnreadable) {
		return fault.New(fault.Conflict, "The agent's documents cannot be written into its home: %s.", err)
	}
	if err != nil {
		return err
	}
	pending, err := m.workspace.Pending(ctx, m.db, a.AccountID, a.ID)
	if err != nil {
		return fmt.Errorf("compare documents: %w", err)
	}
	m.mu.Lock()
	synced := m.synced[a.ID]
	m.mu.Unlock()
	var edited map[string]bool
	if a.Config.SelfEdit() != workspace.SelfEditOn {
		if edited, err = m.edited(ctx, a, d); err != nil {
			return err
		}
	}
	if len(pending) == 0 && len(edited) == 0 && maps.Equal(synced, d.digests) {
		return nil
	}
	return m.writeHome(ctx, a, d, func(name string) bool {
		if edited[name] {
			return true
		}
		if document, ok := d.documents[name]; ok {
			return slices.Contains(pending, document)
		}
		digest, ok := synced[name]
		return !ok || digest != d.digests[name]
	})
}

// edited returns the files of d that the agent has changed and that are not its documents:
// what guests read, and what is rendered from the documents.
func (m *Manager) edited(ctx context.Context, a agent.Agent, d desiredHome) (map[string]bool, error) {
	home, err := m.driver.Home(ctx, a.Place, a.ID)
	if err != nil {
		return nil, fmt.Errorf("open home: %w", err)
	}
	defer func() { _ = home.Close() }()
	edited := map[string]bool{}
	for name, want := range d.files {
		if _, ok := d.documents[name]; ok {
			continue // Absorb has compared it
		}
		if got, err := home.ReadFile(name, int64(len(want))); err != nil || !bytes.Equal(got, want) {
			edited[name] = true
		}
	}
	return edited, nil
}

// fileDigests are the digests of files by their path in the home, and of what each
// contributor puts there by contributorKey.
type fileDigests map[string]string

// desiredHome is what the home of an agent should hold.
type desiredHome struct {
	content   workspace.Content
	documents map[string]workspace.Document // those that the agent may edit, by path in its home
	files     map[string][]byte
	digests   fileDigests
}

func (m *Manager) desiredHome(ctx context.Context, a agent.Agent) (d desiredHome, err error) {
	if d.content, err = m.workspace.Content(ctx, m.db, a.AccountID, a.ID); err != nil {
		return d, fmt.Errorf("read documents: %w", err)
	}
	if err := d.content.CheckReadable(); err != nil {
		if d.content, err = m.recoverDocuments(ctx, a, d.content); err != nil {
			return d, err
		}
	}
	d.documents = map[string]workspace.Document{}
	for name := range d.content.Files() {
		d.documents[path.Join(openclaw.Main.Workspace(), name)] = workspace.Document(name)
	}
	d.files, d.digests = workspaceFiles(a, d.content), fileDigests{}
	for name, data := range d.files {
		sum := sha256.Sum256(data)
		d.digests[name] = string(sum[:])
	}
	for i, c := range m.contributors {
		if d.digests[contributorKey(i)], err = c.Digest(ctx, m.db, a.AccountID, a.ID); err != nil {
			return d, fmt.Errorf("read what else the home should hold: %w", err)
		}
	}
	return d, nil
}

// recoverDocuments returns the documents after those that cannot be read were recovered from
// the home. Errors: workspace.ErrUnreadable.
func (m *Manager) recoverDocuments(ctx context.Context, a agent.Agent, c workspace.Content) (workspace.Content, error) {
	home, err := m.driver.Home(ctx, a.Place, a.ID)
	if err != nil {
		return c, fmt.Errorf("open home: %w", err)
	}
	defer func() { _ = home.Close() }()
	if err := m.workspace.Recover(ctx, a.AccountID, a.ID, c, workspace.Within(home, openclaw.Main.Workspace())); err != nil {
		return c, fmt.Errorf("recover documents from the home: %w", err)
	}
	if c, err = m.workspace.Content(ctx, m.db, a.AccountID, a.ID); err != nil {
		return c, fmt.Errorf("read documents: %w", err)
	}
	return c, c.CheckReadable()
}

// contributorKey is the key of a contributor among the paths of files. No path looks
// like it.
func contributorKey(i int) string { return fmt.Sprintf("//%d", i) }

// workspaceFiles returns the documents of an agent by their path in its home.
func workspaceFiles(a agent.Agent, c workspace.Content) map[string][]byte {
	content := openclaw.Content{Name: a.Name, SoulMD: c.SoulMD, IdentityMD: c.IdentityMD, WorkflowMD: c.WorkflowMD}
	if p := a.Config.Egress(); p.Mode != egress.Open {
		content.Network = openclaw.Network{Restricted: true, Hosts: p.HostNames()}
	}
	for _, r := range c.Rules {
		content.Rules = append(content.Rules, openclaw.Rule(r))
	}
	return openclaw.WorkspaceFiles(content)
}

// writeHome writes the changed files of d into a's home, and records that.
func (m *Manager) writeHome(ctx context.Context, a agent.Agent, d desiredHome, changed func(name string) bool) error {
	if err := m.writeFiles(ctx, a, d, changed); err != nil {
		return err
	}
	err := m.db.Tx(ctx, "gateway.mark_synced", func(ctx context.Context, tx *database.Tx) error {
		return m.workspace.MarkDelivered(ctx, tx, a.AccountID, a.ID, d.content)
	})
	if err != nil {
		return fmt.Errorf("record what the home holds: %w", err)
	}
	m.mu.Lock()
	m.synced[a.ID] = d.digests
	m.mu.Unlock()
	return nil
}

func (m *Manager) writeFiles(ctx context.Context, a agent.Agent, d desiredHome, changed func(name string) bool) error {
	home, err := m.driver.Home(ctx, a.Place, a.ID)
	if err != nil {
		return fmt.Errorf("open home: %w", err)
	}
	defer func() { _ = home.Close() }()
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		if !changed(name) {
			continue
		}
		if err := home.WriteFile(name, d.files[name]); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	if err := removeDeleted(home, d.content.Gone); err != nil {
		return err
	}
	for i, c := range m.contributors {
		if !changed(contributorKey(i)) {
			continue
		}
		if err := c.SyncHome(ctx, home, a.AccountID, a.ID); err != nil {
			return err
		}
	}
	return nil
}

// removeDeleted removes deleted documents from both workspaces of a home.
func removeDeleted(home runtime.Home, names []string) error {
	for _, name := range names {
		for _, entry := range []openclaw.Entry{openclaw.Main, openclaw.Guest} {
			if err := home.RemoveAll(path.Join(entry.Workspace(), name)); err != nil {
				return fmt.Errorf("remove %s: %w", name, err)
			}
		}
	}
	return nil
}

// reloadTimeout bounds how long a gateway may take to read its secrets; it needs
// milliseconds. The home stays locked meanwhile.
const reloadTimeout = 20 * time.Second

// syncSecrets replaces the secrets file of a running gateway, if that has changed and
// nothing else of its spec has. A spec that the owner must fix first is no error: it
// shows in NeedsRestart, and the gateway continues to run until then.
// Errors: *SpecError, if a secret cannot be decrypted.
func (m *Manager) syncSecrets(ctx context.Context, a agent.Agent) error {
	c, err := m.readCredentials(ctx, m.db, a)
	if err != nil {
		return err
	}
	if err := c.check(a); err != nil {
		return err
	}
	spec, desired, err := m.makeSpec(a, c)
	if invalid := (*SpecError)(nil); errors.As(err, &invalid) {
		return nil
	}
	if err != nil {
		return err
	}
	current := parseSpecDigest(a.SpecDigest)
	if current.gateway != desired.gateway {
		return nil
	}
	if current.secrets != desired.secrets {
		if err := m.replaceSecrets(ctx, a, c, spec, desired); err != nil {
			return err
		}
	}
	generation, held := c.own.Generation()
	if held {
		return nil
	}
	return m.db.Tx(ctx, "gateway.confirm_tokens", func(ctx context.Context, tx *database.Tx) error {
		return m.vault.ConfirmTokens(ctx, tx, a.AccountID, vault.OfAgent(a.ID), generation)
	})
}

// replaceSecrets gives a running gateway its secrets file of spec.
func (m *Manager) replaceSecrets(ctx context.Context, a agent.Agent, c credentials, spec runtime.Spec, desired specDigest) error {
	token, err := c.token(purposeGateway)
	if err != nil {
		return err
	}
	m.secretsVersion.Add(1)
	if err := m.driver.PutSecrets(ctx, a.Place, a.ID, spec.Secrets); err != nil {
		return fmt.Errorf("write the gateway's secrets: %w", err)
	}
	gateway, err := m.Client(ctx, a)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	if err := gateway.ReloadSecrets(limited, token); err != nil {
		return fmt.Errorf("make the gateway read its secrets: %w", err)
	}
	return m.store.SaveSpecDigest(ctx, a, desired.String())
}
