package skill

import (
	"agento.host/agento/internal/identity"

	"context"
	"fmt"
	"strings"
	"time"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
)

// Installed is a skill on an agent.
type Installed struct {
	ID          string // as_…
	SkillID     string
	Name        string
	Version     string
	Trust       Trust
	Source      string // where an upgrade looks: built-in, operator, upload, a registry's slug, a GitHub address
	Slug        string // its folder below Settings.Dir
	Score       int
	Enabled     bool
	InstalledAt time.Time
	UpdatedAt   time.Time

	accountID, agentID, pin, digest, label string
}

// Change is what became of a wish about an agent's skill.
type Change struct {
	Installed
	Changed      bool // false: it was so already
	NeedsRestart bool // the running gateway does not notice by itself
}

// List returns the skills of an agent, oldest first. That the agent exists is the
// caller's to know.
func (s *Service) List(ctx context.Context, accountID, agentID string) ([]Installed, error) {
	all, err := allInstalled(ctx, s.DB, accountID, agentID)
	if err != nil {
		return nil, fmt.Errorf("list skills of agent %s: %w", agentID, err)
	}
	return all, nil
}

// Install puts a skill on an agent. room judges, in the transaction, whether an
// agent with so many skills may have one more; nil: always.
// Faults: Invalid; NotFound; Conflict, if the agent has it, or another of its
// name; Forbidden, if it scores too low or is blocked; PlanLimit; Upstream;
// UpstreamTimeout. Whatever fails, nothing is installed.
func (s *Service) Install(ctx context.Context, accountID, actor, agentID string, o Order, room func(have int) error) (Change, error) {
	if err := s.agent(ctx, s.DB, accountID, agentID); err != nil { // before anybody else is asked
		return Change{}, err
	}
	p, err := s.find(ctx, accountID, o)
	if err != nil {
		return Change{}, err
	}
	if err := s.admit(p); err != nil {
		return Change{}, err
	}
	at := now()
	i := Installed{ID: newID("as_"), SkillID: p.skillID, Trust: p.Trust, Source: p.Source, Enabled: true, InstalledAt: at, accountID: accountID, agentID: agentID}
	i.become(p, at)
	err = s.DB.Tx(ctx, func(tx *database.Tx) error {
		if err := s.insert(ctx, tx, &i, p, room); err != nil {
			return err
		}
		return s.tell(ctx, tx, i, "skill.installed", actor, nil)
	})
	if err != nil {
		return Change{}, fmt.Errorf("install skill: %w", err)
	}
	return s.apply(ctx, i), nil
}

// AtMost is the room of a plan that allows so many skills an agent; 0 is no limit.
func AtMost(limit int) func(have int) error {
	return func(have int) error {
		if limit <= 0 || have < limit {
			return nil
		}
		return fault.New(fault.PlanLimit, "The plan allows %d skills an agent (maxSkillsPerAgent). Uninstall one first.", limit).With("limit", "maxSkillsPerAgent")
	}
}

func (i *Installed) become(p Package, at time.Time) {
	i.Name, i.Version, i.Score, i.pin, i.digest, i.label, i.UpdatedAt = p.Name, p.Version, p.Report.Score, p.Pin, p.Digest, strings.ToLower(p.label), at
}

func (s *Service) insert(ctx context.Context, tx *database.Tx, i *Installed, p Package, room func(int) error) error {
	if err := s.agent(ctx, tx, i.accountID, i.agentID); err != nil {
		return err
	}
	all, err := allInstalled(ctx, tx, i.accountID, i.agentID)
	if err != nil {
		return err
	}
	if err := i.fits(all); err != nil {
		return err
	}
	if room != nil {
		if err := room(len(all)); err != nil {
			return err
		}
	}
	if err := pinned(ctx, tx, *i); err != nil {
		return err
	}
	i.Slug = freeSlug(*i, p, all)
	if err := insertInstalled(ctx, tx, *i); err != nil {
		return err
	}
	if err := putFiles(ctx, tx, i.accountID, i.ID, p.Files); err != nil {
		return err
	}
	return s.remember(ctx, tx, *i)
}

func (s *Service) agent(ctx context.Context, q database.Querier, accountID, agentID string) error {
	if s.Agent == nil {
		return nil
	}
	return s.Agent(ctx, q, accountID, agentID)
}

// fits refuses a second skill of the same id, or of a name that the model could
// not tell from another's.
func (i Installed) fits(others []Installed) error {
	for _, o := range others {
		switch {
		case o.ID == i.ID:
		case o.SkillID == i.SkillID:
			return fault.New(fault.Conflict, "The agent has the skill %s already, version %s with trust level %s. Upgrade it, or uninstall it first.", o.SkillID, o.Version, o.Trust).
				With("installedVersion", o.Version).With("trustLevel", string(o.Trust))
		case o.label == i.label:
			return fault.New(fault.Conflict, "The agent's skill %s calls itself %s too, so the model would see only one of them. Uninstall it first.", o.SkillID, quote(i.label)).
				With("skillId", o.SkillID)
		}
	}
	return nil
}

// pinned refuses a community skill whose version had other files when the account
// installed it before: a registry must not change what a version is.
func pinned(ctx context.Context, q database.Querier, i Installed) error {
	if i.Trust != ClawHub {
		return nil
	}
	n, err := database.One(ctx, q, database.Scalar[int], `SELECT COUNT(*) FROM agent_skills
		WHERE account_id = $1 AND trust_level = $2 AND skill_id = $3 AND version = $4 AND digest <> $5`, i.accountID, i.Trust, i.SkillID, i.Version, i.digest)
	if err != nil {
		return err
	}
	if n > 0 {
		return fault.New(fault.Conflict, "The registry changed the files of %s %s after it was installed here. It is not trusted; ask its publisher for a new version.", i.SkillID, i.Version)
	}
	return nil
}

// freeSlug names the skill's folder: by its id alone if no other skill of the
// agent has that, else with a hash of where it comes from.
func freeSlug(i Installed, p Package, others []Installed) string {
	slug := slugOf(p.ID)
	for _, o := range others {
		if o.Slug == slug {
			return slug[:min(len(slug), 55)] + "-" + hashOf([]byte(string(i.Trust) + " " + i.SkillID))[:8]
		}
	}
	return slug
}

// Uninstall takes a skill off an agent, with every file it brought. The skill may
// be named by its id, the installation's id or the address it came from.
// Faults: NotFound.
func (s *Service) Uninstall(ctx context.Context, accountID, actor, agentID, name string) (Change, error) {
	return s.change(ctx, accountID, agentID, name, func(tx *database.Tx, i *Installed) (bool, error) {
		if err := s.leave(ctx, tx, *i); err != nil {
			return false, err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM agent_skills WHERE account_id = $1 AND agent_id = $2 AND id = $3`, accountID, agentID, i.ID); err != nil {
			return false, err
		}
		if err := dropFiles(ctx, tx, accountID, i.ID); err != nil {
			return false, err
		}
		return true, s.tell(ctx, tx, *i, "skill.uninstalled", actor, nil)
	})
}

// SetEnabled shows a skill to the agent or hides it; a hidden one keeps its place
// in the plan's limit and its version. Faults: NotFound.
func (s *Service) SetEnabled(ctx context.Context, accountID, actor, agentID, name string, enabled bool) (Change, error) {
	return s.change(ctx, accountID, agentID, name, func(tx *database.Tx, i *Installed) (bool, error) {
		if i.Enabled == enabled {
			return false, nil
		}
		kind, note := "skill.disabled", s.leave
		if enabled {
			kind, note = "skill.enabled", s.remember
		}
		if err := note(ctx, tx, *i); err != nil {
			return false, err
		}
		i.Enabled, i.UpdatedAt = enabled, now()
		if err := updateInstalled(ctx, tx, *i); err != nil {
			return false, err
		}
		return true, s.tell(ctx, tx, *i, kind, actor, nil)
	})
}

// Upgrade brings a skill to a version, or with "" or "latest" to the latest of
// where it came from, which is never a lower one. Faults: as for Install.
func (s *Service) Upgrade(ctx context.Context, accountID, actor, agentID, name, version string) (Change, error) {
	if version == "latest" {
		version = ""
	}
	i, err := findInstalled(ctx, s.DB, accountID, agentID, name)
	if err != nil {
		return Change{}, notInstalled(err, name)
	}
	p, err := s.find(ctx, accountID, i.order(version))
	if err != nil {
		return Change{}, err
	}
	if p.skillID != i.SkillID {
		return Change{}, fault.New(fault.Conflict, "What lies at %s is now the skill %s. Uninstall %s and install it anew.", i.Source, p.skillID, i.SkillID)
	}
	if version == "" && !i.betters(p) {
		return Change{Installed: i}, nil
	}
	if err := s.admit(p); err != nil {
		return Change{}, err
	}
	return s.change(ctx, accountID, agentID, i.ID, func(tx *database.Tx, i *Installed) (bool, error) {
		if version == "" && !i.betters(p) {
			return false, nil // another upgrade went further while this one fetched
		}
		return s.replace(ctx, tx, i, p, actor)
	})
}

// order asks again for what an installed skill came from.
func (i Installed) order(version string) Order {
	o := Order{SkillID: i.SkillID, Trust: i.Trust, Version: version}
	if i.Trust == Custom && strings.HasPrefix(i.Source, "https://") {
		o.SkillID = i.Source
	}
	return o
}

// betters says whether a package found now is an upgrade: a higher version, or
// other files under the same one where versions are not immutable. Of two commits
// without a version neither is higher, so other files are enough.
func (i Installed) betters(p Package) bool {
	return p.Digest != i.digest && (!newer(i.Version, p.Version) || isCommit(i.Version) && isCommit(p.Version))
}

func (s *Service) replace(ctx context.Context, tx *database.Tx, i *Installed, p Package, actor string) (bool, error) {
	if p.Digest == i.digest && p.Version == i.Version {
		return false, nil
	}
	before := i.Version
	if err := s.leave(ctx, tx, *i); err != nil {
		return false, err
	}
	i.become(p, now())
	all, err := allInstalled(ctx, tx, i.accountID, i.agentID)
	if err != nil {
		return false, err
	}
	if err := i.fits(all); err != nil {
		return false, err
	}
	if err := pinned(ctx, tx, *i); err != nil {
		return false, err
	}
	if err := updateInstalled(ctx, tx, *i); err != nil {
		return false, err
	}
	if err := putFiles(ctx, tx, i.accountID, i.ID, p.Files); err != nil {
		return false, err
	}
	if i.Enabled {
		if err := s.remember(ctx, tx, *i); err != nil {
			return false, err
		}
	}
	return true, s.tell(ctx, tx, *i, "skill.upgraded", actor, map[string]any{"from": before})
}

// change finds an installed skill, does something to it in one transaction, and
// brings the agent up to date if that made a difference.
func (s *Service) change(ctx context.Context, accountID, agentID, name string, do func(*database.Tx, *Installed) (bool, error)) (Change, error) {
	var i Installed
	changed := false
	err := s.DB.Tx(ctx, func(tx *database.Tx) (err error) {
		if i, err = findInstalled(ctx, tx, accountID, agentID, name); err != nil {
			return notInstalled(err, name)
		}
		changed, err = do(tx, &i)
		return err
	})
	if err != nil {
		return Change{}, fmt.Errorf("change skill: %w", err)
	}
	if !changed {
		return Change{Installed: i}, nil
	}
	return s.apply(ctx, i), nil
}

func notInstalled(err error, name string) error {
	if missing(err) {
		return fault.New(fault.NotFound, "The agent has no skill %s. GET skills lists them.", quote(name))
	}
	return fmt.Errorf("find installed skill: %w", err)
}

// apply tells the agent's home of a change that is written down already. If that
// fails the change stands, and a restart at the latest brings it.
func (s *Service) apply(ctx context.Context, i Installed) Change {
	c := Change{Installed: i, Changed: true}
	if s.Applier == nil {
		return c
	}
	needs, err := s.Applier.Apply(ctx, i.accountID, i.agentID)
	if err != nil {
		s.Log.WarnContext(ctx, "a change of skills did not reach the agent yet", "agent", i.agentID, "skill", i.SkillID, "error", err)
		needs = true
	}
	c.NeedsRestart = needs
	return c
}

func (s *Service) tell(ctx context.Context, tx *database.Tx, i Installed, kind, actor string, more map[string]any) error {
	if s.Events == nil {
		return nil
	}
	data := map[string]any{"skillId": i.SkillID, "version": i.Version, "trustLevel": i.Trust, "securityScore": i.Score}
	for k, v := range more {
		data[k] = v
	}
	return s.Events.Append(ctx, tx, identity.ParseActor(identity.AccountID(i.accountID), actor), event.Event{Topic: event.Topic("agent/" + i.agentID), Kind: kind, Data: data})
}
