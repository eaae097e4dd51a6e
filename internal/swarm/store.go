package swarm

import (
	"context"
	"fmt"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
)

const columns = `id, account_id, name, slug, description, icon, created_at, updated_at`

func scan(r database.Row) (Swarm, error) {
	w := Swarm{MemberCount: members}
	var created, updated int64
	err := r.Scan(&w.ID, &w.AccountID, &w.Name, &w.Slug, &w.Description, &w.Icon, &created, &updated)
	w.CreatedAt, w.UpdatedAt = database.Time(created), database.Time(updated)
	return w, err
}

func find(ctx context.Context, q database.Querier, accountID, id string) (Swarm, error) {
	w, err := database.One(ctx, q, scan, `SELECT `+columns+` FROM swarms WHERE account_id = $1 AND id = $2`, accountID, id)
	return w, noSwarm(err)
}

func list(ctx context.Context, q database.Querier, accountID string) ([]Swarm, error) {
	all, err := database.All(ctx, q, scan,
		`SELECT `+columns+` FROM swarms WHERE account_id = $1 ORDER BY created_at DESC, id DESC`, accountID)
	if err != nil {
		return nil, fmt.Errorf("list swarms: %w", err)
	}
	return all, nil
}

// insert stores w under the first free slug of its name.
func insert(ctx context.Context, tx *database.Tx, w Swarm) (Swarm, error) {
	count, err := database.One(ctx, tx, database.Scalar[int], `SELECT COUNT(*) FROM swarms WHERE account_id = $1`, w.AccountID)
	if err != nil {
		return w, fmt.Errorf("count swarms: %w", err)
	}
	if count >= MaxSwarms {
		return w, fault.New(fault.Conflict, "The account has %d swarms already, the most it may have. Delete one first.", count)
	}
	base := slugOf(w.Name)
	taken, err := slugsLike(ctx, tx, w.AccountID, base)
	if err != nil {
		return w, err
	}
	for n := 1; ; n++ {
		w.Slug = numberedSlug(base, n)
		if taken[w.Slug] {
			continue
		}
		// Another writer may have taken the slug since slugsLike: then the next one.
		added, err := database.Exec(ctx, tx,
			`INSERT INTO swarms (`+columns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (account_id, slug) DO NOTHING`,
			w.ID, w.AccountID, w.Name, w.Slug, w.Description, w.Icon, database.Millis(w.CreatedAt), database.Millis(w.UpdatedAt))
		if err != nil {
			return w, fmt.Errorf("store swarm: %w", err)
		}
		if added > 0 {
			return w, nil
		}
	}
}

// slugsLike returns base and every slug that is base, a hyphen and more.
func slugsLike(ctx context.Context, q database.Querier, accountID, base string) (map[string]bool, error) {
	found, err := database.All(ctx, q, database.Scalar[string],
		`SELECT slug FROM swarms WHERE account_id = $1 AND (slug = $2 OR (slug > $3 AND slug < $4))`,
		accountID, base, base+"-", base+".") // . follows - in ASCII
	if err != nil {
		return nil, fmt.Errorf("look for slugs: %w", err)
	}
	taken := make(map[string]bool, len(found))
	for _, slug := range found {
		taken[slug] = true
	}
	return taken, nil
}

func update(ctx context.Context, tx *database.Tx, w Swarm) error {
	_, err := database.Exec(ctx, tx,
		`UPDATE swarms SET name = $3, description = $4, icon = $5, updated_at = $6 WHERE account_id = $1 AND id = $2`,
		w.AccountID, w.ID, w.Name, w.Description, w.Icon, database.Millis(w.UpdatedAt))
	if err != nil {
		return fmt.Errorf("store swarm %s: %w", w.ID, err)
	}
	return nil
}

func remove(ctx context.Context, tx *database.Tx, accountID, id string) error {
	if _, err := database.Exec(ctx, tx, `DELETE FROM swarms WHERE account_id = $1 AND id = $2`, accountID, id); err != nil {
		return fmt.Errorf("delete swarm %s: %w", id, err)
	}
	return nil
}
