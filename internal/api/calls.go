package api

import (
	"context"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/skill"
	"agento.host/agento/internal/vault"
	"agento.host/agento/internal/workspace"
)

// This file holds the service calls that consist of more than one step, one method
// for each handler that needs one.

// checkNewAgent names everything that is wrong with a request for a new agent.
// Faults: Invalid.
func (s *Server) checkNewAgent(ctx context.Context, in client.CreateAgentRequest) error {
	return s.agents.CheckNew(ctx, callerOf(ctx), in)
}

func (s *Server) waitRunning(ctx context.Context, o agent.Outcome) (agent.Agent, error) {
	ctx, cancel := s.untilDrain(ctx)
	defer cancel()
	return s.agents.AwaitRunning(ctx, o)
}

func (s *Server) startAndWait(ctx context.Context, who access.Principal, id identity.AgentID) (agent.Agent, error) {
	o, err := s.agents.Start(ctx, who, string(id))
	if err != nil {
		return agent.Agent{}, err
	}
	return s.waitRunning(ctx, o)
}

func (s *Server) restartAndWait(ctx context.Context, who access.Principal, id identity.AgentID) (agent.Agent, error) {
	o, err := s.agents.Restart(ctx, who, string(id))
	if err != nil {
		return agent.Agent{}, err
	}
	return s.waitRunning(ctx, o)
}

func (s *Server) stopAndWait(ctx context.Context, who access.Principal, id identity.AgentID) (agent.Agent, error) {
	o, err := s.agents.Stop(ctx, who, string(id))
	if err != nil {
		return agent.Agent{}, err
	}
	ctx, cancel := s.untilDrain(ctx)
	defer cancel()
	return s.agents.AwaitStopped(ctx, o)
}

func (s *Server) deleteAndWait(ctx context.Context, who access.Principal, id identity.AgentID) error {
	o, err := s.agents.Delete(ctx, who, string(id))
	if err != nil {
		return err
	}
	ctx, cancel := s.untilDrain(ctx)
	defer cancel()
	return s.agents.AwaitDeleted(ctx, o)
}

func (s *Server) readAccount(ctx context.Context, who access.Principal) (a access.Account, plan access.Plan, usage client.AccountUsage, err error) {
	if a, err = s.access.Account(ctx, who.AccountID); err != nil {
		return a, plan, usage, err
	}
	if plan, err = s.access.PlanOf(ctx, s.db, who.AccountID); err != nil {
		return a, plan, usage, err
	}
	usage.Agents, usage.RunningAgents, err = s.agents.Usage(ctx, who)
	return a, plan, usage, err
}

// absorb records the edits that the agent made to its documents itself, so that the
// documents are read and replaced as they are.
func (s *Server) absorb(ctx context.Context, who access.Principal, id identity.AgentID) error {
	return s.agents.Absorb(ctx, who, string(id))
}

// sync brings a running agent up to date and reports whether it still needs a
// restart. If not, its next turn uses the change.
func (s *Server) sync(ctx context.Context, who access.Principal, id identity.AgentID) (needsRestart bool, err error) {
	return s.agents.Sync(ctx, who, string(id))
}

func (s *Server) readPersonality(ctx context.Context, who access.Principal, id identity.AgentID) (workspace.Personality, error) {
	if err := s.absorb(ctx, who, id); err != nil {
		return workspace.Personality{}, err
	}
	return s.workspace.Personality(ctx, who.AccountID, string(id))
}

func (s *Server) replaceSoul(ctx context.Context, who access.Principal, id identity.AgentID, in client.SetPersonalityRequest) (v workspace.Version, needsRestart bool, err error) {
	if err = s.absorb(ctx, who, id); err != nil {
		return v, false, err
	}
	if v, err = s.workspace.SetSoul(ctx, who.AccountID, string(id), who.KeyID, in.SoulMD, in.ExpectedHash); err != nil {
		return v, false, err
	}
	needsRestart, err = s.sync(ctx, who, id)
	return v, needsRestart, err
}

func (s *Server) readProcedures(ctx context.Context, who access.Principal, id identity.AgentID) (workspace.Procedures, error) {
	if err := s.absorb(ctx, who, id); err != nil {
		return workspace.Procedures{}, err
	}
	return s.workspace.Procedures(ctx, who.AccountID, string(id))
}

func (s *Server) replaceWorkflow(ctx context.Context, who access.Principal, id identity.AgentID, in client.SetWorkflowRequest) (v workspace.Version, needsRestart bool, err error) {
	if err = s.absorb(ctx, who, id); err != nil {
		return v, false, err
	}
	if v, err = s.workspace.SetWorkflow(ctx, who.AccountID, string(id), who.KeyID, in.WorkflowMD, in.ExpectedHash); err != nil {
		return v, false, err
	}
	needsRestart, err = s.sync(ctx, who, id)
	return v, needsRestart, err
}

func (s *Server) readRules(ctx context.Context, who access.Principal, id identity.AgentID) ([]workspace.Version, error) {
	if err := s.absorb(ctx, who, id); err != nil {
		return nil, err
	}
	return s.workspace.Rules(ctx, who.AccountID, string(id))
}

func (s *Server) readRule(ctx context.Context, who access.Principal, id identity.AgentID, name string) (workspace.Version, error) {
	if err := s.absorb(ctx, who, id); err != nil {
		return workspace.Version{}, err
	}
	return s.workspace.Rule(ctx, who.AccountID, string(id), name)
}

func (s *Server) writeRule(ctx context.Context, who access.Principal, id identity.AgentID, name string, in client.PutRuleRequest) (v workspace.Version, needsRestart bool, err error) {
	if err = s.absorb(ctx, who, id); err != nil {
		return v, false, err
	}
	if v, err = s.workspace.PutRule(ctx, who.AccountID, string(id), who.KeyID, name, in.Content, in.ExpectedHash); err != nil {
		return v, false, err
	}
	needsRestart, err = s.sync(ctx, who, id)
	return v, needsRestart, err
}

func (s *Server) removeRule(ctx context.Context, who access.Principal, id identity.AgentID, name string) (deleted string, needsRestart bool, err error) {
	if err = s.absorb(ctx, who, id); err != nil {
		return "", false, err
	}
	if deleted, err = s.workspace.DeleteRule(ctx, who.AccountID, string(id), who.KeyID, name); err != nil {
		return "", false, err
	}
	needsRestart, err = s.sync(ctx, who, id)
	return deleted, needsRestart, err
}

func (s *Server) readVersions(ctx context.Context, who access.Principal, id identity.AgentID, d workspace.Document, before int64, limit int) (workspace.Page, error) {
	if err := s.absorb(ctx, who, id); err != nil {
		return workspace.Page{}, err
	}
	return s.workspace.Versions(ctx, who.AccountID, string(id), d, before, limit)
}

func (s *Server) readVersion(ctx context.Context, who access.Principal, id identity.AgentID, d workspace.Document, number int64) (workspace.Version, error) {
	if err := s.absorb(ctx, who, id); err != nil {
		return workspace.Version{}, err
	}
	return s.workspace.Version(ctx, who.AccountID, string(id), d, number)
}

func (s *Server) restoreVersion(ctx context.Context, who access.Principal, id identity.AgentID, d workspace.Document, number int64) (v workspace.Version, needsRestart bool, err error) {
	if err = s.absorb(ctx, who, id); err != nil {
		return v, false, err
	}
	if v, err = s.workspace.Restore(ctx, who.AccountID, string(id), who.KeyID, d, number); err != nil {
		return v, false, err
	}
	needsRestart, err = s.sync(ctx, who, id)
	return v, needsRestart, err
}

func (s *Server) readAgentSkills(ctx context.Context, who access.Principal, id identity.AgentID) ([]skill.Installed, error) {
	if _, err := s.agents.Find(ctx, who, string(id)); err != nil {
		return nil, err
	}
	return s.skills.List(ctx, who.AccountID, string(id))
}

func (s *Server) addSkill(ctx context.Context, who access.Principal, id identity.AgentID, o skill.Order) (skill.Change, error) {
	if _, err := s.agents.Find(ctx, who, string(id)); err != nil {
		return skill.Change{}, err
	}
	if err := s.allowsTrust(who, o.Trust); err != nil {
		return skill.Change{}, err
	}
	plan, err := s.access.PlanOf(ctx, s.db, who.AccountID)
	if err != nil {
		return skill.Change{}, err
	}
	return s.skills.Install(ctx, who.AccountID, who.KeyID, string(id), o, plan.RoomForSkill)
}

// allowsTrust returns nil if the caller's plan has skills of that trust level.
// Faults: PlanLimit.
func (s *Server) allowsTrust(who access.Principal, trust skill.Trust) error {
	switch trust {
	case skill.ClawHub:
		return s.access.Allows(who, access.FeatureClawHub)
	case skill.Custom:
		return s.access.Allows(who, access.FeatureCustomSkills)
	}
	return nil
}

func (s *Server) changeSkill(ctx context.Context, who access.Principal, id identity.AgentID, name string, in client.UpdateAgentSkillRequest) (done skill.Change, err error) {
	if _, err := s.agents.Find(ctx, who, string(id)); err != nil {
		return done, err
	}
	if in.Version == "" && in.IsEnabled == nil {
		return done, fault.Fields{"body": "must have isEnabled, version, or both"}.Err()
	}
	if in.Version != "" {
		if done, err = s.skills.Upgrade(ctx, who.AccountID, who.KeyID, string(id), name, in.Version); err != nil {
			return done, err
		}
	}
	if in.IsEnabled != nil {
		done, err = s.skills.SetEnabled(ctx, who.AccountID, who.KeyID, string(id), name, *in.IsEnabled)
	}
	return done, err
}

func (s *Server) removeSkill(ctx context.Context, who access.Principal, id identity.AgentID, name string) (skill.Change, error) {
	if _, err := s.agents.Find(ctx, who, string(id)); err != nil {
		return skill.Change{}, err
	}
	return s.skills.Uninstall(ctx, who.AccountID, who.KeyID, string(id), name)
}

func (s *Server) changeSwarmSecrets(ctx context.Context, who access.Principal, id identity.SwarmID, set map[string]vault.Secret, remove []string) (needsRestart bool, err error) {
	if err := s.swarms.SetSecrets(ctx, who.AccountID, who.KeyID, string(id), set, remove); err != nil {
		return false, err
	}
	d, err := s.swarms.Get(ctx, who.AccountID, string(id))
	if err != nil {
		return false, err
	}
	for _, a := range d.Agents {
		v, err := s.agents.View(ctx, who, a.ID)
		if fault.Is(err, fault.NotFound) {
			continue // deleted since
		}
		if err != nil || v.NeedsRestart {
			return v.NeedsRestart, err
		}
	}
	return false, nil
}
