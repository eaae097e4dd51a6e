package knowledge

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"agento.host/agento/internal/database"
)

// A text that several sources have is one entry that belongs to all of them. Its row has the
// first source; the others are in knowledge_sources, with the metadata that each gave it.

// maxSources is how many sources an entry can belong to. A text of more sources is stored
// again, so that whoever moves or deletes an entry changes only so many rows.
const maxSources = 50

// furtherColumns are the entryColumns of an entry as a further source has it. They are of
// knowledge_sources s and knowledge_entries e.
const furtherColumns = `e.number, s.entry_id AS id, e.seq, e.text, s.source, s.metadata, s.created_at, s.updated_at`

// oldEntry is an entry that is to be removed from a source.
type oldEntry struct {
	id, source string
}

// furtherSources returns the further sources of entries, by id, in the order in which they
// got the entry.
func furtherSources(ctx context.Context, q database.Reader, space vectorSpace, ids []string) (map[string][]string, error) {
	further := map[string][]string{}
	for part := range slices.Chunk(ids, maxInList) {
		rows, err := database.All(ctx, q, func(r database.Row) (o oldEntry, err error) { return o, r.Scan(&o.id, &o.source) },
			`SELECT entry_id, source FROM knowledge_sources WHERE account_id = $1 AND scope = $2 AND entry_id IN `+placeholders(3, len(part))+` ORDER BY created_at, source`,
			withArgs([]any{space.account, space.scope}, part)...)
		if err != nil {
			return nil, fmt.Errorf("read the sources of entries: %w", err)
		}
		for _, o := range rows {
			further[o.id] = append(further[o.id], o.source)
		}
	}
	return further, nil
}

// putSource adds a further source to an entry, or replaces the metadata that the source gave
// it. Errors: errScopeChanged, if the entry is not there or the source is its first.
func putSource(ctx context.Context, tx *database.Tx, space vectorSpace, e Entry) error {
	metadata, err := encodeMetadata(e.Metadata)
	if err != nil {
		return err
	}
	n, err := database.Exec(ctx, tx,
		`INSERT INTO knowledge_sources (account_id, scope, entry_id, source, metadata, created_at, updated_at)
		 SELECT account_id, scope, id, $4, $5, $6, $7 FROM knowledge_entries WHERE account_id = $1 AND scope = $2 AND id = $3 AND source <> $4
		 ON CONFLICT (entry_id, source) DO UPDATE SET metadata = excluded.metadata, updated_at = excluded.updated_at`,
		space.account, space.scope, e.ID, e.Source, metadata, database.Millis(e.CreatedAt), database.Millis(e.UpdatedAt))
	if err != nil {
		return fmt.Errorf("add a source of entry %s: %w", e.ID, err)
	}
	if n == 0 {
		return errScopeChanged
	}
	return nil
}

// removeFromSources takes entries from sources. An entry is deleted when it belongs to none
// any more. It returns how many entries left a source.
func removeFromSources(ctx context.Context, tx *database.Tx, space vectorSpace, old []oldEntry) (int64, error) {
	ids := make([]string, len(old))
	for i, o := range old {
		ids[i] = o.id
	}
	further, err := furtherSources(ctx, tx, space, ids)
	if err != nil {
		return 0, err
	}
	var total int64
	var first []oldEntry // those that are removed from their first source
	for _, o := range old {
		at := slices.Index(further[o.id], o.source)
		if at < 0 {
			first = append(first, o)
			continue
		}
		further[o.id] = slices.Delete(further[o.id], at, at+1)
		n, err := database.Exec(ctx, tx,
			`DELETE FROM knowledge_sources WHERE account_id = $1 AND scope = $2 AND entry_id = $3 AND source = $4`, space.account, space.scope, o.id, o.source)
		if err != nil {
			return 0, fmt.Errorf("remove a source of entry %s: %w", o.id, err)
		}
		total += n
	}
	var last, sources []string // the entries without a further source, and their sources
	for _, o := range first {
		if len(further[o.id]) == 0 {
			last, sources = append(last, o.id), append(sources, o.source)
			continue
		}
		n, err := passToNext(ctx, tx, space, o, further[o.id][0])
		if err != nil {
			return 0, err
		}
		total += n
	}
	if len(last) == 0 {
		return total, nil
	}
	n, err := database.Exec(ctx, tx,
		`DELETE FROM knowledge_entries WHERE account_id = $1 AND scope = $2 AND id IN `+placeholders(3, len(last))+` AND source IN `+placeholders(3+len(last), len(sources)),
		withArgs(withArgs([]any{space.account, space.scope}, last), sources)...)
	if err != nil {
		return 0, fmt.Errorf("delete entries: %w", err)
	}
	return total + n, nil
}

// passToNext makes the next source the first one of an entry. A trigger deletes it from the
// further ones.
func passToNext(ctx context.Context, tx *database.Tx, space vectorSpace, o oldEntry, next string) (int64, error) {
	n, err := database.Exec(ctx, tx,
		`UPDATE knowledge_entries SET (source, metadata, created_at, updated_at) =
		 (SELECT source, metadata, created_at, updated_at FROM knowledge_sources WHERE entry_id = $3 AND source = $5)
		 WHERE account_id = $1 AND scope = $2 AND id = $3 AND source = $4`, space.account, space.scope, o.id, o.source, next)
	if err != nil {
		return 0, fmt.Errorf("pass entry %s to its next source: %w", o.id, err)
	}
	return n, nil
}

// deleteSomeOfSource removes at most limit entries from a source.
func deleteSomeOfSource(ctx context.Context, tx *database.Tx, space vectorSpace, source string, limit int) (int64, error) {
	ids, err := database.All(ctx, tx, database.Scalar[string],
		`SELECT * FROM (SELECT id FROM knowledge_entries WHERE account_id = $1 AND scope = $2 AND source = $3 LIMIT $4)
		 UNION ALL SELECT * FROM (SELECT entry_id FROM knowledge_sources WHERE account_id = $1 AND scope = $2 AND source = $3 LIMIT $4) LIMIT $4`,
		space.account, space.scope, source, limit)
	if err != nil {
		return 0, fmt.Errorf("read the entries of a source: %w", err)
	}
	old := make([]oldEntry, len(ids))
	for i, id := range ids {
		old[i] = oldEntry{id, source}
	}
	return removeFromSources(ctx, tx, space, old)
}

// entriesOfSources returns the scope's entries of some sources, as these have them, in the
// order of their ids and sources, from the one after an entry on.
func entriesOfSources(ctx context.Context, q database.Reader, space vectorSpace, sources []string, after Entry, limit int) ([]Entry, error) {
	in := placeholders(6, len(sources))
	return database.AllReadable(ctx, q, scanEntry, damaged,
		`SELECT `+entryColumns+` FROM knowledge_entries
		 WHERE account_id = $1 AND scope = $2 AND id >= $3 AND (id > $3 OR source > $4) AND source IN `+in+`
		 UNION ALL SELECT `+furtherColumns+` FROM knowledge_sources s JOIN knowledge_entries e ON e.id = s.entry_id
		 WHERE s.account_id = $1 AND s.scope = $2 AND s.entry_id >= $3 AND (s.entry_id > $3 OR s.source > $4) AND s.source IN `+in+`
		 ORDER BY id, source LIMIT $5`,
		withArgs([]any{space.account, space.scope, after.ID, after.Source, limit}, sources)...)
}

// belongings records which sources entries belong to, by the id of the entry.
type belongings map[string][]string

// ownersOf reads which sources the duplicated entries belong to.
func ownersOf(ctx context.Context, q database.Reader, space vectorSpace, duplicates [][]duplicate) (belongings, error) {
	owners := belongings{}
	for _, all := range duplicates {
		for _, d := range all {
			owners[d.id] = []string{d.source}
		}
	}
	further, err := furtherSources(ctx, q, space, slices.Sorted(maps.Keys(owners)))
	for id, sources := range further {
		owners[id] = append(owners[id], sources...)
	}
	return owners, err
}

// accepts reports whether an entry belongs to a source or can.
func (b belongings) accepts(id, source string) bool {
	return len(b[id]) < maxSources || slices.Contains(b[id], source)
}

// choose returns the duplicate that a chunk of a source is: one that the source has or, if
// there is none, the nearest that the source can have.
func (b belongings) choose(all []duplicate, source string) (duplicate, bool) {
	at := slices.IndexFunc(all, func(d duplicate) bool { return slices.Contains(b[d.id], source) })
	if at < 0 {
		at = slices.IndexFunc(all, func(d duplicate) bool { return b.accepts(d.id, source) })
	}
	if at < 0 {
		return duplicate{}, false
	}
	return all[at], true
}

// share plans that a chunk's source has the entry that the chunk duplicates.
func (p *ingestPlan) share(owners belongings, id string, c Chunk, now time.Time) {
	if at := slices.IndexFunc(p.remove, func(old Entry) bool { return old.ID == id && old.Source == c.Source }); at >= 0 {
		old := p.remove[at]
		p.remove = slices.Delete(p.remove, at, at+1)
		p.changeMetadata(old, c.Metadata, now)
	} else if !slices.Contains(owners[id], c.Source) {
		owners[id] = append(owners[id], c.Source)
		p.shares = append(p.shares, Entry{ID: id, Source: c.Source, Metadata: c.Metadata, CreatedAt: now, UpdatedAt: now})
	}
}

// sourceKey identifies a text of a source.
func sourceKey(source, text string) string { return source + "\x00" + text }

func ids(entries []Entry) []string {
	all := make([]string, len(entries))
	for i, e := range entries {
		all[i] = e.ID
	}
	return all
}
