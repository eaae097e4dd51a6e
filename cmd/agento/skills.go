package main

import (
	"context"

	"agento.host/agento/client"
)

type skillsCommand struct {
	List      skillsList      `cmd:"" help:"Browse the marketplace."`
	Show      skillsShow      `cmd:"" help:"Show a skill with the findings of its scan."`
	Installed skillsInstalled `cmd:"" help:"List the skills of an agent."`
	Install   skillsInstall   `cmd:"" help:"Install a skill on an agent."`
	Uninstall skillsUninstall `cmd:"" help:"Remove a skill from an agent."`
}

type skillsList struct {
	remote
	Search string `help:"Words to search for."`
	Trust  string `help:"verified, clawhub or custom." enum:"verified,clawhub,custom" default:"verified"`
}

// Run browses the marketplace.
func (c skillsList) Run(ctx context.Context, t *terminal) error {
	found, err := c.client().ListSkills(ctx, client.SkillQuery{Search: c.Search, TrustLevel: c.Trust, PageSize: 100})
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(found.Data)
	}
	rows := make([]map[string]any, len(found.Data))
	for i, s := range found.Data {
		rows[i] = map[string]any{"id": s.ID, "name": s.Name, "version": s.LatestVersion, "category": s.Category}
		if s.SecurityScore != nil {
			rows[i]["score"] = *s.SecurityScore
		}
		if s.Verdict != nil {
			rows[i]["verdict"] = *s.Verdict
		}
	}
	return t.table(rows, "id", "name", "version", "category", "score", "verdict")
}

type skillsShow struct {
	remote
	Skill string `arg:"" help:"Id of the skill."`
}

// Run shows a skill.
func (c skillsShow) Run(ctx context.Context, t *terminal) error {
	s, err := c.client().Skill(ctx, c.Skill, "")
	if err != nil {
		return err
	}
	return t.printJSON(s)
}

type skillsInstalled struct{ agentArg }

// Run lists the skills of an agent.
func (c skillsInstalled) Run(ctx context.Context, t *terminal) error {
	all, err := c.client().AgentSkills(ctx, c.ID)
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(all)
	}
	rows := make([]map[string]any, len(all))
	for i, s := range all {
		rows[i] = map[string]any{"skill": s.SkillID, "version": s.InstalledVersion, "trust": s.TrustLevel, "enabled": s.IsEnabled}
	}
	return t.table(rows, "skill", "version", "trust", "enabled")
}

type skillsInstall struct {
	agentArg
	Skill string `arg:"" help:"Id of the skill, @owner/slug of the community registry, or a GitHub address."`
	Trust string `help:"verified, clawhub or custom." enum:"verified,clawhub,custom" default:"verified"`
}

// Run installs a skill.
func (c skillsInstall) Run(ctx context.Context, t *terminal) error {
	s, err := c.client().InstallSkill(ctx, c.ID, client.InstallSkillRequest{SkillID: c.Skill, TrustLevel: c.Trust})
	if err != nil {
		return err
	}
	return t.print(s, "installed "+s.SkillID+" "+s.InstalledVersion)
}

type skillsUninstall struct {
	agentArg
	Skill string `arg:"" help:"Id of the skill."`
}

// Run removes a skill.
func (c skillsUninstall) Run(ctx context.Context, t *terminal) error {
	s, err := c.client().UninstallSkill(ctx, c.ID, c.Skill)
	if err != nil {
		return err
	}
	return t.print(s, "uninstalled "+s.SkillID)
}
