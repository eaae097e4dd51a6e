package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

// Key is an API key of the account, without its secret.
type Key struct {
	ID            string   `json:"id" doc:"Id of the key." example:"key_abc123"`
	Label         string   `json:"label" doc:"Purpose of the key." example:"Support widget"`
	Hint          string   `json:"hint" doc:"The last characters of the key, to tell keys apart."`
	Scopes        []string `json:"scopes" doc:"What the key may do."`
	RateLimit     int      `json:"rateLimit" doc:"Requests per minute; 2147483647 means no limit."`
	CreatedAt     Time     `json:"createdAt" doc:"When the key was made."`
	ExpiresAt     *Time    `json:"expiresAt" doc:"When the key ends; null: never."`
	UsedAt        *Time    `json:"usedAt" doc:"When it was last used, up to a minute late; null: never."`
	RevokedAt     *Time    `json:"revokedAt" doc:"When it was revoked; null: it was not."`
	PreviousUntil *Time    `json:"previousUntil" doc:"When the secret ends that it had before it was rotated; null: there is none, or it ended at once."`
}

// KeySecret is a key with its secret, which no other response has.
type KeySecret struct {
	Key
	Secret string `json:"key" doc:"The API key itself: ak_live_ and 32 hexadecimal digits. It is shown only now."`
}

// CreateKeyRequest makes a key.
type CreateKeyRequest struct {
	Label     string           `json:"label,omitempty" doc:"Purpose of the key." bounds:"..100"`
	Scopes    []string         `json:"scopes" doc:"Scopes that your key has too; all means those of the API reference." values:"all,agents:read,agents:write,chat,chat:owner,knowledge:read,knowledge:write,logs,skills,swarms:read,swarms:write,account:admin"`
	RateLimit *int             `json:"rateLimit,omitempty" doc:"Requests per minute: 1 to 1000000, or 2147483647 for no limit. Default: 120." bounds:"1..2147483647"`
	ExpiresAt Optional[string] `json:"expiresAt,omitzero" doc:"When the key ends, as an RFC 3339 time; null: never, which is the default."`
}

// UpdateKeyRequest changes a key; absent fields stay as they are.
type UpdateKeyRequest struct {
	Label     *string          `json:"label,omitempty" doc:"New purpose." bounds:"..100"`
	Scopes    []string         `json:"scopes,omitempty" doc:"New scopes, in place of those that the key has." values:"all,agents:read,agents:write,chat,chat:owner,knowledge:read,knowledge:write,logs,skills,swarms:read,swarms:write,account:admin"`
	RateLimit *int             `json:"rateLimit,omitempty" doc:"New limit of requests per minute: 1 to 1000000, or 2147483647 for none." bounds:"1..2147483647"`
	ExpiresAt Optional[string] `json:"expiresAt,omitzero" doc:"New end, as an RFC 3339 time; null: never."`
}

// RotateKeyRequest gives a key a new secret.
type RotateKeyRequest struct {
	GraceSeconds *int64 `json:"graceSeconds,omitempty" doc:"How long the former secret stays valid: 0 to 2592000. Default: 86400, a day." bounds:"0..2592000"`
}

// RevokedKey is the result of RevokeKey.
type RevokedKey struct {
	ID      string `json:"id" doc:"Id of the key."`
	Revoked bool   `json:"revoked" doc:"True."`
}

// ListKeys returns a page of the account's keys, newest first, with the revoked ones. A limit of
// 0 is the server's default.
func (c *Client) ListKeys(ctx context.Context, limit, offset int) (List[Key], error) {
	v := url.Values{"offset": {strconv.Itoa(offset)}}
	if limit > 0 {
		v.Set("limit", strconv.Itoa(limit))
	}
	return call[List[Key]](ctx, c, http.MethodGet, "/v1/keys?"+v.Encode(), nil)
}

// Key returns a key of the account.
func (c *Client) Key(ctx context.Context, id string) (Key, error) {
	return data[Key](ctx, c, http.MethodGet, keyPath(id), nil)
}

// CreateKey makes a key that has no more rights than the caller's.
func (c *Client) CreateKey(ctx context.Context, in CreateKeyRequest) (KeySecret, error) {
	return data[KeySecret](ctx, c, http.MethodPost, "/v1/keys", in)
}

// UpdateKey changes a key that has no more rights than the caller's.
func (c *Client) UpdateKey(ctx context.Context, id string, in UpdateKeyRequest) (Key, error) {
	return data[Key](ctx, c, http.MethodPatch, keyPath(id), in)
}

// RotateKey gives a key a new secret. Its id, sessions and limits stay.
func (c *Client) RotateKey(ctx context.Context, id string, in RotateKeyRequest) (KeySecret, error) {
	return data[KeySecret](ctx, c, http.MethodPost, keyPath(id)+"/rotate", in)
}

// RevokeKey revokes a key for ever.
func (c *Client) RevokeKey(ctx context.Context, id string) (RevokedKey, error) {
	return data[RevokedKey](ctx, c, http.MethodDelete, keyPath(id), nil)
}

func keyPath(id string) string { return "/v1/keys/" + url.PathEscape(id) }
