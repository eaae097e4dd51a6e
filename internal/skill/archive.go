package skill

import (
	"context"
	"fmt"
	"strings"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// This file writes the skills of an agent into an archive and reads them from one. Nothing that
// an archive says of a skill is believed: its files are scanned again, and it is custom unless
// the catalog of this installation has it.

// ArchivedSkill is a skill as an archive has it.
type ArchivedSkill struct {
	SkillID string
	Name    string
	Version string
	Trust   Trust
	Enabled bool
	Files   map[string][]byte
}

// Export calls yield with the skills of an agent, oldest first. Errors: yield's. Faults:
// NotFound.
func (s *Service) Export(ctx context.Context, account identity.AccountID, agent identity.AgentID, yield func(ArchivedSkill) error) error {
	installed, err := s.List(ctx, account, agent)
	if err != nil {
		return err
	}
	for _, i := range installed {
		files, err := readFiles(ctx, s.store.db, account, i.ID)
		if err != nil {
			return err
		}
		if _, ok := files[mainFile]; !ok { // it was uninstalled after the list was read
			continue
		}
		if err := yield(ArchivedSkill{SkillID: i.SkillID, Name: i.Name, Version: i.Version, Trust: i.Trust, Enabled: i.Enabled, Files: files}); err != nil {
			return err
		}
	}
	return nil
}

// PrepareImport returns the package of a skill of an archive: for a verified skill the one of
// the catalog, otherwise a custom one of the scanned files. Faults: Invalid; TooLarge;
// Forbidden, if its score is too low; PlanLimit, if the plan has no custom skills; RateLimited and
// Unavailable, if too many scans wait.
func (s *Service) PrepareImport(ctx context.Context, account identity.AccountID, a ArchivedSkill) (Package, error) {
	if p, ok := s.catalog.Find(a.SkillID); ok && a.Trust == Verified {
		p.skillID = p.ID
		return p, nil
	}
	if err := s.checkFeature(ctx, account, Custom); err != nil {
		return Package{}, err
	}
	m := Manifest{ID: customID(a.SkillID), Name: a.Name, Version: a.Version}
	if m.ID == "" {
		return Package{}, fault.Fields{"skillId": "must name a skill"}.Err()
	}
	p, err := s.scanPackage(ctx, account, m, Custom, a.Files)
	if err != nil {
		return Package{}, err
	}
	p.Source, p.skillID = importSource, p.ID
	return p, s.checkScore(p)
}

// importSource is the Installed.Source of custom skills of an archive.
const importSource = "import"

// customID returns the id that a skill of any source has as a custom one: @owner/slug of the
// registry is owner-slug.
func customID(skillID string) string {
	if idPattern.MatchString(skillID) {
		return skillID
	}
	return strings.Trim(slugify(skillID), "-")
}

// InstallVerified installs skills of the catalog on a new agent, in the caller's transaction.
// Faults: Conflict, if the catalog has no such skill; PlanLimit.
func (s *Service) InstallVerified(ctx context.Context, tx *database.Tx, actor identity.Actor, agent identity.AgentID, ids []string) error {
	for _, id := range ids {
		p, err := s.fromCatalog(Order{SkillID: id, Trust: Verified})
		if fault.Is(err, fault.NotFound) {
			return fault.New(fault.Conflict, "The catalog of this installation has no skill %s, which the starter needs. Create the agent without a starter, or ask the operator.", quote(id))
		}
		if err != nil {
			return err
		}
		if err := s.Import(ctx, tx, actor, agent, p, true); err != nil {
			return err
		}
	}
	return nil
}

// Import stores a prepared skill in an agent that is being imported. Faults: Conflict, if the
// archive has it twice; PlanLimit.
func (s *Service) Import(ctx context.Context, tx *database.Tx, actor identity.Actor, agent identity.AgentID, p Package, enabled bool) error {
	installed, err := listInstalled(ctx, tx, actor.AccountID, agent)
	if err != nil {
		return err
	}
	at := now()
	if n := len(installed); n > 0 && !at.After(installed[n-1].InstalledAt) {
		at = installed[n-1].InstalledAt.Add(time.Millisecond) // skills are listed in this order
	}
	i := Installed{ID: newID("as_"), SkillID: p.skillID, Trust: p.Trust, Source: p.Source, Enabled: enabled, InstalledAt: at, account: actor.AccountID, agent: agent}
	i.setPackage(p, at)
	if err := s.insertChecked(ctx, tx, &i, p); err != nil {
		return fmt.Errorf("import the skill %s: %w", p.ID, err)
	}
	return nil
}
