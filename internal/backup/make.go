package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"filippo.io/age"
	"golang.org/x/sync/errgroup"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/homecopy"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/repository"
	"agento.host/agento/internal/vault"
)

const (
	// parallelCopies is how many homes are copied at the same time.
	parallelCopies = 2
	// maxRounds is how often agents are copied again whose records have changed since their
	// homes were copied. Each round has fewer of them, and takes less time.
	maxRounds = 4
	// scratchName is the directory for what is being copied, in the data directory.
	scratchName = ".backup-scratch"
)

// Source is an installation.
type Source struct {
	DB      *database.DB
	Data    string // the data directory
	Catalog string // the directory of the operator's own skills; empty: none
	Version string // of agento
	Log     *slog.Logger

	// Agents returns the ids of all agents.
	Agents func(ctx context.Context, q database.Reader) ([]identity.AgentID, error)
	// Elsewhere returns where the home of an agent is, if it is not in the data directory: it cannot be
	// copied then. Empty: it is there. Nil: all are.
	Elsewhere func(ctx context.Context, id identity.AgentID) (where string, err error)
	// Hold keeps an agent's gateway, and everything else that writes into its home, from doing so; see homecopy.Settings.
	Hold func(ctx context.Context, id identity.AgentID) (release func() (time.Duration, error), err error)
}

// scratch returns the directory for what is being copied.
func (s Source) scratch() string { return filepath.Join(s.Data, scratchName) }

// Destination is where backups go, and how they are protected. One of Passphrase, Recipient
// and Plain is set.
type Destination struct {
	URL        string       // of gocloud.dev/blob, or a directory
	Passphrase vault.Secret // of the repository there
	Recipient  string       // a public key of age; each backup is a file of its own then
	Plain      bool         // the repository is not protected
}

// Check returns an error that says what to do about a destination that is none.
func (d Destination) Check() error {
	n := 0
	for _, set := range []bool{!d.Passphrase.Empty(), d.Recipient != "", d.Plain} {
		if set {
			n++
		}
	}
	switch {
	case d.URL == "":
		return errors.New("name where the backup goes: a directory, or a URL such as s3://BUCKET")
	case n == 0:
		return errors.New("a backup holds everything that agents know: protect it with --passphrase-file FILE or --recipient AGE-KEY, or say --plain")
	case n > 1:
		return errors.New("give one of --passphrase-file, --recipient and --plain")
	}
	if d.Recipient != "" {
		_, err := d.recipient()
		return err
	}
	return nil
}

func (d Destination) recipient() (age.Recipient, error) {
	r, err := age.ParseRecipients(bytes.NewReader([]byte(d.Recipient)))
	if err != nil || len(r) != 1 {
		return nil, errors.New("--recipient is no public key of age: one begins with age1, and age-keygen makes it")
	}
	return r[0], nil
}

// Progress is how far a backup has come.
type Progress struct {
	Agent  identity.AgentID `json:"agent,omitempty"` // that was copied; empty: the last step begins
	Done   int              `json:"done"`
	Total  int              `json:"total"`
	Bytes  int64            `json:"bytes"` // of the agent's home
	Stored int64            `json:"stored"`
}

// Make makes a backup. The returned manifest may be of a backup that is not complete; see
// Manifest.State. One backup of an installation is made at a time.
func Make(ctx context.Context, src Source, to Destination, progress func(Progress)) (_ Manifest, err error) {
	if err := to.Check(); err != nil {
		return Manifest{}, err
	}
	scratch := src.scratch()
	if err := os.RemoveAll(scratch); err != nil { // of one that was killed
		return Manifest{}, fmt.Errorf("empty the scratch directory: %w", err)
	}
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return Manifest{}, fmt.Errorf("make the scratch directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	began := time.Now()
	r, finish, err := to.open(ctx, newID(began))
	if err != nil {
		return Manifest{}, err
	}
	m, err := write(ctx, src, r, scratch, began, progress)
	return m, errors.Join(err, finish(err == nil))
}

// open opens the repository that a backup is written into. finish ends it, and keeps nothing
// of a file if the backup has failed.
func (d Destination) open(ctx context.Context, id string) (r *repository.Repository, finish func(ok bool) error, err error) {
	if d.Recipient == "" {
		r, err := repository.Create(ctx, d.URL, d.Passphrase)
		if err != nil {
			return nil, nil, fmt.Errorf("open %s: %w", repository.Shown(d.URL), err)
		}
		return r, func(bool) error { return r.Close() }, nil
	}
	recipient, err := d.recipient()
	if err != nil {
		return nil, nil, err
	}
	file, err := repository.CreateFile(ctx, d.URL, archivePrefix+id+archiveSuffix)
	if err != nil {
		return nil, nil, fmt.Errorf("write into %s: %w", repository.Shown(d.URL), err)
	}
	plain, err := age.Encrypt(file, recipient)
	if err == nil {
		r, err = repository.CreateArchive(ctx, plain)
	}
	if err != nil {
		file.Abort()
		return nil, nil, err
	}
	return r, func(ok bool) error {
		if !ok {
			file.Abort()
			return nil
		}
		if err := errors.Join(r.Close(), plain.Close()); err != nil {
			file.Abort()
			return err
		}
		return file.Close()
	}, nil
}

// writer is a backup that is being made.
type writer struct {
	Source
	repository *repository.Repository
	scratch    string
	progress   func(Progress)
	manifest   Manifest
	previous   map[identity.AgentID]Agent // of the backup before

	mu     sync.Mutex
	copied map[identity.AgentID]*copied // guarded by mu
	total  int                          // guarded by mu; for the progress
	stored int64                        // guarded by mu
}

// copied is an agent whose home was copied.
type copied struct {
	agent   Agent
	entries []homecopy.Entry
	event   int64 // the last event at the moment of the copy
}

func write(ctx context.Context, src Source, r *repository.Repository, scratch string, began time.Time, progress func(Progress)) (_ Manifest, err error) {
	lock, err := r.Lock(ctx)
	if err != nil {
		return Manifest{}, err
	}
	defer func() { err = errors.Join(err, lock.Unlock(context.WithoutCancel(ctx))) }()
	w := &writer{
		Source: src, repository: r, scratch: scratch, progress: progress, copied: map[identity.AgentID]*copied{},
		manifest: Manifest{Format: format, ID: newID(began), Began: began, Version: src.Version, Installation: src.DB.Installation()},
	}
	previous, err := w.readPrevious(ctx)
	if err != nil {
		return Manifest{}, err
	}
	snapshot, err := w.copyHomes(ctx)
	if err != nil {
		return Manifest{}, err
	}
	err = w.copyRecords(ctx, snapshot)
	if err = errors.Join(err, snapshot.Close()); err != nil {
		return Manifest{}, err
	}
	if err := w.copyCatalog(ctx, previous); err != nil {
		return Manifest{}, err
	}
	w.manifest.Ended, w.manifest.Stored = time.Now(), w.stored
	data, err := json.Marshal(w.manifest)
	if err == nil {
		err = lock.Check(ctx)
	}
	if err == nil {
		err = r.PutRecord(ctx, w.manifest.ID, data)
	}
	return w.manifest, err
}

// readPrevious finds what was copied before, and returns the backup before, whose zero value means none. What cannot be
// read of it only means that everything is read again.
func (w *writer) readPrevious(ctx context.Context) (m Manifest, err error) {
	w.previous = map[identity.AgentID]Agent{}
	ids, err := w.repository.Records(ctx)
	if err != nil || len(ids) == 0 {
		return m, err
	}
	if m, err = readManifest(ctx, w.repository, ids[len(ids)-1]); err != nil {
		w.Log.WarnContext(ctx, "the backup before cannot be read: all files are read again", "error", err)
		return Manifest{}, ctx.Err()
	}
	if w.manifest.ID <= m.ID {
		return m, fmt.Errorf("the newest backup there, %s, was made later than now: set the clock right", m.ID)
	}
	for _, a := range m.Agents {
		w.previous[a.ID] = a
	}
	return m, nil
}

// copyHomes copies the homes of all agents, and returns the database at a moment in which the
// records of each are those of its home. The caller closes it.
func (w *writer) copyHomes(ctx context.Context) (*database.Snapshot, error) {
	pending, err := w.Agents(ctx, w.DB)
	if err != nil {
		return nil, fmt.Errorf("list the agents: %w", err)
	}
	for round := 1; ; round++ {
		if err := w.copyAll(ctx, pending); err != nil {
			return nil, err
		}
		s, err := w.DB.Snapshot(ctx)
		if err != nil {
			return nil, err
		}
		changed, all, err := w.changed(ctx, s)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		if len(changed) == 0 || round == maxRounds {
			w.finishAgents(all, changed)
			return s, nil
		}
		pending = changed
		if err := s.Close(); err != nil {
			return nil, err
		}
	}
}

// changed returns the agents of a snapshot that were not copied, or whose records have changed
// since, and all its agents.
func (w *writer) changed(ctx context.Context, s *database.Snapshot) (changed, all []identity.AgentID, err error) {
	if all, err = w.Agents(ctx, s); err != nil {
		return nil, nil, fmt.Errorf("list the agents: %w", err)
	}
	first := int64(math.MaxInt64)
	for _, c := range w.copied {
		first = min(first, c.event)
	}
	newer, err := event.Newer(ctx, s, first)
	if err != nil {
		return nil, nil, fmt.Errorf("read what has changed: %w", err)
	}
	for _, id := range all {
		if c := w.copied[id]; c == nil || newer[event.AgentTopic(id)] > c.event {
			changed = append(changed, id)
		}
	}
	return changed, all, nil
}

func (w *writer) copyAll(ctx context.Context, ids []identity.AgentID) error {
	w.total = max(w.total, len(ids))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallelCopies)
	for _, id := range ids {
		group.Go(func() error { return w.copyAgent(ctx, id) })
	}
	return group.Wait()
}

// copyAgent copies the home of an agent. What is wrong with the home itself is a problem of
// the agent, and keeps no other agent from being copied.
func (w *writer) copyAgent(ctx context.Context, id identity.AgentID) error {
	c, stored, err := w.copyHome(ctx, id)
	if w.repository.Failed(err) || ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	if err != nil {
		w.Log.ErrorContext(ctx, "the home of an agent cannot be copied", "agent", id, "error", err)
		c = &copied{agent: Agent{ID: id, Missing: true, Problem: "its home cannot be copied: " + err.Error()}}
		if c.event, err = event.Last(ctx, w.DB); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if before := w.copied[id]; before != nil {
		c.agent.Held = max(c.agent.Held, before.agent.Held)
	}
	w.copied[id] = c
	w.stored += stored
	w.progress(Progress{Agent: id, Done: len(w.copied), Total: max(w.total, len(w.copied)), Bytes: c.agent.Bytes, Stored: stored})
	return nil
}

func (w *writer) copyHome(ctx context.Context, id identity.AgentID) (*copied, int64, error) {
	home, err := w.repository.MakeHome(ctx, string(id))
	if err == nil {
		err = home.List(ctx)
	}
	if err != nil {
		return nil, 0, err
	}
	c := &copied{agent: Agent{ID: id}}
	scratch, err := os.MkdirTemp(w.scratch, "home-")
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	s := homecopy.Settings{
		Dir: filepath.Join(w.Data, AgentsName, string(id), "home"), Scratch: scratch, Home: home, Previous: w.entriesBefore(ctx, home, id),
		Held: func(ctx context.Context) (err error) { c.event, err = event.Last(ctx, w.DB); return err },
	}
	if w.Hold != nil {
		s.Hold = func(ctx context.Context) (func() (time.Duration, error), error) { return w.Hold(ctx, id) }
	}
	if w.Elsewhere != nil {
		if where, err := w.Elsewhere(ctx, id); where != "" || err != nil {
			return nil, 0, errors.Join(err, fmt.Errorf("it is %s, and backups have only those that are in the data directory", where))
		}
	}
	if _, err := os.Lstat(s.Dir); errors.Is(err, os.ErrNotExist) { // it never ran
		return c, 0, s.Held(ctx)
	}
	copy, err := homecopy.Make(ctx, s)
	if err != nil {
		return nil, 0, err
	}
	c.entries = copy.Entries
	a := &c.agent
	a.Files, a.Bytes, a.Held, a.Without, a.LeftOut = len(copy.Entries), copy.Bytes, copy.Held, copy.Without, copy.LeftOut
	if !copy.Consistent {
		a.Problem = "its home is not from one moment: " + copy.Reason
	}
	var stored int64
	a.Table, stored, err = putJSON(ctx, home, copy.Entries)
	return c, copy.Stored.Bytes + stored, err
}

// entriesBefore returns the entries of the last copy of a home. What cannot be read is read
// again from the home.
func (w *writer) entriesBefore(ctx context.Context, home *repository.Home, id identity.AgentID) []homecopy.Entry {
	w.mu.Lock()
	before := w.copied[id]
	w.mu.Unlock()
	if before != nil && !before.agent.Missing {
		return before.entries
	}
	return readTable(ctx, home, w.previous[id].Table)
}

// readTable returns the entries of a copy; none if they cannot be read.
func readTable(ctx context.Context, home *repository.Home, table repository.Content) (all []homecopy.Entry) {
	if !home.Has(table) || json.NewDecoder(home.Open(ctx, table)).Decode(&all) != nil {
		return nil
	}
	return all
}

func putJSON(ctx context.Context, home *repository.Home, v any) (c repository.Content, stored int64, err error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, 0, err
	}
	to := home.NewWriter(ctx)
	err = to.Add(bytes.NewReader(data), &c)
	done, flushed := to.Flush()
	return c, done.Bytes, errors.Join(err, flushed)
}

// finishAgents puts the agents of the database into the manifest.
func (w *writer) finishAgents(all, changed []identity.AgentID) {
	w.manifest.Agents = make([]Agent, 0, len(all))
	for _, id := range all {
		a := Agent{ID: id, Missing: true, Problem: "it was created during the backup"}
		if c := w.copied[id]; c != nil {
			if a = c.agent; a.Problem == "" && slices.Contains(changed, id) {
				a.Problem = "its records have changed since its home was copied"
			}
		}
		w.manifest.Agents = append(w.manifest.Agents, a)
		w.manifest.Bytes += a.Bytes
	}
}

// copyRecords copies the database, and the master key if it is in the data directory.
func (w *writer) copyRecords(ctx context.Context, s *database.Snapshot) error {
	w.progress(Progress{Done: len(w.copied), Total: len(w.copied)})
	var err error
	if w.manifest.Schema, err = database.SchemaVersion(ctx, s); err != nil {
		return err
	}
	home, err := w.repository.MakeHome(ctx, recordsHome)
	if err == nil {
		err = home.List(ctx)
	}
	if err != nil {
		return err
	}
	to := home.NewWriter(ctx)
	err = errors.Join(w.copyDatabase(ctx, s, to), w.copyKey(ctx, s, to))
	stored, flushed := to.Flush()
	w.stored += stored.Bytes
	return errors.Join(err, flushed)
}

func (w *writer) copyDatabase(ctx context.Context, s *database.Snapshot, to *repository.Writer) error {
	name := filepath.Join(w.scratch, DatabaseName)
	if err := s.CopyTo(ctx, name); err != nil {
		return err
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	if st, err := f.Stat(); err == nil {
		w.manifest.Bytes += st.Size()
	}
	return errors.Join(to.Add(f, &w.manifest.Database), f.Close(), os.Remove(name))
}

// copyKey copies the master key of the data directory if it is there and the one that the
// database wants.
func (w *writer) copyKey(ctx context.Context, s *database.Snapshot, to *repository.Writer) error {
	source := vault.KeySource{File: filepath.Join(w.Data, MasterKeyName)}
	state, missing := source.Check(ctx, s)
	if len(state.Wanted) > 0 {
		w.manifest.MasterKey.Fingerprint = state.Wanted[0]
	}
	if missing == nil && state.File != "" { // otherwise restore asks for the key
		err := w.addKey(source.File, to)
		w.manifest.MasterKey = MasterKey{Fingerprint: state.File, Included: err == nil}
		return err
	}
	return nil
}

func (w *writer) addKey(file string, to *repository.Writer) error {
	key, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the master key: %w", err)
	}
	return to.Add(bytes.NewReader(key), &w.manifest.KeyContent)
}

// copyCatalog copies the operator's own skills.
func (w *writer) copyCatalog(ctx context.Context, previous Manifest) error {
	if w.Catalog == "" {
		return nil
	}
	home, err := w.repository.MakeHome(ctx, catalogHome)
	if err == nil {
		err = home.List(ctx)
	}
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp(w.scratch, "catalog-")
	if err != nil {
		return err
	}
	copy, err := homecopy.Make(ctx, homecopy.Settings{Dir: w.Catalog, Scratch: scratch, Home: home, Previous: readTable(ctx, home, previous.CatalogTable)})
	if err != nil {
		return fmt.Errorf("copy the operator's own skills in %s: %w", w.Catalog, err)
	}
	table, stored, err := putJSON(ctx, home, copy.Entries)
	w.manifest.Catalog, w.manifest.CatalogTable = true, table
	w.manifest.Bytes += copy.Bytes
	w.stored += stored + copy.Stored.Bytes
	return err
}
