package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agento.host/agento/client"
)

// hog is one way to use up what all share. Either script runs in the hog's agent, as a
// background process while ~/hog.go exists, or call is repeated with the hog's key.
type hog struct {
	name   string
	script string // of sh
	call   func(ctx context.Context, w *hogWorld)
	times  int    // of call at once
	names  string // what the server's log says of the hog, if it reaches a limit; empty: nothing
}

// hogWorld is a victim and a hog, each an account with an agent.
type hogWorld struct {
	*installation
	victim, rival   *client.Client
	victimID, hogID string
}

const hogNode = `setsid node -e '%s' >/dev/null 2>&1 &`

// whileGo makes a node script repeat work while the file hog.go exists.
func whileGo(work string) string {
	return fmt.Sprintf(hogNode, `const fs=require("fs"),net=require("net"),dgram=require("dgram"),dns=require("dns"),home=process.env.HOME;
process.on("uncaughtException",()=>{});let state={};
const step=()=>{if(!fs.existsSync(home+"/hog.go"))process.exit(0);try{`+work+`}catch(e){}setImmediate(step)};step()`)
}

var hogs = []hog{
	{name: "CPU", script: `for i in $(seq 150); do setsid sh -c 'while [ -e ~/hog.go ]; do :; done' >/dev/null 2>&1 & done`},
	{name: "memory", script: whileGo(`state.m=state.m||[];if(state.m.length<100)state.m.push(Buffer.alloc(16<<20,1));else state.m[Math.floor(Math.random()*100)].fill(Math.random()*255)`)},
	{name: "disk", script: whileGo(`fs.writeFileSync(home+"/fill"+(state.n=((state.n||0)+1)%4),Buffer.alloc(64<<20,1))`)},
	{name: "inodes", script: whileGo(`state.n=(state.n||0)+1;const d=home+"/many/"+(state.n%50);fs.mkdirSync(d,{recursive:true});for(let i=0;i<50;i++)fs.writeFileSync(d+"/"+state.n+"-"+i,"");if(state.n>2000){fs.rmSync(home+"/many",{recursive:true});state.n=0}`)},
	{
		name: "descriptors", names: "too many connections to the server",
		script: whileGo(`state.c=state.c||[];if(state.c.length<2000){const c=net.connect(14,"127.0.0.1",()=>c.write("POST /tools HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\nx"));c.on("error",()=>{});state.c.push(c)}`),
	},
	{name: "ports", script: whileGo(`state.p=state.p||20000;if(state.p<30000){const s=net.createServer();s.on("error",()=>{});s.listen(state.p++,"127.0.0.1")}`)},
	{name: "log", script: `setsid sh -c 'while [ -e ~/hog.go ]; do for f in /proc/[0-9]*/fd/1; do seq -s " " 20000 >>$f; done; done' >/dev/null 2>&1 &`},
	{name: "packets", script: whileGo(`state.s=state.s||dgram.createSocket("udp4").on("error",()=>{});for(let i=0;i<200;i++)state.s.send("x".repeat(1000),9,"198.18.0.1",()=>{})`)},
	{name: "DNS", names: "DNS queries a second", script: whileGo(`for(let i=0;i<20;i++)dns.resolve4("n"+Math.random()+".example.com",()=>{})`)},
	{name: "connections", script: whileGo(`for(let i=0;i<20;i++){const c=net.connect(443,"198.18.0."+(1+i));c.on("error",()=>{})}`)},
	{name: "boots", times: 1, call: func(ctx context.Context, w *hogWorld) { _, _ = w.rival.RestartAgent(ctx, w.hogID) }},
	{name: "ingest", times: 4, call: func(ctx context.Context, w *hogWorld) {
		var chunks []client.KnowledgeChunk
		for i := range 100 {
			chunks = append(chunks, client.KnowledgeChunk{Source: "hog", Text: fmt.Sprintf("%d %s", i, strings.Repeat(fmt.Sprint(time.Now().UnixNano()%1000003), 20))})
		}
		_, _ = w.rival.IngestKnowledge(ctx, client.KnowledgeIngest{AgentID: w.hogID, Chunks: chunks}, client.IngestOptions{})
	}},
	{name: "records", times: 4, call: func(ctx context.Context, w *hogWorld) {
		soul := fmt.Sprint(time.Now().UnixNano()) + strings.Repeat(" more", 4000)
		_, _ = w.rival.SetPersonality(ctx, w.hogID, client.SetPersonalityRequest{SoulMD: soul})
	}},
	{name: "streams", times: 40, call: func(ctx context.Context, w *hogWorld) {
		w.raw(ctx, http.MethodGet, "/v1/agents/"+w.hogID+"/logs?follow=true", nil)
	}},
	{name: "bodies", times: 40, call: func(ctx context.Context, w *hogWorld) {
		w.raw(ctx, http.MethodPatch, "/v1/agents/"+w.hogID, io.MultiReader(strings.NewReader(`{"name":"`), &slowBody{ctx}))
	}},
}

// slowBody is a body that goes on until its context ends.
type slowBody struct{ ctx context.Context }

// Read implements io.Reader.
func (b *slowBody) Read(p []byte) (int, error) {
	select {
	case <-b.ctx.Done():
		return 0, io.EOF
	case <-time.After(10 * time.Millisecond):
		return copy(p, strings.Repeat("x", 8192)), nil
	}
}

// raw sends a request with the hog's key, and does not read the response.
func (w *hogWorld) raw(ctx context.Context, method, path string, body io.Reader) {
	req, err := http.NewRequestWithContext(ctx, method, w.url+path, body)
	if err != nil {
		return
	}
	req.Header.Set("X-Api-Key", w.rival.APIKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusOK {
		<-ctx.Done()
		return
	}
	select { // a refused request is repeated, not at full speed
	case <-ctx.Done():
	case <-time.After(10 * time.Millisecond):
	}
}

// start starts the hog, and returns what ends it.
func (h hog) start(t *testing.T, w *hogWorld) (stop func()) {
	t.Helper()
	if h.call != nil {
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for range h.times {
			running.Go(func() {
				for ctx.Err() == nil {
					h.call(ctx, w)
				}
			})
		}
		return func() { cancel(); running.Wait() }
	}
	signal := filepath.Join(w.data, agentsDir, w.hogID, "home", "hog.go")
	if err := os.WriteFile(signal, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	// The hog may keep its own agent from answering.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := trySend(ctx, w.rival, w.hogID, client.ChatRequest{Message: fmt.Sprintf("call exec {\"command\": %q}", h.script)}); err != nil {
		t.Logf("it runs, and its own agent does not answer: %v", err)
	}
	return func() {
		if err := os.Remove(signal); err != nil {
			t.Error(err)
		}
	}
}

// sample is what the victim measures.
type sample struct {
	turns, lists []time.Duration
	failed       []error
}

func (s *sample) measure(t *testing.T, w *hogWorld, n int) {
	t.Helper()
	for range n {
		began := time.Now()
		if got, err := trySend(t.Context(), w.victim, w.victimID, client.ChatRequest{Message: "echo hello"}); err != nil || got != "hello" {
			s.failed = append(s.failed, fmt.Errorf("%q, %w", got, err))
		}
		s.turns = append(s.turns, time.Since(began))
		began = time.Now()
		if _, err := w.victim.ListAgents(t.Context(), client.AgentQuery{}); err != nil {
			s.failed = append(s.failed, err)
		}
		s.lists = append(s.lists, time.Since(began))
	}
}

func p90(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)*9/10]
}

// TestHogs: whatever one agent or one key uses up, the turns of another account do not
// fail, and take at most three times as long as without it.
func TestHogs(t *testing.T) {
	needsChaos(t)
	w := &hogWorld{installation: newInstallation(t, "acme", "rival")}
	w.start()
	w.victim, w.rival = w.client("acme"), w.client("rival")
	for _, who := range []struct {
		c  *client.Client
		id *string
	}{{w.victim, &w.victimID}, {w.rival, &w.hogID}} {
		a, err := who.c.CreateAgent(t.Context(), w.newAgent("ada"))
		if err != nil {
			t.Fatal(err)
		}
		*who.id = a.ID
		send(t, who.c, a.ID, client.ChatRequest{Message: "echo hello"})
	}
	new(sample).measure(t, w, 10) // the first turns are slower
	for _, h := range hogs {
		t.Run(h.name, func(t *testing.T) {
			var quiet, hogged sample
			for range 4 {
				quiet.measure(t, w, 10)
				stop := h.start(t, w)
				hogged.measure(t, w, 10)
				stop()
			}
			t.Logf("turns: p90 %s quiet, %s hogged; lists: %s quiet, %s hogged", p90(quiet.turns), p90(hogged.turns), p90(quiet.lists), p90(hogged.lists))
			for _, err := range append(quiet.failed, hogged.failed...) {
				t.Errorf("a turn or a list failed: %v", err)
			}
			if limit := 3*p90(quiet.turns) + 100*time.Millisecond; p90(hogged.turns) > limit {
				t.Errorf("turns take %s under the hog, at most %s is fair", p90(hogged.turns), limit)
			}
			if limit := 3*p90(quiet.lists) + 20*time.Millisecond; p90(hogged.lists) > limit {
				t.Errorf("lists take %s under the hog, at most %s is fair", p90(hogged.lists), limit)
			}
			if h.names != "" && !logNames(w, h.names) {
				t.Errorf("the server's log does not name the hog: %q", h.names)
			}
		})
		waitUntil(t, "the hog's agent answers again", func() bool { // also after it was stopped for its use
			if a, err := w.rival.Agent(t.Context(), w.hogID); err == nil && a.Status != client.Running && a.Status != client.Starting {
				_, _ = w.rival.StartAgent(t.Context(), w.hogID)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			_, err := trySend(ctx, w.rival, w.hogID, client.ChatRequest{Message: "call exec {\"command\": \"rm -rf ~/fill* ~/many\"}"})
			return err == nil
		})
	}
}

// logNames reports whether a line of the server's log has a text and the hog's agent.
func logNames(w *hogWorld, text string) bool {
	for line := range strings.Lines(w.logs.String()) {
		if strings.Contains(line, text) && strings.Contains(line, w.hogID) {
			return true
		}
	}
	return false
}
