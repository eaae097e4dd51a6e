package workspace

import (
	"context"
	"fmt"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/identity"
)

// Content is everything that the workspace folder of an agent should hold now.
type Content struct {
	SoulMD, IdentityMD, WorkflowMD string
	Rules                          []Rule // by name

	// Gone lists the files of rules that the home may still hold although they are deleted
	// or were not accepted. They must be removed.
	Gone []string

	documents []homeDocument
}

// Rule is one rule of a Content. Its name has no .md.
type Rule struct{ Name, Content string }

// Files returns the documents by their path in the workspace folder.
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

// homeDocument is the version of a document that was last known to be in a home.
type homeDocument struct {
	doc     Document
	version int64
	hash    string
}

// Content returns what an agent's workspace folder should hold. Faults: NotFound.
func (s *Store) Content(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID) (Content, error) {
	found, err := database.AllReadable(ctx, q, scanContent, damaged,
		`SELECT `+selected+`, content`+fromDocuments+onlyCurrent+` AND (NOT deleted OR name IN (SELECT name FROM home_documents WHERE account_id = $1 AND agent_id = $2)) ORDER BY name`,
		account, agent)
	if err != nil {
		return Content{}, fmt.Errorf("read the documents of agent %s: %w", agent, err)
	}
	if len(found) == 0 {
		return Content{}, checkAgent(ctx, q, account, agent)
	}
	var c Content
	for _, v := range found {
		c.add(v)
	}
	unknown, err := database.All(ctx, q, database.Scalar[string], `SELECT h.name`+fromUnknown, account, agent)
	if err != nil {
		return Content{}, fmt.Errorf("read the documents of agent %s: %w", agent, err)
	}
	c.Gone = append(c.Gone, unknown...)
	return c, nil
}

// fromUnknown selects the rules in a home that never were current.
const fromUnknown = ` FROM home_documents h WHERE h.account_id = $1 AND h.agent_id = $2 AND NOT EXISTS (
	SELECT 1 FROM documents d WHERE d.account_id = h.account_id AND d.agent_id = h.agent_id AND d.name = h.name AND d.is_current)`

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
	c.documents = append(c.documents, homeDocument{doc: v.Document, version: v.Number, hash: v.Hash})
}

// MarkDelivered records that an agent's home holds c: its files were written and those
// in Gone were removed. Call Absorb before writing, so that no edit of the agent is
// overwritten. Faults: NotFound.
func (s *Store) MarkDelivered(ctx context.Context, tx *database.Tx, account identity.AccountID, agent identity.AgentID, c Content) error {
	if err := checkAgent(ctx, tx, account, agent); err != nil {
		return err
	}
	for _, d := range c.documents {
		if err := saveHomeDocument(ctx, tx, account, agent, d); err != nil {
			return err
		}
	}
	for _, name := range c.Gone {
		_, err := database.Exec(ctx, tx, `DELETE FROM home_documents WHERE account_id = $1 AND agent_id = $2 AND name = $3`, account, agent, name)
		if err != nil {
			return fmt.Errorf("record that %s was removed from the home: %w", name, err)
		}
	}
	return nil
}

// Pending lists the documents whose current version is not in the home, by name. They
// include rules that are still in the home although they are deleted or were not accepted.
func (s *Store) Pending(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID) ([]Document, error) {
	return database.All(ctx, q, database.Scalar[Document],
		`SELECT d.name FROM documents d
		 LEFT JOIN home_documents h ON h.account_id = d.account_id AND h.agent_id = d.agent_id AND h.name = d.name
		 WHERE d.account_id = $1 AND d.agent_id = $2 AND d.is_current
		 AND ((NOT d.deleted AND (h.hash IS NULL OR h.hash <> d.hash)) OR (d.deleted AND h.name IS NOT NULL))
		 UNION SELECT h.name`+fromUnknown+`
		 ORDER BY 1`, account, agent)
}

func saveHomeDocument(ctx context.Context, tx *database.Tx, account identity.AccountID, agent identity.AgentID, d homeDocument) error {
	_, err := database.Exec(ctx, tx,
		`INSERT INTO home_documents (account_id, agent_id, name, version, hash) VALUES ($1, $2, $3, $4, $5)
		 ON CONFLICT (account_id, agent_id, name) DO UPDATE SET version = excluded.version, hash = excluded.hash`,
		account, agent, d.doc, d.version, d.hash)
	if err != nil {
		return fmt.Errorf("record which version of %s the home holds: %w", d.doc, err)
	}
	return nil
}

func homeDocuments(ctx context.Context, q database.Reader, account identity.AccountID, agent identity.AgentID) (map[Document]homeDocument, error) {
	all, err := database.All(ctx, q, func(r database.Row) (homeDocument, error) {
		var d homeDocument
		err := r.Scan(&d.doc, &d.version, &d.hash)
		return d, err
	}, `SELECT name, version, hash FROM home_documents WHERE account_id = $1 AND agent_id = $2`, account, agent)
	if err != nil {
		return nil, fmt.Errorf("read what the home of agent %s holds: %w", agent, err)
	}
	documents := make(map[Document]homeDocument, len(all))
	for _, d := range all {
		documents[d.doc] = d
	}
	return documents, nil
}
