package workspace

import (
	"context"
	"fmt"
	"time"

	"agento.host/agento/internal/database"
)

const (
	columns = `name, version, live, deleted, aside, restored_from, actor, created_at, size, hash`
	of      = ` FROM documents WHERE account_id = $1 AND agent_id = $2`

	// rulesOnly selects names that start with rules/; 0 is what follows / in ASCII.
	rulesOnly = ` AND name >= 'rules/' AND name < 'rules0'`
)

func scanVersion(r database.Row) (Version, error) {
	var v Version
	var at int64
	err := r.Scan(&v.Document, &v.Number, &v.Live, &v.Deleted, &v.Aside, &v.RestoredFrom, &v.Actor, &at, &v.Size, &v.Hash)
	v.At = database.Time(at)
	return v, err
}

func scanWhole(r database.Row) (Version, error) {
	var v Version
	var at int64
	err := r.Scan(&v.Document, &v.Number, &v.Live, &v.Deleted, &v.Aside, &v.RestoredFrom, &v.Actor, &at, &v.Size, &v.Hash, &v.Content)
	v.At = database.Time(at)
	return v, err
}

// live is the live version of a document that every agent has.
func live(ctx context.Context, q database.Querier, accountID, agentID string, d Document) (Version, error) {
	v, err := liveOrNone(ctx, q, accountID, agentID, d)
	return v, noAgent(err)
}

// liveOrNone returns sql.ErrNoRows for a document that never was.
func liveOrNone(ctx context.Context, q database.Querier, accountID, agentID string, d Document) (Version, error) {
	return database.One(ctx, q, scanWhole, `SELECT `+columns+`, content`+of+` AND name = $3 AND live`, accountID, agentID, d)
}

func numbered(ctx context.Context, q database.Querier, accountID, agentID string, d Document, number int64) (Version, error) {
	return database.One(ctx, q, scanWhole, `SELECT `+columns+`, content`+of+` AND name = $3 AND version = $4`, accountID, agentID, d, number)
}

// withHash is the newest version of a document that has that content, of those that
// were set aside only if aside is true.
func withHash(ctx context.Context, q database.Querier, accountID, agentID string, d Document, hash string, aside bool) (Version, error) {
	return database.One(ctx, q, scanVersion,
		`SELECT `+columns+of+` AND name = $3 AND hash = $4 AND NOT deleted AND (NOT aside OR $5) ORDER BY version DESC LIMIT 1`, accountID, agentID, d, hash, aside)
}

// exist fails with NotFound if there is no such agent.
func exist(ctx context.Context, q database.Querier, accountID, agentID string) error {
	_, err := database.One(ctx, q, database.Scalar[int64], `SELECT version`+of+` AND name = $3 AND live`, accountID, agentID, Soul)
	return noAgent(err)
}

func liveRules(ctx context.Context, q database.Querier, accountID, agentID string) ([]Version, error) {
	return database.All(ctx, q, scanVersion,
		`SELECT `+columns+of+rulesOnly+` AND live AND NOT deleted ORDER BY name`, accountID, agentID)
}

// insert stores c as the next version, live unless it is set aside.
func insert(ctx context.Context, tx *database.Tx, c change) (Version, error) {
	last, err := database.One(ctx, tx, database.Scalar[int64], `SELECT COALESCE(MAX(version), 0)`+of+` AND name = $3`, c.accountID, c.agentID, c.doc)
	if err != nil {
		return Version{}, fmt.Errorf("read versions of %s: %w", c.doc, err)
	}
	if !c.aside {
		_, err = database.Exec(ctx, tx, `UPDATE documents SET live = FALSE WHERE account_id = $1 AND agent_id = $2 AND name = $3 AND live`, c.accountID, c.agentID, c.doc)
		if err != nil {
			return Version{}, fmt.Errorf("replace %s: %w", c.doc, err)
		}
	}
	v := Version{
		Document: c.doc, Number: last + 1, Live: !c.aside, Deleted: c.deleted, Aside: c.aside, RestoredFrom: c.restoredFrom,
		Actor: c.actor, At: database.Time(database.Millis(time.Now())), Size: int64(len(c.content)), Hash: hashOf(c.content), Content: c.content,
	}
	_, err = database.Exec(ctx, tx,
		`INSERT INTO documents (account_id, agent_id, `+columns+`, content) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		c.accountID, c.agentID, v.Document, v.Number, v.Live, v.Deleted, v.Aside, v.RestoredFrom, v.Actor, database.Millis(v.At), v.Size, v.Hash, v.Content)
	if err != nil {
		return Version{}, fmt.Errorf("store %s: %w", c.doc, err)
	}
	return v, nil
}
