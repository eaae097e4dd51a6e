package main

import (
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"agento.host/agento/client"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/dashboard/browsertest"
)

// TestDashboardJourney is what a person does on the first day, in a browser and on a real gateway: the
// link of the terminal, an agent, a conversation and what it cost, knowledge that the agent
// then finds, and an API key that works.
func TestDashboardJourney(t *testing.T) {
	if _, err := exec.LookPath("chromium"); err != nil && runtime.GOOS != "linux" {
		t.Skip("it needs Chromium, which scripts/needs.sh installs on Debian only")
	}
	in := newInstallation(t, "acme")
	in.start()
	link := regexp.MustCompile(`http\S+/app/first\?token=\S+`).FindString(in.run("users", "first-link", "acme"))
	_, token, _ := strings.Cut(link, "?")
	b := browsertest.Start(t)
	tab := b.Tab()
	saved := func(name string) { // for people, in SCREENS_DIR
		if dir := os.Getenv("SCREENS_DIR"); dir != "" {
			tab.Save(dir + "/" + name + ".png")
		}
	}

	tab.Open(in.url + "/app/first?" + token)
	saved("first")
	tab.Fill(browsertest.Label("E-mail address"), "ada@example.com")
	tab.Fill(browsertest.Label("Your name"), "Ada")
	tab.Fill(browsertest.Label("Password"), "a sentence for the journey")
	tab.Navigates(func() { tab.Click(browsertest.Button("Become the owner")) })
	tab.UntilText("Nothing needs you")
	saved("needs")

	tab.Open(in.url + "/app/agents/new")
	tab.Fill(browsertest.Label("Name"), "Support")
	tab.Fill(browsertest.Label("Key of the provider"), "sk-ant-journey")
	tab.Click(browsertest.Text("Another endpoint: a proxy, Ollama, vLLM"))
	tab.Fill(browsertest.Label("Address of the endpoint"), in.model.URL())
	saved("new")
	tab.Navigates(func() { tab.Click(browsertest.Button("Create the agent")) })
	tab.UntilText("Start")
	saved("boot")
	waitUntil(t, "the page says that the agent runs", func() bool { // without a reload
		return tab.Eval(`document.querySelector("#agent-head .badge")?.textContent`) == "running"
	})
	saved("overview")
	agent := regexp.MustCompile(`/app/agents/([0-9a-f-]{36})`).FindStringSubmatch(tab.URL())
	if agent == nil {
		t.Fatalf("the page after a creation is %s", tab.URL())
	}
	at := in.url + "/app/agents/" + agent[1]

	tab.Open(at + "/chat")
	tab.Fill(browsertest.Label("Message to Support"), "echo welcome aboard")
	tab.Press("Enter")
	waitUntil(t, "the answer is shown", func() bool {
		return tab.Eval(`[...document.querySelectorAll(".message.assistant")].some(m => m.textContent.includes("welcome aboard"))`) == true
	})
	saved("chat")

	tab.Open(at + "/usage")
	tab.Until(`["$0.00", "unknown"].includes(document.querySelector("#usage .figures dd").textContent.trim()) === false`)
	saved("usage")

	tab.Open(at + "/knowledge")
	tab.Fill(browsertest.Label("Where it is from"), "Refund policy")
	tab.Fill(browsertest.Label("Text"), "Refunds are paid within 14 days.")
	tab.Navigates(func() { tab.Click(browsertest.CSS(`form[action$="/knowledge/text"] button[type=submit]`)) })
	tab.Navigates(func() { tab.Click(browsertest.Button("Add 1 entry")) })
	tab.Open(at + "/knowledge?q=when+do+I+get+my+money+back")
	tab.UntilText("Refunds are paid within 14 days.")
	saved("knowledge")

	tab.Open(in.url + "/app/keys/new")
	tab.Fill(browsertest.Label("Purpose"), "Web shop")
	tab.Click(browsertest.Text("agents:read"))
	tab.Click(browsertest.Button("Create the key"))
	tab.UntilText("This is the only time that the key is shown")
	key, _ := tab.Eval(`document.querySelector("code.secret").textContent`).(string)
	saved("key")
	c := &client.Client{URL: in.url, APIKey: key, HTTP: &http.Client{Timeout: waitTimeout}}
	if found, err := c.Agent(t.Context(), agent[1]); err != nil || found.Name != "Support" {
		t.Errorf("the key that the page showed gets %+v, %v", found, err)
	}
	for _, page := range []string{"/personality", "/workflow", "/rules", "/skills", "/secrets", "/channels", "/network", "/settings", "/events", "/logs"} {
		tab.Open(at + page)
		saved("agent" + strings.ReplaceAll(page, "/", "-"))
	}
	for _, page := range []string{"/agents", "/knowledge", "/skills", "/swarms", "/keys", "/widgets", "/usage", "/audit", "/account", "/profile"} {
		tab.Open(in.url + "/app" + page)
		saved("page" + strings.ReplaceAll(page, "/", "-"))
	}
	for _, p := range tab.Problems() {
		t.Errorf("the browser says: %s", p)
	}
	operatorSeesNoContent(t, in, b)
	in.stop()
}

// operatorSeesNoContent signs an operator in, with the second factor that operators need, and
// looks for what is in the account on the pages of the installation.
func operatorSeesNoContent(t *testing.T, in *installation, b *browsertest.Browser) {
	t.Helper()
	link := regexp.MustCompile(`/app/reset\?token=\S+`).FindString(in.run("users", "operator", "add", "op@example.com"))
	tab := b.Profile().Tab()
	tab.Open(in.url + link)
	tab.Fill(browsertest.Label("Password"), "a sentence for operators")
	tab.Navigates(func() { tab.Click(browsertest.Button("Set the password")) })
	tab.Fill(browsertest.Label("E-mail address"), "op@example.com")
	tab.Fill(browsertest.Label("Password"), "a sentence for operators")
	tab.Navigates(func() { tab.Click(browsertest.Button("Sign in")) })
	tab.UntilText("Nothing else can be done before it is set up")
	tab.Fill(browsertest.Label("Your password"), "a sentence for operators")
	tab.Click(browsertest.Button("Begin"))
	tab.UntilText("Scan the picture")
	secret, _ := tab.Eval(`document.querySelector("input[name=secret]").value`).(string)
	tab.Fill(browsertest.Label("Code"), apitest.TOTP(t, secret, 0))
	tab.Click(browsertest.Button("Switch it on"))
	tab.UntilText("These codes are shown once")
	for page, want := range map[string]string{"": "Queue of boots", "/accounts": "acme", "/gateways": "awake"} {
		tab.Open(in.url + "/app/operator" + page)
		tab.UntilText(want)
		html, _ := tab.Eval("document.documentElement.outerHTML").(string)
		for _, content := range []string{"Support", "welcome aboard", "Refund", "sk-ant", "Web shop", "ada@example.com"} {
			if strings.Contains(html, content) {
				t.Errorf("the operator's page %q has %q", page, content)
			}
		}
	}
	for _, p := range tab.Problems() {
		t.Errorf("the browser says to the operator: %s", p)
	}
}
