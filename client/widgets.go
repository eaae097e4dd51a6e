package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

// Widget is a chat widget: an agent on a website, without its signing secret.
type Widget struct {
	ID                  string      `json:"id" doc:"Id of the widget: the aud of the tokens that your backend signs." example:"widget_abc123"`
	Name                string      `json:"name" doc:"Name of the widget." example:"Support"`
	AgentID             string      `json:"agentId" doc:"Id of the agent that answers."`
	Key                 string      `json:"key" doc:"The widget key, wk_ and 32 hexadecimal digits. It is in the pages of your website, and no secret."`
	Origins             []string    `json:"origins" doc:"The websites whose pages may show the widget; empty: none may. A courtesy to browsers, and no security."`
	Theme               WidgetTheme `json:"theme" doc:"How the widget looks."`
	Greeting            *string     `json:"greeting" doc:"What the widget says in an empty chat; null: nothing."`
	DailyMessages       int64       `json:"dailyMessages" doc:"How many messages of visitors it takes in a day of UTC."`
	DailyTokens         *int64      `json:"dailyTokens" doc:"How many tokens its turns may use in a day of UTC; null: no limit."`
	Enabled             bool        `json:"enabled" doc:"Whether it serves visitors."`
	Today               WidgetDay   `json:"today" doc:"What it has used today."`
	PreviousKeyUntil    *Time       `json:"previousKeyUntil" doc:"When the key ends that it had before it was rotated; null: there is none, or it ended at once."`
	PreviousSecretUntil *Time       `json:"previousSecretUntil" doc:"When the signing secret ends that it had before it was rotated; null: there is none, or it ended at once."`
	CreatedBy           string      `json:"createdBy" doc:"Who has made it: the id of a key or a person, or operator."`
	CreatedAt           Time        `json:"createdAt" doc:"When it was made."`
	UpdatedAt           Time        `json:"updatedAt" doc:"When it was last changed."`
}

// WidgetDetails is a widget with what it has used.
type WidgetDetails struct {
	Widget
	Days []WidgetDay `json:"days" doc:"The last 90 days in which it was used, newest first."`
}

// WidgetSecret is a widget with its signing secret, which no other response has.
type WidgetSecret struct {
	Widget
	Secret string `json:"signingSecret" doc:"The signing secret, wks_ and 64 hexadecimal digits, for your backend alone. It is shown only now."`
}

// WidgetTheme is how a widget looks.
type WidgetTheme struct {
	Title    *string `json:"title" doc:"Title of the chat; null: the name of the widget."`
	Color    string  `json:"color" doc:"Its main color." example:"#2563eb"`
	Mode     string  `json:"mode" values:"auto,light,dark" doc:"auto: as the browser of the visitor prefers; light; dark."`
	Position string  `json:"position" values:"right,left" doc:"The corner of the page in which it opens: right or left."`
}

// WidgetDay is what a widget has used in a day.
type WidgetDay struct {
	Date     string `json:"date" doc:"The day, of UTC." example:"2026-02-10"`
	Messages int64  `json:"messages" doc:"Messages that visitors have sent."`
	Tokens   int64  `json:"tokens" doc:"Tokens of the turns that have ended."`
}

// WidgetThemeRequest sets how a widget looks; absent fields stay as they are.
type WidgetThemeRequest struct {
	Title    Optional[string] `json:"title,omitzero" absent:"keep the title" doc:"Title of the chat, or null for the name of the widget." bounds:"..60"`
	Color    *string          `json:"color,omitempty" absent:"keep the color, which is #2563eb at first" doc:"Its main color, as #rrggbb." example:"#2563eb"`
	Mode     *string          `json:"mode,omitempty" absent:"keep the mode, which is auto at first" values:"auto,light,dark" doc:"auto: as the browser of the visitor prefers; light; dark."`
	Position *string          `json:"position,omitempty" absent:"keep the position, which is right at first" values:"right,left" doc:"The corner of the page in which it opens: right or left."`
}

// CreateWidgetRequest makes a widget.
type CreateWidgetRequest struct {
	Name          string              `json:"name" doc:"Name of the widget." bounds:"1..100"`
	AgentID       string              `json:"agentId" doc:"Id of the agent that answers."`
	Origins       []string            `json:"origins,omitempty" doc:"The websites whose pages may show it, such as https://www.example.com or https://*.example.com; * means every one. Without any, none may." bounds:"..20"`
	Theme         *WidgetThemeRequest `json:"theme,omitempty" doc:"How it looks."`
	Greeting      Optional[string]    `json:"greeting,omitzero" absent:"say nothing in an empty chat" doc:"What it says in an empty chat, or null for nothing." bounds:"..500"`
	DailyMessages *int64              `json:"dailyMessages,omitempty" doc:"How many messages of visitors it takes in a day of UTC. Default: 500." bounds:"1..1000000"`
	DailyTokens   Optional[int64]     `json:"dailyTokens,omitzero" doc:"How many tokens its turns may use in a day of UTC, or null for no limit, which is the default."`
}

// UpdateWidgetRequest changes a widget; absent fields stay as they are.
type UpdateWidgetRequest struct {
	Name          *string             `json:"name,omitempty" doc:"New name." bounds:"..100"`
	Origins       []string            `json:"origins,omitzero" doc:"New websites, in place of those that it has; an empty list means that none may show it." bounds:"..20"`
	Theme         *WidgetThemeRequest `json:"theme,omitempty" doc:"How it looks."`
	Greeting      Optional[string]    `json:"greeting,omitzero" absent:"keep the greeting" doc:"What it says in an empty chat, or null for nothing." bounds:"..500"`
	DailyMessages *int64              `json:"dailyMessages,omitempty" doc:"New limit of messages in a day of UTC." bounds:"1..1000000"`
	DailyTokens   Optional[int64]     `json:"dailyTokens,omitzero" doc:"New limit of tokens in a day of UTC, or null for none."`
	Enabled       *bool               `json:"enabled,omitempty" doc:"Whether it serves visitors. Its open streams end within three seconds when it does not."`
}

// RotateWidgetRequest gives a widget another key or signing secret.
type RotateWidgetRequest struct {
	GraceSeconds *int64 `json:"graceSeconds,omitempty" doc:"How long the former one stays valid: 0 to 2592000. Default: 0, it ends at once." bounds:"0..2592000"`
}

// DeletedWidget is the result of DeleteWidget.
type DeletedWidget struct {
	ID      string `json:"id" doc:"Id of the widget."`
	Deleted bool   `json:"deleted" doc:"True."`
}

// ListWidgets returns a page of the account's chat widgets, newest first. A limit of 0 is the
// server's default.
func (c *Client) ListWidgets(ctx context.Context, limit, offset int) (List[Widget], error) {
	v := url.Values{"offset": {strconv.Itoa(offset)}}
	if limit > 0 {
		v.Set("limit", strconv.Itoa(limit))
	}
	return call[List[Widget]](ctx, c, http.MethodGet, "/v1/widgets?"+v.Encode(), nil)
}

// Widget returns a chat widget with what it has used.
func (c *Client) Widget(ctx context.Context, id string) (WidgetDetails, error) {
	return data[WidgetDetails](ctx, c, http.MethodGet, widgetPath(id), nil)
}

// CreateWidget makes a chat widget. Only its answer has the signing secret.
func (c *Client) CreateWidget(ctx context.Context, in CreateWidgetRequest) (WidgetSecret, error) {
	return data[WidgetSecret](ctx, c, http.MethodPost, "/v1/widgets", in)
}

// UpdateWidget changes a chat widget. Origins that are not nil replace those that it has.
func (c *Client) UpdateWidget(ctx context.Context, id string, in UpdateWidgetRequest) (Widget, error) {
	return data[Widget](ctx, c, http.MethodPatch, widgetPath(id), in)
}

// DeleteWidget deletes a chat widget. The conversations stay.
func (c *Client) DeleteWidget(ctx context.Context, id string) (DeletedWidget, error) {
	return data[DeletedWidget](ctx, c, http.MethodDelete, widgetPath(id), nil)
}

// RotateWidgetKey gives a chat widget another key, which its pages then need.
func (c *Client) RotateWidgetKey(ctx context.Context, id string, in RotateWidgetRequest) (Widget, error) {
	return data[Widget](ctx, c, http.MethodPost, widgetPath(id)+"/rotate", in)
}

// RotateWidgetSecret gives a chat widget another signing secret. Only its answer has it.
func (c *Client) RotateWidgetSecret(ctx context.Context, id string, in RotateWidgetRequest) (WidgetSecret, error) {
	return data[WidgetSecret](ctx, c, http.MethodPost, widgetPath(id)+"/secret/rotate", in)
}

func widgetPath(id string) string { return "/v1/widgets/" + url.PathEscape(id) }
