// The quick start with the client of ogen, which has streams as readers of events.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/ogen-go/ogen/ogenerrors"

	"quickstart/api"
)

type key struct{}

func (key) ApiKey(context.Context, api.OperationName) (api.ApiKey, error) {
	return api.ApiKey{APIKey: os.Getenv("AGENTO_API_KEY")}, nil
}

// Bearer is the other way to send the key: one of the two is enough.
func (key) Bearer(context.Context, api.OperationName) (api.Bearer, error) {
	return api.Bearer{}, ogenerrors.ErrSkipClientSecurity
}

func main() {
	ctx := context.Background()
	client, err := api.NewClient(os.Getenv("AGENTO_URL"), key{})
	if err != nil {
		log.Fatal(err)
	}
	res, err := client.CreateAgent(ctx, &api.CreateAgentRequest{
		Name:    "By ogen",
		Secrets: api.NewOptSecrets(api.Secrets{AnthropicApiKey: api.NewOptString("sk-ant-placeholder")}),
	}, api.CreateAgentParams{})
	if err != nil {
		log.Fatal(err)
	}
	created, ok := res.(*api.CreateAgentCreated)
	if !ok {
		log.Fatalf("create an agent: %#v", res)
	}
	id := created.Response.Data.ID
	stream, err := client.SendMessage(ctx, &api.ChatRequest{Message: "Hello", PeerId: api.NewOptString("customer-42")}, api.SendMessageParams{ID: id})
	if err != nil {
		log.Fatal(err)
	}
	defer stream.Response.Close()
	var answer, reason string
	for reason == "" {
		event, err := stream.Response.Next(ctx)
		if err != nil {
			log.Fatal(err)
		}
		switch event.Data.Type {
		case api.ChatTextChatEvent:
			answer += event.Data.ChatText.Content
		case api.ChatDoneChatEvent:
			reason = string(event.Data.ChatDone.StopReason)
		default:
			log.Fatal(event.Data.ChatFailed.Message)
		}
	}
	found, err := client.ListMessages(ctx, api.ListMessagesParams{ID: id, PeerId: api.NewOptString("customer-42")})
	if err != nil {
		log.Fatal(err)
	}
	history, ok := found.(*api.ChatMessageListHeaders)
	if !ok || reason != "end" || !strings.Contains(answer, "Hello") || len(history.Response.Data) != 2 {
		log.Fatalf("the answer is %q, ended by %q, and the history %#v", answer, reason, found)
	}
	unknown, err := client.GetAgent(ctx, api.GetAgentParams{ID: "none"})
	if err != nil {
		log.Fatal(err)
	}
	if refused, ok := unknown.(*api.NotFoundHeaders); !ok || refused.Response.Error.Code != "not_found" {
		log.Fatalf("an unknown agent is not refused: %#v", unknown)
	}
	fmt.Println("ogen:", answer)
}
