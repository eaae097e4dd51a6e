package main

import (
	"context"
	"log/slog"
	"strings"

	"agento.host/agento/internal/dashboard"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/netguard"
	"agento.host/agento/internal/oidc"
	"agento.host/agento/internal/vault"
)

// oidcFlags name the OpenID provider by which people sign in.
type oidcFlags struct {
	OIDCIssuer   string `help:"Address of an OpenID provider by which people sign in to the dashboard, too, exactly as it writes it in its tokens. Needs --public-url. Its secret is OIDC_CLIENT_SECRET: agento installation secrets set OIDC_CLIENT_SECRET." name:"oidc-issuer" placeholder:"URL"`
	OIDCClientID string `help:"Id of this installation at the OpenID provider." name:"oidc-client-id" placeholder:"ID"`
	OIDCName     string `help:"What people call the OpenID provider. Default: its host." name:"oidc-name" placeholder:"NAME"`
}

// provider returns the OpenID provider; nil, if there is none. The operator chooses its address, so
// it may be in a private network.
func (f serveFlags) provider(db *database.DB, services *dependencies, guard netguard.Guard, secrets *vault.Installation, log *slog.Logger) (*oidc.Provider, error) {
	if f.OIDCIssuer == "" {
		return nil, nil
	}
	if err := f.checkOIDC(); err != nil {
		return nil, err
	}
	guard.AllowPrivate, guard.Proxy = true, guard.Proxy.For(f.OIDCIssuer)
	calls := guard.Client()
	calls.Transport = services.watch(oidcService, calls.Transport)
	p, err := oidc.New(oidc.Settings{
		DB: db, Issuer: f.OIDCIssuer, ClientID: f.OIDCClientID, Name: f.OIDCName, Callback: strings.TrimRight(f.PublicURL, "/") + dashboard.OpenIDCallback,
		ClientSecret: func(ctx context.Context) (vault.Secret, error) { return secrets.Read(ctx, vault.OIDCClientSecret) },
		HTTP:         calls, Log: log,
	})
	if err != nil {
		return nil, usageError("--oidc-issuer: %v", err)
	}
	return p, nil
}

// checkOIDC returns nil if nothing is missing for the OpenID provider, which is named.
func (f serveFlags) checkOIDC() error {
	switch {
	case f.PublicURL == "":
		return usageError("--oidc-issuer needs --public-url, the address that the provider leads people back to")
	case f.OIDCClientID == "":
		return usageError("--oidc-issuer needs --oidc-client-id, by which the provider knows this installation")
	}
	return nil
}
