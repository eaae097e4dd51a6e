package skill

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/skill/clawhub"
	"agento.host/agento/internal/skill/github"
	"agento.host/agento/internal/skill/scan"
)

// Item is a skill of the marketplace.
type Item struct {
	Manifest
	Trust    Trust
	SkillID  string // the skillId of an order that installs it
	Installs int    // agents that have it; for a custom skill, agents of the account
	Score    *int   // nil: a community skill in a search, which is not scanned
	Verdict  string // of the scan; empty if Score is nil
	Findings []scan.Finding
	Versions []string // only of a custom skill; highest first
}

// Query filters skills. Empty fields match every skill.
type Query struct {
	Search   string // words; each must be in the name or description
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

// Browse returns a page of the verified skills, of the account's own or of the
// registry's. They are ordered by name; those of the registry by relevance. Faults:
// Invalid; NotFound, if the registry is not offered; Upstream; UpstreamTimeout.
func (s *Service) Browse(ctx context.Context, account identity.AccountID, q Query) (Page, error) {
	q.Trust, q.Page, q.PageSize = cmp.Or(q.Trust, Verified), cmp.Or(q.Page, 1), cmp.Or(q.PageSize, 20)
	if err := q.validate(); err != nil {
		return Page{}, err
	}
	items, err := s.items(ctx, account, q)
	if err != nil {
		return Page{}, err
	}
	if q.Trust != ClawHub { // the registry has filtered already, and ranks better
		items = slices.DeleteFunc(items, func(i Item) bool { return !q.matches(i) })
	}
	total, offset := len(items), (q.Page-1)*q.PageSize
	items = items[min(offset, total):min(offset+q.PageSize, total)]
	return Page{Items: items, Total: total, Limit: q.PageSize, Offset: offset}, nil
}

func (q Query) validate() error {
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
			wrong.Add("search", "is required for the community registry")
		}
	default:
		wrong.Add("trustLevel", "must be verified, clawhub or custom")
	}
	return wrong.Err()
}

// matches reports whether a skill matches the category and the search.
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

// items returns the skills of the trust level of a query.
func (s *Service) items(ctx context.Context, account identity.AccountID, q Query) ([]Item, error) {
	counts, err := countInstalls(ctx, s.store.db, q.Trust, account)
	if err != nil {
		return nil, err
	}
	items := []Item{}
	switch q.Trust {
	case Verified:
		for _, p := range s.catalog.All() {
			items = append(items, p.item(counts[p.ID]))
		}
	case Custom:
		uploads, err := latestUploads(ctx, s.store.db, account)
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

// community returns the skills that the registry finds for a query.
func (s *Service) community(ctx context.Context, q Query, counts map[string]int) ([]Item, error) {
	registry, err := s.registry()
	if err != nil {
		return nil, err
	}
	listings, err := registry.Search(ctx, q.Search, 100)
	if err != nil {
		return nil, err
	}
	items := []Item{}
	for _, l := range listings {
		m := Manifest{ID: l.Ref.Slug, Name: l.Name, Version: l.Version, Author: l.Ref.Owner, Category: "community", Description: l.Summary}
		m.setDefaults(Frontmatter{})
		items = append(items, Item{Manifest: m, Trust: ClawHub, SkillID: l.Ref.String(), Installs: counts[l.Ref.String()]})
	}
	return items, nil
}

// Get returns one skill with its findings. If trust is empty it searches the catalog, then
// the account's own skills. A skill of the registry or of GitHub is fetched and scanned.
// Faults: Invalid; NotFound; Forbidden; Conflict; TooLarge; Upstream; UpstreamTimeout.
func (s *Service) Get(ctx context.Context, account identity.AccountID, id string, trust Trust) (Item, error) {
	if trust == "" {
		trust = Verified
		if _, ok := s.catalog.Find(id); !ok {
			trust = Custom
		}
	}
	p, err := s.find(ctx, account, Order{SkillID: id, Trust: trust})
	if err != nil {
		return Item{}, err
	}
	counts, err := countInstalls(ctx, s.store.db, trust, account)
	if err != nil {
		return Item{}, err
	}
	i := p.item(counts[p.skillID])
	if trust == Custom && !github.IsURL(id) {
		i.Versions, err = s.versions(ctx, account, id)
	}
	return i, err
}

func (p Package) item(installs int) Item {
	return Item{Manifest: p.Manifest, Trust: p.Trust, SkillID: cmp.Or(p.skillID, p.ID), Installs: installs, Score: &p.Report.Score, Verdict: p.Report.Verdict, Findings: p.Report.Findings}
}

func (u upload) item(installs int) (Item, error) {
	r, err := u.scanReport()
	return Item{Manifest: u.manifest, Trust: Custom, SkillID: u.manifest.ID, Installs: installs, Score: &r.Score, Verdict: r.Verdict, Findings: r.Findings}, err
}

// scanReport returns the report of the scan at the upload.
func (u upload) scanReport() (scan.Report, error) {
	var r scan.Report
	if err := json.Unmarshal([]byte(u.report), &r); err != nil {
		return r, fmt.Errorf("read report of custom skill %s: %w", u.id, err)
	}
	if r.Verdict == "" {
		r = r.Uncertain()
	}
	return r, nil
}

// registry returns the client of the registry. Faults: NotFound, if it is not offered.
func (s *Service) registry() (*clawhub.Client, error) {
	if s.clawHub == nil {
		return nil, fault.New(fault.NotFound, "This installation does not offer community skills.")
	}
	return s.clawHub, nil
}
