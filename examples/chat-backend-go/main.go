// Command chat-backend-go is a chat backend for a website: the page posts {"message"} to /chat
// and reads the answer as it comes.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"agento.host/agento/client"
)

func main() {
	agento := &client.Client{URL: os.Getenv("AGENTO_URL"), APIKey: os.Getenv("AGENTO_API_KEY")} // a key with the scope chat alone
	signedIn := map[string]string{os.Getenv("SESSION"): "customer-42"}                          // in place of your sign-in: who each session cookie belongs to
	http.HandleFunc("POST /chat", func(w http.ResponseWriter, r *http.Request) {
		session, err := r.Cookie("session")
		if err != nil || session.Value == "" || signedIn[session.Value] == "" {
			http.Error(w, "sign in first", http.StatusUnauthorized)
			return
		}
		var in struct{ Message string }
		// A form of another site can send the cookie, but not this type.
		if r.Header.Get("Content-Type") != "application/json" || json.NewDecoder(r.Body).Decode(&in) != nil {
			http.Error(w, "send a message as JSON", http.StatusBadRequest)
			return
		}
		// The peer is never from the page, where a visitor could name somebody else.
		message := client.ChatRequest{Message: in.Message, PeerID: signedIn[session.Value], OnDisconnect: "cancel"}
		for event, err := range agento.Chat(r.Context(), os.Getenv("AGENTO_AGENT"), message) {
			if err != nil || event.Type == "error" {
				log.Println(err, event.Message)
				panic(http.ErrAbortHandler) // half an answer must not look whole
			}
			_, _ = io.WriteString(w, event.Content)
			_ = http.NewResponseController(w).Flush()
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	server := http.Server{ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.Serve(listener))
}
