// Package fetch sends requests to a service on the internet and reads small
// responses. It does not trust the service, and it returns every failure as a fault.
//
// It never retries: a caller waits for the response, and the fault tells the caller
// when to try again. A retry library is therefore not needed.
package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/vault"
)

// Settings configure a Client.
type Settings struct {
	Service string        // name of the service in messages
	BaseURL string        // scheme, host and an optional path that every request's path follows
	HTTP    *http.Client  // decides which addresses may be dialled; nil: http.DefaultClient
	Timeout time.Duration // of one request, including its response body; 0: 30 s

	// Token is called before each request, so that a changed token is used at once. Its result
	// is sent as a bearer token, only to the origin of BaseURL, unless it is empty. nil: none.
	Token func(context.Context) (vault.Secret, error)
	// TokenName is what messages call the token.
	TokenName string
}

const (
	defaultTimeout = 30 * time.Second
	maxRedirects   = 5
)

// Client sends requests to one service. Its methods may be called concurrently.
type Client struct {
	service string
	base    *url.URL
	http    *http.Client
	timeout time.Duration
	token   func(context.Context) (vault.Secret, error)
	named   string // the token
}

// New returns a client. Errors: the base URL is invalid.
func New(s Settings) (*Client, error) {
	base, err := url.Parse(s.BaseURL)
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, fmt.Errorf("the address of %s must be an http or https URL, not %q", s.Service, s.BaseURL)
	}
	c := &Client{service: s.Service, base: base, timeout: s.Timeout, token: s.Token, named: s.TokenName}
	if c.timeout <= 0 {
		c.timeout = defaultTimeout
	}
	given := s.HTTP
	if given == nil {
		given = http.DefaultClient
	}
	client := *given
	client.CheckRedirect = c.checkRedirect(given.CheckRedirect)
	c.http = &client
	return c, nil
}

// checkRedirect returns a redirect policy that refuses more than maxRedirects
// redirects and a redirect from https to http, and then applies next. It removes the
// token from requests to another origin: net/http would send it to another port, with
// another scheme, and to any subdomain.
func (c *Client) checkRedirect(next func(*http.Request, []*http.Request) error) func(*http.Request, []*http.Request) error {
	return func(to *http.Request, via []*http.Request) error {
		if len(via) >= maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		if via[0].URL.Scheme == "https" && to.URL.Scheme != "https" {
			return errors.New("a redirect leads from https to http")
		}
		if !c.isOrigin(to.URL) {
			to.Header.Del("Authorization")
		}
		if next != nil {
			return next(to, via)
		}
		return nil
	}
}

// isOrigin reports whether a URL has the scheme, host and port of the base.
func (c *Client) isOrigin(u *url.URL) bool {
	return u.Scheme == c.base.Scheme && u.Host == c.base.Host
}

// URL returns the address of a path below the base; the parts are escaped.
func (c *Client) URL(query url.Values, parts ...string) string {
	escaped := make([]string, len(parts))
	for i, p := range parts {
		escaped[i] = url.PathEscape(p)
	}
	u := c.base.JoinPath(escaped...)
	u.RawQuery = query.Encode()
	return u.String()
}

// Resolve returns the address of a reference in a response, which may be relative to
// the base URL. Another host must use https. Faults: Upstream.
func (c *Client) Resolve(ref string) (string, error) {
	u, err := c.base.Parse(ref)
	if err != nil || u.User != nil || u.Scheme != "https" && (u.Scheme != c.base.Scheme || u.Host != c.base.Host) {
		return "", fault.New(fault.Upstream, "%s sent an address that is not allowed. Nothing was fetched.", c.service)
	}
	return u.String(), nil
}

// Response is a response with a status of 2xx.
type Response struct {
	Header http.Header
	Body   []byte
}

// Get returns the response of a GET request. Faults: NotFound; Forbidden; Upstream,
// also if the body is longer than limit bytes; UpstreamTimeout.
func (c *Client) Get(ctx context.Context, address, accept string, limit int64) (Response, error) {
	return c.read(ctx, http.MethodGet, address, accept, nil, limit)
}

// Post sends JSON and returns the response. Faults: as for Get.
func (c *Client) Post(ctx context.Context, address string, body []byte, limit int64) (Response, error) {
	return c.read(ctx, http.MethodPost, address, "application/json", body, limit)
}

func (c *Client) read(ctx context.Context, method, address, accept string, body []byte, limit int64) (Response, error) {
	var out Response
	err := c.do(ctx, method, address, accept, body, func(resp *http.Response) error {
		data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
		if err != nil {
			return err
		}
		if int64(len(data)) > limit {
			return fault.New(fault.Upstream, "%s sent more than %d bytes.", c.service, limit)
		}
		out = Response{Header: resp.Header, Body: data}
		return nil
	})
	return out, err
}

// Stream sends a GET request and calls f with the response body. Reading more than limit
// bytes fails. Faults: as for Get; Invalid, if the body is longer.
func (c *Client) Stream(ctx context.Context, address string, limit int64, f func(io.Reader) error) error {
	return c.do(ctx, http.MethodGet, address, "*/*", nil, func(resp *http.Response) error {
		body := &boundedReader{r: resp.Body, left: limit}
		err := f(body)
		if body.left < 0 {
			return fault.New(fault.Invalid, "What %s sent is larger than %d MiB. Nothing was fetched.", c.service, limit>>20)
		}
		return err
	})
}

// boundedReader fails when more than left bytes are read, and left is then negative.
type boundedReader struct {
	r    io.Reader
	left int64
}

// Read implements io.Reader.
func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errors.New("the response is too long")
	}
	return n, err
}

func (c *Client) do(ctx context.Context, method, address, accept string, body []byte, f func(*http.Response) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("request to %s: %w", c.service, err)
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", "agento")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != nil && c.isOrigin(req.URL) {
		token, err := c.token(ctx)
		if err != nil {
			return fmt.Errorf("read the token for %s: %w", c.service, err)
		}
		if !token.Empty() {
			req.Header.Set("Authorization", "Bearer "+token.Reveal())
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.asFault(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return c.statusFault(resp)
	}
	return c.asFault(f(resp))
}

// asFault returns the fault for an error of a request. A fault is returned as it is.
func (c *Client) asFault(err error) error {
	var f *fault.Fault
	var timeout net.Error
	switch {
	case err == nil || errors.As(err, &f):
		return err
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("request to %s: %w", c.service, err)
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
		return fault.New(fault.UpstreamTimeout, "%s did not answer in time. Try again later.", c.service).Because(err)
	}
	return fault.New(fault.Upstream, "%s cannot be reached or sent a broken answer. Try again later.", c.service).Because(err)
}

// statusFault returns the fault for a status other than 2xx. The response body is only
// logged, as the cause.
func (c *Client) statusFault(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 400))
	cause := fmt.Errorf("%s %s: %s: %q", resp.Request.Method, resp.Request.URL.Redacted(), resp.Status, text)
	wait := retryAfter(resp.Header, time.Now())
	limited := resp.StatusCode == http.StatusTooManyRequests ||
		resp.StatusCode == http.StatusForbidden && (resp.Header.Get("X-RateLimit-Remaining") == "0" || resp.Header.Get("Retry-After") != "")
	var f *fault.Fault
	switch {
	case limited && wait >= time.Minute:
		f = fault.New(fault.Upstream, "%s limits the requests of this server. Try again in %d minutes.", c.service, int(math.Ceil(wait.Minutes())))
	case limited:
		f = fault.New(fault.Upstream, "%s limits the requests of this server. Try again later.", c.service)
	case resp.StatusCode == http.StatusNotFound, resp.StatusCode == http.StatusGone, resp.StatusCode == http.StatusConflict, resp.StatusCode == http.StatusUnprocessableEntity:
		f = fault.New(fault.NotFound, "%s does not have it.", c.service)
	case resp.StatusCode == http.StatusForbidden, resp.StatusCode == http.StatusUnavailableForLegalReasons, resp.StatusCode == http.StatusLocked:
		f = fault.New(fault.Forbidden, "%s refuses access to it.", c.service)
	case resp.StatusCode == http.StatusUnauthorized && c.named != "":
		f = fault.New(fault.Upstream, "%s refuses %s of this installation. Trying again does not help: ask the operator to replace it.", c.service, c.named)
	case resp.StatusCode >= 500:
		f = fault.New(fault.Upstream, "%s answered with status %d. Try again later.", c.service, resp.StatusCode)
	default:
		f = fault.New(fault.Upstream, "%s answered with status %d, which this server does not expect. Trying again does not help: tell the operator.", c.service, resp.StatusCode)
	}
	f = f.Because(cause)
	if f.Code == fault.Upstream {
		f.RetryAfter = wait
	}
	return f
}

// maxRetryAfter is the longest wait that is believed. GitHub's limit is of an hour.
const maxRetryAfter = time.Hour

// retryAfter returns how long a service asks to wait: in Retry-After, as seconds or as a time,
// or in GitHub's time at which its limit begins anew. 0: it does not say.
func retryAfter(h http.Header, now time.Time) time.Duration {
	var wait time.Duration
	if s, err := strconv.Atoi(h.Get("Retry-After")); err == nil {
		wait = time.Duration(s) * time.Second
	} else if at, err := http.ParseTime(h.Get("Retry-After")); err == nil {
		wait = at.Sub(now)
	} else if at, err := strconv.ParseInt(h.Get("X-RateLimit-Reset"), 10, 64); err == nil && h.Get("X-RateLimit-Remaining") == "0" {
		wait = time.Unix(at, 0).Sub(now)
	}
	if wait <= 0 || wait > maxRetryAfter {
		return 0
	}
	return wait
}
