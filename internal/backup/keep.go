package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"agento.host/agento/internal/homecopy"
	"agento.host/agento/internal/repository"
)

// Keep says which backups are kept: the newest ones, and the newest of each of the last days,
// weeks and months that have one. The zero Keep keeps all.
type Keep struct {
	Last, Daily, Weekly, Monthly int
}

// ParseKeep reads rules such as "last=3,daily=7,weekly=4,monthly=12". "all" and the empty text keep all.
func ParseKeep(text string) (k Keep, err error) {
	if text == "" || text == "all" {
		return k, nil
	}
	for rule := range strings.SplitSeq(text, ",") {
		name, number, _ := strings.Cut(strings.TrimSpace(rule), "=")
		n, err := strconv.Atoi(number)
		field := map[string]*int{"last": &k.Last, "daily": &k.Daily, "weekly": &k.Weekly, "monthly": &k.Monthly}[name]
		if err != nil || n < 1 || n > 10_000 || field == nil {
			return Keep{}, fmt.Errorf("%q is no rule of what to keep: write all, or rules such as last=3,daily=7,weekly=4,monthly=12", rule)
		}
		*field = n
	}
	return k, nil
}

// dropped returns the ids that the rules do not keep, of ids that are sorted. The newest is
// always kept, and what is no id of a backup.
func (k Keep) dropped(ids []string) (dropped []string) {
	if k == (Keep{}) {
		return nil
	}
	rules := []struct {
		n      int
		period func(t time.Time) string
	}{
		{max(k.Last, 1), func(t time.Time) string { return t.Format(idTime) }},
		{k.Daily, func(t time.Time) string { return t.Format(time.DateOnly) }},
		{k.Weekly, func(t time.Time) string { y, w := t.ISOWeek(); return fmt.Sprint(y, " ", w) }},
		{k.Monthly, func(t time.Time) string { return t.Format("2006-01") }},
	}
	kept := map[string]bool{}
	for _, rule := range rules {
		seen := map[string]bool{}
		for _, id := range slices.Backward(ids) {
			t, err := time.Parse(idTime, id)
			if err != nil {
				kept[id] = true
				continue
			}
			if p := rule.period(t); !seen[p] && len(seen) < rule.n {
				seen[p], kept[id] = true, true
			}
		}
	}
	for _, id := range ids {
		if !kept[id] {
			dropped = append(dropped, id)
		}
	}
	return dropped
}

// Pruned is what Prune has deleted.
type Pruned struct {
	Backups []string
	Bytes   int64 // of chunks that no other backup needs
}

// Prune deletes the backups of a destination that the rules do not keep, and the chunks that
// only they have. The key of a home that no backup has any more is deleted first.
func Prune(ctx context.Context, d Destination, k Keep) (p Pruned, err error) {
	if k == (Keep{}) {
		return p, nil
	}
	if d.Recipient != "" {
		return pruneFiles(ctx, d, k)
	}
	r, err := repository.Open(ctx, d.URL, d.Passphrase)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	lock, err := r.Lock(ctx)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, lock.Unlock(context.WithoutCancel(ctx))) }()
	ids, err := r.Records(ctx)
	if err != nil {
		return p, err
	}
	if p.Backups = k.dropped(ids); len(p.Backups) == 0 {
		return p, nil
	}
	used := usedChunks{}
	for _, id := range ids {
		if slices.Contains(p.Backups, id) {
			continue
		}
		if err := used.add(ctx, r, id); err != nil { // what a damaged backup needs is not known
			return Pruned{}, fmt.Errorf("nothing was deleted: %w", err)
		}
	}
	if err := lock.Check(ctx); err != nil {
		return Pruned{}, err
	}
	for _, id := range p.Backups {
		if err := r.DeleteRecord(ctx, id); err != nil {
			return p, err
		}
	}
	p.Bytes, err = used.deleteOthers(ctx, r)
	return p, err
}

func pruneFiles(ctx context.Context, d Destination, k Keep) (p Pruned, err error) {
	s := &Store{url: d.URL}
	ids, err := s.ids(ctx)
	if err != nil {
		return p, err
	}
	for _, id := range k.dropped(ids) {
		if err := repository.DeleteFile(ctx, d.URL, archivePrefix+id+archiveSuffix); err != nil {
			return p, err
		}
		p.Backups = append(p.Backups, id)
	}
	return p, nil
}

// usedChunks are the chunks that backups need, by the name of their home.
type usedChunks map[string]map[string]bool

func (u usedChunks) add(ctx context.Context, r *repository.Repository, id string) error {
	m, err := readManifest(ctx, r, id)
	if err != nil {
		return err
	}
	u.need(recordsHome, m.Database, m.KeyContent)
	tables := map[string]repository.Content{}
	if m.Catalog {
		tables[catalogHome] = m.CatalogTable
	}
	for _, a := range m.Agents {
		tables[string(a.ID)] = a.Table
	}
	for name, table := range tables {
		if err := u.addTable(ctx, r, name, table); err != nil {
			return fmt.Errorf("read what the backup %s has of %s: %w", id, name, err)
		}
	}
	return nil
}

func (u usedChunks) addTable(ctx context.Context, r *repository.Repository, name string, table repository.Content) error {
	if u.need(name, table) { // an unchanged home has the same table in many backups
		return nil
	}
	home, err := r.Home(ctx, name)
	if errors.Is(err, repository.ErrNotFound) {
		return nil // its copies were made unreadable
	}
	var entries []homecopy.Entry
	if err == nil {
		err = json.NewDecoder(home.Open(ctx, table)).Decode(&entries)
	}
	for _, e := range entries {
		u.need(name, e.Content)
	}
	return err
}

// need adds the chunks of contents, and reports whether all were there.
func (u usedChunks) need(name string, contents ...repository.Content) bool {
	if u[name] == nil {
		u[name] = map[string]bool{}
	}
	all := true
	for _, c := range contents {
		for _, e := range c {
			all = all && u[name][e.Chunk]
			u[name][e.Chunk] = true
		}
	}
	return all
}

// deleteOthers deletes the chunks that no backup needs.
func (u usedChunks) deleteOthers(ctx context.Context, r *repository.Repository) (bytes int64, err error) {
	names, err := r.Homes(ctx)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		used, kept := u[name]
		if !kept {
			if err := r.Forget(ctx, name); err != nil {
				return bytes, err
			}
			continue
		}
		home, err := r.Home(ctx, name)
		if err != nil {
			return bytes, err
		}
		n, err := home.Prune(ctx, func(id string) bool { return used[id] })
		if bytes += n; err != nil {
			return bytes, err
		}
	}
	return bytes, nil
}
