package workspace

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
)

// Folder is an agent's workspace folder. Its paths are such as "SOUL.md" and "rules".
type Folder interface {
	ReadFile(path string, limit int64) ([]byte, error)
	ReadDir(path string) ([]runtime.Entry, error)
}

// Within returns the folder dir of a home, such as a runtime.Home.
func Within(home Folder, dir string) Folder { return subfolder{home, dir} }

type subfolder struct {
	home Folder
	dir  string
}

func (f subfolder) ReadFile(p string, limit int64) ([]byte, error) {
	return f.home.ReadFile(path.Join(f.dir, p), limit)
}

func (f subfolder) ReadDir(p string) ([]runtime.Entry, error) {
	return f.home.ReadDir(path.Join(f.dir, p))
}

// Absorbed is the result of Absorb.
type Absorbed struct {
	Accepted []Version // edits that are the current versions now
	SetAside []Version // edits of documents that the API had changed
	Proposed []Version // edits that wait for approval
	Refused  []Refusal // edits that are invalid; they are returned by every Absorb
}

// Refusal is a file of an agent that cannot become a version.
type Refusal struct {
	Path   string
	Reason string
	Err    error // the error from reading the file; nil if it could be read
}

// Absorb makes the edits that an agent has made to its documents versions, with the
// agent as the actor, if selfEdit is on; see SelfEdit. A file is edited if it differs from the version that was last
// known to be in the home. If the document was changed meanwhile, that change stays
// current and the edit is stored as a version that is set aside. A missing file is no
// edit: the next delivery writes it again. Refusals are recorded in one event when they
// change.
//
// Call Absorb before every delivery, and before reading documents. Without edits it
// only reads. Faults: NotFound.
func (s *Store) Absorb(ctx context.Context, account identity.AccountID, agent identity.AgentID, selfEdit SelfEdit, home Folder) (Absorbed, error) {
	known, err := homeDocuments(ctx, s.db, account, agent)
	if err != nil {
		return Absorbed{}, err
	}
	edits, refused := readHome(home, known, selfEdit)
	if err := ctx.Err(); err != nil {
		return Absorbed{}, err // the files may have been unreadable for that reason
	}
	same, err := refusalsRecorded(ctx, s.db, account, agent, refused)
	if err != nil || (len(edits) == 0 && same) {
		return Absorbed{Refused: refused}, err
	}
	var a *absorption
	err = s.db.Tx(ctx, "workspace.absorb", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockDocuments, string(agent)); err != nil {
			return err
		}
		a = &absorption{Store: s, tx: tx, account: account, agent: agent, selfEdit: selfEdit, result: Absorbed{Refused: slices.Clone(refused)}}
		return a.run(ctx, edits)
	})
	if err != nil {
		return Absorbed{}, fmt.Errorf("absorb the documents of agent %s: %w", agent, err)
	}
	return a.result, nil
}

// edit is a file that differs from the version last known to be in the home.
type edit struct {
	doc           Document
	content, hash string
	before        homeDocument // the known version when the file was read; zero: none
	invalid       bool         // it cannot become a version, but must not stay in the home either
}

// readHome reads every document. It returns the edits, in order, and the files that
// cannot become versions. Unless selfEdit is on, these are edits, too, to be overwritten.
func readHome(home Folder, known map[Document]homeDocument, selfEdit SelfEdit) ([]edit, []Refusal) {
	rules, refused := readRules(home)
	var edits []edit
	for _, d := range append([]Document{Soul, Identity, Workflow}, rules...) {
		content, err := home.ReadFile(string(d), d.maxBytes())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		e := edit{doc: d, content: string(content), hash: hashOf(string(content)), before: known[d]}
		if (err == nil || selfEdit != SelfEditOn) && e.hash == e.before.hash {
			continue
		}
		if r := checkFile(d, content, err); r.Reason != "" {
			refused = append(refused, r)
			if e.invalid = true; selfEdit == SelfEditOn {
				continue
			}
		}
		edits = append(edits, e)
	}
	return edits, refused
}

// maxFiles bounds how many entries of a rules folder are read, so that an agent cannot
// slow down the server by filling the folder.
const maxFiles = 4 * MaxRules

func readRules(home Folder) ([]Document, []Refusal) {
	entries, err := home.ReadDir(rulesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, []Refusal{{Path: rulesDir, Reason: "cannot be read as a folder", Err: err}}
	}
	var rules []Document
	var refused []Refusal
	for i, e := range entries {
		if i == maxFiles {
			refused = append(refused, Refusal{Path: rulesDir, Reason: fmt.Sprintf("holds more than %d files; the others were not read", maxFiles)})
			break
		}
		if e.Dir || !strings.HasSuffix(e.Name, suffix) {
			continue // a file of the agent's own; only rules/*.md are rules
		}
		d, err := RuleDocument(e.Name)
		if err != nil {
			refused = append(refused, Refusal{Path: rulesDir + "/" + e.Name, Reason: "its name must have 1 to 64 letters, digits, hyphens and underscores before .md"})
			continue
		}
		rules = append(rules, d)
	}
	return rules, refused
}

// checkFile returns why a file cannot become a version. The Reason is empty if it can.
func checkFile(d Document, content []byte, err error) Refusal {
	r := Refusal{Path: string(d)}
	switch {
	case errors.Is(err, runtime.ErrTooLarge):
		r.Reason = fmt.Sprintf("is longer than %d bytes", d.maxBytes())
	case err != nil:
		r.Reason, r.Err = "cannot be read", err
	default:
		r.Reason = d.problem(string(content))
	}
	return r
}

// absorption is one transaction of Absorb.
type absorption struct {
	*Store
	tx       *database.Tx
	account  identity.AccountID
	agent    identity.AgentID
	selfEdit SelfEdit
	known    map[Document]homeDocument
	rules    []Version
	result   Absorbed
}

func (a *absorption) run(ctx context.Context, edits []edit) (err error) {
	if err := checkAgent(ctx, a.tx, a.account, a.agent); err != nil {
		return err
	}
	if a.known, err = homeDocuments(ctx, a.tx, a.account, a.agent); err != nil {
		return err
	}
	if a.rules, err = currentRules(ctx, a.tx, a.account, a.agent); err != nil {
		return err
	}
	for _, e := range edits {
		if a.known[e.doc] != e.before {
			continue // another Absorb or a delivery was faster; the next Absorb reads the file again
		}
		if err := a.absorb(ctx, e); err != nil {
			return fmt.Errorf("%s: %w", e.doc, err)
		}
	}
	return a.recordRefusals(ctx, a.tx, a.account, a.agent, a.result.Refused)
}

func (a *absorption) absorb(ctx context.Context, e edit) error {
	current, err := findCurrent(ctx, a.tx, a.account, a.agent, e.doc)
	isNew := errors.Is(err, sql.ErrNoRows)
	switch {
	case err != nil && !isNew:
		return err
	case e.invalid || isNew && a.selfEdit != SelfEditOn:
		return a.withhold(ctx, e, current)
	case isNew:
		return a.acceptNewRule(ctx, e)
	}
	delivered, err := a.unrecordedDelivery(ctx, e)
	if err != nil || delivered.Number > 0 {
		return errors.Join(err, a.recordInHome(ctx, delivered))
	}
	switch {
	case a.selfEdit != SelfEditOn:
		return a.withhold(ctx, e, current)
	case current.Deleted && e.before.version == 0:
		return a.acceptNewRule(ctx, e)
	case current.Deleted || current.Hash != e.before.hash:
		return a.setAside(ctx, e)
	}
	return a.accept(ctx, e)
}

// unrecordedDelivery returns the version that a delivery wrote to the home before the
// server stopped and could not record it: one that is newer than the known version.
// Versions that were set aside are never delivered: if a version is known to be in the
// home, such content is an edit. The result is zero if there is no such version.
func (a *absorption) unrecordedDelivery(ctx context.Context, e edit) (Version, error) {
	v, err := findByHash(ctx, a.tx, a.account, a.agent, e.doc, e.hash, e.before.version == 0)
	if errors.Is(err, sql.ErrNoRows) || (err == nil && v.Number < e.before.version) {
		return Version{}, nil
	}
	return v, err
}

const (
	// editInterval is the least time between two versions of a document that an agent makes:
	// what it writes meanwhile replaces the content of the last one.
	editInterval = time.Minute
	// maxEdits is how many versions of a document by its agent are kept.
	maxEdits = 100
)

// store stores an edit as a version, or as the content of the version that the agent has
// just made. If the account stores too much, the edit is refused and the version has no
// number.
func (a *absorption) store(ctx context.Context, c change) (Version, error) {
	err := a.checkQuota(ctx, a.tx, a.account, len(c.content))
	var f *fault.Fault
	if errors.As(err, &f) && f.Code == fault.PlanLimit {
		a.result.Refused = append(a.result.Refused, Refusal{Path: string(c.doc), Reason: "does not fit: the account stores as much as its plan allows"})
		return Version{}, nil
	}
	if err != nil {
		return Version{}, err
	}
	newest, err := listVersions(ctx, a.tx, a.account, a.agent, c.doc, 0, 1)
	if err != nil {
		return Version{}, err
	}
	if len(newest) == 1 && newest[0].takesEdit(c.setAside, time.Now()) {
		return a.rewrite(ctx, newest[0], c)
	}
	v, err := a.write(ctx, a.tx, c)
	if err != nil {
		return v, err
	}
	return v, deleteOldEdits(ctx, a.tx, a.account, a.agent, c.doc, maxEdits)
}

// takesEdit reports whether a further edit of the agent replaces the content of its version.
func (v Version) takesEdit(setAside bool, now time.Time) bool {
	return v.Actor.Kind == identity.Agent && !v.Deleted && v.SetAside == setAside && v.Current == !setAside && now.Sub(v.At) < editInterval
}

// rewrite replaces the content of a version.
func (a *absorption) rewrite(ctx context.Context, v Version, c change) (Version, error) {
	v.Content, v.Size, v.Hash = c.content, int64(len(c.content)), hashOf(c.content)
	if !c.setAside {
		a.events.NotifyAfterCommit(a.tx, event.ReconcileTopic(a.agent))
	}
	return v, updateContent(ctx, a.tx, a.account, a.agent, v)
}

// acceptNewRule accepts a rule that the agent has created, if the agent may have it.
func (a *absorption) acceptNewRule(ctx context.Context, e edit) error {
	err := checkAddRule(a.rules, e.doc)
	var f *fault.Fault
	if errors.As(err, &f) {
		a.result.Refused = append(a.result.Refused, Refusal{Path: string(e.doc), Reason: f.Message})
		return nil
	}
	accepted := len(a.result.Accepted)
	if err := a.accept(ctx, e); err != nil {
		return err
	}
	a.rules = append(a.rules, a.result.Accepted[accepted:]...)
	return nil
}

// accept makes an edit the current version.
func (a *absorption) accept(ctx context.Context, e edit) error {
	v, err := a.store(ctx, a.change(e))
	if err != nil || v.Number == 0 {
		return err
	}
	a.result.Accepted = append(a.result.Accepted, v)
	return a.recordInHome(ctx, v)
}

// setAside stores an edit as a version that is not current.
func (a *absorption) setAside(ctx context.Context, e edit) error {
	c := a.change(e)
	c.setAside = true
	v, err := a.store(ctx, c)
	if err != nil || v.Number == 0 {
		return err
	}
	a.result.SetAside = append(a.result.SetAside, v)
	return a.recordInHome(ctx, v)
}

func (a *absorption) change(e edit) change {
	return change{actor: identity.ByAgent(a.account, a.agent), agent: a.agent, doc: e.doc, content: e.content}
}

// recordInHome records that the home holds v.
func (a *absorption) recordInHome(ctx context.Context, v Version) error {
	if v.Number == 0 {
		return nil
	}
	return saveHomeDocument(ctx, a.tx, a.account, a.agent, homeDocument{doc: v.Document, version: v.Number, hash: v.Hash})
}

// maxRefusals bounds how many refusals one event lists.
const maxRefusals = 20

// recordRefusals appends an event about refusals that differ from those of the last
// event.
func (s *Store) recordRefusals(ctx context.Context, tx *database.Tx, account identity.AccountID, agent identity.AgentID, refused []Refusal) error {
	same, err := refusalsRecorded(ctx, tx, account, agent, refused)
	if err != nil || same {
		return err
	}
	_, err = database.Exec(ctx, tx,
		`INSERT INTO document_refusals (account_id, agent_id, digest) VALUES ($1, $2, $3)
		 ON CONFLICT (account_id, agent_id) DO UPDATE SET digest = excluded.digest`, account, agent, refusalDigest(refused))
	if err != nil {
		return fmt.Errorf("record refused edits: %w", err)
	}
	if len(refused) == 0 {
		return nil
	}
	listed := []map[string]any{}
	for _, r := range refused[:min(len(refused), maxRefusals)] {
		listed = append(listed, map[string]any{"document": r.Path, "reason": r.Reason})
	}
	return s.events.Append(ctx, tx, identity.ByAgent(account, agent), event.Event{
		Topic: event.AgentTopic(agent), Kind: "agent.edits_refused",
		Data: map[string]any{"refused": listed, "count": len(refused)},
	})
}

// refusalsRecorded reports whether the refusals are those of the last event.
func refusalsRecorded(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID, refused []Refusal) (bool, error) {
	last, err := database.One(ctx, q, database.Scalar[string],
		`SELECT digest FROM document_refusals WHERE account_id = $1 AND agent_id = $2`, account, agent)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, fmt.Errorf("read refused edits: %w", err)
	}
	return last == refusalDigest(refused), nil
}

// refusalDigest returns a hash of refusals, in any order. It is empty if there are none.
func refusalDigest(refused []Refusal) string {
	if len(refused) == 0 {
		return ""
	}
	sorted := slices.SortedFunc(slices.Values(refused), func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Reason, b.Reason))
	})
	var all strings.Builder
	for _, r := range sorted {
		all.WriteString(r.Path + "\n" + r.Reason + "\n")
	}
	return hashOf(all.String())
}
