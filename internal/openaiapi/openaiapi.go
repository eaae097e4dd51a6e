// Package openaiapi serves agents to clients that speak OpenAI's API: an agent is a model, and
// a chat completion is a turn. It translates and nothing else: the rules of conversations,
// one-shot turns and repeated requests belong to package chat.
//
// The forms are those of OpenAI's Chat Completions as its own packages read them. No library
// has them for a server; github.com/openai/openai-go has types of a client, whose unions of
// parameters cannot be decoded.
package openaiapi

import (
	"context"
	"net/http"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/rest"
)

// prefix begins the paths. A client has it as its base URL.
const prefix = "/openai/v1/"

// maxBody has room for the images and the texts that a message may have, and for some that were said
// before.
const maxBody = 24 << 20

// maxAnswer is what a response takes of the caller's memory.
const maxAnswer = 2 << 20

// Settings of the API. All are required.
type Settings struct {
	Agents    *agent.Service
	Chat      *chat.Service
	Caller    func(context.Context) chat.Caller              // of a request
	Authorize func(ctx context.Context, method string) error // returns nil if the caller may chat
	Draining  context.Context                                // ends when the server shuts down
}

type server struct{ Settings }

// New returns the API.
func New(s Settings) rest.Foreign {
	v := &server{s}
	may := func(method string) func(context.Context) error {
		return func(ctx context.Context) error { return s.Authorize(ctx, method) }
	}
	return rest.Foreign{
		Prefix: prefix,
		Fail:   fail,
		Routes: []rest.ForeignRoute{
			{Pattern: "GET " + prefix + "models", MaxAnswer: maxAnswer, Authorize: may(http.MethodGet), Handle: v.listModels},
			{Pattern: "GET " + prefix + "models/{id...}", Authorize: may(http.MethodGet), Handle: v.getModel},
			{Pattern: "POST " + prefix + "chat/completions", MaxBody: maxBody, MaxAnswer: maxAnswer, Holds: true, Authorize: may(http.MethodPost), Handle: v.complete},
		},
	}
}
