package openclaw

import (
	"context"
	"net/http"
)

// For the fuzz tests, and for calls that only tests make.
var (
	ReadTurn     = readTurn
	ParseMessage = parseMessage
	Call         = (*Gateway).call
)

// DialOf returns a gateway's Dial, to connect with another token.
func DialOf(g *Gateway) Dial { return g.dial }

// TokenOf returns the Authorization header of g's next request.
func TokenOf(g *Gateway, ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, baseURL, nil)
	if err != nil {
		return "", err
	}
	err = g.authorize(req)
	return req.Header.Get("Authorization"), err
}
