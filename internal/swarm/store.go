package swarm

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// Store stores swarms. A swarm of another account is not found: NotFound.
type Store struct{ db *database.DB }

// NewStore returns a Store.
func NewStore(db *database.DB) *Store { return &Store{db: db} }

// Exists returns nil if the account has the swarm. Pass the transaction in which an
// agent joins the swarm. Faults: NotFound.
func (s *Store) Exists(ctx context.Context, q database.Reader, account identity.AccountID, id identity.SwarmID) error {
	_, err := find(ctx, q, account, id)
	return err
}

// Names returns every swarm of an account by its id, with an AgentCount of 0. Agents
// show the name of the swarm that they are in.
func (s *Store) Names(ctx context.Context, q database.Reader, account identity.AccountID) (map[identity.SwarmID]Swarm, error) {
	all, err := list(ctx, q, account)
	byID := make(map[identity.SwarmID]Swarm, len(all))
	for i := range all {
		byID[all[i].ID] = all[i]
	}
	return byID, err
}

const columns = `id, account_id, name, slug, description, icon, created_at, updated_at`

func scan(r database.Row) (Swarm, error) {
	var sw Swarm
	var created, updated int64
	err := r.Scan(&sw.ID, &sw.AccountID, &sw.Name, &sw.Slug, &sw.Description, &sw.Icon, &created, &updated)
	sw.CreatedAt, sw.UpdatedAt = database.Time(created), database.Time(updated)
	return sw, err
}

// damaged keeps a swarm whose times cannot be decoded: it can be used, and deleted.
func damaged(sw *Swarm, _ error) (row string, keep bool) { return "swarm " + string(sw.ID), true }

// find returns a swarm. Faults: NotFound.
func find(ctx context.Context, q database.Reader, account identity.AccountID, id identity.SwarmID) (Swarm, error) {
	sw, err := database.OneReadable(ctx, q, scan, damaged, `SELECT `+columns+` FROM swarms WHERE account_id = $1 AND id = $2`, account, id)
	if errors.Is(err, sql.ErrNoRows) {
		return Swarm{}, fault.New(fault.NotFound, "There is no swarm with that id. List them with GET /v1/swarms.")
	}
	return sw, err
}

// list returns an account's swarms, newest first.
func list(ctx context.Context, q database.Reader, account identity.AccountID) ([]Swarm, error) {
	all, err := database.AllReadable(ctx, q, scan, damaged,
		`SELECT `+columns+` FROM swarms WHERE account_id = $1 ORDER BY created_at DESC, id DESC`, account)
	if err != nil {
		return nil, fmt.Errorf("list swarms: %w", err)
	}
	return all, nil
}

// insert inserts sw with the first unused slug of its name, and returns it with the
// slug. Faults: Conflict, if the account has MaxSwarms.
func insert(ctx context.Context, tx *database.Tx, sw Swarm) (Swarm, error) {
	count, err := database.One(ctx, tx, database.Scalar[int], `SELECT COUNT(*) FROM swarms WHERE account_id = $1`, sw.AccountID)
	if err != nil {
		return sw, fmt.Errorf("count swarms: %w", err)
	}
	if count >= MaxSwarms {
		return sw, fault.New(fault.Conflict, "The account has %d swarms already, the most it may have. Delete one first.", count)
	}
	base := slugOf(sw.Name)
	used, err := slugsLike(ctx, tx, sw.AccountID, base)
	if err != nil {
		return sw, err
	}
	for n := 1; ; n++ {
		sw.Slug = numberedSlug(base, n)
		if used[sw.Slug] {
			continue
		}
		// If another transaction has used the slug since slugsLike, try the next one.
		inserted, err := database.Exec(ctx, tx,
			`INSERT INTO swarms (`+columns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (account_id, slug) DO NOTHING`,
			sw.ID, sw.AccountID, sw.Name, sw.Slug, sw.Description, sw.Icon, database.Millis(sw.CreatedAt), database.Millis(sw.UpdatedAt))
		if err != nil {
			return sw, fmt.Errorf("insert swarm: %w", err)
		}
		if inserted > 0 {
			return sw, nil
		}
	}
}

// slugsLike returns the account's slugs that are base, or base and a hyphen and more.
func slugsLike(ctx context.Context, q database.Reader, account identity.AccountID, base string) (map[string]bool, error) {
	found, err := database.All(ctx, q, database.Scalar[string],
		`SELECT slug FROM swarms WHERE account_id = $1 AND (slug = $2 OR (slug > $3 AND slug < $4))`,
		account, base, base+"-", base+".") // . follows - in ASCII
	if err != nil {
		return nil, fmt.Errorf("find slugs: %w", err)
	}
	slugs := make(map[string]bool, len(found))
	for _, slug := range found {
		slugs[slug] = true
	}
	return slugs, nil
}

func update(ctx context.Context, tx *database.Tx, sw Swarm) error {
	_, err := database.Exec(ctx, tx,
		`UPDATE swarms SET name = $3, description = $4, icon = $5, updated_at = $6 WHERE account_id = $1 AND id = $2`,
		sw.AccountID, sw.ID, sw.Name, sw.Description, sw.Icon, database.Millis(sw.UpdatedAt))
	if err != nil {
		return fmt.Errorf("update swarm %s: %w", sw.ID, err)
	}
	return nil
}

func remove(ctx context.Context, tx *database.Tx, account identity.AccountID, id identity.SwarmID) error {
	if _, err := database.Exec(ctx, tx, `DELETE FROM swarms WHERE account_id = $1 AND id = $2`, account, id); err != nil {
		return fmt.Errorf("delete swarm %s: %w", id, err)
	}
	return nil
}
