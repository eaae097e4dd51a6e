package rest

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"strings"

	"agento.host/agento/internal/fault"
)

// Foreign is an API that has the form of another program's, for the clients of that program. Its
// requests are authenticated, bounded, traced and logged as those of the table are. It is not in
// the OpenAPI document: its clients know it.
type Foreign struct {
	Prefix string // of its paths, such as /openai/v1/
	Routes []ForeignRoute

	// Authenticate takes the place of that of the Settings. Nil means that one.
	Authenticate func(http.ResponseWriter, *http.Request) (context.Context, error)

	// Fail writes an error in the form of the API, before anything else was written.
	Fail func(w http.ResponseWriter, f *fault.Fault, status int)
}

// ForeignRoute is a route of a Foreign.
type ForeignRoute struct {
	Pattern   string                      // method and path
	MaxBody   int64                       // in bytes; 0: it takes no body
	MaxAnswer int64                       // as of Route
	Holds     bool                        // its response can take as long as a stream's, and counts as one
	Authorize func(context.Context) error // called before the body is read

	// Handle writes the response, or returns a stream or an error instead. The context of the
	// request also ends when the server shuts down, and when the caller may not read on.
	Handle func(w http.ResponseWriter, r *http.Request, body []byte) (*Stream, error)
}

// foreignOf returns the foreign API that a request's path belongs to, or nil.
func (a *API) foreignOf(r *http.Request) *Foreign {
	for i := range a.foreign {
		if strings.HasPrefix(r.URL.Path, a.foreign[i].Prefix) {
			return &a.foreign[i]
		}
	}
	return nil
}

// serveForeign serves a request of a foreign API.
func (a *API) serveForeign(w http.ResponseWriter, r *http.Request, route ForeignRoute) {
	release, err := a.holdForeign(r, route)
	if err != nil {
		a.writeError(w, r, err)
		return
	}
	defer release()
	body, err := readForeign(r, route.MaxBody)
	if err != nil {
		a.writeError(w, r, err)
		return
	}
	allowed, cancel := a.whileAllowed(r.Context())
	defer cancel()
	ctx, stop := context.WithCancel(allowed)
	defer stop()
	defer context.AfterFunc(a.draining, stop)()
	stream, err := route.Handle(w, r.WithContext(ctx), body)
	if refused := context.Cause(allowed); err != nil && fault.From(refused).Code != fault.Internal {
		err = refused
	}
	switch {
	case err != nil && r.Context().Err() != nil: // the client has disconnected
	case err != nil:
		a.writeError(w, r, err)
	case stream != nil:
		a.serveStream(w, r, stream)
	}
}

// holdForeign authorizes a request and takes what it needs of its caller's budgets.
func (a *API) holdForeign(r *http.Request, route ForeignRoute) (release func(), err error) {
	if err := route.Authorize(r.Context()); err != nil {
		return nil, err
	}
	size := route.MaxBody
	if r.ContentLength >= 0 {
		size = min(size, r.ContentLength)
	}
	memory, err := a.holdMemory(r.Context(), size+cmp.Or(route.MaxAnswer, defaultMaxAnswer))
	if err != nil || !route.Holds {
		return memory, err
	}
	stream, err := a.holdStream(r.Context())
	if err != nil {
		memory()
		return nil, err
	}
	return func() { stream(); memory() }, nil
}

// readForeign returns the body of a request. Faults: TooLarge; Invalid, if it breaks off.
func readForeign(r *http.Request, limit int64) ([]byte, error) {
	if limit == 0 || r.Body == nil {
		discardBody(r)
		return nil, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	switch {
	case int64(len(body)) > limit:
		return nil, fault.New(fault.TooLarge, "The body has more than %d bytes, the limit.", limit)
	case err != nil:
		return nil, fault.New(fault.Invalid, "The body is incomplete. Send it again.").Because(err)
	}
	return body, nil
}
