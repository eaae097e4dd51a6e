package knowledge

import (
	"context"
	"fmt"
	"strings"
)

// The tool that agents search with.
const (
	ToolName        = "knowledge_search"
	ToolDescription = "Search the knowledge base for passages about a question. Use it before answering anything about this company, its products, rules or customers. " +
		"Ask in full words. The answer lists passages with their sources; name the source of what you use."
	toolLimit = 5
	toolMost  = 20
)

// SearchTool answers an agent's search: passages in text, each with its source. A
// limit of 0 is 5, and more than 20 is 20. Faults are Search's.
func (s *Service) SearchTool(ctx context.Context, accountID, agentID, query string, limit int) (string, error) {
	if limit <= 0 {
		limit = toolLimit
	}
	found, err := s.Search(ctx, accountID, Search{Target: Target{AgentID: agentID}, Query: query, Limit: min(limit, toolMost)})
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "The knowledge base has nothing on this.", nil
	}
	var b strings.Builder
	for i, f := range found {
		fmt.Fprintf(&b, "[%d] source: %s (found by %s, score %.2f)\n%s\n\n", i+1, oneLine(f.Source), f.Reason, f.Score, strings.TrimSpace(f.Text))
	}
	return strings.TrimSpace(b.String()), nil
}

// oneLine keeps a source from looking like a passage.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
