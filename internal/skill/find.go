package skill

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/skill/clawhub"
	"agento.host/agento/internal/skill/github"
	"agento.host/agento/internal/skill/scan"
)

// Order names a skill and where it comes from.
type Order struct {
	SkillID string // of the catalog; a registry's slug or @owner/slug; a custom skill's; or a GitHub address
	Trust   Trust
	Version string // empty: the latest
}

func (o Order) check() error {
	wrong := fault.Fields{}
	if o.SkillID == "" || len(o.SkillID) > 500 {
		wrong.Add("skillId", "must name a skill")
	}
	switch o.Trust {
	case Verified, ClawHub, Custom:
	default:
		wrong.Add("trustLevel", "must be verified, clawhub or custom")
	}
	if len(o.Version) > 64 {
		wrong.Add("version", "must be at most 64 characters")
	}
	return wrong.Err()
}

// find gets a skill with all its files, scanned, from wherever it is. It changes nothing.
func (s *Service) find(ctx context.Context, accountID string, o Order) (Package, error) {
	if err := o.check(); err != nil {
		return Package{}, err
	}
	switch {
	case o.Trust == ClawHub:
		return s.fromRegistry(ctx, o)
	case o.Trust == Verified:
		return s.fromCatalog(o)
	case github.IsURL(o.SkillID):
		return s.fromGitHub(ctx, o)
	}
	return s.fromUploads(ctx, accountID, o)
}

func (s *Service) fromCatalog(o Order) (Package, error) {
	p, ok := s.Catalog.Find(o.SkillID)
	if !ok {
		return Package{}, fault.New(fault.NotFound, "There is no verified skill %s. GET /v1/skills lists them.", quote(o.SkillID))
	}
	if o.Version != "" && o.Version != p.Version {
		return Package{}, fault.New(fault.NotFound, "The catalog has version %s of %s, not %s.", p.Version, p.ID, quote(o.Version))
	}
	p.skillID = p.ID
	return p, nil
}

func (s *Service) fromRegistry(ctx context.Context, o Order) (Package, error) {
	ref, err := clawhub.ParseRef(o.SkillID)
	if err != nil {
		return Package{}, err
	}
	registry, err := s.registry()
	if err != nil {
		return Package{}, err
	}
	got, err := registry.Fetch(ctx, ref, o.Version)
	if err != nil {
		return Package{}, err
	}
	files, pin := got.Files, got.SHA256
	if got.GitHub != nil {
		folder, err := s.folderOf(ctx, *got.GitHub)
		if err != nil {
			return Package{}, err
		}
		files, pin, got.Version = folder.Files, folder.Commit, commitVersion(folder.Commit)
	}
	m := Manifest{ID: ref.Slug, Name: got.Name, Version: got.Version, Author: cmp.Or(ref.Owner, got.Ref.Owner), Category: "community", Description: oneLine(short(got.Summary))}
	p, err := newPackage(m, ClawHub, files, got.Findings...)
	p.Source, p.Pin, p.skillID = ref.String(), pin, ref.String()
	return p, err
}

func (s *Service) folderOf(ctx context.Context, src clawhub.Source) (github.Folder, error) {
	at, err := github.At(src.Repo, src.Commit, src.Path)
	if err != nil {
		return github.Folder{}, err
	}
	return s.fetch(ctx, at)
}

func (s *Service) fetch(ctx context.Context, src github.Source) (github.Folder, error) {
	if s.GitHub == nil {
		return github.Folder{}, fault.New(fault.NotFound, "This installation offers no skills from GitHub.")
	}
	return s.GitHub.Fetch(ctx, src)
}

// fromGitHub takes the id, name and version from manifest.json, or manifest.yaml;
// without either from SKILL.md and the commit.
func (s *Service) fromGitHub(ctx context.Context, o Order) (Package, error) {
	src, err := github.Parse(o.SkillID)
	if err != nil {
		return Package{}, err
	}
	if o.Version != "" {
		return Package{}, fault.New(fault.Invalid, "A version of a GitHub skill is named in its address, as /tree/REF.").With("version", "is named in skillId")
	}
	folder, err := s.fetch(ctx, src)
	if err != nil {
		return Package{}, err
	}
	m, err := manifestOf(folder.Files)
	if err != nil {
		return Package{}, err
	}
	m.Version = cmp.Or(m.Version, commitVersion(folder.Commit))
	m.Author = cmp.Or(m.Author, src.Owner)
	p, err := newPackage(m, Custom, folder.Files)
	p.Source, p.Pin, p.skillID = src.String(), folder.Commit, p.ID
	return p, err
}

// manifestOf reads what describes a skill in a repository, where fields of other
// tools do no harm.
func manifestOf(files map[string][]byte) (Manifest, error) {
	for _, name := range []string{"manifest.json", manifestFile} {
		if raw, ok := files[name]; ok {
			return parseManifest(raw, false)
		}
	}
	return Manifest{}, nil
}

const commitPrefix = "0.0.0-git-"

// commitVersion is a semantic version for a commit of a repository that gives none.
func commitVersion(commit string) string { return commitPrefix + commit[:12] }

func isCommit(version string) bool { return strings.HasPrefix(version, commitPrefix) }

func (s *Service) fromUploads(ctx context.Context, accountID string, o Order) (Package, error) {
	all, err := uploadsOf(ctx, s.DB, accountID, o.SkillID)
	if err != nil {
		return Package{}, fmt.Errorf("find custom skill: %w", err)
	}
	for _, u := range all {
		if !u.deletedAt.IsZero() || o.Version != "" && o.Version != u.manifest.Version {
			continue
		}
		return s.uploaded(ctx, accountID, u)
	}
	if o.Version != "" {
		return Package{}, fault.New(fault.NotFound, "There is no version %s of a custom skill %s.", quote(o.Version), quote(o.SkillID))
	}
	return Package{}, fault.New(fault.NotFound, "There is no custom skill %s. Upload it with POST /v1/skills.", quote(o.SkillID))
}

// uploaded scans the files again: the scanner may have learned since.
func (s *Service) uploaded(ctx context.Context, accountID string, u upload) (Package, error) {
	files, err := readFiles(ctx, s.DB, accountID, u.id)
	if err != nil {
		return Package{}, err
	}
	if _, ok := files[mainFile]; !ok { // deleted between the two reads
		return Package{}, fault.New(fault.NotFound, "The custom skill %s was deleted.", u.manifest.ID)
	}
	p, err := newPackage(u.manifest, Custom, files)
	p.Source, p.skillID = "upload", p.ID
	return p, err
}

// admit refuses a skill that scores too low. Faults: Forbidden, with the findings.
func (s *Service) admit(p Package) error {
	if p.Report.Score >= s.MinScore {
		return nil
	}
	f := fault.New(fault.Forbidden, "The skill %s scores %d of 100 for security and %d is needed; details names what was found. It was not installed.", p.ID, p.Report.Score, s.MinScore).
		With("securityScore", fmt.Sprint(p.Report.Score)).With("minSecurityScore", fmt.Sprint(s.MinScore))
	for i, x := range p.Report.Worst(20) {
		f = f.With(fmt.Sprintf("finding%02d", i+1), describe(x))
	}
	return f
}

// describe puts a finding on one line: severity rule file:line: message: excerpt.
func describe(f scan.Finding) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", f.Severity, f.Rule)
	if f.File != "" {
		fmt.Fprintf(&b, " %s", f.File)
		if f.Line > 0 {
			fmt.Fprintf(&b, ":%d", f.Line)
		}
	}
	fmt.Fprintf(&b, ": %s", f.Message)
	if f.Excerpt != "" {
		fmt.Fprintf(&b, " %s", f.Excerpt)
	}
	return b.String()
}

// quote shows what a caller sent: short and printable.
func quote(s string) string {
	if r := []rune(s); len(r) > 80 {
		s = string(r[:80]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
