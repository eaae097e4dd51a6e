package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

// KnowledgeChunk is a text to ingest.
type KnowledgeChunk struct {
	Text     string         `json:"text" doc:"Text of the chunk." bounds:"1..4000"`
	Source   string         `json:"source" doc:"Where the text is from, such as a file name." bounds:"1..1000"`
	Metadata map[string]any `json:"metadata,omitempty" doc:"Key-value metadata, such as {\"type\": \"faq\"}. At most 16 KiB of JSON."`
}

// KnowledgeIngest stores chunks. Set either SwarmID or AgentID.
type KnowledgeIngest struct {
	SwarmID       string           `json:"swarmId,omitempty" absent:"name an agent instead" doc:"Target swarm. Provide either swarmId or agentId."`
	AgentID       string           `json:"agentId,omitempty" absent:"name a swarm instead" doc:"Target agent. If the agent belongs to a swarm, entries are stored in the swarm."`
	Chunks        []KnowledgeChunk `json:"chunks" doc:"Texts to ingest." bounds:"1..100"`
	ReplaceSource bool             `json:"replaceSource,omitempty" doc:"Replace the contents of every source that the chunks name. Other entries of these sources are deleted, or left to the other sources that have them."`
}

// KnowledgeIngested is the result of IngestKnowledge.
type KnowledgeIngested struct {
	Stored  int                `json:"stored" doc:"Number of chunks that were stored."`
	Skipped int                `json:"skipped" doc:"Number of chunks that the knowledge base had already."`
	Total   int                `json:"total" doc:"Number of chunks of the request."`
	Deleted *int               `json:"deleted,omitempty" doc:"Number of entries that replaceSource deleted or left to other sources. Only present with replaceSource."`
	DryRun  bool               `json:"dryRun,omitempty" doc:"True if the request changed nothing."`
	Details []KnowledgeOutcome `json:"details,omitempty" doc:"One entry per chunk, in order. Only with explain=true."`
}

// KnowledgeOutcome is the result of one chunk.
type KnowledgeOutcome struct {
	Index        int      `json:"index" doc:"Index of the chunk in the request, starting at 0."`
	Status       string   `json:"status" enum:"stored,skipped" doc:"Whether the chunk was stored, or skipped as a duplicate."`
	ID           *string  `json:"id,omitempty" doc:"Id of the stored entry. Not present in a dry run."`
	MatchedID    *string  `json:"matchedId,omitempty" doc:"Id of the entry that this chunk duplicates."`
	MatchedIndex *int     `json:"matchedIndex,omitempty" doc:"Index of the earlier chunk of this request that this chunk duplicates."`
	Similarity   *float64 `json:"similarity,omitempty" doc:"Cosine similarity to the matched entry or chunk, from 0.95 to 1."`
	Reason       *string  `json:"reason,omitempty" doc:"Why the chunk was skipped: identical text, or the differences that do not count, such as white space."`
}

// KnowledgeEntry is one entry of a knowledge base.
type KnowledgeEntry struct {
	ID        string         `json:"id" doc:"Id of the entry, a UUID."`
	Text      string         `json:"text" doc:"Text of the entry."`
	Source    string         `json:"source" doc:"Where the text is from." example:"docs/intro.md"`
	Type      *string        `json:"type" doc:"The entry's metadata.type, if it has one."`
	Metadata  map[string]any `json:"metadata,omitempty" doc:"Metadata that the chunk was stored with."`
	CreatedAt Time           `json:"createdAt" doc:"When the entry was stored."`
	UpdatedAt Time           `json:"updatedAt" doc:"When its sources or metadata last changed."`
}

// KnowledgeFound is an entry that a search found.
type KnowledgeFound struct {
	KnowledgeEntry
	Score      float64  `json:"score" doc:"From 0 to 1. 1 means first by words and by meaning."`
	Reason     string   `json:"reason" enum:"text,vector,both" doc:"Which search found the entry: text, vector or both."`
	Similarity *float64 `json:"similarity,omitempty" doc:"Cosine similarity to the query, if the search by meaning found the entry."`
}

// KnowledgeDeleted is the result of DeleteKnowledge.
type KnowledgeDeleted struct {
	Deleted bool `json:"deleted" doc:"True."`
	Count   int  `json:"count" doc:"Number of deleted entries; of a source, the number that it had."`
}

// KnowledgeTarget names the agent or swarm whose knowledge a request is about.
type KnowledgeTarget struct{ AgentID, SwarmID string }

// IngestOptions are options of IngestKnowledge.
type IngestOptions struct {
	Explain bool // fill in Details
	DryRun  bool // change nothing
}

// KnowledgeQuery filters a list; a zero field does not filter.
type KnowledgeQuery struct {
	Source string
	Limit  int
	Offset string // NextOffset of the page before
}

// KnowledgeDeletion names what to delete: exactly one of Source, ID and All.
type KnowledgeDeletion struct {
	Source, ID string
	All        bool // also sends the confirmation
}

// IngestKnowledge stores chunks and skips duplicates.
func (c *Client) IngestKnowledge(ctx context.Context, in KnowledgeIngest, o IngestOptions) (KnowledgeIngested, error) {
	q := url.Values{}
	setTrue(q, "explain", o.Explain)
	setTrue(q, "dryRun", o.DryRun)
	return data[KnowledgeIngested](ctx, c, http.MethodPost, knowledgePath("/ingest", q), in)
}

// Knowledge returns one page of entries, in the order in which they were stored.
func (c *Client) Knowledge(ctx context.Context, t KnowledgeTarget, in KnowledgeQuery) (CursorList[KnowledgeEntry], error) {
	q := t.query()
	set(q, "source", in.Source)
	set(q, "offset", in.Offset)
	if in.Limit != 0 {
		q.Set("limit", strconv.Itoa(in.Limit))
	}
	return call[CursorList[KnowledgeEntry]](ctx, c, http.MethodGet, knowledgePath("", q), nil)
}

// SearchKnowledge returns the entries that match a question, best first. Limit 0 is
// the server's default.
func (c *Client) SearchKnowledge(ctx context.Context, t KnowledgeTarget, question string, limit int) ([]KnowledgeFound, error) {
	q := t.query()
	q.Set("q", question)
	if limit != 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return data[[]KnowledgeFound](ctx, c, http.MethodGet, knowledgePath("/search", q), nil)
}

// DeleteKnowledge deletes entries.
func (c *Client) DeleteKnowledge(ctx context.Context, t KnowledgeTarget, in KnowledgeDeletion) (KnowledgeDeleted, error) {
	q := t.query()
	set(q, "source", in.Source)
	set(q, "id", in.ID)
	setTrue(q, "all", in.All)
	setTrue(q, "confirm", in.All)
	return data[KnowledgeDeleted](ctx, c, http.MethodDelete, knowledgePath("", q), nil)
}

func (t KnowledgeTarget) query() url.Values {
	q := url.Values{}
	set(q, "agentId", t.AgentID)
	set(q, "swarmId", t.SwarmID)
	return q
}

func knowledgePath(rest string, q url.Values) string {
	path := "/v1/knowledge" + rest
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return path
}

func set(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

func setTrue(q url.Values, name string, value bool) {
	if value {
		q.Set(name, "true")
	}
}
