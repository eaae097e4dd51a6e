package knowledge

import (
	"context"
	"fmt"
	"strings"

	"agento.host/agento/internal/identity"
)

// The tool that agents search with, and how many passages it returns.
const (
	ToolName        = "knowledge_search"
	ToolDescription = "Search the knowledge base for passages about a question. Use it before answering anything about this company, its products, rules or customers. " +
		"Ask in full words. The answer lists passages with their sources; name the source of what you use."
	defaultToolResults = 5
	maxToolResults     = 20
)

// SearchTool returns the result of an agent's search as text: passages, each with its
// source. A limit of 0 means 5, and one above 20 means 20. Faults: as Search.
func (s *Service) SearchTool(ctx context.Context, account identity.AccountID, agent identity.AgentID, query string, limit int) (string, error) {
	if limit <= 0 {
		limit = defaultToolResults
	}
	results, err := s.Search(ctx, account, SearchRequest{Target: Target{AgentID: agent}, Query: query, Limit: min(limit, maxToolResults)})
	if err != nil {
		return "", err
	}
	if len(results) == 0 {
		return "The knowledge base has nothing on this.", nil
	}
	var b strings.Builder
	for i, r := range results {
		fmt.Fprintf(&b, "[%d] source: %s (found by %s, score %.2f)\n%s\n\n", i+1, singleLine(r.Source), r.Reason, r.Score, strings.TrimSpace(r.Text))
	}
	return strings.TrimSpace(b.String()), nil
}

// singleLine replaces line breaks, so that a source cannot look like a passage.
func singleLine(s string) string { return strings.Join(strings.Fields(s), " ") }
