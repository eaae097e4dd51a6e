package oidc

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"agento.host/agento/internal/database"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/user"
	"agento.host/agento/internal/vault"
)

// VisitLifetime is how long somebody may take at the provider.
const VisitLifetime = 10 * time.Minute

// maxVisits bounds the visits that are under way: anybody can begin one.
const maxVisits = 20_000

// Purpose is why somebody visits the provider.
type Purpose string

// The purposes.
const (
	SignIn     Purpose = "sign-in"
	Link       Purpose = "link"       // an identity to the person who is signed in
	Invitation Purpose = "invitation" // a new person joins an account by it
	First      Purpose = "first"      // a new person becomes the first owner of an account by it
)

// Visit is a visit to the provider.
type Visit struct {
	Purpose Purpose
	Session identity.SignInID // of Link
	Token   vault.Secret      // of Invitation and First: that of the link
	Email   string            // of First: the person's, who has typed it
	Next    string            // the page to lead to afterwards; empty: the first one
}

// Begun is a visit that has begun.
type Begun struct {
	URL    string       // where the browser goes
	Cookie vault.Secret // that the browser keeps for VisitLifetime, without which it cannot come back
}

// browserPart is what the browser keeps of a visit. The database has only its hash.
type browserPart struct {
	State    string `json:"s"`
	Verifier string `json:"v"` // of PKCE
	Token    string `json:"t,omitempty"`
	Email    string `json:"e,omitempty"`
	Next     string `json:"n,omitempty"`
}

// Begin begins a visit. Faults: Unavailable.
func (p *Provider) Begin(ctx context.Context, v Visit) (Begun, error) {
	c, err := p.configuration()
	if err != nil {
		return Begun{}, err
	}
	client, err := p.client(ctx, c)
	if err != nil {
		return Begun{}, err
	}
	part := browserPart{State: rand.Text(), Verifier: oauth2.GenerateVerifier(), Token: v.Token.Reveal(), Email: v.Email, Next: v.Next}
	data, err := json.Marshal(part)
	if err != nil {
		return Begun{}, err
	}
	cookie, nonce := base64.RawURLEncoding.EncodeToString(data), rand.Text()
	err = p.s.DB.Tx(ctx, "oidc.begin", func(ctx context.Context, tx *database.Tx) error {
		at := time.Now()
		if _, err := database.Exec(ctx, tx, `DELETE FROM oidc_visits WHERE expires_at <= $1`, database.Millis(at)); err != nil {
			return err
		}
		n, err := database.One(ctx, tx, database.Scalar[int], `SELECT COUNT(*) FROM oidc_visits`)
		if err != nil {
			return err
		}
		if n >= maxVisits {
			return fault.New(fault.Unavailable, "Too many people sign in at the moment. Try again in a few minutes.")
		}
		_, err = database.Exec(ctx, tx, `INSERT INTO oidc_visits (hash, browser, purpose, sign_in, nonce, expires_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			hashOf(part.State), hashOf(cookie), v.Purpose, v.Session, nonce, database.Millis(at.Add(VisitLifetime)))
		return err
	})
	if err != nil {
		return Begun{}, fmt.Errorf("begin a visit to the OpenID provider: %w", err)
	}
	address := client.AuthCodeURL(part.State, oidc.Nonce(nonce), oauth2.S256ChallengeOption(part.Verifier))
	return Begun{URL: address, Cookie: vault.NewSecret(cookie)}, nil
}

// Finish ends a visit by the address that the browser has come back to, and says who it was. It uses the
// visit up before it asks the provider, whatever comes of it.
// Faults: Forbidden, if the visit is not this browser's, has ended, or the provider refuses; Unavailable.
func (p *Provider) Finish(ctx context.Context, cookie string, back url.Values) (Visit, user.External, error) {
	v, part, nonce, err := p.take(ctx, cookie, back.Get("state"))
	if err != nil {
		return Visit{}, user.External{}, err
	}
	who, err := p.answer(ctx, back, part.Verifier, nonce)
	if cause := errors.Unwrap(err); cause != nil {
		p.s.Log.WarnContext(ctx, "a sign-in by the OpenID provider failed", "issuer", p.s.Issuer, "error", cause)
	}
	return v, who, err
}

// answer returns the identity of what the browser has come back with.
func (p *Provider) answer(ctx context.Context, back url.Values, verifier, nonce string) (user.External, error) {
	if issuer := back.Get("iss"); issuer != "" && issuer != p.s.Issuer {
		return user.External{}, broken(fmt.Errorf("the answer is of the issuer %q", issuer))
	}
	if refused := back.Get("error"); refused != "" {
		return user.External{}, p.refused(refused, back.Get("error_description"))
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, p.http), callTimeout)
	defer cancel()
	return p.exchange(ctx, back.Get("code"), verifier, nonce)
}

// take uses a visit up. Faults: Forbidden.
func (p *Provider) take(ctx context.Context, cookie, state string) (v Visit, part browserPart, nonce string, err error) {
	again := fault.New(fault.Forbidden, "This sign-in was not begun in this browser, was completed already, or has taken too long. Begin again.")
	data, err := base64.RawURLEncoding.DecodeString(cookie)
	if err != nil || json.Unmarshal(data, &part) != nil || subtle.ConstantTimeCompare([]byte(part.State), []byte(state)) == 0 || state == "" {
		return v, part, "", again
	}
	err = p.s.DB.Tx(ctx, "oidc.take", func(ctx context.Context, tx *database.Tx) error {
		condition, args := `WHERE hash = $1 AND browser = $2 AND expires_at > $3`, []any{hashOf(state), hashOf(cookie), database.Millis(time.Now())}
		_, err := database.One(ctx, tx, func(r database.Row) (none struct{}, err error) { return none, r.Scan(&v.Purpose, &v.Session, &nonce) },
			`SELECT purpose, sign_in, nonce FROM oidc_visits `+condition, args...)
		if errors.Is(err, sql.ErrNoRows) {
			return again
		}
		if err != nil {
			return err
		}
		n, err := database.Exec(ctx, tx, `DELETE FROM oidc_visits `+condition, args...)
		if err == nil && n == 0 {
			err = again // another request was faster
		}
		return err
	})
	if err != nil {
		return Visit{}, part, "", fmt.Errorf("end a visit to the OpenID provider: %w", err)
	}
	v.Token, v.Email, v.Next = vault.NewSecret(part.Token), part.Email, part.Next
	return v, part, nonce, nil
}

// exchange gets the identity for a code.
func (p *Provider) exchange(ctx context.Context, code, verifier, nonce string) (user.External, error) {
	c, err := p.configuration()
	if err != nil {
		return user.External{}, err
	}
	client, err := p.client(ctx, c)
	if err != nil {
		return user.External{}, err
	}
	if code == "" {
		return user.External{}, broken(errors.New("the answer has no code"))
	}
	token, err := client.Exchange(ctx, code, oauth2.VerifierOption(verifier))
	if err != nil {
		return user.External{}, p.failed(err)
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return user.External{}, broken(errors.New("the answer has no id_token"))
	}
	id, err := c.verifier.Verify(ctx, raw)
	if err != nil {
		return user.External{}, broken(err)
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(nonce)) == 0 {
		return user.External{}, broken(errors.New("the nonce is another one"))
	}
	if id.Subject == "" || len(id.Subject) > 255 { // what OpenID Connect Core allows
		return user.External{}, broken(fmt.Errorf("the subject has %d characters", len(id.Subject)))
	}
	var says struct {
		Email string `json:"email"`
		Name  string `json:"name"`
	}
	if err := id.Claims(&says); err != nil { // they are for people only
		says.Email, says.Name = "", ""
	}
	return user.External{Issuer: id.Issuer, Subject: id.Subject, Email: says.Email, Name: says.Name}, nil
}

// failed returns the fault of a call that the provider did not answer, or refused.
func (p *Provider) failed(err error) error {
	refused := (*oauth2.RetrieveError)(nil)
	if errors.As(err, &refused) && refused.Response.StatusCode < 500 {
		// The rest of the answer may have a token.
		return broken(fmt.Errorf("the provider refuses the code with %d %s", refused.Response.StatusCode, refused.ErrorCode))
	}
	return fault.New(fault.Unavailable, "%s does not answer. Try again in a minute.", p.s.Name).Because(errors.New("a call of the provider failed"))
}

// refused returns the fault of a visit that the provider has ended. Its words are a stranger's.
func (p *Provider) refused(code, description string) error {
	if code == "access_denied" {
		return fault.New(fault.Forbidden, "You were not signed in: %s says that it was cancelled.", p.s.Name)
	}
	if description = plain(description); description == "" {
		description = plain(code)
	}
	return fault.New(fault.Forbidden, "%s did not sign you in. It says: %s", p.s.Name, description)
}

func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	return strings.TrimSpace(strings.ToValidUTF8(text[:min(len(text), 300)], ""))
}

// broken returns the fault of an answer that proves nothing.
func broken(cause error) error {
	return fault.New(fault.Forbidden, "What the provider has answered does not prove who you are. Begin again; the operator finds the cause in the server's log.").Because(cause)
}

// hashOf returns what is stored of a random value.
func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
