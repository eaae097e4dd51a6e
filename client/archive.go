package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// archiveType is the media type of an archive.
const archiveType = "application/gzip"

// ImportedAgent is an agent that was imported. It is stopped, and has no secrets.
type ImportedAgent struct {
	ID        string      `json:"id" doc:"Id of the new agent, a UUID."`
	Name      string      `json:"name" doc:"Display name."`
	Status    AgentStatus `json:"status" doc:"stopped."`
	Region    string      `json:"region" doc:"Region of the servers that the agent may run on." example:"eu"`
	CreatedAt Time        `json:"createdAt" doc:"When the agent was imported."`

	NeedsKey bool            `json:"needsKey" doc:"true: an archive holds no secrets. Set a key for the model that the agent calls before you start it."`
	BaseURL  *string         `json:"baseUrl" doc:"Where the archive makes the agent send its model calls, with the key that you set. Null: to its provider."`
	Secrets  []string        `json:"secrets" doc:"Names of the secrets that the exported agent had."`
	Imported ArchiveContents `json:"imported" doc:"How much of each kind was imported."`
}

// ArchiveContents is how much of each kind was imported.
type ArchiveContents struct {
	Documents int `json:"documents" doc:"Versions of documents."`
	Skills    int `json:"skills" doc:"Skills that are installed."`
	Knowledge int `json:"knowledge" doc:"Texts of knowledge; one of several sources counts for each."`
	Sessions  int `json:"sessions" doc:"Sessions of chats and channels."`
	Messages  int `json:"messages" doc:"Messages of the sessions."`
}

// ArchiveQuery says what of an agent is exported or imported.
type ArchiveQuery struct {
	Without []string // skills, knowledge or sessions
	Name    string   // of the imported agent; empty: the one in the archive
}

func (q ArchiveQuery) encode() string {
	values := url.Values{}
	if len(q.Without) > 0 {
		values.Set("without", strings.Join(q.Without, ","))
	}
	if q.Name != "" {
		values.Set("name", q.Name)
	}
	if len(values) == 0 {
		return ""
	}
	return "?" + values.Encode()
}

// ExportAgent writes an agent's archive to w. An archive that is cut is refused by
// ImportAgent.
func (c *Client) ExportAgent(ctx context.Context, id string, q ArchiveQuery, w io.Writer) error {
	res, err := c.do(ctx, http.MethodGet, agentPath(id)+"/export"+q.encode(), nil)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	_, err = io.Copy(w, res.Body)
	return err
}

// ImportAgent makes an agent of an archive.
func (c *Client) ImportAgent(ctx context.Context, archive []byte, q ArchiveQuery) (ImportedAgent, error) {
	return data[ImportedAgent](ctx, c, http.MethodPost, "/v1/agents/import"+q.encode(), file{archiveType, archive})
}
