package openaiapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/rest"
)

// completionRequest is what is read of the body of a chat completion. Other parameters mean
// nothing to an agent.
type completionRequest struct {
	Model         string          `json:"model"`
	Messages      []message       `json:"messages"`
	Stream        *bool           `json:"stream"`
	StreamOptions *streamOptions  `json:"stream_options"`
	N             *int            `json:"n"`
	User          *string         `json:"user"`
	Metadata      map[string]any  `json:"metadata"`
	Tools         json.RawMessage `json:"tools"`
	Functions     json.RawMessage `json:"functions"`
}

type streamOptions struct {
	IncludeUsage *bool `json:"include_usage"`
}

type message struct {
	Role      string          `json:"role"`
	Content   json.RawMessage `json:"content"` // a text, null, or parts
	ToolCalls json.RawMessage `json:"tool_calls"`
}

// part is an element of a content. Other fields of its types are ignored.
type part struct {
	Type     string          `json:"type"`
	Text     string          `json:"text"`
	Refusal  string          `json:"refusal"`
	ImageURL json.RawMessage `json:"image_url"`
}

// imageMark stands in a text where the message has an image.
const imageMark = "[image]"

func isTrue(b *bool) bool { return b != nil && *b }

// isEmpty reports whether a value is missing, null or an empty list.
func isEmpty(raw json.RawMessage) bool {
	var list []json.RawMessage
	return len(raw) == 0 || json.Unmarshal(raw, &list) == nil && len(list) == 0
}

// readRequest returns the body of a chat completion and its prompt. Faults: Invalid.
func readRequest(r *http.Request, body []byte) (in completionRequest, p chat.Prompt, err error) {
	if err := rest.DecodeJSON(body, &in); err != nil {
		return in, p, err
	}
	fields := fault.Fields{}
	if in.Model == "" {
		fields.Add(modelParam, "must be the id or the name of an agent: GET %smodels lists them", prefix)
	}
	if !isEmpty(in.Tools) || !isEmpty(in.Functions) {
		fields.Add("tools", "must be empty: an agent uses tools of its own and calls none of the client. Give it skills, or a conversation without tools")
	}
	if in.N != nil && *in.N > 1 {
		fields.Add("n", "must be 1: an agent gives one answer")
	}
	if p, err = newPrompt(in.Messages); err != nil {
		fields.Add("messages", "%v", err)
	}
	if fields.Err() != nil {
		return in, p, fields.Err()
	}
	p.Conversation = conversation(r.Header, in.Metadata)
	p.PeerID = r.Header.Get("X-OpenWebUI-User-Id")
	if in.User != nil && *in.User != "" {
		p.PeerID = *in.User
	}
	p.Request, p.IdempotencyKey = body, r.Header.Get("Idempotency-Key")
	if retries, err := strconv.Atoi(r.Header.Get("X-Stainless-Retry-Count")); err == nil && retries > 0 {
		p.Repeats = true
	}
	return in, p, nil
}

// conversation returns the client's name of the conversation, or "".
func conversation(h http.Header, metadata map[string]any) string {
	for _, name := range []string{"X-Agento-Conversation", "X-OpenWebUI-Chat-Id", "X-Conversation-Id"} {
		if v := h.Get(name); v != "" {
			return v
		}
	}
	v, _ := metadata["conversation_id"].(string)
	return v
}

// newPrompt returns a prompt with the messages of a request. The error completes a sentence that
// begins with "messages".
func newPrompt(messages []message) (chat.Prompt, error) {
	var p chat.Prompt
	var system []string
	var said []chat.Said
	for i, m := range messages {
		text, images, err := m.read()
		if err != nil {
			return p, fmt.Errorf("must be messages that an agent can read: number %d %w", i+1, err)
		}
		switch {
		case m.Role == "system" || m.Role == "developer":
			if text != "" {
				system = append(system, text)
			}
		case text != "" || m.Role == "user":
			said = append(said, chat.Said{Role: m.Role, Text: text, Images: images})
		}
	}
	if len(said) == 0 || said[len(said)-1].Role != "user" {
		return p, fmt.Errorf("must end with a message of the role user")
	}
	last := said[len(said)-1]
	p.System, p.Past, p.Message, p.Images = strings.Join(system, "\n\n"), said[:len(said)-1], last.Text, last.Images
	return p, nil
}

// read returns the text and the images of a message. The error completes a sentence that begins
// with the message.
func (m message) read() (text string, images []string, err error) {
	switch m.Role {
	case "system", "developer", "user", "assistant":
	case "tool", "function":
		return "", nil, fmt.Errorf("is the result of a tool of the client, and an agent calls none")
	default:
		return "", nil, fmt.Errorf("has the role %q: use system, developer, user or assistant", m.Role)
	}
	if !isEmpty(m.ToolCalls) {
		return "", nil, fmt.Errorf("has tool_calls, and an agent calls no tool of the client")
	}
	content := bytes.TrimSpace(m.Content)
	if len(content) == 0 || string(content) == "null" {
		return "", nil, nil
	}
	if json.Unmarshal(content, &text) == nil {
		return text, nil, nil
	}
	var parts []part
	if json.Unmarshal(content, &parts) != nil {
		return "", nil, fmt.Errorf("has a content that is neither a text nor a list of parts")
	}
	var texts []string
	for i, p := range parts {
		switch {
		case p.Type == "text":
			texts = append(texts, p.Text)
		case p.Type == "refusal" && m.Role == "assistant":
			texts = append(texts, p.Refusal)
		case p.Type == "image_url" && m.Role == "user":
			url, err := p.image()
			if err != nil {
				return "", nil, fmt.Errorf("has an image, in part %d, that %w", i+1, err)
			}
			texts, images = append(texts, imageMark), append(images, url)
		default:
			return "", nil, fmt.Errorf("has a part %d of the type %q: an agent takes text, and image_url in messages of the user", i+1, p.Type)
		}
	}
	return strings.Join(texts, "\n"), images, nil
}

// imageTypes are the types of images that every gateway takes.
var imageTypes = []string{"image/png", "image/jpeg", "image/gif", "image/webp"}

// image returns the image of a part as a data URL. The error completes a sentence that begins
// with the image.
func (p part) image() (string, error) {
	var object struct {
		URL string `json:"url"`
	}
	url := ""
	if json.Unmarshal(p.ImageURL, &url) != nil && json.Unmarshal(p.ImageURL, &object) == nil {
		url = object.URL
	}
	head, data, ok := strings.Cut(url, ",")
	kind, isBase64 := strings.CutSuffix(strings.TrimPrefix(head, "data:"), ";base64")
	switch {
	case !strings.HasPrefix(head, "data:") || !ok || !isBase64:
		return "", fmt.Errorf("is not in the request: send it as a data URL, data:image/png;base64,…")
	case !slices.Contains(imageTypes, strings.ToLower(kind)):
		return "", fmt.Errorf("has the type %q: use one of %s", kind, strings.Join(imageTypes, ", "))
	case len(data) > base64.StdEncoding.EncodedLen(chat.MaxImageBytes):
		return "", fmt.Errorf("has more than %d bytes", chat.MaxImageBytes)
	}
	if decoded, err := base64.StdEncoding.DecodeString(data); err != nil || len(decoded) == 0 {
		return "", fmt.Errorf("is not valid base64")
	}
	return url, nil
}
