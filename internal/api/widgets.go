package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/budget"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/rest"
	"agento.host/agento/internal/vault"
	"agento.host/agento/internal/widget"
	"agento.host/agento/internal/widget/door"
)

// widgetDoor returns what the pages of websites may call.
func (s *Server) widgetDoor() rest.Foreign {
	return door.New(door.Settings{
		Widgets: s.widgets, Chat: s.chat, Draining: s.draining, Quiet: s.db.IsQuiet,
		Address: func(r *http.Request) netip.Addr { return s.clients.of(r) },
		Admit: func(ctx context.Context, r *http.Request, v widget.Visitor) error {
			return budget.Claim(ctx, "visitors "+widget.NetworkOf(s.clients.of(r)), string(v.Widget.AccountID))
		},
	})
}

// WidgetID is the part of a path that names a chat widget.
type WidgetID struct {
	ID identity.WidgetID `path:"id" doc:"Id of the chat widget." example:"widget_abc123"`
}

type listWidgetsInput struct {
	Limit  int `query:"limit" default:"50" minimum:"1" maximum:"100" doc:"Maximum number of widgets."`
	Offset int `query:"offset" minimum:"0" doc:"Number of widgets to skip."`
}

func (s *Server) listWidgets(ctx context.Context, who access.Principal, in *listWidgetsInput) (*listReply[client.Widget], error) {
	found, total, err := s.widgets.List(ctx, who.AccountID, in.Limit, in.Offset)
	if err != nil {
		return nil, err
	}
	rows := make([]client.Widget, len(found))
	for i, w := range found {
		rows[i] = widgetJSON(w)
	}
	return page(rows, total, in.Limit, in.Offset), nil
}

func (s *Server) getWidget(ctx context.Context, who access.Principal, in *WidgetID) (*reply[client.WidgetDetails], error) {
	w, err := s.widgets.Get(ctx, who.AccountID, in.ID)
	if err != nil {
		return nil, err
	}
	days, err := s.widgets.Days(ctx, who.AccountID, in.ID)
	if err != nil {
		return nil, err
	}
	out := client.WidgetDetails{Widget: widgetJSON(w), Days: make([]client.WidgetDay, len(days))}
	for i, d := range days {
		out.Days[i] = widgetDayJSON(d)
	}
	return one(out), nil
}

type createWidgetInput struct{ Body client.CreateWidgetRequest }

func (s *Server) createWidget(ctx context.Context, who access.Principal, in *createWidgetInput) (*reply[client.WidgetSecret], error) {
	b := in.Body
	n := widget.NewWidget{
		Name: b.Name, AgentID: identity.AgentID(b.AgentID), Origins: orEmpty(b.Origins), Theme: themeOf(widget.DefaultTheme(), b.Theme), Greeting: b.Greeting.Value,
		Limits: widget.Limits{Messages: widget.DefaultDailyMessages},
	}
	if b.DailyMessages != nil {
		n.Limits.Messages = *b.DailyMessages
	}
	tokens, err := dailyTokens(b.DailyTokens)
	if err != nil {
		return nil, err
	}
	if tokens != nil {
		n.Limits.Tokens = *tokens
	}
	w, secret, err := s.widgets.Create(ctx, who.Actor(), n)
	return widgetSecret(w, secret, err)
}

type updateWidgetInput struct {
	WidgetID
	Body client.UpdateWidgetRequest
}

func (s *Server) updateWidget(ctx context.Context, who access.Principal, in *updateWidgetInput) (*reply[client.Widget], error) {
	b := in.Body
	c := widget.Changes{Name: b.Name, Messages: b.DailyMessages, Enabled: b.Enabled}
	if b.Origins != nil {
		c.Origins = &b.Origins
	}
	if b.Greeting.Set {
		c.Greeting = &b.Greeting.Value
	}
	if b.Theme != nil {
		before, err := s.widgets.Get(ctx, who.AccountID, in.ID)
		if err != nil {
			return nil, err
		}
		theme := themeOf(before.Theme, b.Theme)
		c.Theme = &theme
	}
	var err error
	if c.Tokens, err = dailyTokens(b.DailyTokens); err != nil {
		return nil, err
	}
	w, err := s.widgets.Update(ctx, who.Actor(), in.ID, c)
	if err != nil {
		return nil, err
	}
	return one(widgetJSON(w)), nil
}

func (s *Server) deleteWidget(ctx context.Context, who access.Principal, in *WidgetID) (*reply[client.DeletedWidget], error) {
	if err := s.widgets.Delete(ctx, who.Actor(), in.ID); err != nil {
		return nil, err
	}
	return one(client.DeletedWidget{ID: string(in.ID), Deleted: true}), nil
}

type rotateWidgetInput struct {
	WidgetID
	Body *client.RotateWidgetRequest `required:"false"`
}

func (in *rotateWidgetInput) grace() time.Duration {
	if in.Body == nil || in.Body.GraceSeconds == nil {
		return 0
	}
	return time.Duration(min(max(*in.Body.GraceSeconds, -1), int64(widget.MaxGrace/time.Second)+1)) * time.Second
}

func (s *Server) rotateWidgetKey(ctx context.Context, who access.Principal, in *rotateWidgetInput) (*reply[client.Widget], error) {
	w, err := s.widgets.RotateKey(ctx, who.Actor(), in.ID, in.grace())
	if err != nil {
		return nil, err
	}
	return one(widgetJSON(w)), nil
}

func (s *Server) rotateWidgetSecret(ctx context.Context, who access.Principal, in *rotateWidgetInput) (*reply[client.WidgetSecret], error) {
	w, secret, err := s.widgets.RotateSecret(ctx, who.Actor(), in.ID, in.grace())
	return widgetSecret(w, secret, err)
}

// checkWidgetReplay returns a fault if the widget of a kept response does not exist any more: its
// secret is nothing to be shown then.
func (s *Server) checkWidgetReplay(r *http.Request, res rest.Response) error {
	var body client.Data[client.WidgetSecret]
	if res.Status >= http.StatusBadRequest {
		return nil
	}
	if err := json.Unmarshal(res.Body, &body); err != nil {
		return fmt.Errorf("decode the kept response: %w", err)
	}
	_, err := s.widgets.Get(r.Context(), callerOf(r.Context()).AccountID, identity.WidgetID(body.Data.ID))
	return hideKept(err)
}

func widgetSecret(w widget.Widget, secret vault.Secret, err error) (*reply[client.WidgetSecret], error) {
	if err != nil {
		return nil, err
	}
	return one(client.WidgetSecret{Widget: widgetJSON(w), Secret: secret.Reveal()}), nil
}

// dailyTokens returns a limit of tokens: nil if the field is absent, 0 for none.
func dailyTokens(o client.Optional[int64]) (*int64, error) {
	switch {
	case !o.Set:
		return nil, nil
	case o.Null:
		return new(int64), nil
	case o.Value < 1:
		return nil, fault.Fields{"dailyTokens": "must be at least 1, or null for no limit"}.Err()
	}
	return &o.Value, nil
}

// themeOf returns a theme with the fields of a request that are not absent.
func themeOf(t widget.Theme, in *client.WidgetThemeRequest) widget.Theme {
	if in == nil {
		return t
	}
	if in.Title.Set {
		t.Title = in.Title.Value
	}
	for _, f := range []struct {
		to   *string
		from *string
	}{{&t.Color, in.Color}, {&t.Mode, in.Mode}, {&t.Position, in.Position}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	return t
}

func widgetJSON(w widget.Widget) client.Widget {
	out := client.Widget{
		ID: string(w.ID), Name: w.Name, AgentID: string(w.AgentID), Key: w.Key, Origins: orEmpty(w.Origins), Greeting: orNull(w.Greeting),
		Theme:         client.WidgetTheme{Title: orNull(w.Theme.Title), Color: w.Theme.Color, Mode: w.Theme.Mode, Position: w.Theme.Position},
		DailyMessages: w.Limits.Messages, Enabled: w.Enabled, Today: widgetDayJSON(w.Today), CreatedBy: w.CreatedBy,
		PreviousKeyUntil: client.NewTime(w.PreviousKeyUntil), PreviousSecretUntil: client.NewTime(w.PreviousSecretUntil),
		CreatedAt: client.Time{Time: w.CreatedAt}, UpdatedAt: client.Time{Time: w.UpdatedAt},
	}
	if w.Limits.Tokens > 0 {
		out.DailyTokens = &w.Limits.Tokens
	}
	return out
}

func widgetDayJSON(d widget.Day) client.WidgetDay {
	return client.WidgetDay{Date: d.Date, Messages: d.Messages, Tokens: d.Tokens}
}
