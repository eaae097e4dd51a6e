// Command bot answers the outgoing webhooks of a chat server such as Mattermost: it posts a form
// with token, user_id and text, and shows the text that it gets.
package main

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"agento.host/agento/client"
)

func main() {
	agento := &client.Client{URL: os.Getenv("AGENTO_URL"), APIKey: os.Getenv("AGENTO_API_KEY")} // a key with the scope chat alone
	http.HandleFunc("POST /webhook", func(w http.ResponseWriter, r *http.Request) {
		token := os.Getenv("WEBHOOK_TOKEN") // the chat server shows it when you make the webhook
		if token == "" || subtle.ConstantTimeCompare([]byte(r.PostFormValue("token")), []byte(token)) == 0 {
			http.Error(w, "the token is not that of the webhook", http.StatusForbidden)
			return
		}
		text, err := answer(r.Context(), agento, r.PostFormValue("user_id"), r.PostFormValue("text"))
		if err != nil {
			log.Println(err)
			text = "I cannot answer now. Please try again later."
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]string{"text": text})
	})
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	server := http.Server{ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.Serve(listener))
}

// answer returns the whole answer to one message of a user, who has a conversation of its own.
func answer(ctx context.Context, agento *client.Client, user, text string) (string, error) {
	if user == "" {
		return "", errors.New("the webhook names no user") // without a peer, all users would share one conversation
	}
	var all string
	for event, err := range agento.Chat(ctx, os.Getenv("AGENTO_AGENT"), client.ChatRequest{Message: text, PeerID: user}) {
		switch {
		case err != nil:
			return "", err
		case event.Type == "error":
			return "", errors.New(event.Message)
		}
		all += event.Content
	}
	return all, nil
}
