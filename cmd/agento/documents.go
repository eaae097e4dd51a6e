package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"agento.host/agento/client"
)

// document is a document of an agent, as the commands show and change it.
type document struct {
	name     string // its path in the workspace
	edit     string // the command that changes it
	read     func(ctx context.Context) (v any, text, hash string, err error)
	write    func(ctx context.Context, text, expectedHash string) (v any, needsRestart bool, err error)
	versions func(ctx context.Context, q client.VersionsQuery) (client.CursorList[client.DocumentVersion], error)
	version  func(ctx context.Context, n int64) (client.DocumentVersion, error)
	restore  func(ctx context.Context, n int64) (v any, needsRestart bool, err error)
}

func soulOf(api *client.Client, id string) document {
	return document{
		name: "SOUL.md", edit: "personality",
		read: func(ctx context.Context) (any, string, string, error) {
			p, err := api.Personality(ctx, id)
			return p, p.SoulMD, p.SoulMDHash, err
		},
		write: func(ctx context.Context, text, hash string) (any, bool, error) {
			u, err := api.SetPersonality(ctx, id, client.SetPersonalityRequest{SoulMD: text, ExpectedHash: hash})
			return u, u.NeedsRestart, err
		},
		versions: func(ctx context.Context, q client.VersionsQuery) (client.CursorList[client.DocumentVersion], error) {
			return api.PersonalityVersions(ctx, id, q)
		},
		version: func(ctx context.Context, n int64) (client.DocumentVersion, error) {
			return api.PersonalityVersion(ctx, id, n)
		},
		restore: func(ctx context.Context, n int64) (any, bool, error) {
			u, err := api.RestorePersonality(ctx, id, n)
			return u, u.NeedsRestart, err
		},
	}
}

func identityOf(api *client.Client, id string) document {
	return document{
		name: "IDENTITY.md",
		read: func(ctx context.Context) (any, string, string, error) {
			p, err := api.Personality(ctx, id)
			return p, p.IdentityMD, "", err
		},
		versions: func(ctx context.Context, q client.VersionsQuery) (client.CursorList[client.DocumentVersion], error) {
			return api.IdentityVersions(ctx, id, q)
		},
		version: func(ctx context.Context, n int64) (client.DocumentVersion, error) {
			return api.IdentityVersion(ctx, id, n)
		},
		restore: func(ctx context.Context, n int64) (any, bool, error) {
			u, err := api.RestoreIdentity(ctx, id, n)
			return u, u.NeedsRestart, err
		},
	}
}

func workflowOf(api *client.Client, id string) document {
	return document{
		name: "WORKFLOW.md", edit: "workflow",
		read: func(ctx context.Context) (any, string, string, error) {
			w, err := api.Workflow(ctx, id)
			return w, w.WorkflowMD, w.Hash, err
		},
		write: func(ctx context.Context, text, hash string) (any, bool, error) {
			u, err := api.SetWorkflow(ctx, id, client.SetWorkflowRequest{WorkflowMD: text, ExpectedHash: hash})
			return u, u.NeedsRestart, err
		},
		versions: func(ctx context.Context, q client.VersionsQuery) (client.CursorList[client.DocumentVersion], error) {
			return api.WorkflowVersions(ctx, id, q)
		},
		version: func(ctx context.Context, n int64) (client.DocumentVersion, error) {
			return api.WorkflowVersion(ctx, id, n)
		},
		restore: func(ctx context.Context, n int64) (any, bool, error) {
			u, err := api.RestoreWorkflow(ctx, id, n)
			return u, u.NeedsRestart, err
		},
	}
}

func ruleOf(api *client.Client, id, given string) document {
	name := strings.TrimSuffix(strings.TrimPrefix(given, "rules/"), ".md")
	return document{
		name: "rules/" + name + ".md", edit: "rules",
		read: func(ctx context.Context) (any, string, string, error) {
			r, err := api.Rule(ctx, id, name)
			return r, r.Content, r.Hash, err
		},
		write: func(ctx context.Context, text, hash string) (any, bool, error) {
			u, err := api.PutRule(ctx, id, name, client.PutRuleRequest{Content: text, ExpectedHash: hash})
			return u, u.NeedsRestart, err
		},
		versions: func(ctx context.Context, q client.VersionsQuery) (client.CursorList[client.DocumentVersion], error) {
			return api.RuleVersions(ctx, id, name, q)
		},
		version: func(ctx context.Context, n int64) (client.DocumentVersion, error) {
			return api.RuleVersion(ctx, id, name, n)
		},
		restore: func(ctx context.Context, n int64) (any, bool, error) {
			u, err := api.RestoreRule(ctx, id, name, n)
			return u, u.NeedsRestart, err
		},
	}
}

// show prints the current text, or that of a version.
func (d document) show(ctx context.Context, t *terminal, version int64) error {
	if version > 0 {
		v, err := d.version(ctx, version)
		if err != nil {
			return err
		}
		if t.json {
			return t.printJSON(v)
		}
		return t.content(deref(v.Content))
	}
	v, text, _, err := d.read(ctx)
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(v)
	}
	return t.content(text)
}

// set replaces the text by that of a file.
func (d document) set(ctx context.Context, t *terminal, id, path, hash string) error {
	text, err := (&inputs{in: t.in}).file(path)
	if err != nil {
		return err
	}
	return d.save(ctx, t, id, text, hash)
}

func (d document) save(ctx context.Context, t *terminal, id, text, hash string) error {
	v, needsRestart, err := d.write(ctx, text, hash)
	if err != nil {
		return err
	}
	return t.print(v, "saved "+d.name+restartHint(needsRestart, id))
}

// change lets the user edit the text, and saves it only if nobody else has changed it
// meanwhile. What cannot be saved stays in the file that was edited.
func (d document) change(ctx context.Context, t *terminal, id string, create bool) error {
	_, text, hash, err := d.read(ctx)
	if create && client.IsCode(err, "not_found") {
		text, hash, err = "", "", nil
	}
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "agento-edit-")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, filepath.Base(d.name))
	edited, err := editFile(ctx, t, path, text)
	if err == nil && edited != text {
		if err = d.save(ctx, t, id, edited, hash); err == nil {
			return os.RemoveAll(dir)
		}
		if client.IsCode(err, "conflict") {
			return refusedError("%s was changed while you edited it, so that nothing was saved. Your text is in %s: compare it with agento %s show, and edit again", d.name, path, d.edit)
		}
		t.progress("Your text is in %s.", path)
		return err
	}
	err = errors.Join(err, os.RemoveAll(dir))
	if err != nil {
		return err
	}
	return t.print(map[string]any{"changed": false}, "nothing was changed")
}

// editFile returns the text after the user's editor has changed it.
func editFile(ctx context.Context, t *terminal, path, text string) (string, error) {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", err
	}
	editor := cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"), "vi")
	cmd := exec.CommandContext(ctx, "sh", "-c", editor+` "$1"`, "sh", path) // #nosec G204 G702 -- the user's own editor, which may have arguments
	cmd.Stdin, cmd.Stdout, cmd.Stderr = t.in, t.err, t.err
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("the editor %s failed (set EDITOR to another one): %w", editor, err)
	}
	edited, err := os.ReadFile(path) // #nosec G304 -- made above
	return string(edited), err
}

func (d document) list(ctx context.Context, t *terminal, limit int) error {
	var all []client.DocumentVersion
	q := client.VersionsQuery{Limit: min(limit, maxPage)}
	for {
		page, err := d.versions(ctx, q)
		if err != nil {
			return err
		}
		all = append(all, page.Data...)
		if !page.Pagination.HasMore || page.Pagination.NextOffset == nil || len(all) >= limit {
			break
		}
		q.Offset = *page.Pagination.NextOffset
	}
	all = all[:min(limit, len(all))]
	if t.json {
		return t.printJSON(all)
	}
	rows := make([]map[string]any, len(all))
	for i, v := range all {
		rows[i] = map[string]any{"version": v.Version, "created": formatTime(v.CreatedAt.Time), "size": formatBytes(v.Size), "by": v.Actor, "note": versionNote(v)}
	}
	return t.table(rows, "version", "created", "size", "by", "note")
}

// maxPage is how much the lists with a cursor return at once.
const maxPage = 100

func versionNote(v client.DocumentVersion) string {
	var notes []string
	if v.Current {
		notes = append(notes, "current")
	}
	if v.Deleted {
		notes = append(notes, "deleted")
	}
	if v.SetAside {
		notes = append(notes, "set aside")
	}
	if v.Review != nil {
		notes = append(notes, *v.Review)
	}
	if v.RestoredFrom != nil {
		notes = append(notes, fmt.Sprintf("restored from %d", *v.RestoredFrom))
	}
	return strings.Join(notes, ", ")
}

func (d document) bringBack(ctx context.Context, t *terminal, id string, version int64) error {
	v, needsRestart, err := d.restore(ctx, version)
	if err != nil {
		return err
	}
	return t.print(v, fmt.Sprintf("restored version %d of %s%s", version, d.name, restartHint(needsRestart, id)))
}

// The flags and arguments that the commands of documents share.
type (
	showFlags struct {
		Version int64 `arg:"" optional:"" help:"Version to show instead of the current one."`
	}
	setFlags struct {
		File         string `arg:"" help:"File with the text; - is standard input."`
		ExpectedHash string `help:"Replace only the text with this SHA-256."`
	}
	versionsFlags struct {
		Limit int `help:"How many, newest first." default:"20"`
	}
	restoreArg struct {
		Version int64 `arg:"" help:"Number of the version."`
	}
)

type personalityCommand struct {
	Show     personalityShow     `cmd:"" help:"Print SOUL.md."`
	Edit     personalityEdit     `cmd:"" help:"Change SOUL.md in your editor ($VISUAL or $EDITOR)."`
	Set      personalitySet      `cmd:"" help:"Replace SOUL.md by a file."`
	Versions personalityVersions `cmd:"" help:"List the versions of SOUL.md."`
	Restore  personalityRestore  `cmd:"" help:"Make a version of SOUL.md current again."`
}

type personalityShow struct {
	agentArg
	showFlags
}

// Run prints SOUL.md.
func (c personalityShow) Run(ctx context.Context, t *terminal) error {
	return c.with(ctx, soulOf, func(d document, _ string) error { return d.show(ctx, t, c.Version) })
}

// with calls do with a document of the agent.
func (a agentArg) with(ctx context.Context, of func(*client.Client, string) document, do func(d document, id string) error) error {
	api, id, err := a.agent(ctx)
	if err != nil {
		return err
	}
	return do(of(api, id), id)
}

type personalityEdit struct{ agentArg }

// Run changes SOUL.md in the editor.
func (c personalityEdit) Run(ctx context.Context, t *terminal) error {
	return c.with(ctx, soulOf, func(d document, id string) error { return d.change(ctx, t, id, false) })
}

type personalitySet struct {
	agentArg
	setFlags
}

// Run replaces SOUL.md.
func (c personalitySet) Run(ctx context.Context, t *terminal) error {
	return c.with(ctx, soulOf, func(d document, id string) error { return d.set(ctx, t, id, c.File, c.ExpectedHash) })
}

type personalityVersions struct {
	agentArg
	versionsFlags
}

// Run lists the versions of SOUL.md.
func (c personalityVersions) Run(ctx context.Context, t *terminal) error {
	return c.with(ctx, soulOf, func(d document, _ string) error { return d.list(ctx, t, c.Limit) })
}

type personalityRestore struct {
	agentArg
	restoreArg
}

// Run restores a version of SOUL.md.
func (c personalityRestore) Run(ctx context.Context, t *terminal) error {
	return c.with(ctx, soulOf, func(d document, id string) error { return d.bringBack(ctx, t, id, c.Version) })
}

type identityCommand struct {
	Show     identityShow     `cmd:"" help:"Print IDENTITY.md."`
	Versions identityVersions `cmd:"" help:"List the versions of IDENTITY.md."`
	Restore  identityRestore  `cmd:"" help:"Make a version of IDENTITY.md current again."`
}

type identityShow struct {
	agentArg
	showFlags
}

// Run prints IDENTITY.md.
func (c identityShow) Run(ctx context.Context, t *terminal) error {
	return c.with(ctx, identityOf, func(d document, _ string) error { return d.show(ctx, t, c.Version) })
}

type identityVersions struct {
	agentArg
	versionsFlags
}

// Run lists the versions of IDENTITY.md.
func (c identityVersions) Run(ctx context.Context, t *terminal) error {
	return c.with(ctx, identityOf, func(d document, _ string) error { return d.list(ctx, t, c.Limit) })
}

type identityRestore struct {
	agentArg
	restoreArg
}

// Run restores a version of IDENTITY.md.
func (c identityRestore) Run(ctx context.Context, t *terminal) error {
	return c.with(ctx, identityOf, func(d document, id string) error { return d.bringBack(ctx, t, id, c.Version) })
}

type workflowCommand struct {
	Show     workflowShow     `cmd:"" help:"Print WORKFLOW.md."`
	Edit     workflowEdit     `cmd:"" help:"Change WORKFLOW.md in your editor ($VISUAL or $EDITOR)."`
	Set      workflowSet      `cmd:"" help:"Replace WORKFLOW.md by a file."`
	Versions workflowVersions `cmd:"" help:"List the versions of WORKFLOW.md."`
	Restore  workflowRestore  `cmd:"" help:"Make a version of WORKFLOW.md current again."`
}

type workflowShow struct {
	agentArg
	showFlags
}

// Run prints WORKFLOW.md.
func (c workflowShow) Run(ctx context.Context, t *terminal) error {
	return c.with(ctx, workflowOf, func(d document, _ string) error { return d.show(ctx, t, c.Version) })
}

type workflowEdit struct{ agentArg }

// Run changes WORKFLOW.md in the editor.
func (c workflowEdit) Run(ctx context.Context, t *terminal) error {
	return c.with(ctx, workflowOf, func(d document, id string) error { return d.change(ctx, t, id, false) })
}

type workflowSet struct {
	agentArg
	setFlags
}

// Run replaces WORKFLOW.md.
func (c workflowSet) Run(ctx context.Context, t *terminal) error {
	return c.with(ctx, workflowOf, func(d document, id string) error { return d.set(ctx, t, id, c.File, c.ExpectedHash) })
}

type workflowVersions struct {
	agentArg
	versionsFlags
}

// Run lists the versions of WORKFLOW.md.
func (c workflowVersions) Run(ctx context.Context, t *terminal) error {
	return c.with(ctx, workflowOf, func(d document, _ string) error { return d.list(ctx, t, c.Limit) })
}

type workflowRestore struct {
	agentArg
	restoreArg
}

// Run restores a version of WORKFLOW.md.
func (c workflowRestore) Run(ctx context.Context, t *terminal) error {
	return c.with(ctx, workflowOf, func(d document, id string) error { return d.bringBack(ctx, t, id, c.Version) })
}

type rulesCommand struct {
	List     rulesList     `cmd:"" help:"List the rules of an agent."`
	Show     rulesShow     `cmd:"" help:"Print a rule."`
	Edit     rulesEdit     `cmd:"" help:"Change a rule in your editor ($VISUAL or $EDITOR), or make one."`
	Set      rulesSet      `cmd:"" help:"Replace a rule by a file, or make one."`
	Delete   rulesDelete   `cmd:"" help:"Delete a rule. Its versions are kept, and restore brings it back."`
	Versions rulesVersions `cmd:"" help:"List the versions of a rule."`
	Restore  rulesRestore  `cmd:"" help:"Make a version of a rule current again."`
}

// ruleArg is a rule of an agent.
type ruleArg struct {
	agentArg
	Rule string `arg:"" help:"Name of the rule, without .md."`
}

func (r ruleArg) withRule(ctx context.Context, do func(d document, id string) error) error {
	return r.with(ctx, func(api *client.Client, id string) document { return ruleOf(api, id, r.Rule) }, do)
}

type rulesList struct{ agentArg }

// Run lists the rules.
func (c rulesList) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	rules, err := api.Rules(ctx, id)
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(rules)
	}
	rows := make([]map[string]any, len(rules))
	for i, r := range rules {
		rows[i] = map[string]any{"name": r.Name, "size": formatBytes(r.Size)}
	}
	return t.table(rows, "name", "size")
}

type rulesShow struct {
	ruleArg
	showFlags
}

// Run prints a rule.
func (c rulesShow) Run(ctx context.Context, t *terminal) error {
	return c.withRule(ctx, func(d document, _ string) error { return d.show(ctx, t, c.Version) })
}

type rulesEdit struct{ ruleArg }

// Run changes a rule in the editor.
func (c rulesEdit) Run(ctx context.Context, t *terminal) error {
	return c.withRule(ctx, func(d document, id string) error { return d.change(ctx, t, id, true) })
}

type rulesSet struct {
	ruleArg
	setFlags
}

// Run replaces a rule.
func (c rulesSet) Run(ctx context.Context, t *terminal) error {
	return c.withRule(ctx, func(d document, id string) error { return d.set(ctx, t, id, c.File, c.ExpectedHash) })
}

type rulesDelete struct{ ruleArg }

// Run deletes a rule.
func (c rulesDelete) Run(ctx context.Context, t *terminal) error {
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	done, err := api.DeleteRule(ctx, id, strings.TrimSuffix(c.Rule, ".md"))
	if err != nil {
		return err
	}
	return t.print(done, "deleted rules/"+done.Name+".md"+restartHint(done.NeedsRestart, id))
}

type rulesVersions struct {
	ruleArg
	versionsFlags
}

// Run lists the versions of a rule.
func (c rulesVersions) Run(ctx context.Context, t *terminal) error {
	return c.withRule(ctx, func(d document, _ string) error { return d.list(ctx, t, c.Limit) })
}

type rulesRestore struct {
	ruleArg
	restoreArg
}

// Run restores a version of a rule.
func (c rulesRestore) Run(ctx context.Context, t *terminal) error {
	return c.withRule(ctx, func(d document, id string) error { return d.bringBack(ctx, t, id, c.Version) })
}
