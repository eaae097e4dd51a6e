package dashboard

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/dashboard/browsertest"
)

// TestChaosDropKnowledge drops files in Chromium: each is checked, shown beside what it
// duplicates, added, and found; a lost connection is said.
func TestChaosDropKnowledge(t *testing.T) {
	needsChaos(t)
	env := newEnv(t)
	id := env.agent("Support")
	tab := env.open(browsertest.Start(t), access.Owner)
	tab.Open(env.URL + root + "/agents/" + id + "/knowledge")
	first := tab.File("policy.md", "# Refunds\n\nRefunds take five days.\n\n# Shop\n\nThe shop is in Berlin.\n")
	tab.Drop(browsertest.CSS("#drop"), first)
	tab.UntilText("2 new entries, 0 duplicates")
	tab.Click(browsertest.Button("Add policy.md"))
	tab.UntilText("Added 2 entries; 0 were there already.")
	tab.Until(`document.querySelector("#entries").innerText.includes("Refunds take five days.")`) // without reloading

	second, broken := tab.File("faq.csv", "question,answer\nHow long?,Three days\n"), tab.File("broken.docx", "no document")
	again := tab.File("again.md", "# Refunds\n\nRefunds take five days\n")
	tab.Drop(browsertest.CSS("#drop"), second, again, broken)
	tab.UntilText("0 new entries, 1 duplicate.")
	tab.UntilText("no Word document")
	tab.UntilText("In the knowledge, from policy.md")
	tab.SetOffline(true)
	tab.Click(browsertest.Button("Add faq.csv"))
	tab.UntilText("it is not known whether it was stored")
	tab.SetOffline(false)
	tab.Click(browsertest.Button("Check again"))
	tab.UntilText("1 new entry, 0 duplicates.")
	tab.Click(browsertest.Button("Add faq.csv"))
	tab.UntilText("Added 1 entry")
	if p := tab.Problems(); len(p) > 0 && strings.Contains(strings.Join(p, ""), "Content Security") {
		t.Error(p)
	}
	list, err := env.Client(env.account).Knowledge(t.Context(), client.KnowledgeTarget{AgentID: id}, client.KnowledgeQuery{})
	if err != nil || len(list.Data) != 3 {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestChaosDropSkill drags the folder of a skill in Chromium.
func TestChaosDropSkill(t *testing.T) {
	needsChaos(t)
	env := newEnv(t)
	tab := env.open(browsertest.Start(t), access.Owner)
	dir := filepath.Join(t.TempDir(), "orders")
	if err := os.MkdirAll(filepath.Join(dir, "scripts"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"SKILL.md": skillMD, "scripts/look.sh": "echo order\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tab.Open(env.URL + root + "/skills/upload")
	tab.Drop(browsertest.CSS("#folder"), dir)
	tab.UntilText("2 files of orders")
	tab.Click(browsertest.Button("Upload and scan"))
	tab.UntilText("Order Status 1.0.0 was added")
	skill, err := env.Client(env.account).Skill(t.Context(), "order-status", "custom")
	if err != nil || skill.LatestVersion != "1.0.0" {
		t.Errorf("%+v, %v", skill, err)
	}
	env.as(access.Owner).get("/skills?trust=custom").has(http.StatusOK, "Order Status")
}
