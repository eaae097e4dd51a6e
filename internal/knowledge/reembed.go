package knowledge

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/knowledge/embed"
	"agento.host/agento/internal/knowledge/index"
)

// embedBatchSize is how many entries are embedded at once.
const embedBatchSize = 64

// ReembedProgress is how far a Reembed has come.
type ReembedProgress struct {
	Done  int // entries embedded so far
	Total int // entries that had to be embedded at the start
}

// Reembed adds a vector of the embedder to every entry of every account, beside those
// of other embedders, while the service continues to serve with its own. Each batch is
// committed when it is done, so a call after an interrupted one continues where that
// stopped. Entries added meanwhile are embedded too. A scope that cannot be embedded
// does not stop the others; the first such error is returned at the end. When Reembed
// returns no error, a service with that embedder can take over. onProgress, which may
// be nil, is called after each batch.
func (s *Service) Reembed(ctx context.Context, e embed.Embedder, onProgress func(ReembedProgress)) (ReembedProgress, error) {
	var progress ReembedProgress
	scopes, err := uncoveredScopes(ctx, s.db, e.Name())
	if err != nil {
		return progress, fmt.Errorf("list scopes to embed: %w", err)
	}
	for _, u := range scopes {
		progress.Total += u.entries
	}
	var failed error
	for _, u := range scopes {
		space := vectorSpace{u.account, u.scope, e.Name(), e.Dimension()}
		err := s.embedMissing(ctx, e, space, func(n int) {
			progress.Done += n
			progress.Total = max(progress.Total, progress.Done)
			if onProgress != nil {
				onProgress(progress)
			}
		})
		if ctx.Err() != nil {
			return progress, cmp.Or(err, ctx.Err())
		}
		failed = cmp.Or(failed, err)
	}
	return progress, failed
}

// ModelUse is how many entries have vectors of a model.
type ModelUse struct {
	Model     string
	Dimension int
	Entries   int
}

// Models lists the models that stored vectors are of.
func (s *Service) Models(ctx context.Context) ([]ModelUse, error) {
	return database.All(ctx, s.db, func(r database.Row) (ModelUse, error) {
		var u ModelUse
		err := r.Scan(&u.Model, &u.Dimension, &u.Entries)
		return u, err
	}, `SELECT model, max(dimension), count(*) FROM knowledge_vectors GROUP BY model ORDER BY model`)
}

// DropModel deletes the vectors of a model that is no longer used. A service that
// still uses the model embeds the entries again.
// Faults: Conflict, if it is the model of this service.
func (s *Service) DropModel(ctx context.Context, model string) error {
	if model == s.embedder.Name() {
		return fault.New(fault.Conflict, "The model %s is in use. Start the server with another embedder first.", model)
	}
	return s.db.Tx(ctx, "knowledge.drop_model", func(ctx context.Context, tx *database.Tx) error {
		for _, table := range []string{"knowledge_coverage", "knowledge_vectors"} {
			if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE model = $1`, model); err != nil {
				return fmt.Errorf("delete the vectors of %s: %w", model, err)
			}
		}
		return nil
	})
}

// uncoveredScope is a scope with entries that have no vector of a model.
type uncoveredScope struct {
	account identity.AccountID
	scope   int64
	entries int // how many have none
}

// uncoveredScopes lists the scopes, of every account, that a model does not cover.
func uncoveredScopes(ctx context.Context, q database.Reader, model string) ([]uncoveredScope, error) {
	return database.All(ctx, q, func(r database.Row) (uncoveredScope, error) {
		var u uncoveredScope
		err := r.Scan(&u.account, &u.scope, &u.entries)
		return u, err
	}, `SELECT s.account_id, s.number,
		 (SELECT count(*) FROM knowledge_entries e WHERE e.scope = s.number AND e.seq > COALESCE(c.through_seq, 0))
		 FROM knowledge_scopes s LEFT JOIN knowledge_coverage c ON c.scope = s.number AND c.model = $1
		 WHERE s.last_seq > COALESCE(c.through_seq, 0) ORDER BY s.number`, model)
}

// embedMissing embeds the entries of a space that have no vector yet. onBatch, which
// may be nil, is called with the size of each batch.
func (s *Service) embedMissing(ctx context.Context, e embed.Embedder, space vectorSpace, onBatch func(n int)) error {
	if space.scope == 0 {
		return nil
	}
	for {
		covered, err := coverage(ctx, s.db, space)
		if err != nil {
			return fmt.Errorf("read the coverage of %s: %w", space.model, err)
		}
		last, err := lastSeq(ctx, s.db, space.account, space.scope)
		if err != nil {
			return fmt.Errorf("read the last seq: %w", err)
		}
		if covered >= last {
			return nil
		}
		n, err := s.embedBatch(ctx, e, space, covered)
		if err != nil {
			return err
		}
		if onBatch != nil {
			onBatch(n)
		}
	}
}

// embedBatch embeds the next entries after covered and raises the coverage.
func (s *Service) embedBatch(ctx context.Context, e embed.Embedder, space vectorSpace, covered int64) (int, error) {
	entries, err := database.AllReadable(ctx, s.db, scanEntry, damaged,
		`SELECT `+entryColumns+` FROM knowledge_entries
		 WHERE account_id = $1 AND scope = $2 AND seq > $3 ORDER BY seq LIMIT $4`,
		space.account, space.scope, covered, embedBatchSize)
	if err != nil {
		return 0, fmt.Errorf("read entries to embed: %w", err)
	}
	texts := make([]string, len(entries))
	for i, entry := range entries {
		texts[i] = entry.Text
	}
	vectors, err := embedTexts(ctx, e, texts)
	if err != nil {
		return 0, err
	}
	err = s.db.Tx(ctx, "knowledge.embed_batch", func(ctx context.Context, tx *database.Tx) error {
		if err := insertVectors(ctx, tx, space, entries, vectors); err != nil {
			return err
		}
		current, err := coverage(ctx, tx, space)
		if err != nil {
			return err
		}
		through, err := coverageAfter(ctx, tx, space, entries)
		if err != nil {
			return err
		}
		return setCoverage(ctx, tx, space, max(current, through))
	})
	return len(entries), err
}

// coverageAfter returns the coverage once these consecutive entries have vectors.
// After the last entry of the scope it is the last seq ever assigned.
func coverageAfter(ctx context.Context, tx *database.Tx, space vectorSpace, entries []Entry) (int64, error) {
	if len(entries) == embedBatchSize {
		return entries[len(entries)-1].seq, nil
	}
	var from int64
	if len(entries) > 0 {
		from = entries[len(entries)-1].seq
	}
	covered, err := coverage(ctx, tx, space)
	if err != nil {
		return 0, err
	}
	from = max(from, covered)
	next, err := database.One(ctx, tx, database.Scalar[*int64],
		`SELECT min(seq) FROM knowledge_entries WHERE account_id = $1 AND scope = $2 AND seq > $3`,
		space.account, space.scope, from)
	if err != nil {
		return 0, err
	}
	if next != nil {
		return *next - 1, nil
	}
	return lastSeq(ctx, tx, space.account, space.scope)
}

// embedTexts returns a vector of length 1 for each text. Faults of the embedder are
// returned as they are; other errors of it become Upstream.
func embedTexts(ctx context.Context, e embed.Embedder, texts []string) ([][]float32, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	vectors, err := e.Embed(ctx, texts)
	var f *fault.Fault
	switch {
	case errors.As(err, &f), err != nil && ctx.Err() != nil:
		return nil, err
	case err != nil:
		return nil, fault.New(fault.Upstream, "The embedding model %s failed. Try again; if it keeps failing, contact the operator.", e.Name()).Because(err)
	case len(vectors) != len(texts):
		return nil, fmt.Errorf("%s returned %d vectors for %d texts", e.Name(), len(vectors), len(texts))
	}
	for i, v := range vectors {
		if len(v) != e.Dimension() {
			return nil, fmt.Errorf("%s returned a vector of %d dimensions, want %d", e.Name(), len(v), e.Dimension())
		}
		if !index.Normalize(v) {
			return nil, fault.New(fault.Upstream, "The embedding model %s returned an empty vector for text %d. Rephrase that text.", e.Name(), i)
		}
	}
	return vectors, nil
}
