package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"agento.host/agento/client"
)

type skillsCommand struct {
	List      skillsList      `cmd:"" help:"Browse the marketplace."`
	Show      skillsShow      `cmd:"" help:"Show a skill with the findings of its scan."`
	Installed skillsInstalled `cmd:"" help:"List the skills of an agent."`
	Install   skillsInstall   `cmd:"" help:"Install a skill on an agent."`
	Update    skillsUpdate    `cmd:"" help:"Enable, disable or upgrade a skill of an agent."`
	Uninstall skillsUninstall `cmd:"" help:"Remove a skill from an agent."`
	Upload    skillsUpload    `cmd:"" help:"Add a version of a skill to the account's own catalog."`
	Delete    skillsDelete    `cmd:"" help:"Remove a skill from the account's own catalog. Agents keep it."`
}

type skillsList struct {
	remote
	Search   string `help:"Words to search for."`
	Category string `help:"Only skills of this category."`
	Trust    string `help:"verified, clawhub or custom." enum:"verified,clawhub,custom" default:"verified"`
	Page     int    `help:"Page of the list, from 1." default:"1"`
}

// Run browses the marketplace.
func (c skillsList) Run(ctx context.Context, t *terminal) error {
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	found, err := api.ListSkills(ctx, client.SkillQuery{Search: c.Search, Category: c.Category, TrustLevel: c.Trust, Page: c.Page, PageSize: maxPage})
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
	if err := t.table(rows, "id", "name", "version", "category", "score", "verdict"); err != nil {
		return err
	}
	if shown := (c.Page-1)*maxPage + len(rows); shown < found.Pagination.Total {
		t.progress("%d of %d: --page %d shows the next.", shown, found.Pagination.Total, c.Page+1)
	}
	return nil
}

type skillsShow struct {
	remote
	Skill string `arg:"" help:"Id of the skill."`
	Trust string `help:"Where to look: verified, clawhub or custom. Default: the catalog, then the account's own." enum:",verified,clawhub,custom" default:""`
}

// Run shows a skill.
func (c skillsShow) Run(ctx context.Context, t *terminal) error {
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	s, err := api.Skill(ctx, c.Skill, c.Trust)
	if err != nil {
		return err
	}
	err = t.describe(s,
		field{"id", s.ID}, field{"name", s.Name}, field{"trust", s.TrustLevel}, field{"author", s.Author}, field{"category", s.Category}, field{"version", s.LatestVersion},
		field{"versions", strings.Join(s.Versions, " ")}, field{"about", s.Description}, field{"score", s.SecurityScore}, field{"verdict", s.Verdict},
		field{"tools", strings.Join(s.Tools, " ")}, field{"hosts", strings.Join(s.Hosts, " ")}, field{"installed", "on " + count(s.InstallCount, "agent", "agents")},
	)
	if err != nil || t.json || len(s.Findings) == 0 {
		return err
	}
	rows := make([]map[string]any, len(s.Findings))
	for i, f := range s.Findings {
		rows[i] = map[string]any{"severity": f.Severity, "where": fmt.Sprintf("%s:%d", f.File, f.Line), "finding": f.Message}
	}
	return t.section("Findings", rows, "severity", "where", "finding")
}

type skillsInstalled struct{ agentArg }

// Run lists the skills of an agent.
func (c skillsInstalled) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	all, err := api.AgentSkills(ctx, id)
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(all)
	}
	rows := make([]map[string]any, len(all))
	for i, s := range all {
		rows[i] = map[string]any{"skill": s.SkillID, "version": s.InstalledVersion, "trust": s.TrustLevel, "enabled": s.IsEnabled, "score": s.SecurityScore}
	}
	return t.table(rows, "skill", "version", "trust", "enabled", "score")
}

type skillsInstall struct {
	agentArg
	Skill   string `arg:"" help:"Id of the skill, @owner/slug of the community registry, or a GitHub address."`
	Trust   string `help:"verified, clawhub or custom." enum:"verified,clawhub,custom" default:"verified"`
	Release string `help:"Version to install. Default: the latest."`
}

// Run installs a skill.
func (c skillsInstall) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	s, err := api.InstallSkill(ctx, id, client.InstallSkillRequest{SkillID: c.Skill, TrustLevel: c.Trust, Version: c.Release})
	if err != nil {
		return err
	}
	return t.print(s, "installed "+skillWords(s, id))
}

func skillWords(s client.ChangedSkill, agent string) string {
	text := s.SkillID + " " + s.InstalledVersion + restartHint(s.NeedsRestart, agent)
	if len(s.HostsToAdd) > 0 {
		text += "; the agent may not connect to " + strings.Join(s.HostsToAdd, ", ") + ", which it needs: add them to egress in the agent's config"
	}
	return text
}

type skillsUpdate struct {
	agentArg
	Skill   string `arg:"" help:"Id of the skill."`
	Enable  bool   `help:"Let the agent use it." xor:"enabled"`
	Disable bool   `help:"Keep the agent from using it." xor:"enabled"`
	Release string `help:"Version to bring it to, or latest."`
}

// Run changes a skill of an agent.
func (c skillsUpdate) Run(ctx context.Context, t *terminal) error {
	in := client.UpdateAgentSkillRequest{Version: c.Release}
	if c.Enable || c.Disable {
		in.IsEnabled = &c.Enable
	}
	if in.IsEnabled == nil && in.Version == "" {
		return usageError("say what to change: --enable, --disable or --release")
	}
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	s, err := api.UpdateAgentSkill(ctx, id, c.Skill, in)
	if err != nil {
		return err
	}
	return t.print(s, "updated "+skillWords(s, id))
}

type skillsUninstall struct {
	agentArg
	Skill string `arg:"" help:"Id of the skill."`
}

// Run removes a skill.
func (c skillsUninstall) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	s, err := api.UninstallSkill(ctx, id, c.Skill)
	if err != nil {
		return err
	}
	return t.print(s, "uninstalled "+s.SkillID+restartHint(s.NeedsRestart, id))
}

type skillsUpload struct {
	remote
	Dir      string   `arg:"" help:"Folder with SKILL.md and its helper files."`
	Release  string   `help:"Semantic version, higher than all earlier ones." required:""`
	ID       string   `help:"Id of the skill. Default: the name of the folder." name:"id"`
	Name     string   `help:"Name for people. Default: the id."`
	Author   string   `help:"Who made it."`
	Category string   `help:"Category."`
	Tags     []string `help:"Tags, separated by commas."`
}

// Run uploads a skill.
func (c skillsUpload) Run(ctx context.Context, t *terminal) error {
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	in, err := c.request()
	if err != nil {
		return err
	}
	s, err := api.UploadSkill(ctx, in)
	if err != nil {
		return err
	}
	return t.print(s, fmt.Sprintf("uploaded %s %s, security score %d: %s", s.ID, s.LatestVersion, s.SecurityScore, s.Verdict))
}

const (
	skillFile = "SKILL.md"
	// maxSkill is the size of a skill's files together, in bytes.
	maxSkill = 2 << 20
)

// request reads the folder. Links are left out, as the server leaves them out of archives.
func (c skillsUpload) request() (client.UploadSkillRequest, error) {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return client.UploadSkillRequest{}, err
	}
	in := client.UploadSkillRequest{ID: c.ID, Name: c.Name, Version: c.Release, Author: c.Author, Category: c.Category, Tags: c.Tags}
	if in.ID == "" {
		in.ID = filepath.Base(dir)
	}
	if in.Name == "" {
		in.Name = in.ID
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return in, fileError(c.Dir, err)
	}
	defer func() { _ = root.Close() }() // nothing was written
	left := int64(maxSkill)
	err = fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if left -= info.Size(); left < 0 {
			return usageError("the files in %s are more than %d MiB", c.Dir, maxSkill>>20)
		}
		content, err := fs.ReadFile(root.FS(), path)
		if err != nil {
			return err
		}
		if path == skillFile {
			in.SkillMD = string(content)
			return nil
		}
		in.Files = append(in.Files, uploadedFile(path, content))
		return nil
	})
	if err == nil && in.SkillMD == "" {
		err = notFoundError("there is no %s in %s", skillFile, c.Dir)
	}
	slices.SortFunc(in.Files, func(a, b client.SkillFile) int { return strings.Compare(a.Path, b.Path) })
	return in, err
}

func uploadedFile(path string, content []byte) client.SkillFile {
	if utf8.Valid(content) {
		return client.SkillFile{Path: path, Content: string(content)}
	}
	return client.SkillFile{Path: path, Content: base64.StdEncoding.EncodeToString(content), Encoding: "base64"}
}

type skillsDelete struct {
	remote
	confirmation
	Skill string `arg:"" help:"Id of the skill."`
}

// Run deletes a skill of the account's own.
func (c skillsDelete) Run(ctx context.Context, t *terminal) error {
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	if err := c.ask(t, fmt.Sprintf("Delete every version of the skill %q?", c.Skill)); err != nil {
		return err
	}
	d, err := api.DeleteSkill(ctx, c.Skill)
	if err != nil {
		return err
	}
	return t.print(d, "deleted "+d.ID)
}
