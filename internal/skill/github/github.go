// Package github fetches one folder of a repository, pinned to a commit, through
// GitHub's REST API or another server that speaks it.
package github

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"regexp"
	"strings"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/skill/fetch"
	"agento.host/agento/internal/skill/unpack"
)

// DefaultURL is GitHub's API. A GitHub Enterprise Server has https://HOST/api/v3.
const DefaultURL = "https://api.github.com"

const (
	maxTarball = 64 << 20 // packed bytes of a whole repository
	maxRefs    = 4        // parts of a branch's name tried, feature/a/b/c
)

// Client asks one server.
type Client struct{ c *fetch.Client }

// New makes a client. Service and BaseURL have defaults; a token raises GitHub's
// limit of 60 requests an hour and opens private repositories.
func New(s fetch.Settings) (*Client, error) {
	if s.Service == "" {
		s.Service = "GitHub"
	}
	if s.BaseURL == "" {
		s.BaseURL = DefaultURL
	}
	c, err := fetch.New(s)
	return &Client{c}, err
}

// Source is a folder of a repository at a branch, tag or commit.
type Source struct {
	Owner, Repo string
	tree        []string // what follows /tree/: a reference, then a path; empty: the default branch
}

var (
	owner  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,37}[A-Za-z0-9])?$`)
	repo   = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)
	part   = regexp.MustCompile(`^[A-Za-z0-9._@+ -]{1,100}$`)
	commit = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// IsURL says whether a skill's id is meant as an address.
func IsURL(id string) bool {
	lower := strings.ToLower(id)
	return strings.HasPrefix(lower, "https://") || strings.HasPrefix(lower, "http://") || strings.HasPrefix(lower, "github.com/")
}

// Parse reads https://github.com/OWNER/REPO[/tree/REF[/PATH]]. Faults: Invalid.
func Parse(s string) (Source, error) {
	bad := func(why string) (Source, error) {
		return Source{}, fault.New(fault.Invalid, "skillId %s; it must look like https://github.com/OWNER/REPO/tree/REF/PATH.", why).With("skillId", why)
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || !strings.EqualFold(u.Host, "github.com") || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return bad("is not a plain https://github.com address")
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(parts) < 2 {
		return bad("names no repository")
	}
	src := Source{Owner: parts[0], Repo: strings.TrimSuffix(parts[1], ".git")}
	if !owner.MatchString(src.Owner) || !repo.MatchString(src.Repo) || strings.Trim(src.Repo, ".") == "" {
		return bad("names no repository")
	}
	if len(parts) == 2 {
		return src, nil
	}
	if src.tree = parts[3:]; parts[2] != "tree" || len(src.tree) == 0 {
		return bad("is not the address of a folder")
	}
	for _, p := range src.tree {
		if !part.MatchString(p) || p == "." || p == ".." {
			return bad("has a path that cannot be read")
		}
	}
	return src, nil
}

// At makes a source of a repository ("owner/name"), commit and path.
func At(repository, commit, path string) (Source, error) {
	return Parse("https://github.com/" + repository + "/tree/" + commit + "/" + path)
}

// String is what Parse reads.
func (s Source) String() string {
	out := "https://github.com/" + s.Owner + "/" + s.Repo
	if len(s.tree) > 0 {
		out += "/tree/" + (&url.URL{Path: strings.Join(s.tree, "/")}).EscapedPath()
	}
	return out
}

// Folder is what a source holds.
type Folder struct {
	Name   string // of the folder, or the repository
	Commit string // 40 hexadecimal digits
	Files  map[string][]byte
}

// Fetch resolves the source to a commit and gets its files. Faults: Invalid, if
// the files are unsafe or too large; NotFound; Forbidden; Upstream; UpstreamTimeout.
func (c *Client) Fetch(ctx context.Context, s Source) (Folder, error) {
	sha, path, err := c.resolve(ctx, s)
	if err != nil {
		return Folder{}, err
	}
	f := Folder{Name: s.Repo, Commit: sha}
	if len(path) > 0 {
		f.Name = path[len(path)-1]
	}
	f.Files, err = c.files(ctx, s, sha, strings.Join(path, "/"))
	if err != nil {
		return Folder{}, err
	}
	if len(f.Files) == 0 {
		return Folder{}, fault.New(fault.NotFound, "%s holds no files at commit %s.", s, sha[:12])
	}
	return f, nil
}

// resolve finds out where the reference ends and the path begins: a branch's
// name may hold slashes, so the shortest that exists is taken.
func (c *Client) resolve(ctx context.Context, s Source) (sha string, path []string, err error) {
	if len(s.tree) == 0 {
		sha, err = c.commit(ctx, s, []string{"HEAD"})
		return sha, nil, err
	}
	for n := 1; n <= min(len(s.tree), maxRefs); n++ {
		sha, err = c.commit(ctx, s, s.tree[:n])
		if !fault.Is(err, fault.NotFound) {
			return sha, s.tree[n:], err
		}
	}
	return "", nil, err
}

func (c *Client) commit(ctx context.Context, s Source, ref []string) (string, error) {
	if len(ref) == 1 && commit.MatchString(ref[0]) {
		return ref[0], nil
	}
	address := c.c.URL(nil, append([]string{"repos", s.Owner, s.Repo, "commits"}, ref...)...)
	a, err := c.c.Get(ctx, address, "application/vnd.github.sha", 1<<20)
	if fault.Is(err, fault.NotFound) {
		return "", fault.New(fault.NotFound, "%s cannot be found; it may be private, or misspelt.", s).Because(err)
	}
	if err != nil {
		return "", err
	}
	sha := strings.TrimSpace(string(a.Body))
	var full struct{ SHA string }
	if json.Unmarshal(a.Body, &full) == nil { // a server that ignores the media type
		sha = full.SHA
	}
	if !commit.MatchString(sha) {
		return "", fault.New(fault.Upstream, "GitHub answered with something that is not a commit.")
	}
	return sha, nil
}

func (c *Client) files(ctx context.Context, s Source, sha, path string) (files map[string][]byte, err error) {
	under := unpack.Visible(unpack.Under(path))
	sel := func(p string) (string, bool) {
		_, inside, ok := strings.Cut(p, "/") // everything lies in a folder OWNER-REPO-COMMIT
		if !ok {
			return "", false
		}
		return under(inside)
	}
	err = c.c.Stream(ctx, c.c.URL(nil, "repos", s.Owner, s.Repo, "tarball", sha), maxTarball, func(r io.Reader) error {
		files, err = unpack.TarGz(r, unpack.Repository, sel)
		if errors.Is(err, unpack.ErrUnsafe) {
			return fault.New(fault.Invalid, "The files of %s are refused: %v.", s, err).Because(err)
		}
		return err
	})
	return files, err
}
