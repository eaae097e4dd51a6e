// Package clawhub speaks to a ClawHub registry of community skills: search,
// detail, verdicts and download. It takes nothing the registry says on trust.
package clawhub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
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

// Bounds of an answer in bytes.
const (
	maxJSON    = 1 << 20
	maxArchive = 4 << 20
)

// Client asks one registry.
type Client struct {
	c        *fetch.Client
	checksum bool
}

// Settings of a registry.
type Settings struct {
	fetch.Settings
	RequireChecksum bool // refuse archives that come without a checksum
}

// New makes a client. Service and BaseURL have defaults.
func New(s Settings) (*Client, error) {
	if s.Service == "" {
		s.Service = "The skill registry"
	}
	if s.BaseURL == "" {
		s.BaseURL = DefaultURL
	}
	c, err := fetch.New(s.Settings)
	return &Client{c: c, checksum: s.RequireChecksum}, err
}

// Ref names a skill of the registry. Owner may be empty where the slug alone is
// unambiguous.
type Ref struct{ Owner, Slug string }

var (
	slugs  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?$`)
	owners = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,38}[a-z0-9])?$`)
)

// ParseRef reads "slug" or "@owner/slug". Faults: Invalid.
func ParseRef(s string) (Ref, error) {
	r := Ref{Slug: strings.ToLower(s)}
	owner, slug, qualified := strings.Cut(strings.TrimPrefix(r.Slug, "@"), "/")
	if qualified {
		r = Ref{Owner: owner, Slug: slug}
	}
	if qualified != (r.Owner != "") || !slugs.MatchString(r.Slug) || r.Owner != "" && !owners.MatchString(r.Owner) {
		return Ref{}, fault.New(fault.Invalid, "skillId must be a registry's slug or @owner/slug.").With("skillId", "is not a slug or @owner/slug")
	}
	return r, nil
}

// String is what ParseRef reads.
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

// Listing is a skill as a search or detail shows it.
type Listing struct {
	Ref     Ref
	Name    string
	Summary string
	Version string // the latest
}

// Search returns at most limit skills, best first. Faults: Upstream, UpstreamTimeout.
func (c *Client) Search(ctx context.Context, query string, limit int) ([]Listing, error) {
	var answer struct {
		Results []struct {
			Slug, DisplayName, Summary, Version, OwnerHandle, Source string
		}
	}
	q := url.Values{"q": {query}, "limit": {strconv.Itoa(limit)}}
	if err := c.get(ctx, c.c.URL(q, "api", "v1", "search"), &answer); err != nil {
		return nil, err
	}
	found := []Listing{}
	for _, r := range answer.Results {
		ref := Ref{Owner: strings.ToLower(r.OwnerHandle), Slug: strings.ToLower(r.Slug)}
		// what the registry merely points to elsewhere cannot be installed from it
		if _, err := ParseRef(ref.String()); err != nil || r.Source != "" && r.Source != "clawhub" || len(found) >= limit {
			continue
		}
		found = append(found, Listing{Ref: ref, Name: or(r.DisplayName, r.Slug), Summary: r.Summary, Version: r.Version})
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

// Skill returns what the registry says of a skill. Faults: NotFound, Forbidden
// if it is blocked as malware, Upstream, UpstreamTimeout.
func (c *Client) Skill(ctx context.Context, ref Ref) (Listing, []scan.Finding, error) {
	var d detail
	if err := c.get(ctx, c.c.URL(ref.query(), "api", "v1", "skills", ref.Slug), &d); err != nil {
		return Listing{}, nil, named(err, ref)
	}
	if d.Skill == nil {
		return Listing{}, nil, named(fault.New(fault.NotFound, ""), ref)
	}
	l := Listing{Ref: ref, Name: or(d.Skill.DisplayName, ref.Slug), Summary: d.Skill.Summary, Version: d.Skill.Tags["latest"]}
	if d.LatestVersion != nil {
		l.Version = d.LatestVersion.Version
	}
	if m := d.Moderation; m != nil {
		if m.IsMalwareBlocked || m.Verdict == "malicious" {
			return Listing{}, nil, blocked(ref)
		}
		if m.IsSuspicious || m.Verdict == "suspicious" {
			return l, []scan.Finding{verdict(scan.High, "The registry's moderators call it suspicious.")}, nil
		}
	}
	return l, nil, nil
}

// Package is one version of a skill, fetched and unpacked; or a pointer to where
// it lies on GitHub.
type Package struct {
	Listing
	Files    map[string][]byte // nil if GitHub is set
	SHA256   string            // of the archive, hexadecimal
	Findings []scan.Finding    // what the registry itself holds against it
	GitHub   *Source
}

// Source is a folder of a repository at a commit.
type Source struct{ Repo, Path, Commit string }

// Fetch gets a version of a skill, or its latest if version is empty. Faults:
// Invalid, if the archive is unsafe; NotFound; Forbidden; Conflict, if the slug
// needs an owner; Upstream; UpstreamTimeout.
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
	more, err := c.verdict(ctx, ref, p.Version)
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
	repos    = regexp.MustCompile(`^[A-Za-z0-9-]{1,39}/[A-Za-z0-9._-]{1,100}$`)
	commits  = regexp.MustCompile(`^[0-9a-f]{40}$`)
	versions = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}$`)
)

// resolve asks where the latest version is.
func (c *Client) resolve(ctx context.Context, p *Package) (address string, err error) {
	var r resolution
	if err := c.get(ctx, c.c.URL(p.Ref.query(), "api", "v1", "skills", p.Ref.Slug, "install"), &r); err != nil {
		return "", named(err, p.Ref)
	}
	switch {
	case !r.OK && r.Reason == "ambiguous_slug":
		return "", fault.New(fault.Conflict, "Several publishers have a skill %s; name one as @owner/%s.", p.Ref.Slug, p.Ref.Slug)
	case !r.OK:
		return "", fault.New(fault.Forbidden, "The registry does not let the skill %s be installed.", p.Ref).Because(errors.New(r.Reason + ": " + r.Message))
	case r.InstallKind == "github":
		p.GitHub = &Source{Repo: r.GitHub.Repo, Path: strings.Trim(r.GitHub.Path, "/"), Commit: strings.ToLower(r.GitHub.Commit)}
		if !repos.MatchString(p.GitHub.Repo) || !commits.MatchString(p.GitHub.Commit) || p.GitHub.Path != "" && unpack.Check(p.GitHub.Path) != nil {
			return "", nonsense("a source that is not pinned to a commit", nil)
		}
		return "", nil
	case !versions.MatchString(r.Archive.Version):
		return "", nonsense("no version", nil)
	}
	p.Version, p.SHA256 = r.Archive.Version, strings.ToLower(r.Archive.SHA256)
	return c.c.Resolve(r.Archive.DownloadURL)
}

func (c *Client) download(ctx context.Context, p *Package, address string) error {
	a, err := c.c.Get(ctx, address, "application/zip", maxArchive)
	if err != nil {
		return named(err, p.Ref)
	}
	sum := sha256.Sum256(a.Body)
	got := hex.EncodeToString(sum[:])
	said := []string{p.SHA256, strings.ToLower(strings.TrimSpace(a.Header.Get("X-ClawHub-Artifact-Sha256")))}
	for _, want := range said {
		if want != "" && want != got {
			return fault.New(fault.Upstream, "What the registry sent for %s does not match its own checksum. Nothing was installed.", p.Ref).
				Because(fmt.Errorf("sha256 %s, announced %s", got, want))
		}
	}
	if said[0] == "" && said[1] == "" {
		if c.checksum {
			return fault.New(fault.Upstream, "The registry gives no checksum for %s. Nothing was installed.", p.Ref)
		}
		p.Findings = append(p.Findings, scan.Finding{Rule: "no-checksum", Severity: scan.Info,
			Message: "The registry announced no checksum; the archive is pinned by the one it had when it came."})
	}
	p.SHA256 = got
	p.Files, err = Unzip(a.Body)
	return err
}

// Unzip unpacks a skill's archive, whose files may lie in one folder. Faults:
// Invalid; Upstream, if the archive is broken.
func Unzip(data []byte) (map[string][]byte, error) {
	files, err := unpack.Zip(data, unpack.Skill, unpack.Visible(unpack.All))
	if errors.Is(err, unpack.ErrUnsafe) {
		return nil, fault.New(fault.Invalid, "The skill's archive is refused: %v.", err).Because(err)
	}
	if err != nil {
		return nil, fault.New(fault.Upstream, "The skill's archive is broken. Nothing was installed.").Because(err)
	}
	return root(files), nil
}

// markers are the names under which the registry accepts a skill's main file.
var markers = []string{"SKILL.md", "skill.md", "SKILL.MD", "skills.md"}

// root drops the folder that holds everything, if there is one, and gives the
// main file its one name.
func root(files map[string][]byte) map[string][]byte {
	for _, prefix := range []string{"", onlyFolder(files)} {
		for _, marker := range markers {
			if _, ok := files[prefix+marker]; !ok {
				continue
			}
			out := make(map[string][]byte, len(files))
			for name, data := range files {
				if name = strings.TrimPrefix(name, prefix); name == marker {
					name = "SKILL.md"
				}
				out[name] = data
			}
			return out
		}
	}
	return files
}

func onlyFolder(files map[string][]byte) string {
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
	a, err := c.c.Get(ctx, address, "application/json", maxJSON)
	if err != nil {
		return err
	}
	return decode(a.Body, into)
}

func decode(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return nonsense("something that is not its API", err)
	}
	return nil
}

func nonsense(what string, err error) error {
	return fault.New(fault.Upstream, "The skill registry answered with %s.", what).Because(err)
}

func named(err error, ref Ref) error {
	switch {
	case fault.Is(err, fault.NotFound):
		return fault.New(fault.NotFound, "The registry has no skill %s.", ref).Because(err)
	case fault.Is(err, fault.Forbidden):
		return blocked(ref).Because(err)
	}
	return err
}

func blocked(ref Ref) *fault.Fault {
	return fault.New(fault.Forbidden, "The registry has blocked the skill %s; it is not installed.", ref)
}

func or(s, otherwise string) string {
	if s = strings.TrimSpace(s); s != "" {
		return s
	}
	return otherwise
}

// FolderName is the last part of a source's path, or the repository's name.
func (s Source) FolderName() string {
	if s.Path != "" {
		return path.Base(s.Path)
	}
	return path.Base(s.Repo)
}
