package rest_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/rest"
)

// everyInput has a parameter or a field for each rule of huma whose message is
// translated.
type everyInput struct {
	Color string `query:"color" enum:"red,blue"`
	Since string `query:"since" format:"date-time"`
	Limit int    `query:"limit" minimum:"1" maximum:"10"`
	All   bool   `query:"all"`
	Mode  string `header:"Mode" enum:"fast,slow"`
	Body  struct {
		Name   string            `json:"name" minLength:"2" maxLength:"4"`
		ID     string            `json:"id,omitempty" pattern:"^[a-z]+$"`
		Count  int               `json:"count,omitempty"`
		Share  float64           `json:"share,omitempty" exclusiveMinimum:"0" maximum:"1"`
		On     bool              `json:"on,omitempty"`
		Tags   []string          `json:"tags,omitempty" minItems:"1" maxItems:"2"`
		Labels map[string]string `json:"labels,omitempty"`
		Rows   []struct {
			Text string `json:"text"`
		} `json:"rows,omitempty"`
	}
}

type searchInput struct {
	Query string `query:"q" required:"true"`
	N     int64  `path:"n" minimum:"1"`
}

type output struct{ Body struct{} }

func phraseAPI() *rest.API {
	every := rest.NewRoute("POST /v1/every", "Every", func(context.Context, *everyInput) (*output, error) { return &output{}, nil })
	every.MaxBody = 1000
	search := rest.NewRoute("GET /v1/search/{n}", "Search", func(context.Context, *searchInput) (*output, error) { return &output{}, nil })
	return newAPI(rest.Settings{}, every, search)
}

// TestEachTranslatedPhrase makes huma say every phrase that phrases.go translates.
// It fails if an update of huma changes one, since the translation is then missing.
func TestEachTranslatedPhrase(t *testing.T) {
	api := phraseAPI()
	for _, c := range []struct {
		query, body  string
		field, wants string
	}{
		{body: `{}`, field: "name", wants: "is required"}, // expected required property … to be present
		{body: `{"name":"abc","rows":[{}]}`, field: "rows[0].text", wants: "is required"},
		{body: `{"name":"abc","extra":1}`, field: "extra", wants: "is not a field of this request: remove it"},
		{query: "page=2", body: `{"name":"abc"}`, field: "page", wants: "is not a parameter of this request: remove it, or use one of color, since, limit, all"},
		{body: `{"name":"abc","on":1}`, field: "on", wants: "must be true or false"},                        // expected boolean
		{query: "all=maybe", body: `{"name":"abc"}`, field: "all", wants: "must be true or false"},          // invalid boolean
		{body: `{"name":"abc","count":1.5}`, field: "count", wants: "must be a whole number"},               // expected integer
		{query: "limit=x", body: `{"name":"abc"}`, field: "limit", wants: "must be a whole number"},         // invalid integer
		{body: `{"name":1}`, field: "name", wants: "must be of type string"},                                // expected string
		{body: `{"name":"abc","labels":[]}`, field: "labels", wants: "must be of type object"},              // expected object
		{body: `{"name":"abc","tags":{}}`, field: "tags", wants: "must be of type array"},                   // expected array
		{body: `{"name":"abc","share":"x"}`, field: "share", wants: "must be of type number"},               // expected number
		{query: "color=green", body: `{"name":"abc"}`, field: "color", wants: `must be one of "red, blue"`}, // expected value to be …
		{query: "since=today", body: `{"name":"abc"}`, field: "since", wants: "must be RFC 3339 date-time"}, // expected string to be …
		{body: `{"name":"abc","id":"A"}`, field: "id", wants: "must match the pattern ^[a-z]+$"},            // expected string to match pattern …
		{query: "limit=0", body: `{"name":"abc"}`, field: "limit", wants: "must be a number >= 1"},          // expected number …
		{query: "limit=11", body: `{"name":"abc"}`, field: "limit", wants: "must be a number <= 10"},
		{body: `{"name":"abc","share":0.0}`, field: "share", wants: "must be a number > 0"},
		{body: `{"name":"a"}`, field: "name", wants: "must have a length >= 2"}, // expected length …
		{body: `{"name":"abcde"}`, field: "name", wants: "must have a length <= 4"},
		{body: `{"name":"abc","tags":[]}`, field: "tags", wants: "must have a length >= 1"}, // expected array length …
		{body: `{"name":"abc","tags":["a","b","c"]}`, field: "tags", wants: "must have a length <= 2"},
		{body: `[]`, field: "body", wants: "is not JSON that this request takes: expected object"},
		{body: `{"name":`, field: "body", wants: "is not JSON that this request takes: unexpected end of JSON input"},
		{body: "{\"name\":\"\xff\"}", field: "body", wants: "is not JSON that this request takes: it is not valid UTF-8"},
	} {
		out := send(t, api, http.MethodPost, "/v1/every?"+c.query, strings.NewReader(c.body))
		e := errorOf(t, out)
		if want := map[string]string{c.field: c.wants}; out.Code != http.StatusBadRequest || e.Code != "invalid_request" || !maps.Equal(e.Details, want) {
			t.Errorf("?%s %s: status %d, code %s, details %q, want %q", c.query, c.body, out.Code, e.Code, e.Details, want)
		}
	}
}

func TestTranslatedPhrasesOfPathsAndHeaders(t *testing.T) {
	api := phraseAPI()
	e := errorOf(t, send(t, api, http.MethodGet, "/v1/search/0", nil)) // required query parameter is missing
	if want := map[string]string{"q": "is required", "n": "must be a number >= 1"}; !maps.Equal(e.Details, want) {
		t.Errorf("details %q, want %q", e.Details, want)
	}
	req := newRequest(t, `{"name":"abc"}`)
	req.Header.Set("Mode", "slower")
	if e := errorOf(t, serve(api, req)); !maps.Equal(e.Details, map[string]string{"Mode": `must be one of "fast, slow"`}) {
		t.Errorf("details %q", e.Details)
	}
}

// TestTranslatedStatuses: some of huma's errors are recognised by their status or
// by their message as a whole.
func TestTranslatedStatuses(t *testing.T) {
	api := phraseAPI()
	form := newRequest(t, "name=abc")
	form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for name, c := range map[string]struct {
		request       *http.Request
		status        int
		code, message string
	}{
		"no body":        {newRequest(t, ""), http.StatusBadRequest, "invalid_request", "The request needs a JSON body."},
		"a large body":   {newRequest(t, `{"name":"`+strings.Repeat("a", 1001)+`"}`), http.StatusRequestEntityTooLarge, "payload_too_large", "The body is too large for this request. Send less at once."},
		"a form":         {form, http.StatusUnsupportedMediaType, "unsupported_media_type", "The body must be JSON: send Content-Type: application/json."},
		"a slow body":    {brokenRequest(t, os.ErrDeadlineExceeded), http.StatusBadRequest, "invalid_request", "The body did not arrive completely. Send it again."},
		"a partial body": {brokenRequest(t, errors.New("connection reset")), http.StatusBadRequest, "invalid_request", "The body did not arrive completely. Send it again."},
	} {
		out := serve(api, c.request)
		if e := errorOf(t, out); out.Code != c.status || e.Code != c.code || e.Message != c.message || len(e.Details) > 0 {
			t.Errorf("%s: status %d: %s", name, out.Code, out.Body)
		}
	}
}

// TestCheckAddsItsProblemsToThoseOfTheSchema: one response names all of them.
func TestCheckAddsItsProblemsToThoseOfTheSchema(t *testing.T) {
	type body struct {
		Name string `json:"name"`
		Size string `json:"size" enum:"small,large"`
	}
	type input struct{ Body rest.Checked[body] }
	var handled body
	r := rest.NewRoute("POST /v1/checked", "Checked", func(_ context.Context, in *input) (*output, error) {
		handled = in.Body.Value
		return &output{}, nil
	})
	r.Check = rest.CheckBody(func(_ context.Context, b body) error {
		switch b.Name {
		case "taken":
			return fault.Fields{"name": "is taken"}.Err()
		case "broken":
			return errors.New("the database is down") // occurs again in the handler
		}
		return nil
	})
	api := newAPI(rest.Settings{}, r)
	for text, want := range map[string]map[string]string{
		`{"name":"taken","size":"huge"}`:  {"name": "is taken", "size": `must be one of "small, large"`},
		`{"name":"taken","size":"small"}`: {"name": "is taken"},
		`{"name":"new","size":"huge"}`:    {"size": `must be one of "small, large"`},
		`{"name":"taken"`:                 {"body": "is not JSON that this request takes: unexpected end of JSON input"},
	} {
		if e := errorOf(t, send(t, api, http.MethodPost, "/v1/checked", strings.NewReader(text))); !maps.Equal(e.Details, want) {
			t.Errorf("%s: details %q, want %q", text, e.Details, want)
		}
	}
	for _, name := range []string{"new", "broken"} {
		if out := send(t, api, http.MethodPost, "/v1/checked", strings.NewReader(`{"name":"`+name+`","size":"large"}`)); out.Code >= 400 || handled != (body{name, "large"}) {
			t.Errorf("%s: status %d, handled %+v: %s", name, out.Code, handled, out.Body)
		}
	}
}

// TestRouteWithoutItsCheckIsRefused: a Checked body without a check would not be
// checked at all.
func TestRouteWithoutItsCheckIsRefused(t *testing.T) {
	type input struct{ Body rest.Checked[struct{}] }
	defer func() {
		if recover() == nil {
			t.Error("New accepted a route whose body is Checked and that has no check")
		}
	}()
	newAPI(rest.Settings{}, rest.NewRoute("POST /v1/checked", "Checked", func(context.Context, *input) (*output, error) { return &output{}, nil }))
}

func newRequest(t *testing.T, body string) *http.Request {
	t.Helper()
	return requestWith(t, strings.NewReader(body))
}

func brokenRequest(t *testing.T, err error) *http.Request {
	t.Helper()
	return requestWith(t, io.MultiReader(strings.NewReader(`{"name":`), iotest.ErrReader(err)))
}
