// Package oidc signs people in by an OpenID provider that the operator has chosen: discovery, a visit to
// the provider and back, and the check of what comes back. Who somebody is, is the issuer and the subject
// (user.External); package user says whom an identity belongs to.
package oidc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/vault"
)

const (
	// discoveryTimeout bounds one look at the provider's configuration, and callTimeout a visit's calls.
	discoveryTimeout = 15 * time.Second
	callTimeout      = 15 * time.Second
	// firstRetry is the pause after a discovery that failed; it doubles up to lastRetry.
	firstRetry = 5 * time.Second
	lastRetry  = 5 * time.Minute
	// discoverAgain is how often the configuration is read that is known.
	discoverAgain = 12 * time.Hour
	// maxAnswer bounds an answer of the provider.
	maxAnswer = 1 << 20
)

// Settings configure a Provider.
type Settings struct {
	DB           *database.DB
	Issuer       string // exactly as the provider writes it in its tokens
	ClientID     string
	ClientSecret func(context.Context) (vault.Secret, error) // empty: the provider knows this client without one
	Name         string                                      // what people call the provider
	Callback     string                                      // the address of the page that people come back to
	HTTP         *http.Client
	Log          *slog.Logger
}

// Provider is the OpenID provider of the installation. Its Run reads the provider's configuration; until
// that has succeeded, nobody can sign in by it. It is safe for concurrent use.
type Provider struct {
	s    Settings
	http *http.Client

	mu    sync.Mutex
	found *configuration // guarded by mu; nil: not yet
	err   error          // why not, or why it could not be read again; guarded by mu
}

// configuration is what a provider says of itself.
type configuration struct {
	verifier *oidc.IDTokenVerifier
	endpoint oauth2.Endpoint
}

// New returns a Provider. It calls nobody.
func New(s Settings) (*Provider, error) {
	u, err := url.Parse(s.Issuer)
	switch {
	case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("the issuer %q is no address", s.Issuer)
	case u.Scheme != "https" && !isLocal(u):
		return nil, fmt.Errorf("the issuer %q must begin with https://: whoever is on the way could sign in as anybody", s.Issuer)
	case s.ClientID == "":
		return nil, errors.New("the client id is missing")
	case s.Callback == "":
		return nil, errors.New("the address of the installation is not known")
	}
	if s.Name == "" {
		s.Name = u.Hostname()
	}
	calls := *s.HTTP
	calls.Transport = limited{s.HTTP.Transport}
	calls.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	calls.Timeout = callTimeout
	return &Provider{s: s, http: &calls, err: errors.New("its configuration was not read yet")}, nil
}

// isLocal reports whether an address is this machine, for tests and development.
func isLocal(u *url.URL) bool {
	host := u.Hostname()
	return u.Scheme == "http" && (host == "localhost" || host == "127.0.0.1" || host == "::1")
}

// Name returns what people call the provider.
func (p *Provider) Name() string { return p.s.Name }

// Run reads the provider's configuration until ctx ends: again soon, if that fails.
func (p *Provider) Run(ctx context.Context) error {
	retry := firstRetry
	for {
		pause := discoverAgain
		err := p.discover(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the server ends
		}
		if err != nil {
			p.s.Log.WarnContext(ctx, "the configuration of the OpenID provider cannot be read", "issuer", p.s.Issuer, "error", err)
			pause, retry = retry, min(2*retry, lastRetry)
		} else {
			retry = firstRetry
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// Problem says why nobody can sign in by the provider; empty: they can.
func (p *Provider) Problem() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found != nil {
		return ""
	}
	return fmt.Sprintf("Nobody can sign in with %s: its configuration cannot be read. The server tries again by itself; its log has the cause.", p.s.Name)
}

func (p *Provider) discover(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, discoveryTimeout)
	defer cancel()
	// What reads the provider's keys later keeps the client of this context, and not its deadline.
	found, err := oidc.NewProvider(oidc.ClientContext(limited, p.http), p.s.Issuer)
	var c *configuration
	if err == nil {
		c, err = newConfiguration(found, p.s.ClientID)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err = err; err == nil {
		p.found = c
	}
	return err
}

func newConfiguration(found *oidc.Provider, client string) (*configuration, error) {
	var says struct {
		Methods []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := found.Claims(&says); err != nil {
		return nil, err
	}
	endpoint := found.Endpoint()
	// Not tried out: a provider may refuse the code of a first call that was wrong.
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if len(says.Methods) > 0 && !slices.Contains(says.Methods, "client_secret_basic") {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	for _, address := range []string{endpoint.AuthURL, endpoint.TokenURL} {
		if u, err := url.Parse(address); err != nil || u.Host == "" || u.Scheme != "https" && !isLocal(u) {
			return nil, fmt.Errorf("the provider names the address %q", address)
		}
	}
	return &configuration{endpoint: endpoint, verifier: found.Verifier(&oidc.Config{ClientID: client})}, nil
}

// configuration returns the provider's. Faults: Unavailable.
func (p *Provider) configuration() (*configuration, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found == nil {
		return nil, fault.New(fault.Unavailable, "%s cannot be reached at the moment. Sign in with your password, or try again in a minute.", p.s.Name).Because(p.err)
	}
	return p.found, nil
}

// client returns what calls the provider as this installation.
func (p *Provider) client(ctx context.Context, c *configuration) (*oauth2.Config, error) {
	secret, err := p.s.ClientSecret(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the client secret of the OpenID provider: %w", err)
	}
	endpoint := c.endpoint
	if secret.Empty() {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return &oauth2.Config{
		ClientID: p.s.ClientID, ClientSecret: secret.Reveal(), Endpoint: endpoint, RedirectURL: p.s.Callback,
		Scopes: []string{oidc.ScopeOpenID, "email", "profile"},
	}, nil
}
