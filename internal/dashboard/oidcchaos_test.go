package dashboard

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/dashboard/browsertest"
	"agento.host/agento/internal/identity"
)

// startProvider starts a real OpenID provider (clients/tests/oidc), and returns its issuer.
func startProvider(t *testing.T, callback string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "oidc")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-C", "../../clients/tests/oidc", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build the provider: %v: %s", err, out)
	}
	cmd := exec.Command(program, callback)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // ends it
		_ = cmd.Wait()
	})
	issuer, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(issuer)
}

// newProxy returns the address of a proxy before a server that is made later.
func newProxy(t *testing.T) (address string, to func(server string)) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = "http://" + listener.Addr().String()
	return address, func(server string) {
		target, err := url.Parse(server)
		if err != nil {
			t.Fatal(err)
		}
		proxy := &http.Server{Handler: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host }}}
		go func() { _ = proxy.Serve(listener) }()
		t.Cleanup(func() { _ = proxy.Close() })
	}
}

// TestOIDCWithARealProvider: a person links an identity in Chromium, signs in by it, and somebody else
// joins by an invitation, with the scripts of the pages and without.
func TestOIDCWithARealProvider(t *testing.T) {
	needsChaos(t)
	address, to := newProxy(t)
	issuer := startProvider(t, address+OpenIDCallback)
	env := newEnvWith(t, apitest.Options{PublicURL: address}, func(in *apitest.Env, s *Settings) {
		s.OpenID = newProvider(t, in, issuer, "web", "secret", address+OpenIDCallback)
	})
	env.account = env.NewAccount("Acme", "")
	to(env.URL)
	apitest.WaitUntil(t, "the configuration of the provider is read", func() bool { return env.pages.openID.Problem() == "" })
	b := browsertest.Start(t)
	// atProvider signs in at the provider, which leads back.
	atProvider := func(tab *browsertest.Tab, name string) {
		t.Helper()
		tab.Until(`document.querySelector("#username") !== null`)
		tab.Fill(browsertest.CSS("#username"), name)
		tab.Fill(browsertest.CSS("#password"), "verysecure")
		tab.Press("Enter")
	}
	ada := env.as(access.Developer)
	for _, test := range []struct {
		scripts bool
		name    string
	}{{true, "test-user@localhost"}, {false, "test-user2"}} {
		tab := b.Profile().Tab()
		tab.SetScripts(test.scripts)
		tab.Open(address + "/app/sign-in")
		tab.Fill(browsertest.Label("E-mail address"), ada.email)
		tab.Fill(browsertest.Label("Password"), testPassword)
		tab.Navigates(func() { tab.Press("Enter") })
		tab.Open(address + "/app/profile")
		tab.Fill(browsertest.CSS("#f-oidc-present"), testPassword)
		tab.Press("Enter")
		atProvider(tab, test.name)
		tab.UntilText("From now on you can also sign in with Acme & Co.")
		tab.UntilText(issuer)

		fresh := b.Profile().Tab()
		fresh.SetScripts(test.scripts)
		fresh.Open(address + "/app/sign-in?next=%2Fprofile")
		fresh.Focus(browsertest.Link("Sign in with Acme & Co"))
		fresh.Press("Enter")
		atProvider(fresh, test.name)
		fresh.UntilText("Where you are signed in")
		fresh.UntilText("by oidc")
		for _, tab := range []*browsertest.Tab{tab, fresh} {
			for _, p := range tab.Problems() {
				if !strings.Contains(p, "favicon") { // the provider has none
					t.Errorf("scripts %t: the browser says: %s", test.scripts, p)
				}
			}
		}
	}
	stranger := b.Profile().Tab()
	for _, linked := range (&oidcEnv{testEnv: env}).identities(ada.email) {
		ada.post("/oidc/" + linked.ID + "/remove").leads("/profile")
	}
	stranger.Open(address + "/app/sign-in")
	stranger.Click(browsertest.Link("Sign in with Acme & Co"))
	atProvider(stranger, "test-user2")
	stranger.UntilText("Nobody here has linked this identity")
	_, link, err := env.People.Invite(t.Context(), identity.ByOperator(env.account), "new@example.com", access.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	stranger.Open(address + root + linkPath("invitation", link.Token.Reveal()))
	stranger.Click(browsertest.Button("Accept with Acme & Co"))
	atProvider(stranger, "test-user2")
	stranger.UntilText("You are in the account Acme as viewer.")
}
