package client

import (
	"context"
	"iter"
)

// All yields the rows of every page of a list that is paged by a cursor. fetch returns the
// page at an offset, and the first one at the offset "".
//
//	for v, err := range client.All(func(offset string) (client.CursorList[client.DocumentVersion], error) {
//		return c.RuleVersions(ctx, agent, "refunds", client.VersionsQuery{Offset: offset})
//	}) {
func All[T any](fetch func(offset string) (CursorList[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for offset := ""; ; {
			page, err := fetch(offset)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, row := range page.Data {
				if !yield(row, nil) {
					return
				}
			}
			if !page.Pagination.HasMore || page.Pagination.NextOffset == nil {
				return
			}
			offset = *page.Pagination.NextOffset
		}
	}
}

// allByNumber is All for a list whose offset counts rows. It begins at an offset. Rows that are
// added meanwhile move the others: one can come twice.
func allByNumber[T any](offset int, fetch func(offset int) (List[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			page, err := fetch(offset)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, row := range page.Data {
				if !yield(row, nil) {
					return
				}
			}
			if !page.Pagination.HasMore || len(page.Data) == 0 {
				return
			}
			offset += len(page.Data)
		}
	}
}

// pageSize is the size of the pages of AllAgents, whose default is all agents at once.
const pageSize = 500

// AllAgents yields the agents that q selects, newest first, from q.Offset on.
func (c *Client) AllAgents(ctx context.Context, q AgentQuery) iter.Seq2[AgentSummary, error] {
	if q.Limit == 0 {
		q.Limit = pageSize
	}
	return allByNumber(q.Offset, func(offset int) (List[AgentSummary], error) {
		q.Offset = offset
		return c.ListAgents(ctx, q)
	})
}

// AllSessions yields the sessions of an agent that q selects, newest first, from q.Offset on.
func (c *Client) AllSessions(ctx context.Context, agentID string, q SessionQuery) iter.Seq2[ChatSession, error] {
	return allByNumber(q.Offset, func(offset int) (List[ChatSession], error) {
		q.Offset = offset
		return c.SessionPage(ctx, agentID, q)
	})
}

// AllTurns yields the turns of an agent that q selects, newest first, from q.Offset on.
func (c *Client) AllTurns(ctx context.Context, agentID string, q TurnQuery) iter.Seq2[ChatTurn, error] {
	return allByNumber(q.Offset, func(offset int) (List[ChatTurn], error) {
		q.Offset = offset
		return c.TurnPage(ctx, agentID, q)
	})
}

// AllKeys yields the keys of the account, newest first, with the revoked ones.
func (c *Client) AllKeys(ctx context.Context) iter.Seq2[Key, error] {
	return allByNumber(0, func(offset int) (List[Key], error) { return c.ListKeys(ctx, 0, offset) })
}

// AllSkills yields the skills of the marketplace that q selects, from the page q.Page on.
func (c *Client) AllSkills(ctx context.Context, q SkillQuery) iter.Seq2[Skill, error] {
	q.Page = max(q.Page, 1)
	return allByNumber(0, func(offset int) (List[Skill], error) {
		page, err := c.ListSkills(ctx, q)
		q.Page++
		return page, err
	})
}

// AllKnowledge yields the entries of a knowledge base that q selects, in the order in which
// they were stored, from q.Offset on.
func (c *Client) AllKnowledge(ctx context.Context, t KnowledgeTarget, q KnowledgeQuery) iter.Seq2[KnowledgeEntry, error] {
	return allFrom(q.Offset, func(offset string) (CursorList[KnowledgeEntry], error) {
		q.Offset = offset
		return c.Knowledge(ctx, t, q)
	})
}

// AllAudit yields the events of the audit log that q selects, newest first, from q.Offset on.
func (c *Client) AllAudit(ctx context.Context, q AuditQuery) iter.Seq2[AuditEvent, error] {
	return allFrom(q.Offset, func(offset string) (CursorList[AuditEvent], error) {
		q.Offset = offset
		return c.Audit(ctx, q)
	})
}

// AllUsage yields what the account has used, by the groups of q, from q.Offset on.
func (c *Client) AllUsage(ctx context.Context, q UsageQuery) iter.Seq2[Usage, error] {
	return allFrom(q.Offset, func(offset string) (CursorList[Usage], error) {
		q.Offset = offset
		return c.Usage(ctx, q)
	})
}

// allFrom is All with an offset to begin at.
func allFrom[T any](first string, fetch func(offset string) (CursorList[T], error)) iter.Seq2[T, error] {
	return All(func(offset string) (CursorList[T], error) {
		if offset == "" {
			offset = first
		}
		return fetch(offset)
	})
}
