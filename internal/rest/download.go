package rest

import (
	"context"
	"io"
	"mime"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"agento.host/agento/internal/fault"
)

// Download is a response that is a file.
type Download struct {
	FileName string // what a browser saves it as
	// Write writes the file. Its context ends with the request, and when the caller may not read
	// on. If it fails before its first byte, the response is an ordinary error; later the connection is
	// broken, so that nobody takes half a file for a whole one.
	Write func(context.Context, io.Writer) error
}

// NewDownloadRoute returns a route that answers with a file of that media type.
func NewDownloadRoute[I any](pattern, summary, contentType string, handle func(context.Context, *I) (*Download, error)) Route {
	r := newRoute(pattern, summary, func(a *API, op huma.Operation) {
		register(a, op, func(ctx context.Context, in *I) (*huma.StreamResponse, error) {
			d, err := handle(ctx, in)
			if err != nil {
				return nil, err
			}
			return &huma.StreamResponse{Body: func(hc huma.Context) {
				r, w := humago.Unwrap(hc)
				a.serveDownload(w, r, contentType, d)
			}}, nil
		})
	})
	r.download = contentType
	return r
}

func (a *API) serveDownload(w http.ResponseWriter, r *http.Request, contentType string, d *Download) {
	out := &downloadWriter{w: w, contentType: contentType, fileName: d.FileName}
	if r.Method == http.MethodHead {
		out.begin()
		return
	}
	allowed, cancel := a.whileAllowed(r.Context())
	defer cancel()
	err := d.Write(allowed, out)
	if refused := context.Cause(allowed); err != nil && fault.From(refused).Code != fault.Internal {
		err = refused
	}
	switch {
	case err == nil:
	case !out.begun:
		a.writeError(w, r, err)
	default:
		_ = a.logError(r.Context(), err) // there is no response any more that could have it
		panic(http.ErrAbortHandler)
	}
}

// downloadWriter begins the response with the first byte.
type downloadWriter struct {
	w           http.ResponseWriter
	contentType string
	fileName    string
	begun       bool
}

// Write implements io.Writer.
func (d *downloadWriter) Write(p []byte) (int, error) {
	d.begin()
	return d.w.Write(p)
}

func (d *downloadWriter) begin() {
	if d.begun {
		return
	}
	d.begun = true
	h := d.w.Header()
	h.Set("Content-Type", d.contentType)
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": d.fileName}))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	d.w.WriteHeader(http.StatusOK)
}
