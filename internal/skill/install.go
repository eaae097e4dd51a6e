package skill

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// Installed is a skill that is installed on an agent.
type Installed struct {
	ID          string // as_…
	SkillID     string
	Name        string
	Version     string
	Trust       Trust
	Source      string // where an upgrade finds the next version: built-in, operator, upload, a slug of the registry, a GitHub address
	Slug        string // its folder in the agent's home, below StoreSettings.Dir
	Score       int
	Enabled     bool
	InstalledAt time.Time
	UpdatedAt   time.Time

	account identity.AccountID
	agent   identity.AgentID
	pin     string // see Package.Pin
	digest  string // see Package.Digest
	label   string // see Package.label; in lower case
}

// Change is the result of a request to change an agent's skill.
type Change struct {
	Installed
	Changed      bool     // false: the request changed nothing
	NeedsRestart bool     // the running agent must be restarted to use the change
	MissingHosts []string // that the skill needs and the agent may not connect to
}

// Changes are the requested changes of an agent's skill.
type Changes struct {
	Version string // "latest", or the version to change to; empty: unchanged
	Enabled *bool  // nil: unchanged
}

// latest is the version of an upgrade to the latest version of the source.
const latest = "latest"

// List returns the skills of an agent, oldest first. Faults: NotFound, if there is no such
// agent.
func (s *Service) List(ctx context.Context, account identity.AccountID, agent identity.AgentID) ([]Installed, error) {
	if err := s.agents.Exists(ctx, s.store.db, account, agent); err != nil {
		return nil, err
	}
	all, err := listInstalled(ctx, s.store.db, account, agent)
	if err != nil {
		return nil, fmt.Errorf("list skills of agent %s: %w", agent, err)
	}
	return all, nil
}

// Install installs a skill on an agent. If it fails, nothing is installed. Faults: Invalid;
// NotFound; Conflict, if the agent has the skill, or another one with the same name;
// Forbidden, if its score is too low or it is blocked; PlanLimit; TooLarge; Upstream;
// UpstreamTimeout.
func (s *Service) Install(ctx context.Context, actor identity.Actor, agent identity.AgentID, o Order) (Change, error) {
	account := actor.AccountID
	if err := s.agents.Exists(ctx, s.store.db, account, agent); err != nil { // before anything is fetched
		return Change{}, err
	}
	if err := s.checkFeature(ctx, account, o.Trust); err != nil {
		return Change{}, err
	}
	p, err := s.find(ctx, account, o)
	if err != nil {
		return Change{}, err
	}
	if err := s.checkScore(p); err != nil {
		return Change{}, err
	}
	at := now()
	i := Installed{ID: newID("as_"), SkillID: p.skillID, Trust: p.Trust, Source: p.Source, Enabled: true, InstalledAt: at, account: account, agent: agent}
	i.setPackage(p, at)
	err = s.store.db.Tx(ctx, "skill.install", func(ctx context.Context, tx *database.Tx) error {
		if err := tx.Lock(ctx, database.LockSkills, string(agent)); err != nil {
			return err
		}
		if _, ok, err := s.events.Repeated(ctx, tx, actor); err != nil {
			return err
		} else if ok { // an earlier execution of the request has installed it
			if i, err = findInstalled(ctx, tx, account, agent, p.skillID); err != nil {
				return notInstalled(err, p.skillID)
			}
			return nil
		}
		if err := s.insert(ctx, tx, &i, p); err != nil {
			return err
		}
		return s.appendEvent(ctx, tx, actor, i, "skill.installed", nil)
	})
	if err != nil {
		return Change{}, fmt.Errorf("install skill: %w", err)
	}
	return s.addMissingHosts(ctx, s.sync(ctx, i), p), nil
}

// checkFeature refuses a trust level that the account's plan does not include. Faults:
// PlanLimit.
func (s *Service) checkFeature(ctx context.Context, account identity.AccountID, trust Trust) error {
	feature := ""
	switch trust {
	case ClawHub:
		feature = access.FeatureClawHub
	case Custom:
		feature = access.FeatureCustomSkills
	default:
		return nil
	}
	plan, err := s.plans.PlanOf(ctx, s.store.db, account)
	if err != nil {
		return err
	}
	return plan.Allows(feature)
}

// setPackage sets the fields that an upgrade changes.
func (i *Installed) setPackage(p Package, at time.Time) {
	i.Name, i.Version, i.Score, i.pin, i.digest, i.label, i.UpdatedAt = p.Name, p.Version, p.Report.Score, p.Pin, p.Digest, strings.ToLower(p.label), at
}

// insert checks the rules that depend on the agent's other skills and inserts the skill
// with its files.
func (s *Service) insert(ctx context.Context, tx *database.Tx, i *Installed, p Package) error {
	if err := s.agents.Exists(ctx, tx, i.account, i.agent); err != nil {
		return err
	}
	return s.insertChecked(ctx, tx, i, p)
}

// insertChecked is insert for an agent that is known to exist.
func (s *Service) insertChecked(ctx context.Context, tx *database.Tx, i *Installed, p Package) error {
	others, err := listInstalled(ctx, tx, i.account, i.agent)
	if err != nil {
		return err
	}
	if err := i.checkConflict(others); err != nil {
		return err
	}
	plan, err := s.plans.PlanOf(ctx, tx, i.account)
	if err != nil {
		return err
	}
	if err := plan.AllowsSkill(len(others)); err != nil {
		return err
	}
	if err := checkPin(ctx, tx, *i); err != nil {
		return err
	}
	i.Slug = chooseSlug(*i, p, others)
	if err := insertInstalled(ctx, tx, *i); err != nil {
		return err
	}
	if err := replaceFiles(ctx, tx, i.account, i.ID, p.Files); err != nil {
		return err
	}
	if !i.Enabled {
		return nil
	}
	return s.store.recordPaths(ctx, tx, *i)
}

// checkConflict refuses a skill if the agent has another one with the same id, or with a
// name that a model cannot tell from it. Faults: Conflict.
func (i Installed) checkConflict(others []Installed) error {
	for _, o := range others {
		switch {
		case o.ID == i.ID:
		case o.SkillID == i.SkillID:
			return fault.New(fault.Conflict, "The agent already has the skill %s, version %s with trust level %s. Upgrade it, or uninstall it first.", o.SkillID, o.Version, o.Trust).
				With("installedVersion", o.Version).With("trustLevel", string(o.Trust))
		case o.label == i.label:
			return fault.New(fault.Conflict, "The agent's skill %s has the same name %s in its SKILL.md, so the model would see only one of them. Uninstall it first.", o.SkillID, quote(i.label)).
				With("skillId", o.SkillID)
		}
	}
	return nil
}

// checkPin refuses a community skill if the account has the same version installed with
// other files: a registry must not change a version. Faults: Conflict.
func checkPin(ctx context.Context, q database.Reader, i Installed) error {
	if i.Trust != ClawHub {
		return nil
	}
	changed, err := hasOtherDigest(ctx, q, i)
	if err != nil {
		return err
	}
	if changed {
		return fault.New(fault.Conflict, "The registry changed the files of %s %s after this account installed it. It was not installed; ask its publisher for a new version.", i.SkillID, i.Version)
	}
	return nil
}

// chooseSlug returns the folder of a skill: its id if no other skill of the agent has that
// folder, otherwise the id and a hash of its source.
func chooseSlug(i Installed, p Package, others []Installed) string {
	slug := slugify(p.ID)
	for _, o := range others {
		if o.Slug == slug {
			return slug[:min(len(slug), 55)] + "-" + sha256Hex([]byte(string(i.Trust) + " " + i.SkillID))[:8]
		}
	}
	return slug
}

// Uninstall removes a skill from an agent, with every file of the skill. name is the
// skill's id, the installation's id or the GitHub address of its source. Faults: NotFound.
func (s *Service) Uninstall(ctx context.Context, actor identity.Actor, agent identity.AgentID, name string) (Change, error) {
	if err := s.agents.Exists(ctx, s.store.db, actor.AccountID, agent); err != nil {
		return Change{}, err
	}
	return s.change(ctx, actor.AccountID, agent, name, func(tx *database.Tx, i *Installed) (bool, error) {
		if err := s.store.expirePaths(ctx, tx, *i); err != nil {
			return false, err
		}
		if err := deleteInstalled(ctx, tx, *i); err != nil {
			return false, err
		}
		return true, s.appendEvent(ctx, tx, actor, *i, "skill.uninstalled", nil)
	})
}

// Update upgrades, enables or disables a skill of an agent, or several of them, in one
// transaction. name is as for Uninstall. An upgrade to "latest" never lowers the version; a
// named version may be lower. A disabled skill keeps its version and counts for the plan's
// limit. Faults: Invalid, if changes is empty; otherwise as for Install.
func (s *Service) Update(ctx context.Context, actor identity.Actor, agent identity.AgentID, name string, changes Changes) (Change, error) {
	if err := s.agents.Exists(ctx, s.store.db, actor.AccountID, agent); err != nil {
		return Change{}, err
	}
	if changes.Version == "" && changes.Enabled == nil {
		return Change{}, fault.Fields{"body": "must have isEnabled, version, or both"}.Err()
	}
	var up *upgrade
	if changes.Version != "" {
		var err error
		if up, err = s.findUpgrade(ctx, actor.AccountID, agent, name, changes.Version); err != nil {
			return Change{}, err
		}
		name = up.installedID
	}
	done, err := s.change(ctx, actor.AccountID, agent, name, func(tx *database.Tx, i *Installed) (bool, error) {
		upgraded, err := s.applyUpgrade(ctx, tx, actor, i, up)
		if err != nil {
			return false, err
		}
		switched, err := s.setEnabled(ctx, tx, actor, i, changes.Enabled)
		return upgraded || switched, err
	})
	if err != nil || up == nil || up.pkg == nil {
		return done, err
	}
	return s.addMissingHosts(ctx, done, *up.pkg), nil
}

// addMissingHosts adds the hosts that a package declares and the agent may not connect
// to. The change stands also if they cannot be found out.
func (s *Service) addMissingHosts(ctx context.Context, c Change, p Package) Change {
	hosts := p.Declared().Hosts
	if len(hosts) == 0 {
		return c
	}
	missing, err := s.agents.MissingHosts(ctx, c.account, c.agent, hosts)
	if err != nil {
		s.log.WarnContext(ctx, "the hosts of a skill could not be compared with the agent's policy", "agent", c.agent, "skill", c.SkillID, "error", err)
	}
	c.MissingHosts = missing
	return c
}

// upgrade is the package that an installed skill is upgraded to.
type upgrade struct {
	installedID string
	pkg         *Package // nil: the skill has the latest version
	latest      bool     // pkg is only installed if it is an upgrade; see Installed.isUpgrade
}

// findUpgrade finds the package that a skill of an agent is upgraded to, from the source
// that the skill came from.
func (s *Service) findUpgrade(ctx context.Context, account identity.AccountID, agent identity.AgentID, name, version string) (*upgrade, error) {
	i, err := findInstalled(ctx, s.store.db, account, agent, name)
	if err != nil {
		return nil, notInstalled(err, name)
	}
	up := &upgrade{installedID: i.ID, latest: version == latest}
	if up.latest {
		version = ""
	}
	p, err := s.find(ctx, account, i.order(version))
	if err != nil {
		return nil, err
	}
	if p.skillID != i.SkillID {
		return nil, fault.New(fault.Conflict, "The skill at %s is now %s. Uninstall %s and install the skill again.", i.Source, p.skillID, i.SkillID)
	}
	if up.latest && !i.isUpgrade(p) {
		return up, nil
	}
	if err := s.checkScore(p); err != nil {
		return nil, err
	}
	up.pkg = &p
	return up, nil
}

// order returns the order for a version of an installed skill from its source.
func (i Installed) order(version string) Order {
	o := Order{SkillID: i.SkillID, Trust: i.Trust, Version: version}
	if i.Trust == Custom && strings.HasPrefix(i.Source, "https://") {
		o.SkillID = i.Source
	}
	return o
}

// isUpgrade reports whether the package that the source has now is an upgrade: it has a
// higher version, or other files and the same version where versions may change. Commits
// have no order, so of two commits other files are enough.
func (i Installed) isUpgrade(p Package) bool {
	return p.Digest != i.digest && (!newer(i.Version, p.Version) || isCommit(i.Version) && isCommit(p.Version))
}

// applyUpgrade replaces a skill by the package of an upgrade, and reports whether that
// changed anything.
func (s *Service) applyUpgrade(ctx context.Context, tx *database.Tx, actor identity.Actor, i *Installed, up *upgrade) (changed bool, err error) {
	if up == nil || up.pkg == nil {
		return false, nil
	}
	p := *up.pkg
	if up.latest && !i.isUpgrade(p) {
		return false, nil // another request upgraded it further after p was fetched
	}
	if p.Digest == i.digest && p.Version == i.Version {
		return false, nil
	}
	before := i.Version
	if err := s.replace(ctx, tx, i, p); err != nil {
		return false, err
	}
	return true, s.appendEvent(ctx, tx, actor, *i, "skill.upgraded", map[string]any{"from": before})
}

// replace replaces the version and the files of an installed skill.
func (s *Service) replace(ctx context.Context, tx *database.Tx, i *Installed, p Package) error {
	if err := s.store.expirePaths(ctx, tx, *i); err != nil {
		return err
	}
	i.setPackage(p, now())
	all, err := listInstalled(ctx, tx, i.account, i.agent)
	if err != nil {
		return err
	}
	if err := i.checkConflict(all); err != nil {
		return err
	}
	if err := checkPin(ctx, tx, *i); err != nil {
		return err
	}
	if err := updateInstalled(ctx, tx, *i); err != nil {
		return err
	}
	if err := replaceFiles(ctx, tx, i.account, i.ID, p.Files); err != nil {
		return err
	}
	if i.Enabled {
		return s.store.recordPaths(ctx, tx, *i)
	}
	return nil
}

// setEnabled enables or disables a skill, and reports whether that changed anything. nil
// leaves it as it is.
func (s *Service) setEnabled(ctx context.Context, tx *database.Tx, actor identity.Actor, i *Installed, enabled *bool) (changed bool, err error) {
	if enabled == nil || i.Enabled == *enabled {
		return false, nil
	}
	kind, updatePaths := "skill.disabled", s.store.expirePaths
	if *enabled {
		kind, updatePaths = "skill.enabled", s.store.recordPaths
	}
	if err := updatePaths(ctx, tx, *i); err != nil {
		return false, err
	}
	i.Enabled, i.UpdatedAt = *enabled, now()
	if err := updateInstalled(ctx, tx, *i); err != nil {
		return false, err
	}
	return true, s.appendEvent(ctx, tx, actor, *i, kind, nil)
}

// change finds an installed skill and calls f with it in one transaction. If f reports a
// change, change syncs the agent.
func (s *Service) change(ctx context.Context, account identity.AccountID, agent identity.AgentID, name string, f func(*database.Tx, *Installed) (changed bool, err error)) (Change, error) {
	var i Installed
	changed := false
	err := s.store.db.Tx(ctx, "skill.change", func(ctx context.Context, tx *database.Tx) (err error) {
		if err := tx.Lock(ctx, database.LockSkills, string(agent)); err != nil {
			return err
		}
		if i, err = findInstalled(ctx, tx, account, agent, name); err != nil {
			return notInstalled(err, name)
		}
		changed, err = f(tx, &i)
		return err
	})
	if err != nil {
		return Change{}, fmt.Errorf("change skill: %w", err)
	}
	if !changed {
		return Change{Installed: i}, nil
	}
	return s.sync(ctx, i), nil
}

func notInstalled(err error, name string) error {
	if isNoRows(err) {
		return fault.New(fault.NotFound, "The agent has no skill %s. GET skills lists them.", quote(name))
	}
	return fmt.Errorf("find installed skill: %w", err)
}

// sync brings a committed change to the agent. If that fails the change stays, and a
// restart brings it at the latest.
func (s *Service) sync(ctx context.Context, i Installed) Change {
	needsRestart, err := s.agents.Sync(ctx, i.account, i.agent)
	if err != nil {
		s.log.WarnContext(ctx, "a change of skills could not be synced to the agent yet", "agent", i.agent, "skill", i.SkillID, "error", err)
		needsRestart = true
	}
	return Change{Installed: i, Changed: true, NeedsRestart: needsRestart}
}

func (s *Service) appendEvent(ctx context.Context, tx *database.Tx, actor identity.Actor, i Installed, kind string, more map[string]any) error {
	data := map[string]any{"skillId": i.SkillID, "version": i.Version, "trustLevel": i.Trust, "securityScore": i.Score}
	maps.Copy(data, more)
	return s.events.Append(ctx, tx, actor, event.Event{Topic: event.AgentTopic(i.agent), Kind: kind, Data: data})
}
