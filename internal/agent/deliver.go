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
	"time"

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

// deliver fills the home of an agent whose gateway does not run.
func (b *body) deliver(ctx context.Context, a Agent) error {
	leave, err := b.homes.enter(ctx, a.ID)
	if err != nil {
		return err
	}
	defer leave()
	w, err := b.wanted(ctx, a)
	if err != nil {
		return err
	}
	return b.write(ctx, a, w, func(string) bool { return true })
}

// give writes what has changed into the home of an agent that runs. It touches
// nothing else, since the agent may be editing it: not even what has just been
// taken over from there.
func (b *body) give(ctx context.Context, a Agent) error {
	w, err := b.wanted(ctx, a)
	if err != nil {
		return err
	}
	pending, err := b.Workspace.Pending(ctx, b.DB, a.account(), a.id())
	if err != nil {
		return fmt.Errorf("compare documents: %w", err)
	}
	b.mu.Lock()
	had := b.delivered[a.ID]
	b.mu.Unlock()
	if len(pending) == 0 && maps.Equal(had, w.hashes) {
		return nil
	}
	return b.write(ctx, a, w, func(name string) bool {
		if doc, is := w.documents[name]; is {
			return slices.Contains(pending, doc)
		}
		hash, known := had[name]
		return !known || hash != w.hashes[name]
	})
}

// wanted is what the home of an agent should hold.
type wanted struct {
	content   workspace.Content
	documents map[string]workspace.Document // those that the agent may edit, by path in its home
	files     map[string][]byte
	hashes    map[string]string // of files, and of what other rooms put there
}

func (b *body) wanted(ctx context.Context, a Agent) (w wanted, err error) {
	if w.content, err = b.Workspace.Content(ctx, b.DB, a.account(), a.id()); err != nil {
		return w, fmt.Errorf("read documents: %w", err)
	}
	w.documents = map[string]workspace.Document{}
	for name := range w.content.Files() {
		w.documents[path.Join(openclaw.Main.Workspace(), name)] = workspace.Document(name)
	}
	w.files, w.hashes = filesOf(a, w.content), map[string]string{}
	for name, data := range w.files {
		sum := sha256.Sum256(data)
		w.hashes[name] = string(sum[:])
	}
	for i, f := range b.Furnish {
		if w.hashes[furnished(i)], err = f.Hash(ctx, b.DB, a.AccountID, a.ID); err != nil {
			return w, fmt.Errorf("read what else the home holds: %w", err)
		}
	}
	return w, nil
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

// write makes the home hold what has changed of what is wanted, and notes that.
func (b *body) write(ctx context.Context, a Agent, w wanted, changed func(name string) bool) error {
	if err := b.fill(ctx, a, w, changed); err != nil {
		return err
	}
	err := b.DB.Tx(ctx, func(tx *database.Tx) error { return b.Workspace.MarkDelivered(ctx, tx, a.account(), a.id(), w.content) })
	if err != nil {
		return fmt.Errorf("note what was delivered: %w", err)
	}
	b.mu.Lock()
	b.delivered[a.ID] = w.hashes
	b.mu.Unlock()
	return nil
}

func (b *body) fill(ctx context.Context, a Agent, w wanted, changed func(name string) bool) error {
	home, err := b.Driver.Home(ctx, a.Place, a.ID)
	if err != nil {
		return fmt.Errorf("open home: %w", err)
	}
	defer func() { _ = home.Close() }()
	for _, name := range slices.Sorted(maps.Keys(w.files)) {
		if !changed(name) {
			continue
		}
		if err := home.WriteFile(name, w.files[name]); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	for _, name := range w.content.Gone {
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

// reloadTime bounds how long a gateway may take to read its secrets; it needs
// milliseconds. Nobody else is in the home meanwhile.
const reloadTime = 20 * time.Second

// refresh gives a running gateway a secrets file that changed, if nothing else of
// its spec did.
func (b *body) refresh(ctx context.Context, a Agent) error {
	spec, wanted, err := b.spec(ctx, b.DB, a)
	if f := (failure{}); errors.As(err, &f) {
		return nil // what its owner must mend shows as stale; the gateway runs on until then
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
	reloading, stop := context.WithTimeout(ctx, reloadTime)
	defer stop()
	if err := l.ReloadSecrets(reloading); err != nil {
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
	home, err := b.Driver.Home(ctx, a.Place, a.ID)
	if err == nil {
		_, err = b.Workspace.Absorb(ctx, a.account(), a.id(), workspace.Within(home, openclaw.Main.Workspace()))
		_ = home.Close()
	}
	if err != nil && ctx.Err() == nil {
		b.Log.ErrorContext(ctx, "taking over an agent's own edits failed", "agent", a.ID, "error", err)
	}
}
