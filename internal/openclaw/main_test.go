package openclaw_test

import (
	"context"
	"net"
	"os"
	"sync"
	"testing"

	"agento.host/agento/internal/devmodel"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/openclaw/openclawtest"
	"agento.host/agento/internal/vault"
)

const (
	gatewayToken = "gateway-token-of-the-test"
	modelToken   = "model-token-of-the-test"
)

// real is the one gateway that all tests of this package share: booting costs 15 s
// and 1 GB. It starts with the first test that asks for it.
type real struct {
	*openclawtest.Process
	agent openclaw.Agent
	model *devmodel.Server
	bot   *openclawtest.Telegram
}

var shared struct {
	sync.Mutex
	gateway *real
	err     error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if g := shared.gateway; g != nil {
		g.Stop()
		_ = g.model.Close()
		g.bot.Close()
	}
	os.Exit(code)
}

// gateway boots the shared gateway, or returns it.
func gateway(t *testing.T) *real {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.gateway == nil && shared.err == nil {
		shared.gateway, shared.err = boot()
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log := shared.gateway.Log()
			t.Logf("the gateway printed last:\n%s", log[max(0, len(log)-3000):])
		}
	})
	return shared.gateway
}

func boot() (*real, error) {
	model, err := devmodel.Start(devmodel.Settings{})
	if err != nil {
		return nil, err
	}
	r := &real{model: model, bot: openclawtest.NewTelegram()}
	r.agent = openclaw.Agent{
		ID:       "test",
		Token:    vault.NewSecret(gatewayToken),
		Model:    openclaw.Model{Provider: openclaw.Anthropic, URL: model.URL(), Token: vault.NewSecret(modelToken)},
		Telegram: &openclaw.Telegram{Token: vault.NewSecret("1:bot"), URL: r.bot.URL},
		Env:      map[string]vault.Secret{"GREETING": vault.NewSecret("hello from the environment")},
	}
	spec, err := openclaw.Spec(r.agent)
	if err != nil {
		return nil, err
	}
	files := openclaw.WorkspaceFiles(openclaw.Content{
		Name: "Ada", SoulMD: "SOUL-TEXT", WorkflowMD: "WORKFLOW-TEXT",
		Rules: []openclaw.Rule{{Name: "refunds", Content: "# How refunds work\n\nRULE-TEXT"}},
	})
	files["workspace/MEMORY.md"] = []byte("MEMORY-TEXT")
	files["skills/greet/SKILL.md"] = []byte("---\nname: greet\ndescription: SKILL-ABOUT\n---\nSKILL-TEXT\n")
	r.Process, err = openclawtest.Boot(context.Background(), spec, r.agent.Token, files)
	return r, err
}

// dialTo connects to a test server.
func dialTo(addr string) openclaw.Dial {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
}
