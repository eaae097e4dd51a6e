package dashboard

import (
	"strconv"
	"strings"

	"agento.host/agento/client"
)

// maxChoices is how many agents a list to choose from has.
const maxChoices = 200

// widgetList is the data of the list of chat widgets.
type widgetList struct {
	Widgets []client.Widget
	Agents  map[string]string // names by id
	Pages   pager
}

func (s *Server) widgetList(v *visit) error {
	p := v.page(keysPerPage)
	found, err := v.API.ListWidgets(v.Context(), p.Size, p.Offset())
	if err != nil {
		return err
	}
	p.Total = found.Pagination.Total
	data := widgetList{Widgets: found.Data, Agents: map[string]string{}, Pages: p}
	if len(found.Data) > 0 {
		agents, err := v.agentChoices()
		if err != nil {
			return err
		}
		for _, a := range agents {
			data.Agents[a.Value] = a.Title
		}
	}
	return v.Render("widgets", "Chat widgets", data)
}

// agentChoices returns the agents to choose from, by name.
func (v *visit) agentChoices() ([]choice, error) {
	found, err := v.API.ListAgents(v.Context(), client.AgentQuery{Sort: "name", Limit: maxChoices})
	if err != nil {
		return nil, err
	}
	all := make([]choice, len(found.Data))
	for i, a := range found.Data {
		all[i] = choice{a.ID, a.Name}
	}
	return all, nil
}

// widgetState returns whether a widget serves visitors, in words.
func widgetState(w client.Widget) state {
	switch {
	case !w.Enabled:
		return state{"disabled", "off"}
	case len(w.Origins) == 0:
		return state{"no website", "warn"}
	case w.Today.Messages >= w.DailyMessages, w.DailyTokens != nil && w.Today.Tokens >= *w.DailyTokens:
		return state{"at its limit", "bad"}
	}
	return state{"enabled", "good"}
}

// widgetPage is the data of the pages of one widget.
type widgetPage struct {
	Form   *form
	Agents []choice
	Agent  string // the name of the agent
	Widget client.WidgetDetails
	Secret string // shown once
	URL    string // of agento
	Modes  []choice
	Places []choice
}

// Tag returns what a website includes.
func (p widgetPage) Tag() string {
	return `<script src="` + p.URL + `/widget.js" data-widget="` + p.Widget.Key + `" async></script>`
}

func newWidgetPage(f *form) widgetPage {
	return widgetPage{
		Form: f, Modes: []choice{{"auto", "as the visitor's browser prefers"}, {"light", "light"}, {"dark", "dark"}},
		Places: []choice{{"right", "bottom right"}, {"left", "bottom left"}},
	}
}

func (s *Server) newWidget(v *visit) error {
	f := newForm("agent", v.Query("agent"), "color", "#2563eb", "mode", "auto", "position", "right", "dailyMessages", "500", "greeting", "Hello! How can I help?")
	return s.showNewWidget(v, f, v.Render)
}

func (s *Server) showNewWidget(v *visit, f *form, render func(name, title string, data any) error) error {
	data := newWidgetPage(f)
	var err error
	if data.Agents, err = v.agentChoices(); err != nil {
		return err
	}
	return render("widgetnew", "New chat widget", data)
}

// widgetFields map the fields of the API to those of the form.
func widgetFields() map[string]string {
	return map[string]string{"agentId": "agent", "theme.title": "title", "theme.color": "color", "theme.mode": "mode", "theme.position": "position"}
}

func (s *Server) createWidget(v *visit) error {
	f := v.Form()
	if f.Value("name") == "" {
		f.Wrong("name", "Give the widget a name.")
	}
	in := client.CreateWidgetRequest{Name: f.Value("name"), AgentID: f.Value("agent"), Origins: originsOf(f), Theme: themeOf(f), Greeting: textOrNull(f, "greeting"), DailyMessages: countOf(f, "dailyMessages"), DailyTokens: tokensOf(f)}
	if !f.Valid() {
		return s.showNewWidget(v, f, v.RenderRefused)
	}
	made, err := v.API.CreateWidget(v.Context(), in)
	if f.Refused(err, widgetFields()) {
		return s.showNewWidget(v, f, v.RenderRefused)
	}
	if err != nil {
		return err
	}
	return v.Render("widgetmade", made.Name, widgetPage{Widget: client.WidgetDetails{Widget: made.Widget}, Secret: made.Secret, URL: v.address()})
}

// originsOf returns the websites that were typed, one on each line.
func originsOf(f *form) []string {
	return append([]string{}, strings.FieldsFunc(f.Raw("origins"), func(r rune) bool { return r == '\n' || r == '\r' || r == ',' || r == ' ' })...)
}

func themeOf(f *form) *client.WidgetThemeRequest {
	color, mode, position := f.Value("color"), f.Value("mode"), f.Value("position")
	return &client.WidgetThemeRequest{Title: textOrNull(f, "title"), Color: &color, Mode: &mode, Position: &position}
}

func textOrNull(f *form, name string) client.Optional[string] {
	if text := f.Value(name); text != "" {
		return client.Some(text)
	}
	return client.Null[string]()
}

func countOf(f *form, name string) *int64 {
	n, err := strconv.ParseInt(f.Value(name), 10, 64)
	if err != nil {
		f.Wrong(name, "must be a number")
	}
	return &n
}

func tokensOf(f *form) client.Optional[int64] {
	if f.Value("dailyTokens") == "" {
		return client.Null[int64]()
	}
	return client.Some(*countOf(f, "dailyTokens"))
}

func (s *Server) showWidget(v *visit) error {
	w, err := v.API.Widget(v.Context(), v.Arg("id"))
	if err != nil {
		return err
	}
	return s.renderWidget(v, w, formOfWidget(w.Widget), v.Render)
}

func (s *Server) renderWidget(v *visit, w client.WidgetDetails, f *form, render func(name, title string, data any) error) error {
	data := newWidgetPage(f)
	data.Widget, data.URL, data.Agent = w, v.address(), w.AgentID
	if a, err := v.API.Agent(v.Context(), w.AgentID); err == nil {
		data.Agent = a.Name
	}
	return render("widget", w.Name, data)
}

func formOfWidget(w client.Widget) *form {
	f := newForm("name", w.Name, "origins", strings.Join(w.Origins, "\n"), "color", w.Theme.Color, "mode", w.Theme.Mode, "position", w.Theme.Position, "dailyMessages", strconv.FormatInt(w.DailyMessages, 10))
	for name, text := range map[string]*string{"title": w.Theme.Title, "greeting": w.Greeting} {
		if text != nil {
			f.values.Set(name, *text)
		}
	}
	if w.DailyTokens != nil {
		f.values.Set("dailyTokens", strconv.FormatInt(*w.DailyTokens, 10))
	}
	return f
}

func (s *Server) changeWidget(v *visit) error {
	f := v.Form()
	name := f.Value("name")
	in := client.UpdateWidgetRequest{Name: &name, Origins: originsOf(f), Theme: themeOf(f), Greeting: textOrNull(f, "greeting"), DailyMessages: countOf(f, "dailyMessages"), DailyTokens: tokensOf(f)}
	if name == "" {
		f.Wrong("name", "Give the widget a name.")
	}
	if f.Valid() {
		_, err := v.API.UpdateWidget(v.Context(), v.Arg("id"), in)
		if err == nil {
			return v.Redirect(path("/widgets/%s", v.Arg("id")), good("The widget is changed. Pages that are open show it when they are loaded again."))
		}
		if !f.Refused(err, widgetFields()) {
			return err
		}
	}
	w, err := v.API.Widget(v.Context(), v.Arg("id"))
	if err != nil {
		return err
	}
	return s.renderWidget(v, w, f, v.RenderRefused)
}

func (s *Server) enableWidget(v *visit) error {
	on := true
	_, err := v.API.UpdateWidget(v.Context(), v.Arg("id"), client.UpdateWidgetRequest{Enabled: &on})
	return v.backTo(path("/widgets/%s", v.Arg("id")), err, "The widget serves visitors again.")
}

func (s *Server) disableWidget(v *visit) error {
	off := false
	_, err := v.API.UpdateWidget(v.Context(), v.Arg("id"), client.UpdateWidgetRequest{Enabled: &off})
	return v.backTo(path("/widgets/%s", v.Arg("id")), err, "The widget serves nobody now.")
}

func (s *Server) rotateWidgetKey(v *visit) error {
	grace := graceOf(v)
	_, err := v.API.RotateWidgetKey(v.Context(), v.Arg("id"), client.RotateWidgetRequest{GraceSeconds: &grace})
	return v.backTo(path("/widgets/%s", v.Arg("id")), err, "The widget has another key: put the tag below into your pages.")
}

func (s *Server) rotateWidgetSecret(v *visit) error {
	grace := graceOf(v)
	made, err := v.API.RotateWidgetSecret(v.Context(), v.Arg("id"), client.RotateWidgetRequest{GraceSeconds: &grace})
	if err != nil {
		return v.backTo(path("/widgets/%s", v.Arg("id")), err, "")
	}
	return v.Render("widgetmade", made.Name, widgetPage{Widget: client.WidgetDetails{Widget: made.Widget}, Secret: made.Secret, URL: v.address()})
}

// graceOf returns how long what is replaced is to stay valid, in seconds.
func graceOf(v *visit) int64 {
	n, err := strconv.ParseInt(v.Form().Value("grace"), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (s *Server) deleteWidget(v *visit) error {
	_, err := v.API.DeleteWidget(v.Context(), v.Arg("id"))
	return v.backTo("/widgets", err, "The widget is deleted. The conversations are still with the agent.")
}
