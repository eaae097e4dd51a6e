package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"agento.host/agento/client"
)

// Doc is what the OpenAPI document and the reference say of a route beside its types.
type Doc struct {
	ID   string // of the operation, such as listAgents: generators name functions after it
	Text string // what the request does and when it is answered, as Markdown

	// The example request: its query, one header as "Name: value", and its body as JSON. The
	// values of its path are the examples of the parameters.
	Query, Header, Body string
	Upload              string // the name of the file that a body of another type is; empty: that of an archive

	// Answer is the body of the response to the example: JSON, or the text of a stream.
	Answer string
}

// Tag is a group of routes.
type Tag struct {
	Name, Text string
	Paths      []string // what the paths of its routes begin with; the longest of all tags counts
}

// tagOf returns the tag of a path, or the path's first part if no tag has it.
func tagOf(tags []Tag, path string) string {
	name, longest := strings.Split(strings.TrimPrefix(path, "/v1"), "/")[1], 0
	for _, t := range tags {
		for _, p := range t.Paths {
			if (path == p || strings.HasPrefix(path, p+"/")) && len(p) > longest {
				name, longest = t.Name, len(p)
			}
		}
	}
	return name
}

// schemaName names the schema of a type, so that generated types have names that can be
// read: the envelopes of T are TResponse, TList and TPage.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for _, envelope := range []struct{ before, after string }{{"DataList", "ListResponse"}, {"Data", "Response"}, {"CursorList", "Page"}, {"List", "List"}} {
		if rest, ok := strings.CutPrefix(name, envelope.before); ok && strings.Contains(fmt.Sprint(t), "[") {
			return rest + envelope.after
		}
	}
	if name == "Error" {
		return "ErrorBody" // Error is a type of its own in many languages
	}
	return name
}

// named is the schema of a type that is described by its own name.
func named(schemas huma.Registry, name string, schema *huma.Schema) *huma.Schema {
	if schemas.Map()[name] == nil {
		schema.PrecomputeMessages()
		schemas.Map()[name] = schema
	}
	return &huma.Schema{Ref: "#/components/schemas/" + name}
}

type agentStatus struct{}

// Schema implements huma.SchemaProvider.
func (agentStatus) Schema(schemas huma.Registry) *huma.Schema {
	s := &huma.Schema{
		Type: huma.TypeString, Examples: []any{"running"},
		Description: "Status of an agent. provisioning: new, its first gateway is being created; starting: the gateway boots; running: it answers, or sleeps until the next message; stopping and stopped: a caller stopped it; error: the gateway could not be kept running.",
	}
	for _, status := range client.AgentStatuses() {
		s.Enum = append(s.Enum, string(status))
	}
	return named(schemas, "AgentStatus", s)
}

type secrets struct{}

// Schema implements huma.SchemaProvider. Its rules are those of the service that takes the
// secrets, which knows the other spellings of the names too.
func (secrets) Schema(schemas huma.Registry) *huma.Schema {
	text := func(doc string) *huma.Schema { return &huma.Schema{Type: huma.TypeString, Description: doc} }
	return named(schemas, "Secrets", &huma.Schema{
		Type:        huma.TypeObject,
		Description: "Secrets by name. Beside the named ones, an UPPER_CASE name becomes an environment variable of the agent. No response returns the values.",
		Properties: map[string]*huma.Schema{
			"anthropicApiKey":  text("Anthropic API key. It begins with sk-ant-."),
			"openaiApiKey":     text("OpenAI API key, or one for a service with its protocol."),
			"googleApiKey":     text("Google Gemini API key."),
			"telegramBotToken": text("Token of a Telegram bot, from BotFather."),
			"slackBotToken":    text("Slack bot token. It begins with xoxb-."),
			"slackAppToken":    text("Slack app-level token. It begins with xapp-."),
		},
		AdditionalProperties: &huma.Schema{Type: huma.TypeString},
	})
}

// describeEvents describes the events of a stream as one of the types of events, which a
// field named type tells apart. Without events they are lines of text.
func describeEvents(schemas huma.Registry, name string, events []any) *huma.Schema {
	if len(events) == 0 {
		return &huma.Schema{Type: huma.TypeString}
	}
	one := &huma.Schema{Description: "One event of the stream: the JSON of its data.", Discriminator: &huma.Discriminator{PropertyName: "type", Mapping: map[string]string{}}}
	for _, event := range events {
		ref := schemas.Schema(reflect.TypeOf(event), true, "")
		one.OneOf = append(one.OneOf, ref)
		kind, _ := reflect.TypeOf(event).FieldByName("Type")
		one.Discriminator.Mapping[kind.Tag.Get("enum")] = ref.Ref
	}
	return named(schemas, name, one)
}

// eachField calls f with each field of each described struct, and its schema.
func eachField(schemas huma.Registry, f func(object *huma.Schema, name string, field reflect.StructField)) {
	for name, schema := range schemas.Map() {
		t := schemas.TypeFromRef("#/components/schemas/" + name)
		if t == nil || t.Kind() != reflect.Struct {
			continue
		}
		for _, field := range reflect.VisibleFields(t) {
			key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if schema.Properties[key] != nil {
				f(schema, key, field)
			}
		}
	}
}

// describeBounds documents the rules that services check, with words of their own, as the
// schema of a field would have them. huma does not check them:
//
//	bounds:"1..100"  the length of a text or a list, or the value of a number
//	values:"a,b"     the values of a text, or of the items of a list
func describeBounds(schema *huma.Schema, tag reflect.StructTag) {
	if values := tag.Get("values"); values != "" {
		to := schema
		if schema.Items != nil {
			to = schema.Items
		}
		var all []any
		for v := range strings.SplitSeq(values, ",") {
			all = append(all, v)
		}
		extend(to, "enum", all)
	}
	least, most, ok := strings.Cut(tag.Get("bounds"), "..")
	if !ok {
		return
	}
	names := map[string][2]string{huma.TypeString: {"minLength", "maxLength"}, huma.TypeArray: {"minItems", "maxItems"}, huma.TypeInteger: {"minimum", "maximum"}}[schema.Type]
	for i, bound := range []string{least, most} {
		if bound == "" {
			continue
		}
		n, err := strconv.ParseInt(bound, 10, 64)
		if err != nil || names[i] == "" {
			panic(fmt.Sprintf("bounds:%q of a field of type %q", tag.Get("bounds"), schema.Type))
		}
		if names[i] == "minLength" && schema.MinLength != nil {
			continue // huma checks it
		}
		extend(schema, names[i], n)
	}
}

// extend adds a property to the JSON of a schema, which huma does not read.
func extend(schema *huma.Schema, name string, value any) {
	if schema.Extensions == nil {
		schema.Extensions = map[string]any{}
	}
	schema.Extensions[name] = value
}

// openAnswers lets the objects of responses have further fields, so that generated clients
// ignore those of later versions. Objects of requests stay as they are: unknown fields are
// refused.
func (a *API) openAnswers() {
	schemas := a.huma.OpenAPI().Components.Schemas
	sent := map[*huma.Schema]bool{}
	for _, o := range a.operations {
		if o.body != nil {
			a.collect(o.body, sent)
		}
	}
	for _, schema := range schemas.Map() {
		if !sent[schema] && schema.AdditionalProperties == false {
			schema.AdditionalProperties = nil
		}
	}
}

// collect adds a schema, and the schemas in it, to all.
func (a *API) collect(s *huma.Schema, all map[*huma.Schema]bool) {
	for s != nil && s.Ref != "" {
		s = a.huma.OpenAPI().Components.Schemas.SchemaFromRef(s.Ref)
	}
	if s == nil || all[s] {
		return
	}
	all[s] = true
	for _, p := range s.Properties {
		a.collect(p, all)
	}
	for _, p := range slices.Concat(s.AnyOf, s.OneOf, []*huma.Schema{s.Items}) {
		a.collect(p, all)
	}
}

// semantic matches a semantic version.
var semantic = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)

// semanticVersion returns the version of a program as a semantic one: v1.2.3 is 1.2.3, and a
// version that is none, such as the hash of a commit, is 0.0.0+HASH.
func semanticVersion(version string) string {
	if v := strings.TrimPrefix(version, "v"); semantic.MatchString(v) {
		return v
	}
	build := regexp.MustCompile(`[^0-9A-Za-z-]+`).ReplaceAllString(version, "-")
	if build = strings.Trim(build, "-"); build == "" {
		return "0.0.0"
	}
	return "0.0.0+" + build
}

// exampleBody decodes the JSON of an example. A mistake in it is one of the program, which
// every test finds.
func exampleBody(text string) any {
	if text == "" {
		return nil
	}
	var v any
	dec := json.NewDecoder(bytes.NewReader([]byte(text)))
	if err := dec.Decode(&v); err != nil {
		panic(fmt.Sprintf("an example is not JSON: %v: %s", err, text))
	}
	return v
}
