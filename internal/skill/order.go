package skill

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/skill/clawhub"
	"agento.host/agento/internal/skill/github"
	"agento.host/agento/internal/skill/scan"
)

// Order names a skill and its source.
type Order struct {
	SkillID string // id of a verified or custom skill; slug or @owner/slug of the registry; or a GitHub address
	Trust   Trust
	Version string // empty: the latest version
}

func (o Order) validate() error {
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

// find returns the ordered skill from its source, with its files and scanned. It changes
// nothing. Faults: as for Get.
func (s *Service) find(ctx context.Context, account identity.AccountID, o Order) (Package, error) {
	if err := o.validate(); err != nil {
		return Package{}, err
	}
	switch {
	case o.Trust == ClawHub:
		return s.fromRegistry(ctx, account, o)
	case o.Trust == Verified:
		return s.fromCatalog(o)
	case github.IsURL(o.SkillID):
		return s.fromGitHub(ctx, account, o)
	}
	return s.fromUploads(ctx, account, o)
}

// scanPackage is newPackage when it is the account's turn: the scanner may need seconds.
// Faults: those of newPackage; RateLimited and Unavailable, if too many scans wait.
func (s *Service) scanPackage(ctx context.Context, account identity.AccountID, m Manifest, trust Trust, files map[string][]byte, more ...scan.Finding) (Package, error) {
	release, err := s.scans.Acquire(ctx, string(account), 1)
	if err != nil {
		return Package{}, err
	}
	defer release()
	return newPackage(m, trust, files, more...)
}

func (s *Service) fromCatalog(o Order) (Package, error) {
	p, ok := s.catalog.Find(o.SkillID)
	if !ok {
		return Package{}, fault.New(fault.NotFound, "There is no verified skill %s. GET /v1/skills lists them.", quote(o.SkillID))
	}
	if o.Version != "" && o.Version != p.Version {
		return Package{}, fault.New(fault.NotFound, "The catalog has version %s of %s, not %s.", p.Version, p.ID, quote(o.Version))
	}
	p.skillID = p.ID
	return p, nil
}

func (s *Service) fromRegistry(ctx context.Context, account identity.AccountID, o Order) (Package, error) {
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
		folder, err := s.fetchSource(ctx, *got.GitHub)
		if err != nil {
			return Package{}, err
		}
		files, pin, got.Version = folder.Files, folder.Commit, commitVersion(folder.Commit)
	}
	m := Manifest{ID: ref.Slug, Name: got.Name, Version: got.Version, Author: cmp.Or(ref.Owner, got.Ref.Owner), Category: "community", Description: oneLine(shorten(got.Summary))}
	p, err := s.scanPackage(ctx, account, m, ClawHub, files, got.Findings...)
	p.Source, p.Pin, p.skillID = ref.String(), pin, ref.String()
	return p, err
}

// fetchSource fetches a folder that the registry points to.
func (s *Service) fetchSource(ctx context.Context, src clawhub.Source) (github.Folder, error) {
	at, err := github.At(src.Repo, src.Commit, src.Path)
	if err != nil {
		return github.Folder{}, err
	}
	return s.fetchFolder(ctx, at)
}

func (s *Service) fetchFolder(ctx context.Context, src github.Source) (github.Folder, error) {
	if s.gitHub == nil {
		return github.Folder{}, fault.New(fault.NotFound, "This installation does not offer skills from GitHub.")
	}
	return s.gitHub.Fetch(ctx, src)
}

// fromGitHub uses the id, name and version of manifest.json or manifest.yaml. If there is
// neither, the id and name come from SKILL.md and the version from the commit.
func (s *Service) fromGitHub(ctx context.Context, account identity.AccountID, o Order) (Package, error) {
	src, err := github.Parse(o.SkillID)
	if err != nil {
		return Package{}, err
	}
	if o.Version != "" {
		return Package{}, fault.New(fault.Invalid, "The version of a skill from GitHub is part of its address: use /tree/REF.").With("version", "must be part of skillId")
	}
	folder, err := s.fetchFolder(ctx, src)
	if err != nil {
		return Package{}, err
	}
	m, err := findManifest(folder.Files)
	if err != nil {
		return Package{}, err
	}
	m.Version = cmp.Or(m.Version, commitVersion(folder.Commit))
	m.Author = cmp.Or(m.Author, src.Owner)
	p, err := s.scanPackage(ctx, account, m, Custom, folder.Files)
	p.Source, p.Pin, p.skillID = src.String(), folder.Commit, p.ID
	return p, err
}

// findManifest returns the manifest in a repository; an empty one if there is none.
// Unknown fields are ignored, since they may belong to other tools. Faults: Invalid.
func findManifest(files map[string][]byte) (Manifest, error) {
	for _, name := range []string{"manifest.json", manifestFile} {
		if raw, ok := files[name]; ok {
			return parseManifest(raw, false)
		}
	}
	return Manifest{}, nil
}

const commitPrefix = "0.0.0-git-"

// commitVersion returns a semantic version for a commit of a skill without a version.
func commitVersion(commit string) string { return commitPrefix + commit[:12] }

// isCommit reports whether a version is one of commitVersion.
func isCommit(version string) bool { return strings.HasPrefix(version, commitPrefix) }

func (s *Service) fromUploads(ctx context.Context, account identity.AccountID, o Order) (Package, error) {
	all, err := listUploads(ctx, s.store.db, account, o.SkillID)
	if err != nil {
		return Package{}, fmt.Errorf("find custom skill: %w", err)
	}
	for _, u := range all {
		if !u.deletedAt.IsZero() || o.Version != "" && o.Version != u.manifest.Version {
			continue
		}
		return s.uploadedPackage(ctx, u)
	}
	if o.Version != "" {
		return Package{}, fault.New(fault.NotFound, "There is no version %s of a custom skill %s.", quote(o.Version), quote(o.SkillID))
	}
	return Package{}, fault.New(fault.NotFound, "There is no custom skill %s. Upload it with POST /v1/skills.", quote(o.SkillID))
}

// uploadedPackage returns the package of an upload. It scans the files again, since the
// scanner may have new rules.
func (s *Service) uploadedPackage(ctx context.Context, u upload) (Package, error) {
	files, err := readFiles(ctx, s.store.db, u.account, u.id)
	if err != nil {
		return Package{}, err
	}
	if _, ok := files[mainFile]; !ok { // it was deleted after the upload was read
		return Package{}, fault.New(fault.NotFound, "The custom skill %s was deleted.", u.manifest.ID)
	}
	p, err := s.scanPackage(ctx, u.account, u.manifest, Custom, files)
	p.Source, p.skillID = "upload", p.ID
	return p, err
}

// checkScore refuses a skill whose score is too low. Faults: Forbidden, with the findings.
func (s *Service) checkScore(p Package) error {
	if p.Report.Score >= s.minScore {
		return nil
	}
	f := fault.New(fault.Forbidden, "The security score of the skill %s is %d of 100 (%s); at least %d is required. It was not installed; details lists the findings.", p.ID, p.Report.Score, p.Report.Verdict, s.minScore).
		With("securityScore", fmt.Sprint(p.Report.Score)).With("minSecurityScore", fmt.Sprint(s.minScore))
	for i, x := range p.Report.Worst(20) {
		f = f.With(fmt.Sprintf("finding%02d", i+1), formatFinding(x))
	}
	return f
}

// formatFinding returns a finding in one line: severity rule file:line: message excerpt.
func formatFinding(f scan.Finding) string {
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

// quote quotes the input of a caller for a message: at most 80 characters, printable.
func quote(s string) string {
	if r := []rune(s); len(r) > 80 {
		s = string(r[:80]) + "…"
	}
	return fmt.Sprintf("%q", s)
}
