package rest

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"agento.host/agento/internal/fault"
)

// defaultMaxBody is the largest body of a route that sets no other limit.
const defaultMaxBody = 1 << 20

// defaultMaxAnswer is what the response of a route that sets no other size takes of the
// caller's memory budget.
const defaultMaxAnswer = 64 << 10

// maxName is the longest value of a wildcard in a path, in bytes. It is more than
// any id or name has.
const maxName = 256

// Route is one row of the table. NewRoute, NewStreamRoute and NewDownloadRoute make it; the exported
// fields may be changed before it is passed to New.
type Route struct {
	Method, Path string
	Summary      string
	Scope        string                      // the scope that the description names; empty means any key
	Status       int                         // of success; 0 means 200
	Async        bool                        // also answers 202, if the client asks for it
	MaxBody      int64                       // in bytes; 0 means 1 MiB
	MaxAnswer    int64                       // what a response takes of the caller's memory budget, in bytes; 0 means 64 KiB
	Errors       []int                       // error statuses, beside those that this package answers itself
	Authorize    func(context.Context) error // called before the request is decoded; nil allows everyone
	Check        Check                       // called with a body of type Checked
	Doc          Doc

	// Events are values of the types of a stream's events, whose field Type has the tag enum
	// with its value; EventsName names one of them. None: the events are lines of text.
	Events     []any
	EventsName string

	// AnswerHeaders are headers of a successful response, beside those that every response
	// has, and what they say.
	AnswerHeaders map[string]string

	// Reopen returns the stream of an earlier request with the same Idempotency-Key, from
	// its first event. header is that of its Stream. A POST that answers with a stream
	// needs it.
	Reopen func(r *http.Request, header http.Header) (*Stream, error)

	// CheckReplay returns a fault if the caller may not have the kept response of an earlier
	// request with the same Idempotency-Key, for example because it has lost a right since.
	// Nil allows it. Of a stream, Reopen checks it.
	CheckReplay func(r *http.Request, res Response) error

	example  string // of a stream; empty: the route answers with JSON, or with download
	download string // media type of a file; empty: the route answers with JSON, or with a stream
	register func(*API, huma.Operation)
}

// NewRoute returns a route that answers with JSON. I is a struct whose fields are
// parameters of the path, query and header, and Body; O is a struct with Body and
// optionally Status.
func NewRoute[I, O any](pattern, summary string, handle func(context.Context, *I) (*O, error)) Route {
	return newRoute(pattern, summary, func(a *API, op huma.Operation) {
		register(a, op, func(ctx context.Context, in *I) (*O, error) { return handle(ctx, in) })
	})
}

// NewStreamRoute returns a route that answers with server-sent events such as those
// of the example.
func NewStreamRoute[I any](pattern, summary, example string, handle func(context.Context, *I) (*Stream, error)) Route {
	r := newRoute(pattern, summary, func(a *API, op huma.Operation) {
		register(a, op, func(ctx context.Context, in *I) (*huma.StreamResponse, error) {
			s, err := handle(ctx, in)
			if err != nil {
				return nil, err
			}
			return a.streamResponse(s), nil
		})
	})
	r.example = example
	return r
}

func newRoute(pattern, summary string, register func(*API, huma.Operation)) Route {
	method, path, _ := strings.Cut(pattern, " ")
	return Route{Method: method, Path: path, Summary: summary, register: register}
}

func register[I, O any](a *API, op huma.Operation, handle func(context.Context, *I) (*O, error)) {
	body, _ := reflect.TypeFor[I]().FieldByName("Body")
	if checked := body.Type != nil && reflect.PointerTo(body.Type).Implements(reflect.TypeFor[checkable]()); checked != (op.Metadata[checkKey] != nil) {
		panic(fmt.Sprintf("%s %s: a route has a check if and only if its body is Checked", op.Method, op.Path))
	}
	o := &operation{API: a.huma, method: op.Method, path: op.Path, rules: a.rules}
	a.operations = append(a.operations, o)
	defer describeParameters(a, op, reflect.TypeFor[I]())
	op.Middlewares = append(op.Middlewares, a.checkRequest(parameterRules(reflect.TypeFor[I]())))
	huma.Register(o, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, a.errorResponse(ctx, err)
		}
		return out, nil
	})
	if b := a.operationOf(op.Method, op.Path).RequestBody; b != nil {
		if m := b.Content["application/json"]; m != nil { // otherwise a file
			o.body = m.Schema
		}
	}
}

// IsDownload reports whether the route answers with a file.
func (r Route) IsDownload() bool { return r.download != "" }

// IsStream reports whether the route answers with server-sent events.
func (r Route) IsStream() bool { return r.example != "" }

func (r Route) operation(a *API) huma.Operation {
	op := huma.Operation{
		OperationID:     cmp.Or(r.Doc.ID, operationID(r.Method, r.Path)),
		Method:          r.Method,
		Path:            r.Path,
		Summary:         r.Summary,
		Tags:            []string{tagOf(a.tags, r.Path)},
		MaxBodyBytes:    defaultMaxBody,
		BodyReadTimeout: bodyStallTime,
		DefaultStatus:   r.Status,
	}
	op.Middlewares = huma.Middlewares{a.before(r)}
	if r.MaxBody > 0 {
		op.MaxBodyBytes = r.MaxBody
	}
	op.Description = strings.TrimSpace(r.Doc.Text + "\n\n" + r.scopeText())
	if r.takesIdempotencyKey() {
		describeIdempotencyKey(&op)
	}
	if r.Check != nil {
		op.Metadata = map[string]any{checkKey: r.Check}
	}
	return op
}

// before authorizes a request and checks the wildcards of its path, before the rest
// of it is decoded.
func (a *API) before(r Route) func(huma.Context, func(huma.Context)) {
	names := wildcards(r.Path)
	return func(ctx huma.Context, next func(huma.Context)) {
		req, w := humago.Unwrap(ctx)
		if r.Authorize != nil {
			if err := r.Authorize(req.Context()); err != nil {
				a.writeError(w, req, err)
				return
			}
		}
		for _, name := range names {
			if !isName(req.PathValue(name)) {
				a.writeError(w, req, fault.New(fault.NotFound, "There is no such %s: it must be short, readable text.", name))
				return
			}
		}
		release, err := a.hold(req, r, ctx.Operation())
		if err != nil {
			a.writeError(w, req, err)
			return
		}
		defer release()
		if r.takesIdempotencyKey() && req.Header[idempotencyKey] != nil {
			a.serveOnce(r, ctx, next)
			return
		}
		if ctx.Operation().RequestBody == nil {
			discardBody(req)
		}
		next(ctx)
	}
}

// hold takes what a request needs of its caller's budgets, before its body is read and
// its handler has done anything. The caller calls release after the response.
func (a *API) hold(req *http.Request, r Route, op *huma.Operation) (release func(), err error) {
	memory, err := a.holdMemory(req.Context(), bodySize(req, op)+cmp.Or(r.MaxAnswer, defaultMaxAnswer))
	if err != nil || !r.IsStream() {
		return memory, err
	}
	stream, err := a.holdStream(req.Context())
	if err != nil {
		memory()
		return nil, err
	}
	return func() { stream(); memory() }, nil
}

// bodySize returns how much of a request's body is read, at most.
func bodySize(req *http.Request, op *huma.Operation) int64 {
	switch {
	case op.RequestBody == nil: // read in small pieces and dropped
		return 0
	case req.ContentLength < 0:
		return op.MaxBodyBytes
	}
	return min(req.ContentLength, op.MaxBodyBytes)
}

// wildcards returns the names in braces of a path.
func wildcards(path string) []string {
	var names []string
	for part := range strings.SplitSeq(path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			names = append(names, strings.TrimSuffix(name, "}"))
		}
	}
	return names
}

// isName reports whether text could be an id or a name. Not every database accepts
// invalid UTF-8 and control characters.
func isName(text string) bool {
	return len(text) <= maxName && utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

// operationID returns the id of a route without a Doc, such as get-agents-id-chat-messages.
func operationID(method, path string) string {
	words := strings.NewReplacer("/v1/", "", "{", "", "}", "", "/", "-").Replace(path)
	return strings.ToLower(method) + "-" + words
}

// scopeText says what the key of a request needs.
func (r Route) scopeText() string {
	if r.Scope == "" {
		return "Any valid key may call it."
	}
	return "Needs the scope `" + r.Scope + "`."
}
