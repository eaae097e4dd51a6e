package knowledge

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/knowledge/embed"
	"agento.host/agento/internal/knowledge/index"
)

// fillEntries is how many entries are embedded at once.
const fillEntries = 64

// Reembedding is how far a Reembed has come.
type Reembedding struct {
	Done  int // entries embedded so far
	Total int // and those there were to embed when it started
}

// Reembed gives every entry of every account a vector of the embedder, beside
// those of other embedders, while the service goes on serving with its own. Each
// batch is kept as soon as it is done, so an interrupted call goes on where it
// stopped. Entries that come in meanwhile are embedded too. A scope that cannot be
// embedded keeps no other from it; the first such error is returned at the end. When
// it returns none, a service with that embedder can take over. progress may be nil.
func (s *Service) Reembed(ctx context.Context, e embed.Embedder, progress func(Reembedding)) (Reembedding, error) {
	var state Reembedding
	scopes, err := lacking(ctx, s.DB, e.Name())
	if err != nil {
		return state, fmt.Errorf("look for what is not embedded: %w", err)
	}
	for _, l := range scopes {
		state.Total += l.entries
	}
	var failed error
	for _, l := range scopes {
		err := s.fill(ctx, e, l.accountID, l.scope, func(n int) {
			state.Done += n
			state.Total = max(state.Total, state.Done)
			if progress != nil {
				progress(state)
			}
		})
		if ctx.Err() != nil {
			return state, cmp.Or(err, ctx.Err())
		}
		failed = cmp.Or(failed, err)
	}
	return state, failed
}

// ModelUse is how many entries have vectors of a model.
type ModelUse struct {
	Model     string
	Dimension int
	Entries   int
}

// Models lists the models of which there are vectors.
func (s *Service) Models(ctx context.Context) ([]ModelUse, error) {
	return database.All(ctx, s.DB, func(r database.Row) (ModelUse, error) {
		var u ModelUse
		err := r.Scan(&u.Model, &u.Dimension, &u.Entries)
		return u, err
	}, `SELECT model, max(dimension), count(*) FROM knowledge_vectors GROUP BY model ORDER BY model`)
}

// DropModel deletes the vectors of a model that is no longer used; a service that
// runs with it would have to make them again. Faults: Conflict if it is this
// service's own.
func (s *Service) DropModel(ctx context.Context, model string) error {
	if model == s.Embedder.Name() {
		return fault.New(fault.Conflict, "The model %s is in use. Start the server with another embedder first.", model)
	}
	return s.DB.Tx(ctx, func(tx *database.Tx) error {
		for _, table := range []string{"knowledge_coverage", "knowledge_vectors"} {
			if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE model = $1`, model); err != nil {
				return fmt.Errorf("drop the vectors of %s: %w", model, err)
			}
		}
		return nil
	})
}

type lack struct {
	accountID string
	scope     int64
	entries   int
}

// lacking lists the scopes of every account that a model does not cover.
func lacking(ctx context.Context, q database.Querier, model string) ([]lack, error) {
	return database.All(ctx, q, func(r database.Row) (lack, error) {
		var l lack
		err := r.Scan(&l.accountID, &l.scope, &l.entries)
		return l, err
	}, `SELECT s.account_id, s.number,
		 (SELECT count(*) FROM knowledge_entries e WHERE e.scope = s.number AND e.seq > COALESCE(c.through_seq, 0))
		 FROM knowledge_scopes s LEFT JOIN knowledge_coverage c ON c.scope = s.number AND c.model = $1
		 WHERE s.last_seq > COALESCE(c.through_seq, 0) ORDER BY s.number`, model)
}

// fill embeds what a scope lacks of a model. done, which may be nil, is told of
// each batch.
func (s *Service) fill(ctx context.Context, e embed.Embedder, accountID string, scope int64, done func(n int)) error {
	if scope == 0 {
		return nil
	}
	sp := space{accountID, scope, e.Name(), e.Dimension()}
	for {
		covered, err := coverage(ctx, s.DB, sp)
		if err != nil {
			return fmt.Errorf("look up the coverage of %s: %w", sp.model, err)
		}
		last, err := lastSeqOf(ctx, s.DB, accountID, scope)
		if err != nil {
			return fmt.Errorf("look up the last entry: %w", err)
		}
		if covered >= last {
			return nil
		}
		n, err := s.fillSome(ctx, e, sp, covered)
		if err != nil {
			return err
		}
		if done != nil {
			done(n)
		}
	}
}

// fillSome embeds the next entries after covered and raises the coverage.
func (s *Service) fillSome(ctx context.Context, e embed.Embedder, sp space, covered int64) (int, error) {
	entries, err := database.All(ctx, s.DB, scanEntry,
		`SELECT `+entryColumns+` FROM knowledge_entries
		 WHERE account_id = $1 AND scope = $2 AND seq > $3 ORDER BY seq LIMIT $4`,
		sp.accountID, sp.number, covered, fillEntries)
	if err != nil {
		return 0, fmt.Errorf("read what is not embedded: %w", err)
	}
	texts := make([]string, len(entries))
	for i, entry := range entries {
		texts[i] = entry.Text
	}
	vectors, err := embedWith(ctx, e, texts)
	if err != nil {
		return 0, err
	}
	err = s.DB.Tx(ctx, func(tx *database.Tx) error {
		if err := insertVectors(ctx, tx, sp, entries, vectors); err != nil {
			return err
		}
		now, err := coverage(ctx, tx, sp)
		if err != nil {
			return err
		}
		through, err := coveredAfter(ctx, tx, sp, entries)
		if err != nil {
			return err
		}
		return setCoverage(ctx, tx, sp, max(now, through))
	})
	return len(entries), err
}

// coveredAfter is the coverage once these entries, which follow one another, have
// vectors. After the last of all entries it is the last seq that was ever given.
func coveredAfter(ctx context.Context, tx *database.Tx, sp space, entries []Entry) (int64, error) {
	if len(entries) == fillEntries {
		return entries[len(entries)-1].seq, nil
	}
	var from int64
	if len(entries) > 0 {
		from = entries[len(entries)-1].seq
	}
	covered, err := coverage(ctx, tx, sp)
	if err != nil {
		return 0, err
	}
	from = max(from, covered)
	next, err := database.One(ctx, tx, database.Scalar[*int64],
		`SELECT min(seq) FROM knowledge_entries WHERE account_id = $1 AND scope = $2 AND seq > $3`,
		sp.accountID, sp.number, from)
	if err != nil {
		return 0, err
	}
	if next != nil {
		return *next - 1, nil
	}
	return lastSeqOf(ctx, tx, sp.accountID, sp.number)
}

// embedWith returns a vector of length 1 for each text. What an embedder says of
// its own failure, as a fault, is passed on.
func embedWith(ctx context.Context, e embed.Embedder, texts []string) ([][]float32, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	vectors, err := e.Embed(ctx, texts)
	var told *fault.Fault
	switch {
	case errors.As(err, &told), err != nil && ctx.Err() != nil:
		return nil, err
	case err != nil:
		return nil, fault.New(fault.Upstream, "The embedding model %s failed. Try again; if it stays, tell the operator.", e.Name()).Because(err)
	case len(vectors) != len(texts):
		return nil, fmt.Errorf("%s gave %d vectors for %d texts", e.Name(), len(vectors), len(texts))
	}
	for i, v := range vectors {
		if len(v) != e.Dimension() {
			return nil, fmt.Errorf("%s gave %d dimensions, not %d", e.Name(), len(v), e.Dimension())
		}
		if !index.Normalize(v) {
			return nil, fault.New(fault.Upstream, "The embedding model %s makes nothing of text %d. Reword it.", e.Name(), i)
		}
	}
	return vectors, nil
}
