package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"agento.host/agento/client"
)

type widgetsCommand struct {
	List         widgetsList         `cmd:"" help:"List the chat widgets."`
	Create       widgetsCreate       `cmd:"" help:"Make a chat widget and print its signing secret, which is shown only once."`
	Get          widgetsGet          `cmd:"" help:"Show a chat widget, the tag for a website, and what it has used."`
	Update       widgetsUpdate       `cmd:"" help:"Change, enable or disable a chat widget."`
	Delete       widgetsDelete       `cmd:"" help:"Delete a chat widget. The conversations are kept."`
	Rotate       widgetsRotate       `cmd:"" help:"Give a chat widget another key, which the pages then need."`
	RotateSecret widgetsRotateSecret `cmd:"" help:"Give a chat widget another signing secret and print it. It is shown only once."`
}

// widgetArg is a chat widget of the server.
type widgetArg struct {
	remote
	Widget string `arg:"" help:"Id of the widget."`
}

// widgetLook is how a widget looks. Nil leaves a part as it is.
type widgetLook struct {
	Origin   []string `help:"Website whose pages may show it, such as https://www.example.com or https://*.example.com; repeat it for several. * means every one." placeholder:"ORIGIN"`
	Title    *string  `help:"Title of the chat; empty for the name of the widget."`
	Color    *string  `help:"Its main color, such as #2563eb."`
	Mode     *string  `help:"auto, light or dark."`
	Position *string  `help:"The corner in which it opens: right or left."`
	Greeting *string  `help:"What it says in an empty chat; empty for nothing."`

	DailyMessages *int64  `help:"How many messages it takes in a day. New widgets take 500."`
	DailyTokens   *string `help:"How many tokens its turns may use in a day, or none for no limit."`
}

func (l widgetLook) theme() *client.WidgetThemeRequest {
	if l.Title == nil && l.Color == nil && l.Mode == nil && l.Position == nil {
		return nil
	}
	t := &client.WidgetThemeRequest{Color: l.Color, Mode: l.Mode, Position: l.Position}
	if l.Title != nil {
		t.Title = optional(*l.Title)
	}
	return t
}

func (l widgetLook) greeting() (o client.Optional[string]) {
	if l.Greeting != nil {
		o = optional(*l.Greeting)
	}
	return o
}

func (l widgetLook) tokens() (o client.Optional[int64], err error) {
	switch {
	case l.DailyTokens == nil:
		return o, nil
	case *l.DailyTokens == "none":
		return client.Null[int64](), nil
	}
	n, err := strconv.ParseInt(*l.DailyTokens, 10, 64)
	if err != nil {
		return o, usageError("--daily-tokens must be a number, or none")
	}
	return client.Some(n), nil
}

type widgetsList struct{ remote }

// Run lists the widgets.
func (c widgetsList) Run(ctx context.Context, t *terminal) error {
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	var all []client.Widget
	for more := true; more; {
		page, err := api.ListWidgets(ctx, 100, len(all))
		if err != nil {
			return err
		}
		all = append(all, page.Data...)
		more = page.Pagination.HasMore && len(page.Data) > 0
	}
	if t.json {
		return t.printJSON(all)
	}
	rows := make([]map[string]any, len(all))
	for i, w := range all {
		rows[i] = map[string]any{"id": w.ID, "name": w.Name, "agent": w.AgentID, "state": widgetState(w), "today": w.Today.Messages}
	}
	return t.table(rows, "id", "name", "agent", "state", "today")
}

func widgetState(w client.Widget) string {
	switch {
	case !w.Enabled:
		return "disabled"
	case len(w.Origins) == 0:
		return "no website"
	}
	return "enabled"
}

type widgetsCreate struct {
	remote
	Agent string `arg:"" help:"Name, id or unique beginning of one of the agent that answers."`
	Name  string `arg:"" help:"Name of the widget."`
	widgetLook
}

// Run makes a widget. It prints the signing secret alone, and the rest beside it.
func (c widgetsCreate) Run(ctx context.Context, t *terminal) error {
	tokens, err := c.tokens()
	if err != nil {
		return err
	}
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	agent, err := findAgent(ctx, api, c.Agent)
	if err != nil {
		return err
	}
	w, err := api.CreateWidget(ctx, client.CreateWidgetRequest{
		Name: c.Name, AgentID: agent, Origins: c.Origin, Theme: c.theme(), Greeting: c.greeting(), DailyMessages: c.DailyMessages, DailyTokens: tokens,
	})
	if err != nil {
		return err
	}
	return printWidgetSecret(t, api, w)
}

// printWidgetSecret prints a signing secret alone to standard output, and the tag beside it.
func printWidgetSecret(t *terminal, api *client.Client, w client.WidgetSecret) error {
	if !t.json {
		if _, err := fmt.Fprintf(t.err, "Widget %s. Its tag for your pages:\n%s\nIts signing secret, for your backend alone, is shown only now:\n", w.ID, widgetTag(api, w.Widget)); err != nil {
			return err
		}
	}
	return t.print(w, w.Secret)
}

// widgetTag returns what a website includes.
func widgetTag(api *client.Client, w client.Widget) string {
	return fmt.Sprintf(`<script src="%s/widget.js" data-widget="%s" async></script>`, strings.TrimSuffix(api.URL, "/"), w.Key)
}

type widgetsGet struct{ widgetArg }

// Run shows a widget.
func (c widgetsGet) Run(ctx context.Context, t *terminal) error {
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	w, err := api.Widget(ctx, c.Widget)
	if err != nil {
		return err
	}
	tokens := "no limit"
	if w.DailyTokens != nil {
		tokens = strconv.FormatInt(*w.DailyTokens, 10)
	}
	err = t.describe(w, field{"name", w.Name}, field{"id", w.ID}, field{"agent", w.AgentID}, field{"state", widgetState(w.Widget)}, field{"websites", strings.Join(w.Origins, ", ")},
		field{"tag", widgetTag(api, w.Widget)}, field{"greeting", deref(w.Greeting)}, field{"messages a day", strconv.FormatInt(w.DailyMessages, 10)}, field{"tokens a day", tokens},
		field{"created", formatTime(w.CreatedAt.Time)}, field{"by", w.CreatedBy}, field{"changed", formatTime(w.UpdatedAt.Time)})
	if err != nil || t.json || len(w.Days) == 0 {
		return err
	}
	rows := make([]map[string]any, len(w.Days))
	for i, d := range w.Days {
		rows[i] = map[string]any{"day": d.Date, "messages": d.Messages, "tokens": d.Tokens}
	}
	return t.section("Use", rows, "day", "messages", "tokens")
}

type widgetsUpdate struct {
	widgetArg
	Name *string `help:"New name."`
	widgetLook
	NoOrigins bool `help:"Let no website show it."`
	Enable    bool `help:"Let it serve visitors." xor:"enabled"`
	Disable   bool `help:"Let it serve nobody. Its open streams end." xor:"enabled"`
}

// Run changes a widget.
func (c widgetsUpdate) Run(ctx context.Context, t *terminal) error {
	tokens, err := c.tokens()
	if err != nil {
		return err
	}
	in := client.UpdateWidgetRequest{Name: c.Name, Origins: c.Origin, Theme: c.theme(), Greeting: c.greeting(), DailyMessages: c.DailyMessages, DailyTokens: tokens}
	if c.NoOrigins {
		in.Origins = []string{}
	}
	if c.Enable || c.Disable {
		in.Enabled = &c.Enable
	}
	if in.Name == nil && in.Origins == nil && in.Theme == nil && !in.Greeting.Set && in.DailyMessages == nil && !in.DailyTokens.Set && in.Enabled == nil {
		return usageError("say what to change, such as --origin, --color, --daily-messages or --disable")
	}
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	w, err := api.UpdateWidget(ctx, c.Widget, in)
	if err != nil {
		return err
	}
	return t.print(w, "updated "+w.ID)
}

type widgetsDelete struct {
	widgetArg
	confirmation
}

// Run deletes a widget, after it has asked.
func (c widgetsDelete) Run(ctx context.Context, t *terminal) error {
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	if err := c.ask(t, fmt.Sprintf("Delete the chat widget %s? Pages that show it refuse their visitors.", c.Widget)); err != nil {
		return err
	}
	d, err := api.DeleteWidget(ctx, c.Widget)
	if err != nil {
		return err
	}
	return t.print(d, "deleted "+d.ID)
}

// widgetGrace is how long what a widget had stays valid.
type widgetGrace struct {
	Grace time.Duration `help:"How long the former one stays valid, at most 720h; 0 ends it now." default:"0"`
}

func (g widgetGrace) request() client.RotateWidgetRequest {
	seconds := int64(g.Grace / time.Second)
	return client.RotateWidgetRequest{GraceSeconds: &seconds}
}

type widgetsRotate struct {
	widgetArg
	widgetGrace
}

// Run gives a widget another key. It prints the key alone.
func (c widgetsRotate) Run(ctx context.Context, t *terminal) error {
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	w, err := api.RotateWidgetKey(ctx, c.Widget, c.request())
	if err != nil {
		return err
	}
	return t.print(w, w.Key)
}

type widgetsRotateSecret struct {
	widgetArg
	widgetGrace
}

// Run gives a widget another signing secret.
func (c widgetsRotateSecret) Run(ctx context.Context, t *terminal) error {
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	w, err := api.RotateWidgetSecret(ctx, c.Widget, c.request())
	if err != nil {
		return err
	}
	return printWidgetSecret(t, api, w)
}
