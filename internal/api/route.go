package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
)

// bodyTime is how long a caller may take to send a body.
const bodyTime = 30 * time.Second

// maxBody is the largest body of a route that names no other.
const maxBody = 1 << 20

// anyKey is the scope of routes that every valid key may use.
const anyKey access.Scope = ""

// route is one row of the table.
type route struct {
	method, path string
	scope        access.Scope
	summary      string
	largest      int64  // body, in bytes; 0: maxBody
	status       int    // of success; 0: 200
	early        bool   // answers 202 on request
	example      string // of a stream; empty: the route answers with JSON
	register     func(*Server, route)
}

// row makes a route of a handler that takes the decoded input and returns the
// answer or an error.
func row[I, O any](pattern string, scope access.Scope, summary string, handle func(context.Context, access.Principal, *I) (*O, error)) route {
	r := route{scope: scope, summary: summary, register: func(s *Server, r route) {
		huma.Register(s.api, s.operation(r), func(ctx context.Context, in *I) (*O, error) {
			endBodyTime(ctx)
			out, err := handle(ctx, callerOf(ctx), in)
			if err != nil {
				return nil, s.refuse(ctx, err)
			}
			return out, nil
		})
		s.describeAnswers(r)
	}}
	r.method, r.path, _ = strings.Cut(pattern, " ")
	return r
}

// upTo sets the largest body of a route.
func (r route) upTo(bytes int64) route {
	r.largest = bytes
	return r
}

// creates says that the route answers 201.
func (r route) creates() route {
	r.status = http.StatusCreated
	return r
}

// orAccepts says that the route answers 202 to who does not want to wait.
func (r route) orAccepts() route {
	r.early = true
	return r
}

// streams says that the route answers with events such as these.
func (r route) streams(example string) route {
	r.example = example
	return r
}

func (s *Server) operation(r route) huma.Operation {
	op := huma.Operation{
		OperationID:     operationID(r.method, r.path),
		Method:          r.method,
		Path:            r.path,
		Summary:         r.summary,
		Tags:            []string{tag(r.path)},
		MaxBodyBytes:    maxBody,
		BodyReadTimeout: bodyTime,
		DefaultStatus:   r.status,
		Middlewares:     huma.Middlewares{s.require(r)},
	}
	if r.largest > 0 {
		op.MaxBodyBytes = r.largest
	}
	if r.scope != anyKey {
		op.Description = "Scope: " + string(r.scope)
	}
	return op
}

// require lets only callers through whose key has the scope, and only names that
// something could have.
func (s *Server) require(r route) func(huma.Context, func(huma.Context)) {
	names := wildcards(r.path)
	return func(ctx huma.Context, next func(huma.Context)) {
		req, w := humago.Unwrap(ctx)
		if r.scope != anyKey {
			if err := s.allow(callerOf(req.Context()), r.scope); err != nil {
				s.fail(w, req, err)
				return
			}
		}
		for _, name := range names {
			if !legible(req.PathValue(name)) {
				s.fail(w, req, fault.New(fault.NotFound, "There is no such %s: it must be short, readable text.", name))
				return
			}
		}
		next(huma.WithValue(ctx, sender{}, exchange{w, req.Body}))
	}
}

// allow says whether the key has the scope and the plan has the API.
func (s *Server) allow(who access.Principal, scope access.Scope) error {
	if err := who.Require(scope); err != nil {
		return err
	}
	return s.Access.Allows(who, access.FeatureAPIAccess)
}

// wildcards are the names in braces of a path.
func wildcards(path string) []string {
	var names []string
	for part := range strings.SplitSeq(path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			names = append(names, strings.TrimSuffix(name, "}"))
		}
	}
	return names
}

// longestName is more than any id or name has that a path can hold.
const longestName = 256

// legible says whether text could be a name: not every database takes the rest.
func legible(text string) bool {
	return len(text) <= longestName && utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

// beginBodyTime sets the read deadline of a request that has a body. net/http
// reads a body to its end before it answers, also one that nobody asked for or
// that a refused caller sends, and would wait for it for ever.
func beginBodyTime(w http.ResponseWriter, r *http.Request) {
	if r.Body != nil && r.Body != http.NoBody {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime)) // refused only by writers without a connection
	}
}

// sender is where a request's exchange is found in its context.
type sender struct{}

// exchange is what is needed to end the time of a body.
type exchange struct {
	w    http.ResponseWriter
	body io.Reader
}

// maxStray is how much of a body is read that a route does not take; net/http
// reads no more either.
const maxStray = 256 << 10

// endBodyTime lifts the read deadline once the body is there. Left in place it
// would end the request's context when it passes: net/http goes on reading, to
// notice a client that goes away.
func endBodyTime(ctx context.Context) {
	x, ok := ctx.Value(sender{}).(exchange)
	if !ok || x.body == nil {
		return
	}
	_, err := io.CopyN(io.Discard, x.body, maxStray)
	if errors.Is(err, io.EOF) || errors.Is(err, http.ErrBodyReadAfterClose) { // which is huma's
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Time{}) // refused only by writers without a connection
	}
}

// operationID reads like get-agents-id-chat-messages.
func operationID(method, path string) string {
	words := strings.NewReplacer("/v1/", "", "{", "", "}", "", "/", "-").Replace(path)
	return strings.ToLower(method) + "-" + words
}

// tag is the resource that a path is about.
func tag(path string) string {
	parts := strings.Split(strings.TrimPrefix(path, "/v1/"), "/")
	if parts[0] == "agents" && len(parts) > 2 && !slices.Contains([]string{"start", "stop", "restart", "status"}, parts[2]) {
		return parts[2]
	}
	return parts[0]
}
