package dashboard

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
	"net/url"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
)

// view is what a template shows.
type view struct {
	Title   string
	Visitor Visitor
	Menu    []entry
	Agent   *client.Agent // of the pages of an agent
	Tabs    []entry       // of the agent
	Notice  *notice       // of the form that led here
	Version string
	Live    string // the moment of the page, from which live.js follows
	Data    any    // of the page
	Status  int

	visit *visit
	once  string
}

// Can reports whether the person's role gives the scope.
func (v *view) Can(scope string) bool { return v.visit.Can(access.Scope(scope)) }

// Link returns the address of the same page with other parameters, as pairs of names and
// values; an empty value removes one. It begins at the first page of a list, unless it names
// the page.
func (v *view) Link(pairs ...string) string {
	query := url.Values{}
	for name, values := range v.visit.r.URL.Query() {
		query[name] = values
	}
	query.Del("page")
	for i := 0; i+1 < len(pairs); i += 2 {
		if query.Set(pairs[i], pairs[i+1]); pairs[i+1] == "" {
			query.Del(pairs[i])
		}
	}
	return "?" + query.Encode()
}

// Back returns the parameters of the address as ?back, for a form that leads back to the same
// view.
func (v *view) Back() string {
	if v.visit.r.URL.RawQuery == "" {
		return ""
	}
	return "?" + url.Values{"back": {v.visit.r.URL.RawQuery}}.Encode()
}

// Path returns the address of a path below /app that a handler has made.
func (v *view) Path(below string) string { return v.visit.server.outside.path(below) }

// Percent returns a share from 0 to 1.
func (v *view) Percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }

// Param returns a parameter of the address.
func (v *view) Param(name string) string { return v.visit.Query(name) }

// Hidden returns the fields that every form has which changes something.
func (v *view) Hidden() template.HTML {
	//nolint:gosec // both values are escaped
	return template.HTML(`<input type="hidden" name="` + accountField + `" value="` + template.HTMLEscapeString(v.Visitor.Account) + `">` +
		`<input type="hidden" name="` + onceField + `" value="` + template.HTMLEscapeString(v.once) + `">`)
}

// Query is Hidden for the action of a form with files.
func (v *view) Query() template.URL {
	//nolint:gosec // both values are escaped
	return template.URL("?" + url.Values{accountField: {v.Visitor.Account}, onceField: {v.once}}.Encode())
}

// Render shows the page of a template.
func (v *visit) Render(name, title string, data any) error {
	return v.render(http.StatusOK, name, title, data)
}

// RenderRefused shows a page whose form was refused.
func (v *visit) RenderRefused(name, title string, data any) error {
	return v.render(http.StatusUnprocessableEntity, name, title, data)
}

// RenderAgent shows a page of an agent, below its name and its tabs.
func (v *visit) RenderAgent(name string, a client.Agent, title string, data any) error {
	page := v.newView(title+" · "+a.Name, data)
	page.Agent, page.Tabs = &a, v.server.tabs(v, a.ID)
	return v.write(http.StatusOK, name, page)
}

// RenderAgentRefused shows a page of an agent whose form was refused.
func (v *visit) RenderAgentRefused(name string, a client.Agent, title string, data any) error {
	page := v.newView(title+" · "+a.Name, data)
	page.Agent, page.Tabs = &a, v.server.tabs(v, a.ID)
	return v.write(http.StatusUnprocessableEntity, name, page)
}

func (v *visit) render(status int, name, title string, data any) error {
	return v.write(status, name, v.newView(title, data))
}

func (v *visit) newView(title string, data any) *view {
	return &view{
		Title: title, Visitor: v.Visitor, Menu: v.server.menu(v), Notice: v.takeNotice(), Version: v.server.version,
		Live: v.moment, Data: data, visit: v, once: newOnce(),
	}
}

func (v *visit) write(status int, name string, page *view) error {
	page.Status = status
	var out bytes.Buffer
	if err := v.server.pages.execute(&out, name, page); err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	_, _ = v.w.Write(out.Bytes()) // fails if the browser has gone
	return nil
}
