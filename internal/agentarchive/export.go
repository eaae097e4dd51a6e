package agentarchive

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/knowledge"
	"agento.host/agento/internal/skill"
	"agento.host/agento/internal/workspace"
)

// Export is an archive that is to be written.
type Export struct {
	service  *Service
	caller   chat.Caller
	agent    identity.AgentID
	parts    Parts
	manifest Manifest
	damaged  int // of the record
}

// Export returns an export of an agent with some of its parts, and appends an event. An agent
// whose record is damaged is exported with what can be read of it. Faults: NotFound.
func (s *Service) Export(ctx context.Context, caller chat.Caller, id identity.AgentID, parts Parts) (*Export, error) {
	a, err := s.Agents.RecordExport(ctx, caller.Actor, id, map[string]any{"skills": parts.Skills, "knowledge": parts.Knowledge, "sessions": parts.Sessions})
	if err != nil {
		return nil, err
	}
	origins, err := s.Agents.SecretOrigins(ctx, caller.AccountID, id)
	if err != nil {
		return nil, err
	}
	m := Manifest{
		Format: formatName, Version: formatVersion, ExportedAt: time.Now().UTC().Truncate(time.Millisecond), By: s.Version,
		Agent: Record{Name: a.Name, Region: a.Region, AvatarURL: a.AvatarURL, Config: a.Config, Secrets: []string{}},
	}
	e := &Export{service: s, caller: caller, agent: id, parts: parts}
	if a.Damage != "" {
		e.damaged = 1
		if s.Agents.CheckArchived(ctx, agent.Archived{Name: "A", Region: a.Region}) != nil {
			m.Agent.Region = agent.DefaultRegion
		}
	}
	for name := range origins {
		m.Agent.Secrets = append(m.Agent.Secrets, string(name))
	}
	slices.Sort(m.Agent.Secrets)
	e.manifest = m
	return e, nil
}

// Write writes the archive. What is added to the agent meanwhile may be missing in it. What
// cannot be read is left out and counted as damaged. An archive that is not written to its end
// is refused by Read. Errors: w's. Faults: NotFound, if the agent is deleted meanwhile.
func (e *Export) Write(ctx context.Context, w io.Writer) (Contents, error) {
	out, err := newWriter(w, e.manifest)
	if err != nil {
		return Contents{}, err
	}
	out.contents.Damaged = e.damaged
	for _, part := range []struct {
		wanted bool
		write  func(context.Context, *writer) error
	}{{true, e.writeDocuments}, {e.parts.Skills, e.writeSkills}, {e.parts.Knowledge, e.writeKnowledge}, {e.parts.Sessions, e.writeSessions}} {
		if !part.wanted {
			continue
		}
		if err := part.write(ctx, out); err != nil {
			return out.contents, fmt.Errorf("export agent %s: %w", e.agent, err)
		}
	}
	return out.contents, out.end()
}

func (e *Export) writeDocuments(ctx context.Context, out *writer) error {
	damaged, err := e.service.Workspace.Export(ctx, e.caller.AccountID, e.agent, func(v workspace.ArchivedVersion) error {
		return out.add(documents, newVersionLine(v))
	})
	out.contents.Damaged += damaged
	return err
}

func (e *Export) writeSkills(ctx context.Context, out *writer) error {
	return e.service.Skills.Export(ctx, e.caller.AccountID, e.agent, func(a skill.ArchivedSkill) error {
		return out.add(skills, newSkillMember(a))
	})
}

func (e *Export) writeKnowledge(ctx context.Context, out *writer) error {
	return e.service.Knowledge.Export(ctx, e.caller.AccountID, e.agent, func(c knowledge.Chunk) error {
		if checkText(c) != nil {
			out.contents.Damaged++
			return nil //nolint:nilerr // it is left out
		}
		return out.add(texts, newTextLine(c))
	})
}

func (e *Export) writeSessions(ctx context.Context, out *writer) error {
	exported := map[int64]bool{}
	damaged, err := e.service.Chat.ExportSessions(ctx, e.caller, e.agent, func(v chat.ArchivedSession) error {
		exported[v.Number] = true
		return out.add(sessions, newSessionLine(v))
	})
	out.contents.Damaged += damaged
	if err != nil {
		return err
	}
	damaged, err = e.service.Chat.ExportMessages(ctx, e.caller, e.agent, func(m chat.ArchivedMessage) error {
		if !exported[m.Session] { // the session was started meanwhile, or is damaged
			return nil
		}
		return out.add(messages, newMessageLine(m))
	})
	out.contents.Damaged += damaged
	return err
}
