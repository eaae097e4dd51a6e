package agentarchive

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/knowledge"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/skill"
	"agento.host/agento/internal/workspace"
)

// What one transaction of an import writes at most, unless it is a single row.
const (
	batchRows  = 100
	batchBytes = 256 << 10
)

// maxSecretNames is more than an agent has secrets.
const maxSecretNames = 64

// ImportRequest is an archive to import.
type ImportRequest struct {
	Archive []byte
	Name    string // of the new agent; empty: the one in the archive
	Parts   Parts  // what of the archive is imported; the record and the documents always are

	// AllowsKnowledge returns the fault of an account that may not have knowledge. It is called if
	// the archive has some.
	AllowsKnowledge func() error
}

// Imported is an agent that was imported.
type Imported struct {
	Agent    agent.Agent
	Secrets  []string // the names of the secrets that the exported agent had
	Contents Contents // what was imported
}

// Import makes a stopped agent of an archive. It has no secrets, so that it cannot call a model
// before somebody sets a key for the address in its config. First the whole archive is checked;
// if something is refused later, such as a skill by the scanner, what was stored is removed. If the
// actor's request has imported an agent before, Import returns that agent.
// Faults: Invalid, TooLarge, Conflict and Forbidden, with the place in the archive; PlanLimit; NotFound, if
// the agent of an earlier execution was deleted; RateLimited and Unavailable, if too many imports
// or scans wait; Upstream and UpstreamTimeout, if the embedder fails.
func (s *Service) Import(ctx context.Context, actor identity.Actor, in ImportRequest) (Imported, error) {
	leave, err := s.imports.Acquire(ctx, string(actor.AccountID), 1)
	if err != nil {
		return Imported{}, err
	}
	defer leave()
	checked, err := s.check(ctx, in)
	if err != nil {
		return Imported{}, err
	}
	out := Imported{Secrets: checked.manifest.Agent.Secrets, Contents: checked.contents}
	if earlier, ok, err := s.Events.Repeated(ctx, s.DB, actor); ok || err != nil {
		if err != nil {
			return Imported{}, err
		}
		out.Agent, err = s.Agents.Find(ctx, actor.AccountID, identity.AgentID(earlier.Topic.ID()))
		return out, err
	}
	staged, err := s.Agents.Stage(ctx, actor, checked.record)
	if err != nil {
		return Imported{}, err
	}
	i := &importer{service: s, actor: actor, agent: staged, request: in, name: checked.record.Name, sessions: s.Chat.ImportSessions(actor.AccountID, staged.ID)}
	err = i.store(ctx)
	if err == nil {
		c := checked.contents
		err = s.Agents.Publish(ctx, actor, staged, map[string]any{
			"name": staged.Name, "documents": c.Documents, "skills": c.Skills, "knowledge": c.Knowledge, "sessions": c.Sessions, "messages": c.Messages,
		})
	}
	if err != nil {
		ctx := context.WithoutCancel(ctx) // the caller may have disconnected; nothing of the agent may be left nevertheless
		if refused := s.Agents.CheckAccount(ctx, actor.AccountID); refused != nil {
			err = refused // the database takes no rows of a deleted account
		}
		if discard := s.Agents.Discard(ctx, staged); discard != nil {
			s.Log.WarnContext(ctx, "an import that failed is not removed yet; the server goes on removing it", "agent", staged.ID, "error", discard)
		}
		return Imported{}, err
	}
	out.Agent, err = s.Agents.Find(ctx, actor.AccountID, staged.ID)
	return out, err
}

// checkedArchive is what is known of an archive that can be imported, as far as that can be
// told without storing anything.
type checkedArchive struct {
	manifest Manifest
	record   agent.Archived
	contents Contents // of the parts that are imported
}

// check reads a whole archive. Faults: as Import.
func (s *Service) check(ctx context.Context, in ImportRequest) (checkedArchive, error) {
	var c checkedArchive
	versions := workspace.NewArchiveCheck()
	numbers := map[int64]bool{} // of sessions
	contents, err := Read(in.Archive, Handler{
		Manifest: func(m Manifest) error {
			c.manifest = m
			c.record = agent.Archived{Name: m.Agent.Name, Region: m.Agent.Region, AvatarURL: m.Agent.AvatarURL, Config: m.Agent.Config}
			if in.Name != "" {
				c.record.Name = in.Name
			}
			return errors.Join(checkSecretNames(m.Agent.Secrets), s.Agents.CheckArchived(ctx, c.record))
		},
		Version: versions.Add,
		Text: func(t knowledge.Chunk) error {
			return checkIf(in.Parts.Knowledge, func() error { return checkText(t) })
		},
		Session: func(v chat.ArchivedSession) error {
			if numbers[v.Number] {
				return fault.Fields{"number": "is that of an earlier session, too"}.Err()
			}
			numbers[v.Number] = true
			return checkIf(in.Parts.Sessions, v.Check)
		},
		Message: func(m chat.ArchivedMessage) error {
			if !numbers[m.Session] {
				return fault.Fields{"session": "names no session of the archive"}.Err()
			}
			return checkIf(in.Parts.Sessions, m.Check)
		},
	})
	if err != nil {
		return c, err
	}
	c.contents = contents.only(in.Parts)
	if c.contents.Knowledge > 0 {
		if err := in.AllowsKnowledge(); err != nil {
			return c, err
		}
	}
	return c, versions.End()
}

func checkIf(wanted bool, check func() error) error {
	if !wanted {
		return nil
	}
	return check()
}

// only returns the contents without the parts that are not imported.
func (c Contents) only(p Parts) Contents {
	if !p.Skills {
		c.Skills = 0
	}
	if !p.Knowledge {
		c.Knowledge = 0
	}
	if !p.Sessions {
		c.Sessions, c.Messages = 0, 0
	}
	return c
}

// checkSecretNames refuses what could not be the name of a secret: callers are shown them.
func checkSecretNames(names []string) error {
	fields := fault.Fields{}
	if len(names) > maxSecretNames {
		fields.Add("secrets", "must have at most %d names", maxSecretNames)
	}
	for _, name := range names {
		if _, problem := provider.ParseAgentSecret(name, func(string) bool { return false }); problem != "" {
			fields.Add("secrets", "must have names of secrets only")
		}
	}
	return fields.Err()
}

// checkText checks a text, naming its fields as the archive does.
func checkText(c knowledge.Chunk) error {
	err := knowledge.CheckChunks([]knowledge.Chunk{c})
	if !fault.Is(err, fault.Invalid) {
		return err
	}
	fields := fault.Fields{}
	for name, problem := range fault.From(err).Details {
		fields.Add(name[len("chunks[0]."):], "%s", problem)
	}
	return fields.Err()
}

// importer stores the contents of a checked archive in a staged agent, in many transactions.
type importer struct {
	service *Service
	actor   identity.Actor
	agent   agent.Agent
	request ImportRequest
	name    string // of the new agent

	identity workspace.ArchivedVersion // the current version of IDENTITY.md
	last     int64                     // the number of the last version of IDENTITY.md
	rename   bool

	sessions *chat.SessionImport
}

func (i *importer) store(ctx context.Context) error {
	versions := newBatch(batchRows, func(v workspace.ArchivedVersion) int { return len(v.Content) }, func(all []workspace.ArchivedVersion) error { return i.storeVersions(ctx, all) })
	found := newBatch(batchRows, func(chat.ArchivedSession) int { return 0 }, func(all []chat.ArchivedSession) error { return i.storeSessions(ctx, all) })
	said := newBatch(batchRows, func(m chat.ArchivedMessage) int { return len(m.Content) }, func(all []chat.ArchivedMessage) error { return i.storeMessages(ctx, all) })
	chunks := newBatch(knowledge.MaxChunks, func(knowledge.Chunk) int { return 0 }, func(all []knowledge.Chunk) error { return i.storeTexts(ctx, all) })
	h := Handler{
		Manifest: func(m Manifest) error { i.rename = m.Agent.Name != i.name; return nil },
		Version: func(v workspace.ArchivedVersion) error {
			if v.Document == workspace.Identity {
				if i.last = v.Number; !v.SetAside {
					i.identity = v
				}
			}
			return versions.add(v)
		},
	}
	if i.request.Parts.Skills {
		h.Skill = func(a skill.ArchivedSkill) error { return i.storeSkill(ctx, a) }
	}
	if i.request.Parts.Knowledge {
		h.Text = chunks.add
	}
	if i.request.Parts.Sessions {
		h.Session = found.add
		h.Message = func(m chat.ArchivedMessage) error { return errors.Join(found.flush(), said.add(m)) }
	}
	if _, err := Read(i.request.Archive, h); err != nil {
		return err
	}
	if i.rename {
		i.identity.Number = i.last
		if err := versions.add(i.identity.Renamed(i.name)); err != nil {
			return err
		}
	}
	for _, flush := range []func() error{versions.flush, chunks.flush, found.flush, said.flush} {
		if err := flush(); err != nil {
			return err
		}
	}
	return nil
}

// tx runs a transaction for the staged agent.
func (i *importer) tx(ctx context.Context, kind string, f func(context.Context, *database.Tx) error) error {
	return i.service.DB.Tx(ctx, kind, func(ctx context.Context, tx *database.Tx) error {
		if err := i.service.Agents.CheckStaged(ctx, tx, i.agent); err != nil {
			return err
		}
		return f(ctx, tx)
	})
}

func (i *importer) storeVersions(ctx context.Context, versions []workspace.ArchivedVersion) error {
	return i.tx(ctx, "archive.import_documents", func(ctx context.Context, tx *database.Tx) error {
		return i.service.Documents.Import(ctx, tx, i.actor, i.agent.ID, versions)
	})
}

func (i *importer) storeSkill(ctx context.Context, a skill.ArchivedSkill) error {
	p, err := i.service.Skills.PrepareImport(ctx, i.actor.AccountID, a)
	if err != nil {
		return err
	}
	return i.tx(ctx, "archive.import_skill", func(ctx context.Context, tx *database.Tx) error {
		return i.service.Skills.Import(ctx, tx, i.actor, i.agent.ID, p, a.Enabled)
	})
}

func (i *importer) storeTexts(ctx context.Context, chunks []knowledge.Chunk) error {
	actor := i.actor
	actor.Request = "" // only the event of the whole import says that it was done
	_, err := i.service.Knowledge.Ingest(ctx, actor, knowledge.IngestRequest{Target: knowledge.ImportTarget(i.agent.ID), Chunks: chunks})
	return err
}

func (i *importer) storeSessions(ctx context.Context, sessions []chat.ArchivedSession) error {
	return i.tx(ctx, "archive.import_sessions", func(ctx context.Context, tx *database.Tx) error {
		return i.sessions.AddSessions(ctx, tx, sessions)
	})
}

func (i *importer) storeMessages(ctx context.Context, messages []chat.ArchivedMessage) error {
	return i.tx(ctx, "archive.import_messages", func(ctx context.Context, tx *database.Tx) error {
		return i.sessions.AddMessages(ctx, tx, messages)
	})
}

// batch collects values for one transaction.
type batch[V any] struct {
	rows  int
	size  func(V) int
	write func([]V) error

	values []V
	bytes  int
}

func newBatch[V any](rows int, size func(V) int, write func([]V) error) *batch[V] {
	return &batch[V]{rows: rows, size: size, write: write}
}

// add adds a value, and writes the values before it if they are enough.
func (b *batch[V]) add(v V) error {
	size := b.size(v)
	if len(b.values) == b.rows || len(b.values) > 0 && b.bytes+size > batchBytes {
		if err := b.flush(); err != nil {
			return err
		}
	}
	b.values, b.bytes = append(b.values, v), b.bytes+size
	return nil
}

// flush writes the values.
func (b *batch[V]) flush() error {
	if len(b.values) == 0 {
		return nil
	}
	values := slices.Clone(b.values)
	b.values, b.bytes = b.values[:0], 0
	if err := b.write(values); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	return nil
}
