// Package clawhub is a client of a ClawHub registry of community skills: it searches,
// reads details and verdicts, and downloads. It checks everything the registry sends.
package clawhub

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/skill/fetch"
	"agento.host/agento/internal/skill/scan"
	"agento.host/agento/internal/skill/unpack"
)

// DefaultURL is the public registry.
const DefaultURL = "https://clawhub.ai"

// Limits of a response body, in bytes.
const (
	maxJSON    = 1 << 20
	maxArchive = 4 << 20
)

// Client sends requests to one registry. Its methods may be called concurrently.
type Client struct {
	c               *fetch.Client
	requireChecksum bool
}

// Settings configure a Client.
type Settings struct {
	fetch.Settings
	RequireChecksum bool // refuse archives for which the registry sends no checksum
}

// New returns a client. Service and BaseURL have defaults. Errors: the base URL is
// invalid.
func New(s Settings) (*Client, error) {
	if s.Service == "" {
		s.Service = "The skill registry"
	}
	if s.BaseURL == "" {
		s.BaseURL = DefaultURL
	}
	c, err := fetch.New(s.Settings)
	return &Client{c: c, requireChecksum: s.RequireChecksum}, err
}

// Ref names a skill of the registry. Owner may be empty if only one publisher has the
// slug.
type Ref struct{ Owner, Slug string }

var (
	slugPattern  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?$`)
	ownerPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,38}[a-z0-9])?$`)
)

// ParseRef reads "slug" or "@owner/slug". Faults: Invalid.
func ParseRef(s string) (Ref, error) {
	r := Ref{Slug: strings.ToLower(s)}
	owner, slug, qualified := strings.Cut(strings.TrimPrefix(r.Slug, "@"), "/")
	if qualified {
		r = Ref{Owner: owner, Slug: slug}
	}
	if qualified != (r.Owner != "") || !slugPattern.MatchString(r.Slug) || r.Owner != "" && !ownerPattern.MatchString(r.Owner) {
		return Ref{}, fault.New(fault.Invalid, "skillId must be a slug of the registry or @owner/slug.").With("skillId", "is not a slug or @owner/slug")
	}
	return r, nil
}

// String returns the reference in the form that ParseRef reads.
func (r Ref) String() string {
	if r.Owner == "" {
		return r.Slug
	}
	return "@" + r.Owner + "/" + r.Slug
}

func (r Ref) query() url.Values {
	q := url.Values{}
	if r.Owner != "" {
		q.Set("ownerHandle", r.Owner)
	}
	return q
}

// Listing describes a skill of the registry.
type Listing struct {
	Ref     Ref
	Name    string
	Summary string
	Version string // the latest version
}

// Search returns at most limit skills, best first. Faults: Upstream, UpstreamTimeout.
func (c *Client) Search(ctx context.Context, query string, limit int) ([]Listing, error) {
	var resp struct {
		Results []struct {
			Slug, DisplayName, Summary, Version, OwnerHandle, Source string
		}
	}
	q := url.Values{"q": {query}, "limit": {strconv.Itoa(limit)}}
	if err := c.get(ctx, c.c.URL(q, "api", "v1", "search"), &resp); err != nil {
		return nil, err
	}
	found := []Listing{}
	for _, r := range resp.Results {
		ref := Ref{Owner: strings.ToLower(r.OwnerHandle), Slug: strings.ToLower(r.Slug)}
		// a skill of another source is only linked and cannot be installed from here
		if _, err := ParseRef(ref.String()); err != nil || r.Source != "" && r.Source != "clawhub" || len(found) >= limit {
			continue
		}
		found = append(found, Listing{Ref: ref, Name: nameOr(r.DisplayName, r.Slug), Summary: r.Summary, Version: r.Version})
	}
	return found, nil
}

type detail struct {
	Skill *struct {
		Slug, DisplayName, Summary string
		Tags                       map[string]string
	}
	LatestVersion *struct{ Version string }
	Owner         *struct{ Handle string }
	Moderation    *struct {
		IsSuspicious, IsMalwareBlocked bool
		Verdict                        string
	}
}

// Skill returns the description of a skill and the findings of the registry's
// moderators. Faults: NotFound; Forbidden, if the skill is blocked as malware;
// Upstream; UpstreamTimeout.
func (c *Client) Skill(ctx context.Context, ref Ref) (Listing, []scan.Finding, error) {
	var d detail
	if err := c.get(ctx, c.c.URL(ref.query(), "api", "v1", "skills", ref.Slug), &d); err != nil {
		return Listing{}, nil, nameSkill(err, ref)
	}
	if d.Skill == nil {
		return Listing{}, nil, notFound(ref)
	}
	l := Listing{Ref: ref, Name: nameOr(d.Skill.DisplayName, ref.Slug), Summary: d.Skill.Summary, Version: d.Skill.Tags["latest"]}
	if d.LatestVersion != nil {
		l.Version = d.LatestVersion.Version
	}
	if m := d.Moderation; m != nil {
		if m.IsMalwareBlocked || m.Verdict == "malicious" {
			return Listing{}, nil, blocked(ref)
		}
		if m.IsSuspicious || m.Verdict == "suspicious" {
			return l, []scan.Finding{verdictFinding(scan.High, "The moderators of the registry call this skill suspicious.")}, nil
		}
	}
	return l, nil, nil
}

// Package is one version of a skill: its files, or the place on GitHub where they are.
type Package struct {
	Listing
	Files    map[string][]byte // nil if GitHub is set
	SHA256   string            // of the archive, in hexadecimal
	Findings []scan.Finding    // of the registry itself
	GitHub   *Source
}

// Source is a folder of a repository at a commit.
type Source struct{ Repo, Path, Commit string }

// Fetch downloads and unpacks a version of a skill; the latest one if version is empty.
// Faults: Invalid, if the archive is unsafe; NotFound; Forbidden; Conflict, if several
// publishers have the slug; Upstream; UpstreamTimeout.
func (c *Client) Fetch(ctx context.Context, ref Ref, version string) (Package, error) {
	listing, findings, err := c.Skill(ctx, ref)
	if err != nil {
		return Package{}, err
	}
	p := Package{Listing: listing, Findings: findings}
	address := ""
	if version != "" {
		q := ref.query()
		q.Set("slug", ref.Slug)
		q.Set("version", version)
		p.Version, address = version, c.c.URL(q, "api", "v1", "download")
	} else if address, err = c.resolve(ctx, &p); err != nil || p.GitHub != nil {
		return p, err
	}
	more, err := c.scannerFindings(ctx, ref, p.Version)
	if err != nil {
		return Package{}, err
	}
	p.Findings = append(p.Findings, more...)
	return p, c.download(ctx, &p, address)
}

type resolution struct {
	OK                           bool
	Reason, Message, InstallKind string
	Archive                      struct{ Version, DownloadURL, SHA256 string }
	GitHub                       struct{ Repo, Path, Commit string }
}

var (
	repoPattern    = regexp.MustCompile(`^[A-Za-z0-9-]{1,39}/[A-Za-z0-9._-]{1,100}$`)
	commitPattern  = regexp.MustCompile(`^[0-9a-f]{40}$`)
	versionPattern = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}$`)
)

// resolve finds the latest version. It returns the address of its archive, or sets
// p.GitHub if the registry keeps no archive of it.
func (c *Client) resolve(ctx context.Context, p *Package) (address string, err error) {
	var r resolution
	if err := c.get(ctx, c.c.URL(p.Ref.query(), "api", "v1", "skills", p.Ref.Slug, "install"), &r); err != nil {
		return "", nameSkill(err, p.Ref)
	}
	switch {
	case !r.OK && r.Reason == "ambiguous_slug":
		return "", fault.New(fault.Conflict, "Several publishers have a skill %s. Name one as @owner/%s.", p.Ref.Slug, p.Ref.Slug)
	case !r.OK:
		return "", fault.New(fault.Forbidden, "The registry does not allow the skill %s to be installed.", p.Ref).Because(errors.New(r.Reason + ": " + r.Message))
	case r.InstallKind == "github":
		p.GitHub = &Source{Repo: r.GitHub.Repo, Path: strings.Trim(r.GitHub.Path, "/"), Commit: strings.ToLower(r.GitHub.Commit)}
		if !repoPattern.MatchString(p.GitHub.Repo) || !commitPattern.MatchString(p.GitHub.Commit) || p.GitHub.Path != "" && unpack.CheckPath(p.GitHub.Path) != nil {
			return "", invalidResponse("a source that is not pinned to a commit", nil)
		}
		return "", nil
	case !versionPattern.MatchString(r.Archive.Version):
		return "", invalidResponse("no version", nil)
	}
	p.Version, p.SHA256 = r.Archive.Version, strings.ToLower(r.Archive.SHA256)
	return c.c.Resolve(r.Archive.DownloadURL)
}

// download downloads, checks and unpacks the archive of p.
func (c *Client) download(ctx context.Context, p *Package, address string) error {
	resp, err := c.c.Get(ctx, address, "application/zip", maxArchive)
	if err != nil {
		return nameSkill(err, p.Ref)
	}
	sum := sha256.Sum256(resp.Body)
	got := hex.EncodeToString(sum[:])
	announced := []string{p.SHA256, strings.ToLower(strings.TrimSpace(resp.Header.Get("X-ClawHub-Artifact-Sha256")))}
	for _, want := range announced {
		if want != "" && want != got {
			return fault.New(fault.Upstream, "The archive of %s does not match the checksum of the registry. Nothing was installed.", p.Ref).
				Because(fmt.Errorf("sha256 %s, announced %s", got, want))
		}
	}
	if announced[0] == "" && announced[1] == "" {
		if c.requireChecksum {
			return fault.New(fault.Upstream, "The registry sends no checksum for %s. Nothing was installed.", p.Ref)
		}
		p.Findings = append(p.Findings, scan.Finding{Rule: "no-checksum", Severity: scan.Info,
			Message: "The registry sends no checksum; the installed version is pinned to the checksum of the archive that was downloaded."})
	}
	p.SHA256 = got
	p.Files, err = Unzip(resp.Body)
	return err
}

// Unzip unpacks the archive of a skill. If all files are in one folder, it drops that
// folder. Faults: Invalid, if the archive is unsafe; Upstream, if it is broken.
func Unzip(data []byte) (map[string][]byte, error) {
	files, err := unpack.Zip(data, unpack.Skill, unpack.Visible(unpack.All))
	if errors.Is(err, unpack.ErrUnsafe) {
		return nil, fault.New(fault.Invalid, "The archive of the skill is refused: %v.", err).Because(err)
	}
	if err != nil {
		return nil, fault.New(fault.Upstream, "The archive of the skill is broken. Nothing was installed.").Because(err)
	}
	return skillRoot(files), nil
}

// mainFileNames are the names that the registry accepts for the main file of a skill.
var mainFileNames = []string{"SKILL.md", "skill.md", "SKILL.MD", "skills.md"}

// skillRoot drops the folder that all files are in, if there is one, and renames the
// main file to SKILL.md.
func skillRoot(files map[string][]byte) map[string][]byte {
	for _, prefix := range []string{"", commonFolder(files)} {
		for _, mainFile := range mainFileNames {
			if _, ok := files[prefix+mainFile]; !ok {
				continue
			}
			out := make(map[string][]byte, len(files))
			for name, data := range files {
				if name = strings.TrimPrefix(name, prefix); name == mainFile {
					name = "SKILL.md"
				}
				out[name] = data
			}
			return out
		}
	}
	return files
}

// commonFolder returns the folder that all files are in, with a slash at its end; ""
// if there is none.
func commonFolder(files map[string][]byte) string {
	folder := ""
	for name := range files {
		first, _, nested := strings.Cut(name, "/")
		if !nested || folder != "" && folder != first+"/" {
			return ""
		}
		folder = first + "/"
	}
	return folder
}

func (c *Client) get(ctx context.Context, address string, into any) error {
	resp, err := c.c.Get(ctx, address, "application/json", maxJSON)
	if err != nil {
		return err
	}
	return decode(resp.Body, into)
}

func decode(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return invalidResponse("something that is not JSON of its API", err)
	}
	return nil
}

func invalidResponse(content string, err error) error {
	return fault.New(fault.Upstream, "The skill registry answered with %s.", content).Because(err)
}

// nameSkill returns a fault that names the skill, for a NotFound or Forbidden fault of a
// request about it; other errors as they are.
func nameSkill(err error, ref Ref) error {
	switch {
	case fault.Is(err, fault.NotFound):
		return notFound(ref).Because(err)
	case fault.Is(err, fault.Forbidden):
		return blocked(ref).Because(err)
	}
	return err
}

func notFound(ref Ref) *fault.Fault {
	return fault.New(fault.NotFound, "The registry has no skill %s.", ref)
}

func blocked(ref Ref) *fault.Fault {
	return fault.New(fault.Forbidden, "The registry has blocked the skill %s. It was not installed.", ref)
}

func nameOr(name, fallback string) string { return cmp.Or(strings.TrimSpace(name), fallback) }
