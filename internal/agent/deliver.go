package agent

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/workspace"
)

// Furnisher puts what another room owns into the homes of agents.
type Furnisher struct {
	// Hash changes whenever Sync has something to do.
	Hash func(ctx context.Context, q database.Querier, accountID, agentID string) (string, error)
	// Sync makes a home hold what it should; it is never called twice at once for one.
	Sync func(ctx context.Context, home runtime.Home, accountID, agentID string) error
}

// sync brings a running agent up to date, both ways: its edits are taken over, its
// home and its secrets become what they should be. One that does not run any more
// is left alone.
func (b *body) sync(ctx context.Context, id string) error {
	leave, err := b.homes.enter(ctx, id)
	if err != nil {
		return err
	}
	defer leave()
	a, err := findAny(ctx, b.DB, id)
	if errors.Is(err, sql.ErrNoRows) || err == nil && !runs(a) {
		return nil
	}
	if err != nil {
		return err
	}
	b.takeOver(ctx, a)
	return errors.Join(b.give(ctx, a), b.refresh(ctx, a))
}

// deliver writes the agent's documents and skills into its home, where they differ
// from what it was given before.
func (b *body) deliver(ctx context.Context, a Agent) error {
	leave, err := b.homes.enter(ctx, a.ID)
	if err != nil {
		return err
	}
	defer leave()
	return b.give(ctx, a)
}

// give is deliver for one who is in the home.
func (b *body) give(ctx context.Context, a Agent) error {
	content, err := b.Workspace.Content(ctx, b.DB, a.AccountID, a.ID)
	if err != nil {
		return fmt.Errorf("read documents: %w", err)
	}
	files := filesOf(a, content)
	hashes := make(map[string]string, len(files)+len(b.Furnish))
	for name, data := range files {
		sum := sha256.Sum256(data)
		hashes[name] = string(sum[:])
	}
	for i, f := range b.Furnish {
		if hashes[furnished(i)], err = f.Hash(ctx, b.DB, a.AccountID, a.ID); err != nil {
			return fmt.Errorf("read what else the home holds: %w", err)
		}
	}
	b.mu.Lock()
	had := b.delivered[a.ID]
	b.mu.Unlock()
	if maps.Equal(had, hashes) && len(content.Gone) == 0 {
		return nil
	}
	changed := func(name string) bool { return had[name] != hashes[name] }
	if err := b.write(ctx, a, files, content.Gone, changed); err != nil {
		return err
	}
	err = b.DB.Tx(ctx, func(tx *database.Tx) error { return b.Workspace.Delivered(ctx, tx, a.AccountID, a.ID, content) })
	if err != nil {
		return fmt.Errorf("note what was delivered: %w", err)
	}
	b.mu.Lock()
	b.delivered[a.ID] = hashes
	b.mu.Unlock()
	return nil
}

// furnished stands for a room among the paths of files; no path looks like it.
func furnished(room int) string { return fmt.Sprintf("//%d", room) }

// filesOf are the documents of an agent by their path in its home.
func filesOf(a Agent, c workspace.Content) map[string][]byte {
	told := openclaw.Content{Name: a.Name, SoulMD: c.SoulMD, IdentityMD: c.IdentityMD, WorkflowMD: c.WorkflowMD}
	for _, r := range c.Rules {
		told.Rules = append(told.Rules, openclaw.Rule(r))
	}
	return openclaw.WorkspaceFiles(told)
}

// write touches nothing that did not change: the agent may be editing it.
func (b *body) write(ctx context.Context, a Agent, files map[string][]byte, gone []string, changed func(string) bool) error {
	home, err := b.Driver.Home(ctx, a.Place, a.ID)
	if err != nil {
		return fmt.Errorf("open home: %w", err)
	}
	defer func() { _ = home.Close() }()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !changed(name) {
			continue
		}
		if err := home.WriteFile(name, files[name]); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	for _, name := range gone {
		for _, entry := range []openclaw.Entry{openclaw.Main, openclaw.Guest} {
			if err := home.RemoveAll(path.Join(entry.Workspace(), name)); err != nil {
				return fmt.Errorf("remove %s: %w", name, err)
			}
		}
	}
	for i, f := range b.Furnish {
		if !changed(furnished(i)) {
			continue
		}
		if err := f.Sync(ctx, home, a.AccountID, a.ID); err != nil {
			return err
		}
	}
	return nil
}

// refresh gives a running gateway a secrets file that changed, if nothing else of
// its spec did.
func (b *body) refresh(ctx context.Context, a Agent) error {
	spec, wanted, err := b.spec(ctx, b.DB, a)
	if f := (failure{}); errors.As(err, &f) {
		return nil //nolint:nilerr // what its owner must mend shows as stale, and runs on until then
	}
	if err != nil {
		return err
	}
	has := parseMark(a.RunningHash)
	if has.gateway != wanted.gateway || has.secrets == wanted.secrets {
		return nil
	}
	b.given.next()
	if err := b.Driver.PutSecrets(ctx, a.Place, a.ID, spec.Secrets); err != nil {
		return fmt.Errorf("give the gateway its secrets: %w", err)
	}
	l, err := b.link(ctx, a)
	if err != nil {
		return err
	}
	if err := l.ReloadSecrets(ctx); err != nil {
		return fmt.Errorf("make the gateway read its secrets: %w", err)
	}
	return b.DB.Tx(ctx, func(tx *database.Tx) error { return noteHash(ctx, tx, a, wanted.String()) })
}

// absorb takes over what the agent wrote into its own documents.
func (b *body) absorb(ctx context.Context, a Agent) {
	leave, err := b.homes.enter(ctx, a.ID)
	if err != nil {
		return // ctx has ended: whoever comes next absorbs
	}
	defer leave()
	b.takeOver(ctx, a)
}

// takeOver is absorb for one who is in the home. That it fails must not keep an
// agent from being stopped or started.
func (b *body) takeOver(ctx context.Context, a Agent) {
	found, err := b.readEdits(ctx, a)
	if err != nil && ctx.Err() == nil {
		b.Log.ErrorContext(ctx, "taking over an agent's own edits failed", "agent", a.ID, "error", err)
	}
	if len(found.Aside) > 0 { // the home holds what was not given to it
		b.mu.Lock()
		delete(b.delivered, a.ID)
		b.mu.Unlock()
	}
}

func (b *body) readEdits(ctx context.Context, a Agent) (workspace.Absorbed, error) {
	home, err := b.Driver.Home(ctx, a.Place, a.ID)
	if err != nil {
		return workspace.Absorbed{}, fmt.Errorf("open home: %w", err)
	}
	defer func() { _ = home.Close() }()
	return b.Workspace.Absorb(ctx, a.AccountID, a.ID, workspace.Within(home, openclaw.Main.Workspace()))
}
