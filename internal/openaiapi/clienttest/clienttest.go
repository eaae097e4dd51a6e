// Package clienttest runs the real clients of OpenAI's API that are pinned in clients/tests/openai,
// and breaks their connections.
package clienttest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// All are the clients: the first four run in Node, the others are Go modules.
func All() []string {
	return []string{"openai-7", "openai-6", "ai", "langchain", "openai-go-3", "openai-go-1"}
}

// askTimeout bounds one question on a busy machine.
const askTimeout = 2 * time.Minute

// Clients can ask a server.
type Clients struct {
	t    testing.TB
	node string // the binary
	dir  string // of the installed packages
	url  string
	key  string
}

// Request is what a client is to do; see clients/tests/openai/client.mjs.
type Request struct {
	Model        string    `json:"model"`
	Messages     []Message `json:"messages"`
	Stream       bool      `json:"stream"`
	Helper       bool      `json:"helper"`
	Again        bool      `json:"again"` // ask once more after an error, as a program would
	Conversation string    `json:"conversation,omitempty"`
	Timeout      int       `json:"timeout,omitempty"` // in ms
}

// Message is a message of a conversation that the client keeps.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Answer is what a client has got.
type Answer struct {
	Text   string
	Finish string
	Tokens int64
	Models []string
	Error  string
	First  string // the error before asking again
	Status int
}

// New returns the clients for a server's base URL and a key. It installs them once for all
// tests of the user, in the cache directory. node is the binary of Node 22 or newer.
func New(t testing.TB, node, url, key string) *Clients {
	t.Helper()
	dir, err := install(node)
	if err != nil {
		t.Fatal(err)
	}
	return &Clients{t: t, node: node, dir: dir, url: url, key: key}
}

// At returns the same clients for another base URL.
func (c *Clients) At(url string) *Clients {
	other := *c
	other.url = url
	return &other
}

// Ask runs a client.
func (c *Clients) Ask(client string, r Request) Answer {
	c.t.Helper()
	argument, err := json.Marshal(r)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), askTimeout)
	defer cancel()
	command := []string{c.node, "client.mjs"}
	if strings.HasPrefix(client, "openai-go-") {
		command = []string{filepath.Join(c.dir, "goclient")}
	}
	command = append(command, client, string(argument))
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "OPENAI_BASE_URL="+c.url, "OPENAI_API_KEY="+c.key, "AI_SDK_LOG_WARNINGS=false")
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		c.t.Fatalf("%s: %v: %s", client, err, log.String())
	}
	var a Answer
	if err := json.Unmarshal(out.Bytes(), &a); err != nil {
		c.t.Fatalf("%s wrote %q: %v", client, out.String(), err)
	}
	return a
}

// install returns the directory of the installed clients.
func install(node string) (string, error) {
	_, self, _, _ := runtime.Caller(0)
	source := filepath.Join(filepath.Dir(self), "..", "..", "..", "clients", "tests", "openai")
	files := []string{"package.json", "package-lock.json", "client.mjs", "go/go.mod", "go/go.sum", "go/main.go", "go/v1.go", "go/v3.go"}
	digest, texts := sha256.New(), map[string][]byte{}
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", err
		}
		texts[name] = text
		_, _ = digest.Write(text) // a Hash never fails
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "agento", "clients-tests", hex.EncodeToString(digest.Sum(nil))[:16])
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", err
	}
	made, err := os.MkdirTemp(filepath.Dir(dir), "install-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(made) }()
	for _, name := range []string{"package.json", "package-lock.json", "client.mjs"} {
		if err := os.WriteFile(filepath.Join(made, name), texts[name], 0o600); err != nil {
			return "", err
		}
	}
	npm := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir, npm.Env = made, append(slices.Clone(os.Environ()), "PATH="+filepath.Dir(node)+string(filepath.ListSeparator)+os.Getenv("PATH"))
	if out, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("install the clients: %w: %s", err, out)
	}
	build := exec.Command("go", "build", "-o", filepath.Join(made, "goclient"), ".")
	build.Dir = filepath.Join(source, "go")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the Go clients: %w: %s", err, out)
	}
	err = os.Rename(made, dir)
	if _, found := os.Stat(dir); found == nil { // another test was faster
		return dir, nil
	}
	return dir, errors.Join(errors.New("install the clients"), err)
}
