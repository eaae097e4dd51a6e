package api

import (
	"context"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/vault"
)

// KeyID is the part of a path that names an API key.
type KeyID struct {
	ID identity.KeyID `path:"id" doc:"Id of the API key." example:"key_abc123"`
}

type listKeysInput struct {
	Limit  int `query:"limit" default:"50" minimum:"1" maximum:"200" doc:"Maximum number of keys."`
	Offset int `query:"offset" minimum:"0" doc:"Number of keys to skip."`
}

func (s *Server) listKeys(ctx context.Context, who access.Principal, in *listKeysInput) (*listReply[client.Key], error) {
	keys, total, err := s.access.ListKeys(ctx, who.AccountID, in.Limit, in.Offset)
	if err != nil {
		return nil, err
	}
	rows := make([]client.Key, len(keys))
	for i, k := range keys {
		rows[i] = keyJSON(k)
	}
	return page(rows, total, in.Limit, in.Offset), nil
}

func (s *Server) getKey(ctx context.Context, who access.Principal, in *KeyID) (*reply[client.Key], error) {
	k, err := s.access.Key(ctx, who.AccountID, in.ID)
	if err != nil {
		return nil, err
	}
	return one(keyJSON(k)), nil
}

type createKeyInput struct{ Body client.CreateKeyRequest }

func (s *Server) createKey(ctx context.Context, who access.Principal, in *createKeyInput) (*reply[client.KeySecret], error) {
	scopes, err := access.ParseScopes(in.Body.Scopes)
	if err != nil {
		return nil, err
	}
	expires, err := parseExpiry(in.Body.ExpiresAt)
	if err != nil {
		return nil, err
	}
	k := access.NewKey{Label: in.Body.Label, Scopes: scopes, RateLimit: access.DefaultRateLimit}
	if in.Body.RateLimit != nil {
		k.RateLimit = *in.Body.RateLimit
	}
	if expires != nil {
		k.ExpiresAt = *expires
	}
	created, secret, err := s.access.CreateKey(ctx, who.Actor(), k)
	return keySecret(created, secret, err)
}

type updateKeyInput struct {
	KeyID
	Body client.UpdateKeyRequest
}

func (s *Server) updateKey(ctx context.Context, who access.Principal, in *updateKeyInput) (*reply[client.Key], error) {
	changes := access.KeyChanges{Label: in.Body.Label, RateLimit: in.Body.RateLimit}
	if in.Body.Scopes != nil {
		scopes, err := access.ParseScopes(in.Body.Scopes)
		if err != nil {
			return nil, err
		}
		changes.Scopes = &scopes
	}
	var err error
	if changes.ExpiresAt, err = parseExpiry(in.Body.ExpiresAt); err != nil {
		return nil, err
	}
	k, err := s.access.EditKey(ctx, who.Actor(), in.ID, changes)
	if err != nil {
		return nil, err
	}
	return one(keyJSON(k)), nil
}

type rotateKeyInput struct {
	KeyID
	Body *client.RotateKeyRequest `required:"false"`
}

func (s *Server) rotateKey(ctx context.Context, who access.Principal, in *rotateKeyInput) (*reply[client.KeySecret], error) {
	grace := access.DefaultGrace
	if in.Body != nil && in.Body.GraceSeconds != nil {
		seconds := *in.Body.GraceSeconds
		if seconds < 0 || seconds > int64(access.MaxGrace/time.Second) {
			return nil, fault.Fields{"graceSeconds": "must be from 0 to 2592000, which is 30 days"}.Err()
		}
		grace = time.Duration(seconds) * time.Second
	}
	k, secret, err := s.access.RotateKey(ctx, who.Actor(), in.ID, grace)
	return keySecret(k, secret, err)
}

func (s *Server) revokeKey(ctx context.Context, who access.Principal, in *KeyID) (*reply[client.RevokedKey], error) {
	if err := s.access.RevokeKey(ctx, who.Actor(), in.ID); err != nil {
		return nil, err
	}
	return one(client.RevokedKey{ID: string(in.ID), Revoked: true}), nil
}

// parseExpiry parses when a key is to end: nil if the field is absent, the zero time for never.
func parseExpiry(o client.Optional[string]) (*time.Time, error) {
	if !o.Set {
		return nil, nil
	}
	if o.Null {
		return &time.Time{}, nil
	}
	at, err := parseTime("expiresAt", o.Value)
	if err == nil && at.IsZero() { // also the year 1, which must not mean never
		err = fault.Fields{"expiresAt": "must be an RFC 3339 time in the future, or null for never"}.Err()
	}
	return &at, err
}

func keySecret(k access.Key, secret vault.Secret, err error) (*reply[client.KeySecret], error) {
	if err != nil {
		return nil, err
	}
	return one(client.KeySecret{Key: keyJSON(k), Secret: secret.Reveal()}), nil
}

func keyJSON(k access.Key) client.Key {
	return client.Key{
		ID: string(k.ID), Label: k.Label, Hint: k.Hint, Scopes: k.Scopes.Names(), RateLimit: k.RateLimit, CreatedAt: client.Time{Time: k.CreatedAt},
		ExpiresAt: client.NewTime(k.ExpiresAt), UsedAt: client.NewTime(k.UsedAt), RevokedAt: client.NewTime(k.RevokedAt), PreviousUntil: client.NewTime(k.PreviousUntil),
	}
}
