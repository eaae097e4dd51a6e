package workspace

import (
	"agento.host/agento/internal/identity"

	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/runtime"
)

// Folder is an agent's workspace folder, read with paths such as "SOUL.md" and
// "rules". Within makes one of a runtime.Home.
type Folder interface {
	ReadFile(path string, limit int64) ([]byte, error)
	ReadDir(path string) ([]runtime.Entry, error)
}

// Within is the folder dir of a home.
func Within(home Folder, dir string) Folder { return within{home, dir} }

type within struct {
	home Folder
	dir  string
}

func (w within) ReadFile(p string, limit int64) ([]byte, error) {
	return w.home.ReadFile(path.Join(w.dir, p), limit)
}

func (w within) ReadDir(p string) ([]runtime.Entry, error) {
	return w.home.ReadDir(path.Join(w.dir, p))
}

// Absorbed is what Absorb found in a home.
type Absorbed struct {
	Taken   []Version // the agent's edits that are live now
	Aside   []Version // its edits that came after a newer change of the API
	Refused []Refusal // what could not be taken, each time it is found
}

// Refusal is a file of an agent that is not taken over.
type Refusal struct {
	Path   string
	Reason string
	Err    error // why it could not be read; nil if it could
}

// Absorb takes over what an agent has written into its documents itself: a file
// that differs from what its home is known to hold becomes a version of the actor
// ByAgent. If the document was changed meanwhile, that change stays live and the
// edit is kept as a version beside it. A missing file is no edit: the next
// delivery puts it back. What is refused is told once as an event.
// Call it before every delivery and whenever news is wanted; without edits it
// only reads.
func (s *Service) Absorb(ctx context.Context, accountID, agentID string, home Folder) (Absorbed, error) {
	known, err := homeDocuments(ctx, s.DB, accountID, agentID)
	if err != nil {
		return Absorbed{}, err
	}
	edits, refused := readHome(home, known)
	if err := ctx.Err(); err != nil {
		return Absorbed{}, err // the files may have been unreadable for that reason alone
	}
	same, err := toldAlready(ctx, s.DB, accountID, agentID, refused)
	if err != nil || (len(edits) == 0 && same) {
		return Absorbed{Refused: refused}, err
	}
	var a *absorbing
	err = s.DB.Tx(ctx, func(tx *database.Tx) error {
		a = &absorbing{Service: s, tx: tx, accountID: accountID, agentID: agentID, found: Absorbed{Refused: slices.Clone(refused)}}
		return a.run(ctx, edits)
	})
	if err != nil {
		return Absorbed{}, fmt.Errorf("absorb the documents of agent %s: %w", agentID, err)
	}
	return a.found, nil
}

// edit is a file that is not what the home was known to hold.
type edit struct {
	doc           Document
	content, hash string
	before        homeDocument // what was known as the file was read; the zero one: nothing
}

// readHome reads every document and returns those that differ from what is
// known, in order, and those that cannot be taken.
func readHome(home Folder, known map[Document]homeDocument) ([]edit, []Refusal) {
	rules, refused := readRules(home)
	var edits []edit
	for _, d := range append([]Document{Soul, Identity, Workflow}, rules...) {
		content, err := home.ReadFile(string(d), d.maxBytes())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		e := edit{doc: d, content: string(content), hash: hashOf(string(content)), before: known[d]}
		if err == nil && e.hash == e.before.hash {
			continue
		}
		if r := refuseFile(d, content, err); r.Reason != "" {
			refused = append(refused, r)
			continue
		}
		edits = append(edits, e)
	}
	return edits, refused
}

// maxFiles bounds how many files of a rules folder are looked at, so that an
// agent gains nothing by filling it.
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
			refused = append(refused, Refusal{Path: rulesDir, Reason: fmt.Sprintf("holds more than %d files; the others were not looked at", maxFiles)})
			break
		}
		if e.Dir || !strings.HasSuffix(e.Name, suffix) {
			continue // the agent's own notes; only rules/*.md are rules
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

func refuseFile(d Document, content []byte, err error) Refusal {
	r := Refusal{Path: string(d)}
	switch {
	case errors.Is(err, runtime.ErrTooLarge):
		r.Reason = fmt.Sprintf("is longer than %d bytes", d.maxBytes())
	case err != nil:
		r.Reason, r.Err = "cannot be read", err
	default:
		r.Reason = d.refuse(string(content))
	}
	return r
}

// absorbing is one transaction of Absorb.
type absorbing struct {
	*Service
	tx                 *database.Tx
	accountID, agentID string
	known              map[Document]homeDocument
	rules              []Version
	found              Absorbed
}

func (a *absorbing) run(ctx context.Context, edits []edit) (err error) {
	if err := exist(ctx, a.tx, a.accountID, a.agentID); err != nil {
		return err
	}
	if a.known, err = homeDocuments(ctx, a.tx, a.accountID, a.agentID); err != nil {
		return err
	}
	if a.rules, err = liveRules(ctx, a.tx, a.accountID, a.agentID); err != nil {
		return err
	}
	for _, e := range edits {
		if a.known[e.doc] != e.before {
			continue // another absorb, or a delivery, came first; the next one sees to it
		}
		if err := a.absorb(ctx, e); err != nil {
			return fmt.Errorf("%s: %w", e.doc, err)
		}
	}
	return a.tell(ctx, a.tx, a.accountID, a.agentID, a.found.Refused)
}

func (a *absorbing) absorb(ctx context.Context, e edit) error {
	now, err := liveOrNone(ctx, a.tx, a.accountID, a.agentID, e.doc)
	if errors.Is(err, sql.ErrNoRows) {
		return a.takeNew(ctx, e)
	}
	if err != nil {
		return err
	}
	delivered, err := a.deliveredUnnoted(ctx, e)
	if err != nil || delivered.Number > 0 {
		return errors.Join(err, a.holds(ctx, delivered))
	}
	switch {
	case now.Deleted && e.before.version == 0:
		return a.takeNew(ctx, e)
	case now.Deleted || now.Hash != e.before.hash:
		return a.setAside(ctx, e)
	}
	return a.take(ctx, e)
}

// deliveredUnnoted finds the version that the home holds because the server died
// between writing it there and noting that: one newer than what is known. What was
// set aside is never delivered, so a home that is known holds it as an edit alone.
func (a *absorbing) deliveredUnnoted(ctx context.Context, e edit) (Version, error) {
	v, err := withHash(ctx, a.tx, a.accountID, a.agentID, e.doc, e.hash, e.before.version == 0)
	if errors.Is(err, sql.ErrNoRows) || (err == nil && v.Number < e.before.version) {
		return Version{}, nil
	}
	return v, err
}

// takeNew takes a rule that the agent has made, if it may have one more.
func (a *absorbing) takeNew(ctx context.Context, e edit) error {
	err := fits(a.rules, e.doc)
	var f *fault.Fault
	if errors.As(err, &f) {
		a.found.Refused = append(a.found.Refused, Refusal{Path: string(e.doc), Reason: f.Message})
		return nil
	}
	if err := a.take(ctx, e); err != nil {
		return err
	}
	a.rules = append(a.rules, a.found.Taken[len(a.found.Taken)-1])
	return nil
}

// take makes an edit the live version.
func (a *absorbing) take(ctx context.Context, e edit) error {
	v, err := a.write(ctx, a.tx, change{accountID: a.accountID, agentID: a.agentID, actor: ByAgent, doc: e.doc, content: e.content})
	if err != nil {
		return err
	}
	a.found.Taken = append(a.found.Taken, v)
	return a.holds(ctx, v)
}

// setAside keeps an edit as a version without making it live.
func (a *absorbing) setAside(ctx context.Context, e edit) error {
	v, err := a.write(ctx, a.tx, change{accountID: a.accountID, agentID: a.agentID, actor: ByAgent, doc: e.doc, content: e.content, aside: true})
	if err != nil {
		return err
	}
	a.found.Aside = append(a.found.Aside, v)
	return a.holds(ctx, v)
}

// holds notes which version the home holds.
func (a *absorbing) holds(ctx context.Context, v Version) error {
	if v.Number == 0 {
		return nil
	}
	return note(ctx, a.tx, a.accountID, a.agentID, homeDocument{doc: v.Document, version: v.Number, hash: v.Hash})
}

// maxTold is how many refusals one event names.
const maxTold = 20

// tell appends an event about refusals that differ from those told last.
func (s *Service) tell(ctx context.Context, tx *database.Tx, accountID, agentID string, refused []Refusal) error {
	same, err := toldAlready(ctx, tx, accountID, agentID, refused)
	if err != nil || same {
		return err
	}
	_, err = database.Exec(ctx, tx,
		`INSERT INTO document_refusals (account_id, agent_id, digest) VALUES ($1, $2, $3)
		 ON CONFLICT (account_id, agent_id) DO UPDATE SET digest = excluded.digest`, accountID, agentID, digest(refused))
	if err != nil {
		return fmt.Errorf("note refused edits: %w", err)
	}
	if len(refused) == 0 {
		return nil
	}
	told := []map[string]any{}
	for _, r := range refused[:min(len(refused), maxTold)] {
		told = append(told, map[string]any{"document": r.Path, "reason": r.Reason})
	}
	return s.Events.Append(ctx, tx, identity.ParseActor(identity.AccountID(accountID), ByAgent), event.Event{
		Topic: event.Topic("agent/" + agentID), Kind: "agent.edits_refused",
		Data: map[string]any{"refused": told, "count": len(refused)},
	})
}

func toldAlready(ctx context.Context, q database.Querier, accountID, agentID string, refused []Refusal) (bool, error) {
	last, err := database.One(ctx, q, database.Scalar[string],
		`SELECT digest FROM document_refusals WHERE account_id = $1 AND agent_id = $2`, accountID, agentID)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, fmt.Errorf("read refused edits: %w", err)
	}
	return last == digest(refused), nil
}

// digest is empty for no refusals.
func digest(refused []Refusal) string {
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
