package dashboard

import (
	"context"
	"net/http"
	"regexp"
	"testing"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/apitest"
	"agento.host/agento/internal/identity"
)

// testInstallation is what operators see in tests.
func testInstallation(context.Context) (Installation, error) {
	at := time.Now().Add(-time.Hour)
	return Installation{
		Accounts: []InstalledAccount{
			{ID: "acct_1", Name: "Acme <b>& Co</b>", Plan: "free", State: "active", CreatedAt: at, Agents: 2, Awake: 1, StorageBytes: 5 << 20},
			{ID: "acct_2", Name: "Globex", Plan: "team", State: "disabled", CreatedAt: at},
		},
		Plans: []InstalledPlan{
			{ID: "free", Name: "Free", Source: "file", Default: true, MaxAgents: 3, StorageBytes: 1 << 30, Accounts: 1, Lacks: []string{"channels"}},
			{ID: "team", Name: "Team", Source: "file", MaxAgents: noCountLimit, StorageBytes: noByteLimit, Accounts: 1},
		},
		Gateways: []InstalledGateway{
			{Agent: "agent-1", Account: "acct_1", AccountName: "Acme <b>& Co</b>", State: "awake", MemoryBytes: 700 << 20, CPUPercent: 12, LastUsedAt: at, Wakes: 3, WakeTook: 870 * time.Millisecond},
			{Agent: "agent-2", Account: "acct_1", AccountName: "Acme <b>& Co</b>", State: "asleep", CheckpointBytes: 90 << 20, LastUsedAt: at},
		},
		MemoryBudget: 8 << 30, MemoryBytes: 700 << 20, CheckpointBytes: 90 << 20, CPUPercent: 12, Cores: 2, WaitForMemory: 4,
		Servers: []InstalledServer{
			{Name: "local", Regions: []string{"us"}, State: "active", Up: true, Agents: 1, DiskFree: -1},
			{Name: "alpha", Login: "root@alpha", Regions: []string{"eu", "ch"}, State: "active", Up: true, RoundTrip: 800 * time.Microsecond, ReachedAt: at, Agents: 3, MaxAgents: 40, MemoryBytes: 64 << 30, DiskFree: 90 << 30},
			{Name: "beta", Login: "agento@beta:2222", Regions: []string{"us"}, State: "cordoned", Problem: "its sshd does not answer", ReachedAt: at, DiskFree: -1},
		},
		Quarantine: []Quarantined{{Name: "agent-lost", Since: at}},
		LastBackup: Backup{ID: "b2", Destination: "/backups", State: "failed", Problem: "the disk is full", Began: at, Ended: at},
		GoodBackup: Backup{ID: "b1", Destination: "/backups", State: "done", Began: at, Ended: at, Bytes: 1 << 30, StoredBytes: 1 << 28}, BackupEvery: 24 * time.Hour,
	}, nil
}

func testOperatorNeeds(context.Context) ([]OperatorNeed, error) {
	return []OperatorNeed{{ID: "backup:b2", Kind: "backup", Urgent: true, Sentence: "The last backup has failed: the disk is full.", Since: time.Now()}}, nil
}

// newOperatorEnv is newEnv with pages for operators.
func newOperatorEnv(t testing.TB) *testEnv {
	t.Helper()
	env := newEnvWith(t, apitest.Options{}, func(_ *apitest.Env, s *Settings) {
		s.Installation, s.OperatorNeeds = testInstallation, testOperatorNeeds
	})
	env.account = env.NewAccount("Acme", "")
	return env
}

// operator returns the browser of an operator, who is signed in with a second factor and is
// in no account.
func (env *testEnv) operator(t testing.TB) *browser {
	t.Helper()
	_, link, err := env.People.AddOperator(t.Context(), identity.ByOperator(""), "op@example.com", "Op")
	if err != nil {
		t.Fatal(err)
	}
	b := env.newBrowser()
	b.account = ""
	b.post("/reset?"+encodeQuery("token", link.Token.Reveal()), "password", testPassword).leads("/sign-in")
	b.post("/sign-in", "email", "op@example.com", "password", testPassword).leads("/")
	setup := b.post("/profile/second-factor", "present", testPassword).has(http.StatusOK)
	secret := regexp.MustCompile(`name="secret" value="([A-Z2-7]+)"`).FindStringSubmatch(setup.Body)
	if secret == nil {
		t.Fatal(setup.Body)
	}
	b.post("/profile/second-factor/confirm", "secret", secret[1], "code", apitest.TOTP(t, secret[1], 0)).has(http.StatusOK)
	return b
}

// TestPagesOfTheOperator show the installation to operators, and to nobody else.
func TestPagesOfTheOperator(t *testing.T) {
	env := newOperatorEnv(t)
	b := env.operator(t)
	b.get("/").leads("/operator")
	b.get("/operator").has(200, "The last backup has failed: the disk is full.", "agent-lost", "Gateways by state", "?state=asleep", "2 <span", "every 24h").without("<b>& Co")
	b.get("/operator/accounts").has(200, "Acme &lt;b&gt;", "Globex", "no limit", "channels", "default")
	b.get("/operator/accounts?search=GLOB").has(200, "Globex").without("acct_1</span>")
	b.get("/operator/accounts?plan=team").has(200, "Only accounts with the plan").without("acct_1</span>")
	b.get("/operator/accounts?search=nobody").has(200, "No account matches")
	b.get("/operator/gateways").has(200, "agent-1", "agent-2", "870ms")
	b.get("/operator/gateways?state=asleep").has(200, "agent-2").without(`id="row-agent-1"`)
	b.get("/operator/gateways?account=acct_2").has(200, "No gateway matches")
	b.get("/operator/servers").has(200, "this machine", "root@alpha", "eu, ch", "3 <span class=\"soft\">of 40", "64 GB", "beta", "its sshd does not answer", "What runs there may go on", "cordoned")
	b.get("/agents").leads("/accounts") // what is in an account is not theirs

	owner := env.as(access.Owner)
	for _, page := range []string{"/operator", "/operator/accounts", "/operator/gateways", "/operator/servers"} {
		owner.get(page).has(404, "There is no such page")
	}
	owner.get("/").has(200, "Needs you").without("disk is full")
}

// TestOperatorInAnAccount sees both what waits in the account and in the installation.
func TestOperatorInAnAccount(t *testing.T) {
	env := newOperatorEnv(t)
	b := env.operator(t)
	_, link, err := env.People.Invite(t.Context(), identity.ByOperator(env.account), "op@example.com", access.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	b.post("/invitation?" + encodeQuery("token", link.Token.Reveal())).leads("/")
	b.account = env.account
	b.get("/").has(200, "Nothing needs you", "the disk is full", "Look at the installation")
	b.get("/account").has(200, "op@example.com")
}
