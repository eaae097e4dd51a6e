package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"agento.host/agento/internal/access"
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
	largest      int64 // body, in bytes; 0: maxBody
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
	}}
	r.method, r.path, _ = strings.Cut(pattern, " ")
	return r
}

// upTo sets the largest body of a route.
func (r route) upTo(bytes int64) route {
	r.largest = bytes
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
		Errors:          []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusTooManyRequests},
		Middlewares:     huma.Middlewares{s.require(r.scope)},
	}
	if r.largest > 0 {
		op.MaxBodyBytes = r.largest
	}
	if r.scope != anyKey {
		op.Description = "Scope: " + string(r.scope)
	}
	return op
}

// require lets only callers through whose key has the scope.
func (s *Server) require(scope access.Scope) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		if scope != anyKey {
			if err := s.allow(callerOf(r.Context()), scope); err != nil {
				s.fail(w, r, err)
				return
			}
		}
		next(huma.WithValue(ctx, responseWriter{}, w))
	}
}

// allow says whether the key has the scope and the plan has the API.
func (s *Server) allow(who access.Principal, scope access.Scope) error {
	if err := who.Require(scope); err != nil {
		return err
	}
	return s.Access.Allows(who, access.FeatureAPIAccess)
}

type responseWriter struct{}

// endBodyTime lifts the read deadline once the body is there. Left in place it
// would end the request's context when it passes: net/http goes on reading, to
// notice a client that goes away.
func endBodyTime(ctx context.Context) {
	if w, ok := ctx.Value(responseWriter{}).(http.ResponseWriter); ok {
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // refused only by writers without a connection
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
	if parts[0] == "agents" && len(parts) > 2 {
		switch parts[2] {
		case "start", "stop", "restart", "status":
		default:
			return parts[2]
		}
	}
	return parts[0]
}
