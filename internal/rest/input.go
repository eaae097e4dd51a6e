package rest

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"agento.host/agento/internal/fault"
)

// This file refuses what huma takes for an absent parameter or field: an empty text, a text
// without any visible character, and null. Absent often means more than a value does, such
// as every session, or the owner instead of a peer.
//
// It reads two tags of the fields of inputs and bodies:
//
//	absent:"read every session"  what a caller leaves the field out for
//	empty:"true"                 the empty text is the concern of the service: it is a value,
//	                             such as that of an empty file, or means something else than absent
//
// A required field without a least length is the concern of the service too, which names
// everything that is wrong with it.

// fieldRule is what the tags of a field say.
type fieldRule struct {
	absent string
	empty  bool
}

func ruleOf(f reflect.StructField) fieldRule {
	return fieldRule{absent: f.Tag.Get("absent"), empty: f.Tag.Get("empty") == "true"}
}

// leaveOut completes the problem of an empty field that may be absent.
func (r fieldRule) leaveOut() string {
	if r.absent == "" {
		return ": leave it out"
	}
	return ": leave it out to " + r.absent
}

// emptyProblem returns what is wrong with a text that must not be empty, or "".
func emptyProblem(text string) string {
	switch {
	case text == "":
		return "must not be empty"
	case fault.IsBlank(text):
		return "must not consist of blanks"
	}
	return ""
}

// operation is huma's API for one operation, whose bodies it decodes.
type operation struct {
	huma.API
	method, path string
	rules        map[*huma.Schema]fieldRule // by the schema of the field
	body         *huma.Schema               // set when the operation is registered
}

// Config lets huma find its configuration behind the operation.
func (o *operation) Config() huma.Config {
	return o.API.(interface{ Config() huma.Config }).Config()
}

// Unmarshal implements huma.API. huma calls it twice: with a pointer to an any, which it
// validates, and with a pointer to the body.
func (o *operation) Unmarshal(contentType string, data []byte, v any) error {
	if !isJSON(contentType) {
		return fmt.Errorf("%w: %s", huma.ErrUnknownContentType, contentType)
	}
	if err := readJSON(data, v); err != nil {
		return err
	}
	if decoded, ok := v.(*any); ok {
		*decoded = o.mark(o.body, *decoded, fieldRule{}, true)
	}
	return nil
}

// isJSON reports whether a Content-Type says that a body is JSON in UTF-8.
func isJSON(contentType string) bool {
	t, params, err := mime.ParseMediaType(contentType) // t is in lower case
	if err != nil || (t != "application/json" && (!strings.HasPrefix(t, "application/") || !strings.HasSuffix(t, "+json"))) {
		return false
	}
	return slices.Contains([]string{"", "utf-8", "utf8", "us-ascii"}, strings.ToLower(params["charset"]))
}

// refusedValue stands for a value that is refused while huma validates a body. It has the
// type of no field, so that huma names the field.
type refusedValue struct{ problem string }

// mark returns a decoded value as huma validates it: with numbers as float64, and a
// refusedValue for each value that must not be empty.
func (o *operation) mark(s *huma.Schema, v any, rule fieldRule, required bool) any {
	s = o.resolve(s)
	switch {
	case s == nil, s.Type == "" && s.OneOf == nil: // free-form
		return v
	case s.OneOf != nil && v != nil && !takesType(s.OneOf, v):
		return refusedValue{"must be of type " + typesOf(s.OneOf)}
	}
	switch v := v.(type) {
	case nil:
		if s.Nullable {
			return nil
		}
		return refusedValue{"must not be null" + advice(s, rule, required)}
	case string:
		mayBeEmpty := rule.empty || len(s.Enum) > 0 || (required && (s.MinLength == nil || *s.MinLength == 0))
		if problem := emptyProblem(v); problem != "" && !mayBeEmpty {
			return refusedValue{problem + advice(s, rule, required)}
		}
	case json.Number:
		f, _ := strconv.ParseFloat(v.String(), 64) // infinite if it is out of range, like every field's
		return f
	case []any:
		for i, e := range v {
			v[i] = o.mark(s.Items, e, fieldRule{}, false)
		}
	case map[string]any:
		o.markFields(s, v)
	}
	return v
}

// takesType reports whether one of the schemas is for values of v's type.
func takesType(schemas []*huma.Schema, v any) bool {
	t := map[reflect.Kind]string{reflect.String: huma.TypeString, reflect.Map: huma.TypeObject, reflect.Slice: huma.TypeArray, reflect.Bool: huma.TypeBoolean}[reflect.TypeOf(v).Kind()]
	if _, ok := v.(json.Number); ok {
		t = huma.TypeNumber
	}
	return slices.ContainsFunc(schemas, func(s *huma.Schema) bool { return s.Type == t })
}

func typesOf(schemas []*huma.Schema) string {
	names := make([]string, len(schemas))
	for i, s := range schemas {
		names[i] = s.Type
	}
	return strings.Join(names, " or ")
}

// markFields marks the fields of an object. The values of a map are the concern of the
// service that takes it, if they are empty.
func (o *operation) markFields(s *huma.Schema, fields map[string]any) {
	others, _ := s.AdditionalProperties.(*huma.Schema)
	for name, v := range fields {
		if p := s.Properties[name]; p != nil {
			fields[name] = o.mark(p, v, o.rules[p], slices.Contains(s.Required, name))
		} else {
			fields[name] = o.mark(others, v, fieldRule{empty: true}, true)
		}
	}
}

// advice completes the problem of an empty field.
func advice(s *huma.Schema, rule fieldRule, required bool) string {
	switch {
	case required:
		return ""
	case s.Nullable:
		return rule.leaveOut() + ", or send null to remove it"
	}
	return rule.leaveOut()
}

// resolve returns the schema that a schema refers to.
func (o *operation) resolve(s *huma.Schema) *huma.Schema {
	for s != nil && s.Ref != "" {
		s = o.OpenAPI().Components.Schemas.SchemaFromRef(s.Ref)
	}
	return s
}

// readFieldRules reads the rules of the fields of all bodies.
func readFieldRules(schemas huma.Registry, rules map[*huma.Schema]fieldRule) {
	for name, schema := range schemas.Map() {
		t := schemas.TypeFromRef("#/components/schemas/" + name)
		if t == nil || t.Kind() != reflect.Struct {
			continue
		}
		for f := range t.Fields() {
			field, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if p := schema.Properties[field]; p != nil {
				rules[p] = ruleOf(f)
			}
		}
	}
}

// describeEmpty sets the least length of the texts of an operation that must not be empty,
// so that the OpenAPI document has it.
func (o *operation) describeEmpty(op *huma.Operation) {
	for _, p := range op.Parameters {
		notEmpty(o.resolve(p.Schema))
	}
	if o.body != nil {
		o.describeFields(o.resolve(o.body))
	}
}

func (o *operation) describeFields(s *huma.Schema) {
	for name, p := range s.Properties {
		field := o.resolve(p)
		if !o.rules[p].empty && !slices.Contains(s.Required, name) {
			notEmpty(field)
		}
		if items := o.resolve(field.Items); items != nil {
			field = items
		}
		o.describeFields(field)
	}
}

func notEmpty(s *huma.Schema) {
	if s.Type == huma.TypeString && len(s.Enum) == 0 && s.MinLength == nil {
		s.MinLength = new(1)
		s.PrecomputeMessages()
	}
}

// parameterRules returns the rules of the parameters of an input, by name.
func parameterRules(input reflect.Type) map[string]fieldRule {
	rules := map[string]fieldRule{}
	for _, f := range inputFields(input) {
		for _, place := range []string{"query", "header"} {
			if name := f.Tag.Get(place); name != "" {
				rules[name] = ruleOf(f)
			}
		}
	}
	return rules
}

// checkRequest returns a middleware that refuses requests whose parameters are empty,
// repeated or unreadable, and bodies with a content coding.
func (a *API) checkRequest(rules map[string]fieldRule) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		req, w := humago.Unwrap(ctx)
		err := a.checkParameters(req, ctx.Operation().Parameters, rules)
		if coding := contentCoding(req); err == nil && coding != "" && ctx.Operation().RequestBody != nil {
			w.Header().Set("Accept-Encoding", "identity")
			err = fault.New(fault.UnsupportedType, "The body has the Content-Encoding %.40q: send it as it is, without this header.", coding)
		}
		if err == nil {
			err = checkFileType(req, ctx.Operation().RequestBody)
		}
		if err != nil {
			a.writeError(w, req, err)
			return
		}
		next(ctx)
	}
}

// checkFileType refuses a body of another type than the file that a route takes. huma checks
// the type of JSON only. Faults: UnsupportedType.
func checkFileType(req *http.Request, body *huma.RequestBody) error {
	if body == nil || body.Content["application/json"] != nil {
		return nil
	}
	sent, _, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	for taken := range body.Content {
		if err != nil || sent != taken {
			return fault.New(fault.UnsupportedType, "The body must be a file with the Content-Type %s.", taken)
		}
	}
	return nil
}

// contentCoding returns what a body is encoded with, or "".
func contentCoding(req *http.Request) string {
	coding := strings.TrimSpace(strings.Join(req.Header.Values("Content-Encoding"), ", "))
	if req.ContentLength == 0 || strings.EqualFold(coding, "identity") {
		return ""
	}
	return coding
}

// checkParameters returns what is wrong with parameters before they are parsed.
// Faults: Invalid.
func (a *API) checkParameters(req *http.Request, parameters []*huma.Param, rules map[string]fieldRule) error {
	query, err := url.ParseQuery(req.URL.RawQuery)
	if err != nil { // the parameters that cannot be read would be absent
		return fault.New(fault.Invalid, "The query of the URL cannot be read: write %% as %%25 and ; as %%3B, and separate parameters with &.")
	}
	problems := fault.Fields{}
	var known []string
	for _, p := range parameters {
		if p.In == "query" {
			known = append(known, p.Name)
		}
	}
	if !a.lenient {
		for name := range query {
			if !slices.Contains(known, name) {
				problems.Add(name, "%s", unknownParameter(known))
			}
		}
	}
	for _, p := range parameters {
		values := query[p.Name]
		if p.In == "header" {
			values = req.Header.Values(p.Name)
		}
		if p.In == "query" && len(values) > 1 {
			problems.Add(p.Name, "must be given once")
		}
		for _, v := range values {
			problem := emptyProblem(v)
			switch {
			case problem == "":
			case p.Required:
				problems.Add(p.Name, "%s", problem)
			default:
				problems.Add(p.Name, "%s%s", problem, rules[p.Name].leaveOut())
			}
		}
	}
	return problems.Err()
}

// unknownParameter returns the problem of a query parameter that is none of those known.
func unknownParameter(known []string) string {
	if len(known) == 0 {
		return "is not a parameter of this request, which has none: remove it"
	}
	return "is not a parameter of this request: remove it, or use one of " + strings.Join(known, ", ")
}

// inputFields returns the fields of an input and of the structs in it, also those that a
// field of the same name hides.
func inputFields(input reflect.Type) []reflect.StructField {
	var all []reflect.StructField
	for f := range input.Fields() {
		if f.Anonymous && f.Type.Kind() == reflect.Struct {
			all = append(all, inputFields(f.Type)...)
		} else {
			all = append(all, f)
		}
	}
	return all
}

// describeParameters documents the rules of parameters that services check.
func describeParameters(a *API, op huma.Operation, input reflect.Type) {
	for _, p := range a.operationOf(op.Method, op.Path).Parameters {
		for _, f := range inputFields(input) {
			if f.Tag.Get(p.In) == p.Name {
				describeBounds(p.Schema, f.Tag)
				if p.Example == nil && len(p.Schema.Examples) > 0 {
					p.Example = p.Schema.Examples[0]
				}
			}
		}
	}
}
