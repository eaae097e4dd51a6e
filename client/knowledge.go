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

// KnowledgeDetails is one entry with all of its sources.
type KnowledgeDetails struct {
	KnowledgeEntry
	Sources []KnowledgeSourceOf `json:"sources" doc:"Every source that has the text, the first one first."`
}

// KnowledgeSourceOf is a source of an entry.
type KnowledgeSourceOf struct {
	Source   string         `json:"source" doc:"Where the text is from."`
	Metadata map[string]any `json:"metadata,omitempty" doc:"Metadata that this source gave the text."`
}

// KnowledgeChange changes an entry; absent fields stay as they are.
type KnowledgeChange struct {
	Text     *string         `json:"text,omitempty" doc:"Text of the entry, for all of its sources." bounds:"1..4000"`
	Source   *string         `json:"source,omitempty" doc:"Its first source." bounds:"1..1000"`
	Metadata *map[string]any `json:"metadata,omitempty" doc:"Metadata of the first source; {} removes them. At most 16 KiB of JSON."`
}

// KnowledgeBase is the knowledge base of an agent or a swarm, and how much it has.
type KnowledgeBase struct {
	AgentID *string `json:"agentId,omitempty" doc:"Agent whose own knowledge it is."`
	SwarmID *string `json:"swarmId,omitempty" doc:"Swarm whose knowledge it is."`
	Entries int     `json:"entries" doc:"Number of entries."`
	Bytes   int64   `json:"bytes" doc:"Bytes of texts and metadata."`
}

// KnowledgeSource is a source of a knowledge base.
type KnowledgeSource struct {
	Source  string `json:"source" doc:"Where texts are from." example:"docs/intro.md"`
	Entries int    `json:"entries" doc:"Number of entries that it has."`
}

// KnowledgeFile is the result of IngestFile.
type KnowledgeFile struct {
	FileName string               `json:"filename" doc:"Name of the file."`
	Source   string               `json:"source" doc:"Source of the entries."`
	Format   string               `json:"format" doc:"Format that the file was read in." values:"text,markdown,html,pdf,docx,csv,json"`
	Stored   int                  `json:"stored" doc:"Number of chunks that were stored."`
	Skipped  int                  `json:"skipped" doc:"Number of chunks that the knowledge base had already."`
	Total    int                  `json:"total" doc:"Number of chunks that the file has."`
	Deleted  *int                 `json:"deleted,omitempty" doc:"Number of entries that replaceSource deleted or left to other sources. Only present with replaceSource."`
	DryRun   bool                 `json:"dryRun,omitempty" doc:"True if the request changed nothing."`
	Chunks   []KnowledgeFileChunk `json:"chunks" doc:"One for each chunk, in order."`
}

// KnowledgeFileChunk is a chunk of a file, and what became of it.
type KnowledgeFileChunk struct {
	KnowledgeOutcome
	Text          *string        `json:"text,omitempty" doc:"Text of the chunk. Only in a dry run."`
	Metadata      map[string]any `json:"metadata,omitempty" doc:"Where in the file it is: heading, page, row or part. Only in a dry run."`
	MatchedText   *string        `json:"matchedText,omitempty" doc:"Text of the entry or chunk that it duplicates. Only in a dry run."`
	MatchedSource *string        `json:"matchedSource,omitempty" doc:"Source of that entry or chunk. Only in a dry run."`
}

// FileIngest says how a file is ingested.
type FileIngest struct {
	FileName      string // its extension says its format
	Format        string // empty: by the name
	Source        string // of the entries; empty: the name
	ReplaceSource bool   // replace what the source has
	DryRun        bool   // change nothing, and return the chunks
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

// IngestFile reads a file and stores its chunks: sections, pages, rows or paragraphs.
func (c *Client) IngestFile(ctx context.Context, t KnowledgeTarget, content []byte, in FileIngest) (KnowledgeFile, error) {
	q := t.query()
	set(q, "filename", in.FileName)
	set(q, "format", in.Format)
	set(q, "source", in.Source)
	setTrue(q, "replaceSource", in.ReplaceSource)
	setTrue(q, "dryRun", in.DryRun)
	return data[KnowledgeFile](ctx, c, http.MethodPost, knowledgePath("/files", q), file{"application/octet-stream", content})
}

// KnowledgeBases returns the knowledge bases of the account that have entries.
func (c *Client) KnowledgeBases(ctx context.Context) ([]KnowledgeBase, error) {
	return data[[]KnowledgeBase](ctx, c, http.MethodGet, knowledgePath("/bases", nil), nil)
}

// KnowledgeSources returns one page of the sources of a knowledge base, by name.
func (c *Client) KnowledgeSources(ctx context.Context, t KnowledgeTarget, in KnowledgeQuery) (CursorList[KnowledgeSource], error) {
	q := t.query()
	set(q, "offset", in.Offset)
	if in.Limit != 0 {
		q.Set("limit", strconv.Itoa(in.Limit))
	}
	return call[CursorList[KnowledgeSource]](ctx, c, http.MethodGet, knowledgePath("/sources", q), nil)
}

// KnowledgeEntry returns an entry with all of its sources.
func (c *Client) KnowledgeEntry(ctx context.Context, t KnowledgeTarget, id string) (KnowledgeDetails, error) {
	return data[KnowledgeDetails](ctx, c, http.MethodGet, knowledgePath("/"+url.PathEscape(id), t.query()), nil)
}

// EditKnowledge changes an entry.
func (c *Client) EditKnowledge(ctx context.Context, t KnowledgeTarget, id string, in KnowledgeChange) (KnowledgeDetails, error) {
	return data[KnowledgeDetails](ctx, c, http.MethodPatch, knowledgePath("/"+url.PathEscape(id), t.query()), in)
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
