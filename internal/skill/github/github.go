// Package github fetches one folder of a repository at a commit through GitHub's REST
// API, or through another server with the same API.
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
	"agento.host/agento/internal/vault"
)

// DefaultURL is GitHub's API. That of a GitHub Enterprise Server is https://HOST/api/v3.
const DefaultURL = "https://api.github.com"

const (
	maxTarball = 64 << 20 // packed bytes of a whole repository
	maxRefs    = 4 << 20  // bytes of the list of references that begin with one name
)

// Client fetches from one server.
type Client struct{ c *fetch.Client }

// New returns a client. Service and BaseURL have defaults. A token raises GitHub's
// limit of 60 requests an hour and gives access to private repositories. Errors: the
// base URL is invalid.
func New(s fetch.Settings) (*Client, error) {
	if s.Service == "" {
		s.Service = "GitHub"
	}
	if s.BaseURL == "" {
		s.BaseURL = DefaultURL
	}
	if s.TokenName == "" {
		s.TokenName = string(vault.GitHubToken)
	}
	c, err := fetch.New(s)
	return &Client{c}, err
}

// Source is a folder of a repository at a branch, tag or commit.
type Source struct {
	Owner, Repo string
	tree        []string // the parts after /tree/: a reference, then a path; empty: the default branch
}

var (
	ownerPattern  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,37}[A-Za-z0-9])?$`)
	repoPattern   = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)
	partPattern   = regexp.MustCompile(`^[^\\/:?*"<>|~^\[\p{C}\p{Z}]([^\\/:?*"<>|~^\[\p{C}\p{Zl}\p{Zp}]{0,253}[^\\/:?*"<>|~^\[\p{C}\p{Z}])?$`)
	commitPattern = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// IsURL reports whether a skill's id looks like an address, valid or not.
func IsURL(id string) bool {
	lower := strings.ToLower(id)
	return strings.HasPrefix(lower, "https://") || strings.HasPrefix(lower, "http://") || strings.HasPrefix(lower, "github.com/")
}

// Parse reads https://github.com/OWNER/REPO[/tree/REF[/PATH]]. Faults: Invalid.
func Parse(s string) (Source, error) {
	invalid := func(problem string) (Source, error) {
		return Source{}, fault.New(fault.Invalid, "skillId %s; it must look like https://github.com/OWNER/REPO/tree/REF/PATH.", problem).With("skillId", problem)
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || !strings.EqualFold(u.Host, "github.com") || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return invalid("is not a plain https://github.com address")
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(parts) < 2 {
		return invalid("names no repository")
	}
	src := Source{Owner: parts[0], Repo: strings.TrimSuffix(parts[1], ".git")}
	if !ownerPattern.MatchString(src.Owner) || !repoPattern.MatchString(src.Repo) || strings.Trim(src.Repo, ".") == "" {
		return invalid("names no repository")
	}
	if len(parts) == 2 {
		return src, nil
	}
	if src.tree = parts[3:]; parts[2] != "tree" || len(src.tree) == 0 {
		return invalid("is not the address of a folder")
	}
	for _, p := range src.tree {
		if !partPattern.MatchString(p) || p == "." || p == ".." {
			return invalid("has a path with characters that are not allowed")
		}
	}
	return src, nil
}

// At returns the source of a path in a repository ("owner/name") at a commit. Faults:
// Invalid.
func At(repository, commit, path string) (Source, error) {
	return Parse("https://github.com/" + repository + "/tree/" + commit + "/" + path)
}

// String returns the address in the form that Parse reads.
func (s Source) String() string {
	out := "https://github.com/" + s.Owner + "/" + s.Repo
	if len(s.tree) > 0 {
		out += "/tree/" + (&url.URL{Path: strings.Join(s.tree, "/")}).EscapedPath()
	}
	return out
}

// Folder is the content of a source.
type Folder struct {
	Commit string // 40 hexadecimal digits
	Files  map[string][]byte
}

// Fetch resolves the source to a commit and returns its files. Faults: Invalid, if
// the files are unsafe or too large; NotFound; Forbidden; Upstream; UpstreamTimeout.
func (c *Client) Fetch(ctx context.Context, s Source) (Folder, error) {
	sha, path, err := c.resolve(ctx, s)
	if err != nil {
		return Folder{}, err
	}
	f := Folder{Commit: sha}
	f.Files, err = c.files(ctx, s, sha, strings.Join(path, "/"))
	if err != nil {
		return Folder{}, err
	}
	if len(f.Files) == 0 {
		return Folder{}, fault.New(fault.NotFound, "%s has no files at commit %s.", s, sha[:12])
	}
	return f, nil
}

// resolve returns the commit of a source and the path below it. The name of a branch or tag
// may contain slashes, so where it ends is not known. Git allows no other reference below one,
// so at most one of each kind is meant.
func (c *Client) resolve(ctx context.Context, s Source) (sha string, path []string, err error) {
	if len(s.tree) == 0 {
		sha, err = c.commit(ctx, s, []string{"HEAD"})
		return sha, nil, c.notFound(ctx, s, err)
	}
	lengths, err := []int{1}, error(nil)
	for len(lengths) > 0 {
		n := lengths[0]
		if sha, err = c.commit(ctx, s, s.tree[:n]); !fault.Is(err, fault.NotFound) {
			return sha, s.tree[n:], err
		}
		lengths = lengths[1:]
		if n == 1 {
			var listErr error
			if lengths, listErr = c.referenceLengths(ctx, s); listErr != nil {
				return "", nil, listErr
			}
		}
	}
	return "", nil, c.notFound(ctx, s, err)
}

// referenceLengths returns how many parts of the source's tree, if not one, can be the name of a
// branch or tag. Of a server that does not list references, it returns all lengths.
// Faults: Forbidden; Upstream; UpstreamTimeout.
func (c *Client) referenceLengths(ctx context.Context, s Source) ([]int, error) {
	if len(s.tree) == 1 {
		return nil, nil
	}
	var some, all []int
	for n := 2; n <= len(s.tree); n++ {
		all = append(all, n)
	}
	tree := strings.Join(s.tree, "/") + "/"
	for _, kind := range []string{"heads", "tags"} {
		resp, err := c.c.Get(ctx, c.c.URL(nil, "repos", s.Owner, s.Repo, "git", "matching-refs", kind, s.tree[0]), "application/vnd.github+json", maxRefs)
		if fault.Is(err, fault.NotFound) {
			if !c.exists(ctx, s) {
				return nil, nil
			}
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		var refs []struct{ Ref string }
		if isList := json.Unmarshal(resp.Body, &refs) == nil; !isList {
			return all, nil
		}
		for _, r := range refs {
			if name := strings.TrimPrefix(r.Ref, "refs/"+kind+"/"); strings.HasPrefix(tree, name+"/") {
				some = append(some, strings.Count(name, "/")+1)
			}
		}
		if len(some) > 0 {
			break
		}
	}
	return some, nil
}

// exists reports whether the source's repository can be read.
func (c *Client) exists(ctx context.Context, s Source) bool {
	_, err := c.commit(ctx, s, []string{"HEAD"})
	return err == nil
}

// notFound replaces a NotFound fault by one that says what is missing.
func (c *Client) notFound(ctx context.Context, s Source, err error) error {
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	if len(s.tree) > 0 {
		if _, headErr := c.commit(ctx, s, []string{"HEAD"}); headErr == nil {
			return fault.New(fault.NotFound, "%s/%s has no branch, tag or commit with which %q begins.", s.Owner, s.Repo, strings.Join(s.tree, "/")).Because(err)
		}
	}
	return fault.New(fault.NotFound, "%s was not found. Check the spelling, and that the repository is public or that the token of this installation may read it.", s).Because(err)
}

// commit returns the commit of a reference, given in its parts. Faults: NotFound;
// Forbidden; Upstream; UpstreamTimeout.
func (c *Client) commit(ctx context.Context, s Source, ref []string) (string, error) {
	if len(ref) == 1 && commitPattern.MatchString(ref[0]) {
		return ref[0], nil
	}
	address := c.c.URL(nil, append([]string{"repos", s.Owner, s.Repo, "commits"}, ref...)...)
	resp, err := c.c.Get(ctx, address, "application/vnd.github.sha", 1<<20)
	if err != nil {
		return "", err
	}
	sha := strings.TrimSpace(string(resp.Body))
	var full struct{ SHA string }
	if json.Unmarshal(resp.Body, &full) == nil { // the server ignores the media type
		sha = full.SHA
	}
	if !commitPattern.MatchString(sha) {
		return "", fault.New(fault.Upstream, "GitHub sent something that is not a commit. Try again later.")
	}
	return sha, nil
}

// files returns the files below a path of a repository at a commit. Faults: as for
// Fetch.
func (c *Client) files(ctx context.Context, s Source, sha, path string) (files map[string][]byte, err error) {
	under := unpack.Visible(unpack.Under(path))
	sel := func(p string) (string, bool) {
		_, inside, ok := strings.Cut(p, "/") // every path of the archive begins with a folder OWNER-REPO-COMMIT
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
