// Package client is the Go client of the agento API. It defines the wire types, which
// the server uses too, so that client and server always agree.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Client calls an agento server. If HTTP is nil, it uses http.DefaultClient. It sends the
// API key to the scheme, host and port of URL only. It may be used concurrently.
//
// A request that fails is repeated where that cannot do anything twice: after 429, 503 and
// 504, and for a GET or a POST also after 502 and a broken connection. Every POST has an
// Idempotency-Key for that, a new one unless WithIdempotencyKey names one.
type Client struct {
	URL    string // the server's address, such as http://127.0.0.1:8080
	APIKey string
	HTTP   *http.Client
	// Retries is how often a request is repeated, and the stream of an answer is continued; 0
	// means 3. With a negative number that is never done, and no POST has a key of its own.
	Retries int
}

// Data is the envelope of one value.
type Data[T any] struct {
	Data T `json:"data" doc:"The result."`
}

// List is the envelope of a list.
type List[T any] struct {
	Data       []T        `json:"data" doc:"The rows of this page."`
	Pagination Pagination `json:"pagination" doc:"Where the page is in the whole list."`
}

// Pagination is the position of a page in the whole list.
type Pagination struct {
	Total  int `json:"total" doc:"Number of rows on all pages."`
	Limit  int `json:"limit" doc:"Number of rows that a page can have. Never 0."`
	Offset int `json:"offset" doc:"Number of rows before this page."`

	HasMore bool    `json:"hasMore" doc:"Whether there are more rows after this page; in a history, before the page, and after it if you asked with after."`
	Before  *string `json:"before,omitempty" doc:"Of a history: pass it as before to get the messages before this page."`
	After   *string `json:"after,omitempty" doc:"Of a history: pass it as after to get the messages after this page."`
}

// CursorList is the envelope of a list that is paged by a cursor.
type CursorList[T any] struct {
	Data       []T    `json:"data" doc:"The rows of this page."`
	Pagination Cursor `json:"pagination" doc:"Where the next page begins."`
}

// Cursor is the position of the next page.
type Cursor struct {
	NextOffset *string `json:"nextOffset" doc:"Pass it as offset to get the next page. Null on the last page."`
	HasMore    bool    `json:"hasMore" doc:"Whether there is another page."`
}

// Error is an error that the server answered.
type Error struct {
	Status    int               `json:"-"`
	Code      string            `json:"code" example:"unauthorized" doc:"Code for programs. It does not change." values:"invalid_request,unauthorized,forbidden,plan_limit,not_found,conflict,idempotency_conflict,agent_not_running,payload_too_large,unsupported_media_type,rate_limited,internal_error,upstream_error,upstream_timeout,unavailable"`
	Message   string            `json:"message" example:"Invalid or missing API key" doc:"Sentence for people that says what to do."`
	RequestID string            `json:"requestId" doc:"Id of the request in the server's log."`
	Details   map[string]string `json:"details,omitempty" doc:"The problem of each field, or what you need for another attempt."`

	RetryAfter time.Duration `json:"-"` // when another attempt makes sense; 0: unknown
	Header     http.Header   `json:"-"` // of the response, such as X-RateLimit-Remaining
}

// ForeignAnswer is the code of an Error that is not agento's, such as that of a proxy.
const ForeignAnswer = "foreign_answer"

// Error implements error.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s (%s)", e.Message, e.Code)
	for field, what := range e.Details {
		text += fmt.Sprintf("\n  %s: %s", field, what)
	}
	return text
}

// ErrorEnvelope is the body of every error.
type ErrorEnvelope struct {
	Error *Error `json:"error" nullable:"false" doc:"What went wrong."`
}

// call sends in as JSON, unless it is nil, and decodes the response.
func call[T any](ctx context.Context, c *Client, method, path string, in any) (T, error) {
	var out T
	res, err := c.do(ctx, method, path, in)
	if err != nil {
		return out, err
	}
	defer func() { _ = res.Body.Close() }()
	dec := json.NewDecoder(res.Body)
	dec.UseNumber() // in free-form values, such as an agent's config
	if err := dec.Decode(&out); err != nil {
		return out, fmt.Errorf("decode the response to %s %s: %w", method, path, err)
	}
	return out, nil
}

func data[T any](ctx context.Context, c *Client, method, path string, in any) (T, error) {
	out, err := call[Data[T]](ctx, c, method, path, in)
	return out.Data, err
}

// idempotencyKey is the context key of the Idempotency-Key.
type idempotencyKey struct{}

// WithIdempotencyKey returns a context whose POST requests have an Idempotency-Key: a
// request that is repeated with the same key, such as after a broken connection, is
// executed once and gets the same response; Chat yields the events of the same turn, from
// the first. Use a new key for each request that is not a repetition.
func WithIdempotencyKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, idempotencyKey{}, key)
}

// respondAsync is the context key of a request whose answer does not wait.
type respondAsync struct{}

// file is a body that is sent as it is.
type file struct {
	contentType string
	content     []byte
}

// newFile returns a body with in as JSON, unless it is a file.
func newFile(in any) (file, error) {
	if f, ok := in.(file); ok {
		return f, nil
	}
	b, err := json.Marshal(in)
	if err != nil {
		return file{}, fmt.Errorf("encode the request: %w", err)
	}
	return file{"application/json", b}, nil
}

// do returns a response with status 2xx. The caller must close its body.
func (c *Client) do(ctx context.Context, method, path string, in any) (*http.Response, error) {
	key, _ := ctx.Value(idempotencyKey{}).(string)
	if method != http.MethodPost {
		key = ""
	} else if key == "" && c.retries() > 0 {
		key = newIdempotencyKey()
	}
	safe := method == http.MethodGet || key != ""
	for n := 0; ; n++ {
		res, err := c.attempt(ctx, method, path, key, in)
		if err == nil || ctx.Err() != nil || n >= c.retries() || !canRepeat(err, safe) || !pause(ctx, n, err) {
			return res, err
		}
	}
}

// attempt is do without repetitions.
func (c *Client) attempt(ctx context.Context, method, path, key string, in any) (*http.Response, error) {
	var body io.Reader
	var sent file
	if in != nil {
		var err error
		if sent, err = newFile(in); err != nil {
			return nil, err
		}
		body = bytes.NewReader(sent.content)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.URL, "/")+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Api-Key", c.APIKey)
	if in != nil {
		req.Header.Set("Content-Type", sent.contentType)
	}
	if ctx.Value(respondAsync{}) != nil {
		req.Header.Set("Prefer", "respond-async")
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	res, err := c.http().Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode/100 != 2 {
		defer func() { _ = res.Body.Close() }()
		return nil, readError(res)
	}
	return res, nil
}

// http returns an HTTP client that follows no redirect to another origin: net/http would
// send the API key there.
func (c *Client) http() *http.Client {
	hc := *http.DefaultClient
	if c.HTTP != nil {
		hc = *c.HTTP
	}
	next := hc.CheckRedirect
	hc.CheckRedirect = func(to *http.Request, via []*http.Request) error {
		switch {
		case to.URL.Scheme != via[0].URL.Scheme || !strings.EqualFold(to.URL.Host, via[0].URL.Host):
			return fmt.Errorf("the server redirects to %s://%s, where the API key is not sent: if that is your agento server, use its address", to.URL.Scheme, to.URL.Host)
		case next != nil:
			return next(to, via)
		case len(via) >= maxRedirects:
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		return nil
	}
	return &hc
}

// maxRedirects is as in net/http.
const maxRedirects = 10

// readError returns the error of a response with another status.
func readError(res *http.Response) error {
	var e ErrorEnvelope
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if json.Unmarshal(body, &e) != nil || e.Error == nil || e.Error.Code == "" {
		e.Error = &Error{
			Code: ForeignAnswer, RequestID: res.Header.Get("X-Request-Id"),
			Message: fmt.Sprintf("the server answered %s without an agento error: check that the URL is that of an agento server", res.Status),
		}
	}
	e.Error.Status, e.Error.Header = res.StatusCode, res.Header
	if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.Error.RetryAfter = time.Duration(seconds) * time.Second
	}
	return e.Error
}

// IsCode reports whether err is an Error with that code.
func IsCode(err error, code string) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}
