// Package fetch asks a service on the net for something small, trusts nothing of
// the answer, and turns every way it can fail into a fault.
package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/vault"
)

// Settings say whom to ask, and how.
type Settings struct {
	Service string        // its name in messages
	BaseURL string        // scheme, host and an optional path before every request's
	HTTP    *http.Client  // guards which addresses are dialled; nil: http.DefaultClient
	Timeout time.Duration // for one whole answer, body included; 0: 30 s
	Token   vault.Secret  // sent as a bearer token to the host of BaseURL alone
}

const (
	defaultTimeout = 30 * time.Second
	maxRedirects   = 5
)

// Client asks one service. Its methods may be called concurrently.
type Client struct {
	service string
	base    *url.URL
	http    *http.Client
	timeout time.Duration
	token   vault.Secret
}

// New checks the settings.
func New(s Settings) (*Client, error) {
	base, err := url.Parse(s.BaseURL)
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return nil, fmt.Errorf("the address of %s must be an http or https URL, not %q", s.Service, s.BaseURL)
	}
	c := &Client{service: s.Service, base: base, timeout: s.Timeout, token: s.Token}
	if c.timeout <= 0 {
		c.timeout = defaultTimeout
	}
	from := s.HTTP
	if from == nil {
		from = http.DefaultClient
	}
	client := *from
	client.CheckRedirect = c.follow(from.CheckRedirect)
	c.http = &client
	return c, nil
}

// follow refuses a redirect that gives up encryption, beside what the client
// given refuses. The token does not come along to another host: net/http would
// take it to another port and to any subdomain.
func (c *Client) follow(also func(*http.Request, []*http.Request) error) func(*http.Request, []*http.Request) error {
	return func(to *http.Request, via []*http.Request) error {
		if len(via) >= maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		if via[0].URL.Scheme == "https" && to.URL.Scheme != "https" {
			return errors.New("a redirect leads from https to http")
		}
		if to.URL.Host != c.base.Host {
			to.Header.Del("Authorization")
		}
		if also != nil {
			return also(to, via)
		}
		return nil
	}
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

// Resolve returns the address that a service's answer points to, relative to
// the base. Another host must be asked over https. Faults: Upstream.
func (c *Client) Resolve(ref string) (string, error) {
	u, err := c.base.Parse(ref)
	if err != nil || u.User != nil || u.Scheme != "https" && (u.Scheme != c.base.Scheme || u.Host != c.base.Host) {
		return "", fault.New(fault.Upstream, "%s points to an address that cannot be trusted.", c.service)
	}
	return u.String(), nil
}

// Answer is what a service said, with a status of 2xx.
type Answer struct {
	Header http.Header
	Body   []byte
}

// Get reads at most limit bytes. Faults: NotFound; Forbidden; Upstream;
// UpstreamTimeout.
func (c *Client) Get(ctx context.Context, address, accept string, limit int64) (Answer, error) {
	return c.read(ctx, http.MethodGet, address, accept, nil, limit)
}

// Post sends JSON and reads at most limit bytes; faults as for Get.
func (c *Client) Post(ctx context.Context, address string, body []byte, limit int64) (Answer, error) {
	return c.read(ctx, http.MethodPost, address, "application/json", body, limit)
}

func (c *Client) read(ctx context.Context, method, address, accept string, body []byte, limit int64) (Answer, error) {
	var a Answer
	err := c.do(ctx, method, address, accept, body, func(resp *http.Response) error {
		data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
		if err != nil {
			return err
		}
		if int64(len(data)) > limit {
			return fault.New(fault.Upstream, "%s sent more than %d bytes.", c.service, limit)
		}
		a = Answer{Header: resp.Header, Body: data}
		return nil
	})
	return a, err
}

// Stream hands the body of an answer to f, which may read at most limit bytes
// of it; a longer one looks cut off.
func (c *Client) Stream(ctx context.Context, address string, limit int64, f func(io.Reader) error) error {
	return c.do(ctx, http.MethodGet, address, "*/*", nil, func(resp *http.Response) error {
		return f(io.LimitReader(resp.Body, limit))
	})
}

func (c *Client) do(ctx context.Context, method, address, accept string, body []byte, f func(*http.Response) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask %s: %w", c.service, err)
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", "agento")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if !c.token.Empty() && req.URL.Host == c.base.Host {
		req.Header.Set("Authorization", "Bearer "+c.token.Reveal())
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.fault(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return c.refusal(resp)
	}
	return c.fault(f(resp))
}

// fault says what went wrong on the way. What is a fault already stays one.
func (c *Client) fault(err error) error {
	var f *fault.Fault
	var timeout net.Error
	switch {
	case err == nil || errors.As(err, &f):
		return err
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("ask %s: %w", c.service, err)
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
		return fault.New(fault.UpstreamTimeout, "%s did not answer in time. Try again later.", c.service).Because(err)
	}
	return fault.New(fault.Upstream, "%s cannot be reached or sent a broken answer. Try again later.", c.service).Because(err)
}

// refusal turns a status into a fault; what the service says of it goes to the log alone.
func (c *Client) refusal(resp *http.Response) error {
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 400))
	cause := fmt.Errorf("%s %s: %s: %q", resp.Request.Method, resp.Request.URL.Redacted(), resp.Status, said)
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone, http.StatusUnprocessableEntity:
		return fault.New(fault.NotFound, "%s has no such thing.", c.service).Because(cause)
	case http.StatusForbidden, http.StatusUnavailableForLegalReasons, http.StatusLocked:
		if resp.Header.Get("X-RateLimit-Remaining") != "0" {
			return fault.New(fault.Forbidden, "%s does not give it out.", c.service).Because(cause)
		}
	case http.StatusTooManyRequests:
	default:
		return fault.New(fault.Upstream, "%s answered with status %d. Try again later.", c.service, resp.StatusCode).Because(cause)
	}
	f := fault.New(fault.Upstream, "%s takes no more requests from this server for now. Try again later.", c.service).Because(cause)
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 && s <= 3600 {
		f.RetryAfter = time.Duration(s) * time.Second
	}
	return f
}
