package skill

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/skill/clawhub"
	"agento.host/agento/internal/skill/github"
	"agento.host/agento/internal/skill/scan"
)

// DefaultMinScore is the score below which a skill is not installed, unless the
// operator says otherwise: one critical or two high findings are too much.
const DefaultMinScore = 50

// Applier brings an agent's home up to date with what is installed.
type Applier interface {
	// Apply returns once a running gateway has the files, and says whether it
	// must be restarted to notice them.
	Apply(ctx context.Context, accountID, agentID string) (needsRestart bool, err error)
}

// Settings are what skills need.
type Settings struct {
	DB       *database.DB
	Events   *event.Log
	Catalog  *Catalog
	ClawHub  *clawhub.Client // nil: the community registry is not offered
	GitHub   *github.Client  // nil: GitHub addresses are not offered
	MinScore int             // 0 lets every skill in
	Applier  Applier         // nil: nothing runs, so nothing needs a restart
	Dir      string          // of skills in an agent's home; empty: DefaultDir
	Log      *slog.Logger

	// Agent returns nil if the account has the agent, else a NotFound fault. It is
	// asked in the transaction that adds a skill to it. nil: every agent exists.
	Agent func(ctx context.Context, q database.Querier, accountID, agentID string) error
}

// Service is what callers may ask of skills. Its methods may be called concurrently.
type Service struct{ Settings }

// New makes the service.
func New(s Settings) *Service {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	s.Dir = cmp.Or(s.Dir, DefaultDir)
	return &Service{s}
}

// Item is a skill as one who looks for skills sees it.
type Item struct {
	Manifest
	Trust    Trust
	SkillID  string // what to install it by
	Installs int    // agents that have it now; of a custom skill, the account's
	Score    *int   // nil: a community skill that was not fetched
	Findings []scan.Finding
	Versions []string // of a custom skill, highest first
}

// Query narrows a search; empty fields let everything through.
type Query struct {
	Search   string // in name and description; every word must be there
	Category string
	Trust    Trust // default Verified
	Page     int   // from 1; default 1
	PageSize int   // default 20, at most 100
}

// Page is one page of a search.
type Page struct {
	Items  []Item
	Total  int
	Limit  int
	Offset int
}

// Browse searches the verified skills, the account's own or the registry's, by
// name; the registry's come best first. Faults: Invalid, Upstream, UpstreamTimeout.
func (s *Service) Browse(ctx context.Context, accountID string, q Query) (Page, error) {
	q.Trust, q.Page, q.PageSize = cmp.Or(q.Trust, Verified), cmp.Or(q.Page, 1), cmp.Or(q.PageSize, 20)
	if err := q.check(); err != nil {
		return Page{}, err
	}
	items, err := s.items(ctx, accountID, q)
	if err != nil {
		return Page{}, err
	}
	if q.Trust != ClawHub { // the registry has searched already, and better
		items = slices.DeleteFunc(items, func(i Item) bool { return !q.matches(i) })
	}
	total, offset := len(items), (q.Page-1)*q.PageSize
	items = items[min(offset, total):min(offset+q.PageSize, total)]
	return Page{Items: items, Total: total, Limit: q.PageSize, Offset: offset}, nil
}

func (q Query) check() error {
	wrong := fault.Fields{}
	if q.Page < 1 || q.Page > 10_000 {
		wrong.Add("page", "must be 1-10000")
	}
	if q.PageSize < 1 || q.PageSize > 100 {
		wrong.Add("pageSize", "must be 1-100")
	}
	if len(q.Search) > 200 {
		wrong.Add("search", "must be at most 200 characters")
	}
	switch q.Trust {
	case Verified, Custom:
	case ClawHub:
		if strings.TrimSpace(q.Search) == "" {
			wrong.Add("search", "must say what to look for in the community registry")
		}
	default:
		wrong.Add("trustLevel", "must be verified, clawhub or custom")
	}
	return wrong.Err()
}

func (q Query) matches(i Item) bool {
	if q.Category != "" && !strings.EqualFold(q.Category, i.Category) {
		return false
	}
	text := strings.ToLower(i.Name + "\n" + i.Description)
	for _, word := range strings.Fields(strings.ToLower(q.Search)) {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

func (s *Service) items(ctx context.Context, accountID string, q Query) ([]Item, error) {
	counts, err := installs(ctx, s.DB, q.Trust, accountID)
	if err != nil {
		return nil, err
	}
	items := []Item{}
	switch q.Trust {
	case Verified:
		for _, p := range s.Catalog.All() {
			items = append(items, p.item(counts[p.ID]))
		}
	case Custom:
		uploads, err := latestUploads(ctx, s.DB, accountID)
		if err != nil {
			return nil, fmt.Errorf("list custom skills: %w", err)
		}
		for _, u := range uploads {
			i, err := u.item(counts[u.manifest.ID])
			if err != nil {
				return nil, err
			}
			items = append(items, i)
		}
	case ClawHub:
		return s.community(ctx, q, counts)
	}
	return items, nil
}

func (s *Service) community(ctx context.Context, q Query, counts map[string]int) ([]Item, error) {
	registry, err := s.registry()
	if err != nil {
		return nil, err
	}
	found, err := registry.Search(ctx, q.Search, 100)
	if err != nil {
		return nil, err
	}
	items := []Item{}
	for _, l := range found {
		m := Manifest{ID: l.Ref.Slug, Name: l.Name, Version: l.Version, Author: l.Ref.Owner, Category: "community", Description: l.Summary}
		m.fill(Frontmatter{})
		items = append(items, Item{Manifest: m, Trust: ClawHub, SkillID: l.Ref.String(), Installs: counts[l.Ref.String()]})
	}
	return items, nil
}

// Get returns one skill with its findings. Without a trust level the catalog is
// asked, then the account's own skills; a registry's skill is fetched and scanned.
// Faults: NotFound; for the registry and GitHub what fetching may give.
func (s *Service) Get(ctx context.Context, accountID, id string, trust Trust) (Item, error) {
	if trust == "" {
		trust = Verified
		if _, ok := s.Catalog.Find(id); !ok {
			trust = Custom
		}
	}
	p, err := s.find(ctx, accountID, Order{SkillID: id, Trust: trust})
	if err != nil {
		return Item{}, err
	}
	counts, err := installs(ctx, s.DB, trust, accountID)
	if err != nil {
		return Item{}, err
	}
	i := p.item(counts[p.skillID])
	if trust == Custom && !github.IsURL(id) {
		i.Versions, err = s.versions(ctx, accountID, id)
	}
	return i, err
}

func (p Package) item(installs int) Item {
	return Item{Manifest: p.Manifest, Trust: p.Trust, SkillID: cmp.Or(p.skillID, p.ID), Installs: installs, Score: &p.Report.Score, Findings: p.Report.Findings}
}

func (u upload) item(installs int) (Item, error) {
	r, err := u.findings()
	return Item{Manifest: u.manifest, Trust: Custom, SkillID: u.manifest.ID, Installs: installs, Score: &r.Score, Findings: r.Findings}, err
}

func (u upload) findings() (scan.Report, error) {
	var r scan.Report
	if err := json.Unmarshal([]byte(u.report), &r); err != nil {
		return r, fmt.Errorf("read report of custom skill %s: %w", u.id, err)
	}
	return r, nil
}

func (s *Service) registry() (*clawhub.Client, error) {
	if s.ClawHub == nil {
		return nil, fault.New(fault.NotFound, "This installation offers no community skills.")
	}
	return s.ClawHub, nil
}
