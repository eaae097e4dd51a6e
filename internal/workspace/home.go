package workspace

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"agento.host/agento/internal/database"
)

// Content is everything that an agent's workspace should hold now.
type Content struct {
	SoulMD, IdentityMD, WorkflowMD string
	Rules                          []Rule // by name

	// Gone names files that the home may hold and must not: deleted rules.
	Gone []string

	written []homeDocument
}

// Rule is one rule of a Content; its name has no .md.
type Rule struct{ Name, Content string }

// Files are the documents by their path in the workspace.
func (c Content) Files() map[string][]byte {
	files := map[string][]byte{
		string(Soul):     []byte(c.SoulMD),
		string(Identity): []byte(c.IdentityMD),
		string(Workflow): []byte(c.WorkflowMD),
	}
	for _, r := range c.Rules {
		files[rulesDir+"/"+r.Name+suffix] = []byte(r.Content)
	}
	return files
}

// Hash changes whenever a document does. It is a SHA-256 in hex.
func (c Content) Hash() string {
	h := sha256.New()
	for _, d := range c.written {
		_, _ = fmt.Fprintf(h, "%s %s\n", d.doc, d.hash) // a hash takes every write
	}
	return hex.EncodeToString(h.Sum(nil))
}

// homeDocument is what a home holds of a document, as far as is known.
type homeDocument struct {
	doc     Document
	version int64
	hash    string
}

// Content reads what an agent's workspace should hold. q may be a transaction.
func (s *Service) Content(ctx context.Context, q database.Querier, accountID, agentID string) (Content, error) {
	found, err := database.All(ctx, q, scanWhole,
		`SELECT `+columns+`, content`+of+` AND live AND (NOT deleted OR name IN (SELECT name FROM home_documents WHERE account_id = $1 AND agent_id = $2)) ORDER BY name`,
		accountID, agentID)
	if err != nil {
		return Content{}, fmt.Errorf("read the documents of agent %s: %w", agentID, err)
	}
	if len(found) == 0 {
		return Content{}, exist(ctx, q, accountID, agentID)
	}
	var c Content
	for _, v := range found {
		c.add(v)
	}
	return c, nil
}

func (c *Content) add(v Version) {
	if v.Deleted {
		c.Gone = append(c.Gone, string(v.Document))
		return
	}
	switch v.Document {
	case Soul:
		c.SoulMD = v.Content
	case Identity:
		c.IdentityMD = v.Content
	case Workflow:
		c.WorkflowMD = v.Content
	default:
		c.Rules = append(c.Rules, Rule{Name: v.Document.Rule(), Content: v.Content})
	}
	c.written = append(c.written, homeDocument{doc: v.Document, version: v.Number, hash: v.Hash})
}

// Delivered notes that an agent's home holds c: its files were written there and
// what is Gone was removed. Call Absorb before writing, so that no edit of the
// agent is written over.
func (s *Service) Delivered(ctx context.Context, tx *database.Tx, accountID, agentID string, c Content) error {
	if err := exist(ctx, tx, accountID, agentID); err != nil {
		return err
	}
	for _, d := range c.written {
		if err := note(ctx, tx, accountID, agentID, d); err != nil {
			return err
		}
	}
	for _, name := range c.Gone {
		_, err := database.Exec(ctx, tx, `DELETE FROM home_documents WHERE account_id = $1 AND agent_id = $2 AND name = $3`, accountID, agentID, name)
		if err != nil {
			return fmt.Errorf("note that %s is gone: %w", name, err)
		}
	}
	return nil
}

// Forget notes that nothing is known of an agent's home, because it was lost or
// put back from a copy. What Absorb then finds is compared with every version.
func (s *Service) Forget(ctx context.Context, tx *database.Tx, accountID, agentID string) error {
	_, err := database.Exec(ctx, tx, `DELETE FROM home_documents WHERE account_id = $1 AND agent_id = $2`, accountID, agentID)
	if err != nil {
		return fmt.Errorf("forget the home of agent %s: %w", agentID, err)
	}
	return nil
}

// Pending names the documents whose live version the home does not hold, by
// name; a deleted rule that it holds still is one.
func (s *Service) Pending(ctx context.Context, q database.Querier, accountID, agentID string) ([]Document, error) {
	return database.All(ctx, q, database.Scalar[Document],
		`SELECT d.name FROM documents d
		 LEFT JOIN home_documents h ON h.account_id = d.account_id AND h.agent_id = d.agent_id AND h.name = d.name
		 WHERE d.account_id = $1 AND d.agent_id = $2 AND d.live
		 AND ((NOT d.deleted AND (h.hash IS NULL OR h.hash <> d.hash)) OR (d.deleted AND h.name IS NOT NULL))
		 ORDER BY d.name`, accountID, agentID)
}

func note(ctx context.Context, tx *database.Tx, accountID, agentID string, d homeDocument) error {
	_, err := database.Exec(ctx, tx,
		`INSERT INTO home_documents (account_id, agent_id, name, version, hash) VALUES ($1, $2, $3, $4, $5)
		 ON CONFLICT (account_id, agent_id, name) DO UPDATE SET version = excluded.version, hash = excluded.hash`,
		accountID, agentID, d.doc, d.version, d.hash)
	if err != nil {
		return fmt.Errorf("note what the home holds of %s: %w", d.doc, err)
	}
	return nil
}

func homeDocuments(ctx context.Context, q database.Querier, accountID, agentID string) (map[Document]homeDocument, error) {
	all, err := database.All(ctx, q, func(r database.Row) (homeDocument, error) {
		var d homeDocument
		err := r.Scan(&d.doc, &d.version, &d.hash)
		return d, err
	}, `SELECT name, version, hash FROM home_documents WHERE account_id = $1 AND agent_id = $2`, accountID, agentID)
	if err != nil {
		return nil, fmt.Errorf("read what the home of agent %s holds: %w", agentID, err)
	}
	known := make(map[Document]homeDocument, len(all))
	for _, d := range all {
		known[d.doc] = d
	}
	return known, nil
}
