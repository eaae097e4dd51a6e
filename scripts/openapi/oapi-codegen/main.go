// The quick start with the client of oapi-codegen.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"

	"quickstart/api"
)

func main() {
	ctx := context.Background()
	client, err := api.NewClientWithResponses(os.Getenv("AGENTO_URL"), api.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("X-Api-Key", os.Getenv("AGENTO_API_KEY"))
		return nil
	}))
	if err != nil {
		log.Fatal(err)
	}
	key, peer := "sk-ant-placeholder", "customer-42"
	created, err := client.CreateAgentWithResponse(ctx, nil, api.CreateAgentRequest{Name: "By oapi-codegen", Secrets: &api.Secrets{AnthropicApiKey: &key}})
	if err != nil || created.JSON201 == nil {
		log.Fatalf("create an agent: %v %s", err, created.Body)
	}
	id := created.JSON201.Data.Id
	sent, err := client.SendMessage(ctx, id, nil, api.ChatRequest{Message: "Hello", PeerId: &peer})
	if err != nil || sent.StatusCode != http.StatusOK {
		log.Fatalf("send a message: %v", err)
	}
	defer sent.Body.Close()
	var answer, reason string
	for lines := bufio.NewScanner(sent.Body); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var event api.ChatEvent
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			log.Fatal(err)
		}
		value, err := event.ValueByDiscriminator()
		if err != nil {
			log.Fatal(err)
		}
		switch e := value.(type) {
		case api.ChatText:
			answer += e.Content
		case api.ChatDone:
			reason = string(e.StopReason)
		case api.ChatFailed:
			log.Fatal(e.Message)
		}
	}
	history, err := client.ListMessagesWithResponse(ctx, id, &api.ListMessagesParams{PeerId: &peer})
	if err != nil || history.JSON200 == nil {
		log.Fatalf("read the history: %v", err)
	}
	if reason != "end" || !strings.Contains(answer, "Hello") || len(history.JSON200.Data) != 2 {
		log.Fatalf("the answer is %q, ended by %q", answer, reason)
	}
	unknown, err := client.GetAgentWithResponse(ctx, "none")
	if err != nil || unknown.JSON404 == nil || string(unknown.JSON404.Error.Code) != "not_found" {
		log.Fatalf("an unknown agent is not refused: %v", err)
	}
	fmt.Println("oapi-codegen:", answer)
}
