package rest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"agento.host/agento/internal/reference"
)

// archiveName is the file that the examples of files read and write.
const archiveName = "agent.tar.gz"

// serveReference serves the pages of the reference below /docs.
func (a *API) serveReference(routes []Route) {
	serve := reference.Handler(func() reference.Site { return a.Site(routes) })
	a.mux.HandleFunc("GET /docs", serve)
	a.mux.HandleFunc("GET /docs/", serve)
}

// Site returns what the reference shows: the routes by tag, as the OpenAPI document
// describes them.
func (a *API) Site(routes []Route) reference.Site {
	site := reference.Site{Title: "agento API", Version: a.version}
	for _, t := range a.tags {
		site.Groups = append(site.Groups, reference.Group{Name: t.Name, Text: t.Text})
	}
	for _, r := range routes {
		name := tagOf(a.tags, r.Path)
		i := slices.IndexFunc(site.Groups, func(g reference.Group) bool { return g.Name == name })
		if i < 0 {
			i, site.Groups = len(site.Groups), append(site.Groups, reference.Group{Name: name})
		}
		site.Groups[i].Operations = append(site.Groups[i].Operations, a.reference(r))
	}
	return site
}

// reference returns what the reference shows of a route.
func (a *API) reference(r Route) reference.Operation {
	op := a.operationOf(r.Method, r.Path)
	out := reference.Operation{
		ID: op.OperationID, Method: r.Method, Path: r.Path, Summary: r.Summary, Text: op.Description,
		Request: exampleRequest(r, op), Example: strings.TrimSpace(r.example), Errors: a.errorsOf(op),
	}
	places := []string{"path", "query", "header"}
	for _, p := range slices.SortedStableFunc(slices.Values(op.Parameters), func(x, y *huma.Param) int {
		return cmp.Compare(slices.Index(places, x.In), slices.Index(places, y.In))
	}) {
		out.Parameters = append(out.Parameters, reference.Field{Name: p.Name, In: p.In, Type: a.typeOf(p.Schema), Text: p.Description, Required: p.Required})
	}
	if op.RequestBody != nil {
		out.Body = a.bodyFields(op.RequestBody.Content)
	}
	status := strconv.Itoa(r.successStatus())
	success := op.Responses[status]
	switch media := success.Content["application/json"]; {
	case r.IsDownload():
		out.Answers = []reference.Answer{{Name: "Answer " + status, Text: "A file of the type `" + r.download + "`."}}
	case r.IsStream():
		out.Answers = a.eventsOf(success.Content["text/event-stream"].Schema)
		for _, name := range slices.Sorted(maps.Keys(r.AnswerHeaders)) {
			out.Answers[0].Fields = append(out.Answers[0].Fields, reference.Field{Name: name, In: "header", Type: huma.TypeString, Text: r.AnswerHeaders[name]})
		}
	case media != nil:
		out.Answers = []reference.Answer{{Name: "Answer " + status, Fields: answered(a.fields(media.Schema))}}
		out.Example = indent(r.Doc.Answer)
	}
	return out
}

// eventsOf describes the events of a stream, each as an answer.
func (a *API) eventsOf(schema *huma.Schema) []reference.Answer {
	schema = a.resolve(schema)
	if len(schema.OneOf) == 0 {
		return []reference.Answer{{Name: "Answer 200, a stream", Text: "Server-sent events whose data is one line of text each. See [Streams](/docs/guides/streams)."}}
	}
	all := []reference.Answer{{Name: "Answer 200, a stream", Text: "Server-sent events whose data is JSON. See [Streams](/docs/guides/streams)."}}
	for _, event := range schema.OneOf {
		to := a.resolve(event)
		kind := ""
		if p := to.Properties["type"]; p != nil && len(p.Enum) == 1 {
			kind = fmt.Sprint(p.Enum[0])
		}
		all = append(all, reference.Answer{Name: "Event " + kind, Text: to.Description, Fields: answered(a.fields(event))})
	}
	return all
}

// answered returns fields of a response, where required says nothing: they are present
// unless their text says otherwise.
func answered(fields []reference.Field) []reference.Field {
	for i := range fields {
		fields[i].Required = false
		fields[i].Fields = answered(fields[i].Fields)
	}
	return fields
}

// bodyFields lists the fields of a body, or says what file it is.
func (a *API) bodyFields(content map[string]*huma.MediaType) []reference.Field {
	if m := content["application/json"]; m != nil {
		return a.fields(m.Schema)
	}
	for contentType := range content {
		return []reference.Field{{Name: "file", Type: contentType, Text: "The body is the file itself.", Required: true}}
	}
	return nil
}

// errorsOf lists the errors of an operation, one for each code.
func (a *API) errorsOf(op *huma.Operation) []reference.Error {
	var all []reference.Error
	for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
		n, err := strconv.Atoi(status)
		if err != nil || n < http.StatusBadRequest {
			continue
		}
		for i, text := range strings.Split(statusDescriptions()[n], "; ") {
			code, what, ok := strings.Cut(text, ": ")
			switch {
			case !ok || strings.Contains(code, " "): // goes on with the sentence before
				all[len(all)-1].Text += "; " + text
			case i == 0:
				all = append(all, reference.Error{Status: status, Code: code, Text: what})
			default:
				all = append(all, reference.Error{Code: code, Text: what})
			}
		}
	}
	return all
}

// fields lists the fields of an object, in the order of its type: that in which they matter.
// Of a list, they are those of its objects.
func (a *API) fields(schema *huma.Schema) []reference.Field {
	order := a.order(schema)
	schema = a.resolve(schema)
	if schema.Type == huma.TypeArray {
		return a.fields(schema.Items)
	}
	names := slices.SortedFunc(maps.Keys(schema.Properties), func(x, y string) int {
		return cmp.Or(cmp.Compare(index(order, x), index(order, y)), cmp.Compare(x, y))
	})
	var all []reference.Field
	for _, name := range names {
		p := schema.Properties[name]
		f := reference.Field{Name: name, Type: a.typeOf(p), Text: cmp.Or(p.Description, a.resolve(p).Description), Required: slices.Contains(schema.Required, name)}
		if to := a.resolve(p); len(to.OneOf) == 0 {
			f.Fields = a.fields(p)
		}
		all = append(all, f)
	}
	return all
}

// index is slices.Index, with what is missing at the end.
func index(all []string, s string) int {
	if i := slices.Index(all, s); i >= 0 {
		return i
	}
	return len(all)
}

// order returns the names of an object's fields in the order of its type, if it has one.
func (a *API) order(schema *huma.Schema) []string {
	if len(schema.AnyOf) > 0 {
		schema = schema.AnyOf[0]
	}
	if schema.Ref == "" {
		return nil
	}
	t := a.huma.OpenAPI().Components.Schemas.TypeFromRef(schema.Ref)
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	var names []string
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// resolve returns the schema that a reference refers to.
func (a *API) resolve(schema *huma.Schema) *huma.Schema {
	if schema == nil {
		return &huma.Schema{}
	}
	if len(schema.AnyOf) > 0 { // an object or null
		schema = schema.AnyOf[0]
	}
	if schema.Ref != "" {
		return a.huma.OpenAPI().Components.Schemas.SchemaFromRef(schema.Ref)
	}
	return schema
}

// typeOf returns what values a field has, in words.
func (a *API) typeOf(schema *huma.Schema) string {
	null := schema.Nullable || len(schema.AnyOf) > 0
	schema = a.resolve(schema)
	name := cmp.Or(schema.Type, "any")
	switch {
	case len(schema.OneOf) > 0:
		name = typesOf(schema.OneOf)
	case schema.Type == huma.TypeArray:
		name = "array of " + strings.Replace(a.typeOf(schema.Items), "object", "objects", 1)
	case schema.Format == "date-time":
		name = "time"
	}
	if values := enumOf(schema); len(values) > 0 {
		name = strings.ReplaceAll(strings.Trim(fmt.Sprintf("%q", values), "[]"), `" "`, `", "`)
	}
	name += bounds(schema)
	if schema.Default != nil {
		name += fmt.Sprintf(", default %v", schema.Default)
	}
	if null {
		name += " or null"
	}
	return name
}

// enumOf returns the values that a schema allows; none: any.
func enumOf(schema *huma.Schema) []any {
	values := schema.Enum
	if described, ok := schema.Extensions["enum"].([]any); ok {
		values = described
	}
	if schema.Nullable && len(values) > 0 {
		return slices.DeleteFunc(slices.Clone(values), func(v any) bool { return v == nil })
	}
	return values
}

// bounds returns how long or how large values may be, in words.
func bounds(schema *huma.Schema) string {
	number := func(own any, name string) (string, bool) {
		if v, ok := schema.Extensions[name]; ok {
			return fmt.Sprint(v), true
		}
		if v := reflect.ValueOf(own); !v.IsNil() {
			return strconv.FormatFloat(v.Elem().Convert(reflect.TypeFor[float64]()).Float(), 'f', -1, 64), true
		}
		return "", false
	}
	for _, b := range []struct {
		least, most         any
		leastName, mostName string
		unit                string
	}{
		{schema.MinLength, schema.MaxLength, "minLength", "maxLength", " characters"},
		{schema.MinItems, schema.MaxItems, "minItems", "maxItems", " items"},
		{schema.Minimum, schema.Maximum, "minimum", "maximum", ""},
	} {
		least, hasLeast := number(b.least, b.leastName)
		most, hasMost := number(b.most, b.mostName)
		switch {
		case hasLeast && hasMost:
			return ", " + least + " to " + most + b.unit
		case hasMost:
			return ", at most " + most + b.unit
		case hasLeast && b.unit == "":
			return ", at least " + least
		}
	}
	return ""
}

// exampleRequest returns the example of a route: the values of its path are those of its
// parameters.
func exampleRequest(r Route, op *huma.Operation) reference.Request {
	path := r.Path
	for _, p := range op.Parameters {
		if p.In == "path" {
			value := "1"
			if p.Example != nil {
				value = fmt.Sprint(p.Example)
			}
			path = strings.ReplaceAll(path, "{"+p.Name+"}", url.PathEscape(value))
		}
	}
	if r.Doc.Query != "" {
		path += "?" + r.Doc.Query
	}
	out := reference.Request{Method: r.Method, Path: path, Body: r.Doc.Body, Stream: r.IsStream(), IsLines: r.IsStream() && len(r.Events) == 0}
	out.Header, out.Value, _ = strings.Cut(r.Doc.Header, ": ")
	if r.IsDownload() {
		out.Download = archiveName
	}
	if op.RequestBody != nil && op.RequestBody.Content["application/json"] == nil {
		for contentType := range op.RequestBody.Content {
			out.Upload, out.UploadType = cmp.Or(r.Doc.Upload, archiveName), contentType
		}
	}
	return out
}

// indent returns JSON in lines.
func indent(text string) string {
	if text == "" {
		return ""
	}
	pretty, err := json.MarshalIndent(json.RawMessage(text), "", "  ")
	if err != nil {
		panic(fmt.Sprintf("an example is not JSON: %v: %s", err, text)) // which every test finds
	}
	return string(pretty)
}
