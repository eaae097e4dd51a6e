package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"agento.host/agento/internal/vault"
)

// Client calls the admin API.
type Client struct{ http http.Client }

// Dial returns a client of the server that runs on a data directory. Errors:
// syscall.ECONNREFUSED and fs.ErrNotExist, if no server accepts connections there.
func Dial(ctx context.Context, dir string) (*Client, error) {
	dial := func(ctx context.Context) (net.Conn, error) {
		address, release, err := shortPath(dir, socketName)
		if err != nil {
			return nil, err
		}
		defer release()
		return (&net.Dialer{}).DialContext(ctx, "unix", address)
	}
	conn, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	_ = conn.Close() // it was only to see whether a server answers
	return &Client{http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}}}, nil
}

// Transport returns what sends requests to the server, such as those of the public API.
func (c *Client) Transport() http.RoundTripper { return c.http.Transport }

// Local returns a client of a handler in this process.
func Local(h http.Handler) *Client { return &Client{http.Client{Transport: local{h}}} }

type local struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper. It returns when the handler begins its
// response. Closing the body waits for the handler.
func (l local) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	body, out := io.Pipe()
	w := &pipeWriter{header: http.Header{}, out: out, begun: make(chan struct{}), status: http.StatusOK}
	r = r.Clone(ctx)
	if r.Body == nil {
		r.Body = http.NoBody
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.handler.ServeHTTP(w, r)
		w.begin(http.StatusOK)
		_ = out.Close()
	}()
	<-w.begun
	return &http.Response{
		StatusCode: w.status, Header: w.header, Request: r,
		Body: &localBody{body, func() { cancel(); <-ended }},
	}, nil
}

type localBody struct {
	*io.PipeReader
	wait func()
}

// Close implements io.Closer.
func (b *localBody) Close() error {
	err := b.PipeReader.Close()
	b.wait()
	return err
}

// pipeWriter writes a response to a pipe.
type pipeWriter struct {
	header http.Header
	out    *io.PipeWriter
	begun  chan struct{} // closed when header and status are final
	once   sync.Once
	status int
}

func (w *pipeWriter) begin(status int) {
	w.once.Do(func() {
		w.status = status
		close(w.begun)
	})
}

// Header implements http.ResponseWriter.
func (w *pipeWriter) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *pipeWriter) WriteHeader(status int) { w.begin(status) }

// Write implements http.ResponseWriter.
func (w *pipeWriter) Write(b []byte) (int, error) {
	w.begin(http.StatusOK)
	return w.out.Write(b)
}

// Installation describes the installation.
func (c *Client) Installation(ctx context.Context) (i Installation, err error) {
	return i, c.call(ctx, http.MethodGet, "/installation", nil, &i)
}

// Activate ends that the installation is quiet. It returns what the installation was before.
func (c *Client) Activate(ctx context.Context) (before Installation, err error) {
	return before, c.call(ctx, http.MethodPost, "/installation", nil, &before)
}

// Top returns what agents use now.
func (c *Client) Top(ctx context.Context) (t Top, err error) {
	return t, c.call(ctx, http.MethodGet, "/top", nil, &t)
}

// CreateAccount creates an account. Without a plan it gets the default plan of the plans
// file.
func (c *Client) CreateAccount(ctx context.Context, name, plan string) (a Account, err error) {
	return a, c.call(ctx, http.MethodPost, "/accounts", Account{Name: name, Plan: plan}, &a)
}

// Accounts lists the accounts, newest first.
func (c *Client) Accounts(ctx context.Context) (all []Account, err error) {
	return all, c.call(ctx, http.MethodGet, "/accounts", nil, &all)
}

// Account returns an account, which is given by its id or name, with what it has.
func (c *Client) Account(ctx context.Context, account string) (d AccountDetails, err error) {
	return d, c.call(ctx, http.MethodGet, "/account?"+url.Values{"account": {account}}.Encode(), nil, &d)
}

// ChangeAccount changes an account.
func (c *Client) ChangeAccount(ctx context.Context, account string, in AccountChange) (d AccountDetails, err error) {
	return d, c.call(ctx, http.MethodPatch, "/account?"+url.Values{"account": {account}}.Encode(), in, &d)
}

// DeleteAccount deletes an account, whose name confirms it, and returns what it had.
func (c *Client) DeleteAccount(ctx context.Context, account, name string) (d AccountDetails, err error) {
	return d, c.call(ctx, http.MethodDelete, "/account?"+url.Values{"account": {account}, "name": {name}}.Encode(), nil, &d)
}

// Plans lists the plans: first those of the plans file.
func (c *Client) Plans(ctx context.Context) (p Plans, err error) {
	return p, c.call(ctx, http.MethodGet, "/plans", nil, &p)
}

// CreateKey creates a key of an account, which is given by its id or name. Only this
// result has its Secret.
func (c *Client) CreateKey(ctx context.Context, account string, in NewKey) (k Key, err error) {
	return k, c.call(ctx, http.MethodPost, "/keys?"+url.Values{"account": {account}}.Encode(), in, &k)
}

// Keys lists the keys of an account, newest first.
func (c *Client) Keys(ctx context.Context, account string) (all []Key, err error) {
	return all, c.call(ctx, http.MethodGet, "/keys?"+url.Values{"account": {account}}.Encode(), nil, &all)
}

// EditKey changes a key of an account.
func (c *Client) EditKey(ctx context.Context, account, key string, in KeyChanges) (k Key, err error) {
	return k, c.call(ctx, http.MethodPatch, "/keys?"+url.Values{"account": {account}, "key": {key}}.Encode(), in, &k)
}

// RotateKey gives a key of an account a new secret. The former one is valid for grace. Only
// this result has the Secret.
func (c *Client) RotateKey(ctx context.Context, account, key string, grace time.Duration) (k Key, err error) {
	return k, c.call(ctx, http.MethodPost, "/rotate?"+url.Values{"account": {account}, "key": {key}, "grace": {grace.String()}}.Encode(), nil, &k)
}

// RevokeKey revokes a key of an account.
func (c *Client) RevokeKey(ctx context.Context, account, key string) error {
	return c.call(ctx, http.MethodDelete, "/keys?"+url.Values{"account": {account}, "key": {key}}.Encode(), nil, nil)
}

// Users lists everybody who can sign in, by e-mail address.
func (c *Client) Users(ctx context.Context) (all []User, err error) {
	return all, c.call(ctx, http.MethodGet, "/users", nil, &all)
}

// InviteUser invites somebody to an account, which is given by its id or name. Only this result
// has the link.
func (c *Client) InviteUser(ctx context.Context, account string, in NewUser) (l Link, err error) {
	return l, c.call(ctx, http.MethodPost, "/users/invitations?"+url.Values{"account": {account}}.Encode(), in, &l)
}

// Invitations lists the invitations of an account that wait, newest first.
func (c *Client) Invitations(ctx context.Context, account string) (all []Invitation, err error) {
	return all, c.call(ctx, http.MethodGet, "/users/invitations?"+url.Values{"account": {account}}.Encode(), nil, &all)
}

// RevokeInvitation ends an invitation of an account.
func (c *Client) RevokeInvitation(ctx context.Context, account, id string) error {
	return c.call(ctx, http.MethodDelete, "/users/invitations?"+url.Values{"account": {account}, "invitation": {id}}.Encode(), nil, nil)
}

// SetRole changes what a person, who is given by its id or e-mail address, may do in an account.
func (c *Client) SetRole(ctx context.Context, account, user, role string) (u User, err error) {
	return u, c.call(ctx, http.MethodPatch, "/users?"+url.Values{"account": {account}, "user": {user}, "role": {role}}.Encode(), nil, &u)
}

// ResetUser makes a link with which a person, who is given by its id or e-mail address, sets a new
// password. secondFactor also removes the second factor.
func (c *Client) ResetUser(ctx context.Context, user string, secondFactor bool) (l Link, err error) {
	return l, c.call(ctx, http.MethodPost, "/users/resets?"+url.Values{"user": {user}, "secondFactor": {strconv.FormatBool(secondFactor)}}.Encode(), nil, &l)
}

// RemoveUser removes a person from an account; with an empty account, altogether.
func (c *Client) RemoveUser(ctx context.Context, user, account string) (u User, err error) {
	v := url.Values{"user": {user}}
	if account != "" {
		v.Set("account", account)
	}
	return u, c.call(ctx, http.MethodDelete, "/users?"+v.Encode(), nil, &u)
}

// FirstLink makes the link for the first owner of an account: the one that is named, the only one,
// or a new one if there is none.
func (c *Client) FirstLink(ctx context.Context, account string) (l Link, err error) {
	return l, c.call(ctx, http.MethodPost, "/users/first-link?"+url.Values{"account": {account}}.Encode(), nil, &l)
}

// AddOperator makes somebody an operator. The link is empty if the person can sign in already.
func (c *Client) AddOperator(ctx context.Context, in NewUser) (l Link, err error) {
	return l, c.call(ctx, http.MethodPost, "/users/operators", in, &l)
}

// Examine checks what every running gateway really has.
func (c *Client) Examine(ctx context.Context) (all []Examined, err error) {
	return all, c.call(ctx, http.MethodGet, "/gateways", nil, &all)
}

// Checkpoints returns what the checkpoints of sleeping agents take.
func (c *Client) Checkpoints(ctx context.Context) (use Checkpoints, err error) {
	return use, c.call(ctx, http.MethodGet, "/checkpoints", nil, &use)
}

// Secrets lists the secrets that the installation can have.
func (c *Client) Secrets(ctx context.Context) (all []Secret, err error) {
	return all, c.call(ctx, http.MethodGet, "/secrets", nil, &all)
}

// SetSecret sets a secret of the installation.
func (c *Client) SetSecret(ctx context.Context, name string, value vault.Secret) error {
	return c.call(ctx, http.MethodPut, "/secrets?"+url.Values{"name": {name}}.Encode(), value, nil)
}

// DeleteSecret deletes a secret of the installation.
func (c *Client) DeleteSecret(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, "/secrets?"+url.Values{"name": {name}}.Encode(), nil, nil)
}

// Garbage lists what RemoveGarbage can remove.
func (c *Client) Garbage(ctx context.Context) (all []Garbage, err error) {
	return all, c.call(ctx, http.MethodGet, "/garbage", nil, &all)
}

// RemoveGarbage removes a piece of garbage.
func (c *Client) RemoveGarbage(ctx context.Context, g Garbage) error {
	return c.call(ctx, http.MethodDelete, "/garbage?"+url.Values{"kind": {g.Kind}, "name": {g.Name}}.Encode(), nil, nil)
}

// Reembed embeds all knowledge with an embedder and calls progress after each batch.
func (c *Client) Reembed(ctx context.Context, in Reembed, progress func(Reembedded)) (Reembedded, error) {
	res, err := c.send(ctx, http.MethodPost, "/reembed", in)
	if err != nil {
		return Reembedded{}, err
	}
	defer func() { _ = res.Body.Close() }()
	for lines := json.NewDecoder(res.Body); ; {
		var line reembedLine
		if err := lines.Decode(&line); err != nil {
			return line.Reembedded, fmt.Errorf("the server ended: run the command again, it continues: %w", err)
		}
		switch {
		case line.Failure != nil:
			return line.Reembedded, line.Failure.error()
		case line.Ended:
			return line.Reembedded, nil
		}
		progress(line.Reembedded)
	}
}

// Backup makes a backup. progress is called for each agent.
func (c *Client) Backup(ctx context.Context, in Backup, progress func(BackupProgress)) (BackedUp, error) {
	res, err := c.send(ctx, http.MethodPost, "/backup", in)
	if err != nil {
		return BackedUp{}, err
	}
	defer func() { _ = res.Body.Close() }()
	for lines := json.NewDecoder(res.Body); ; {
		var line backupLine
		if err := lines.Decode(&line); err != nil {
			return BackedUp{}, fmt.Errorf("the server ended before the backup was made: %w", err)
		}
		switch {
		case line.Failure != nil:
			return BackedUp{}, line.Failure.error()
		case line.Ended != nil:
			return *line.Ended, nil
		}
		progress(line.BackupProgress)
	}
}

// call sends a request and decodes the response.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	res, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if out == nil {
		return nil
	}
	return json.NewDecoder(res.Body).Decode(out)
}

// send sends a request: a secret as it is, everything else as JSON. The caller closes
// the response. Errors: faults of the handler.
func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body []byte
	if secret, ok := in.(vault.Secret); ok {
		body = []byte(secret.Reveal())
	} else if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://agento"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("call the server that runs on the data directory: %w", err)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer func() { _ = res.Body.Close() }()
	var f failure
	if err := json.NewDecoder(res.Body).Decode(&f); err != nil {
		return nil, fmt.Errorf("the server that runs on the data directory does not know this command (status %d): use the agento of its version", res.StatusCode)
	}
	return nil, f.error()
}
