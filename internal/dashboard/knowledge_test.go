package dashboard

import (
	"bytes"
	"context"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"agento.host/agento/client"
)

// upload sends files as a browser does, by name and content, with further fields.
func (b *browser) upload(path string, files map[string]string, pairs ...string) answer {
	b.env.t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for i := 0; i+1 < len(pairs); i += 2 {
		if err := w.WriteField(pairs[i], pairs[i+1]); err != nil {
			b.env.t.Fatal(err)
		}
	}
	for name, content := range files {
		part, err := w.CreatePart(map[string][]string{"Content-Disposition": {`form-data; name="files"; filename="` + name + `"`}, "Content-Type": {"application/octet-stream"}})
		if err != nil {
			b.env.t.Fatal(err)
		}
		if _, err := part.Write([]byte(content)); err != nil {
			b.env.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.env.t.Fatal(err)
	}
	query := url.Values{accountField: {string(b.account)}, onceField: {newOnce()}}
	req, err := http.NewRequestWithContext(b.env.t.Context(), http.MethodPost, b.env.URL+root+path+"?"+query.Encode(), &body)
	if err != nil {
		b.env.t.Fatal(err)
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	res, err := b.http.Do(req)
	if err != nil {
		b.env.t.Fatal(err)
	}
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	if err != nil {
		b.env.t.Fatal(err)
	}
	return answer{b.env.t, res.StatusCode, res.Header, string(page)}
}

// next follows the redirect of a form.
func (a answer) next(b *browser) answer {
	a.t.Helper()
	if a.Status != http.StatusSeeOther {
		a.t.Fatalf("got %d, want a redirect: %s", a.Status, a.Body)
	}
	return b.get(strings.TrimPrefix(a.Header.Get("Location"), root))
}

// find returns what the first group of a pattern matches in the page.
func (a answer) find(pattern string) string {
	a.t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(a.Body)
	if m == nil {
		a.t.Fatalf("the page has nothing like %s: %s", pattern, a.Body)
	}
	return m[1]
}

func TestKnowledgeOfAnAgent(t *testing.T) {
	env := newEnv(t)
	id := env.agent("Support")
	b, base := env.as("developer"), "/agents/"+id+"/knowledge"
	b.get(base).has(200, "Nothing here yet", "Add files", "Paste a text")

	// A text is checked first, and then added.
	check := b.post(base+"/text", "source", "policy <b>", "text", "# Refunds\n\nRefunds take five days.\n\n# Shop\n\nThe shop is in Berlin.").next(b)
	check.has(200, "2 new entries; 0 duplicates", "policy &lt;b&gt;", "Nothing is stored yet")
	b.get(base).has(200, "Nothing here yet")
	added := b.post(strings.TrimPrefix(check.find(`action="(/app/agents/[^"]*/check/[A-Z0-9]+)"`), root)).next(b)
	added.has(200, "Added 2 entries", "Refunds take five days.", "policy &lt;b&gt;")

	// Files show which entry each duplicate equals.
	check = b.upload(base+"/files", map[string]string{"faq.csv": "question,answer\nHow long?,Three days\n", "more.md": "# Shop\n\nThe shop is in Berlin\n", "bad.docx": "nothing"}).next(b)
	check.has(200, "1 new entry; 1 duplicate", "In the knowledge, from policy", "no Word document", "differs only in the full stop")
	b.post(strings.TrimPrefix(check.find(`action="(/app/agents/[^"]*/check/[A-Z0-9]+)"`), root)).next(b).has(200, "Added 1 entry; 1 was there already. Not added: bad.docx")

	b.get(base+"?q=how+long+do+refunds+take").has(200, "found by", "%</span>", "Refunds take five days.")
	list := b.get(base+"?"+url.Values{"source": {"faq.csv"}}.Encode()).has(200, "How long?", "those of <b>faq.csv</b>")
	entry := base + "/entries/" + list.find(`knowledge/entries/([0-9a-f-]{36})"`)

	// Editing: what somebody else has changed meanwhile is shown.
	was := b.get(entry).has(200, "How long?\nThree days").find(`name="was" value="([^"]*)"`)
	b.post(entry, "was", was, "text", "How long?\r\nFour days", "source", "faq.csv").next(b).has(200, "Saved.", "Four days")
	b.post(entry, "was", was, "text", "How long?\nFive days", "source", "faq.csv").has(422, "Somebody else has changed", "Five days", "Four days")
	b.post(entry, "was", "", "text", "Shop\n\nThe shop is in Berlin.", "source", "x").has(422, "has this text already")

	// Deleting, and bringing back.
	deleted := b.post(entry + "/delete").next(b)
	deleted.has(200, "The entry was deleted.", "Undo")
	b.get(entry).has(404)
	b.post(base+"/undo", "undo", deleted.find(`name="undo" value="([^"]*)"`)).next(b).has(200, "Back again: 1 entry", "Four days")
	deleted = b.post(base+"/delete", "source", "policy <b>").next(b)
	deleted.has(200, "were deleted")
	env.as("developer").get(base + "?q=refunds").has(200)
	b.post(base+"/undo", "undo", deleted.find(`name="undo" value="([^"]*)"`)).next(b).has(200, "Back again: 2 entries")
	b.post(base+"/undo", "undo", "x").has(404, "not kept any more")

	env.as("viewer").get(base).has(200, "Refunds take five days.")
	if page := env.as("viewer").get(base); strings.Contains(page.Body, "Add files") || strings.Contains(page.Body, "Delete…") {
		t.Error("a viewer is shown what only others may do")
	}
	env.as("viewer").post(entry+"/delete").has(403, "Your role")
	b.post(base+"/text", "source", "", "text", "").has(422, "Say where the text is from", "Paste a text")
	b.upload(base+"/files", nil).has(422, "Choose a file first")
}

func TestKnowledgeBases(t *testing.T) {
	env := newEnv(t)
	env.as("viewer").get("/knowledge").has(200, "No agents yet")
	id := env.agent("Support")
	api := env.Client(env.account)
	swarm, err := api.CreateSwarm(t.Context(), client.CreateSwarmRequest{Name: "Care & Co"})
	if err != nil {
		t.Fatal(err)
	}
	ingest := client.KnowledgeIngest{SwarmID: swarm.ID, Chunks: []client.KnowledgeChunk{{Text: "We are polite.", Source: "a"}, {Text: "We are quick.", Source: "a"}}}
	if _, err := api.IngestKnowledge(context.Background(), ingest, client.IngestOptions{}); err != nil {
		t.Fatal(err)
	}
	page := env.as("viewer").get("/knowledge").has(200, "Care &amp; Co", "/app/swarms/"+swarm.ID+"/knowledge", "/app/agents/"+id+"/knowledge", "shared by 0 agents")
	if strings.Index(page.Body, "Care &amp; Co") > strings.Index(page.Body, ">Support<") {
		t.Error("the base with the most entries is not first")
	}
	env.as("viewer").get("/swarms/"+swarm.ID+"/knowledge").has(200, "Knowledge of Care &amp; Co", "We are quick.", "2 entries")
	env.as("viewer").get("/knowledge?search=care").has(200, "Care")
	env.as("viewer").get("/knowledge?search=nobody").has(200, "No agent or swarm has this name")
}

// TestShelf: what a person has put there nobody else gets, and it is bounded.
func TestShelf(t *testing.T) {
	ann := &visit{Visitor: Visitor{Email: "ann", Account: "a"}}
	bob := &visit{Visitor: Visitor{Email: "bob", Account: "a"}}
	var s shelf
	first := s.put(ann, "first", shelfOfPerson/2)
	if got, ok := onShelf[string](&s, ann, first); !ok || got != "first" {
		t.Error("it is not there")
	}
	if _, ok := onShelf[string](&s, bob, first); ok {
		t.Error("another person gets it")
	}
	other := &visit{Visitor: Visitor{Email: "ann", Account: "b"}}
	if _, ok := onShelf[string](&s, other, first); ok {
		t.Error("it is there in another account")
	}
	s.put(ann, "second", shelfOfPerson/2+1)
	if _, ok := onShelf[string](&s, ann, first); ok {
		t.Error("a person keeps more than may be")
	}
	if name := s.put(ann, "third", shelfOfPerson+1); name != "" {
		t.Error("more than a person may keep is kept")
	}
}
