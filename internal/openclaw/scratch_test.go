package openclaw_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/devmodel"
	"agento.host/agento/internal/openclaw"
	"agento.host/agento/internal/openclaw/openclawtest"
	"agento.host/agento/internal/vault"
)

func TestScratch(t *testing.T) {
	model, _ := devmodel.Start(devmodel.Settings{})
	defer model.Close()
	a := openclaw.Agent{ID: "t", Token: vault.NewSecret(gatewayToken),
		Model: openclaw.Model{Provider: openclaw.Anthropic, URL: model.URL(), Token: vault.NewSecret(modelToken)},
	}
	if os.Getenv("SLACK") != "" {
		a.Slack = &openclaw.Slack{BotToken: vault.NewSecret("xoxb-1-2-abc"), AppToken: vault.NewSecret("xapp-1-A-2-abc")}
	}
	spec, err := openclaw.Spec(a)
	if err != nil {
		t.Fatal(err)
	}
	t0 := time.Now()
	bctx, bc := context.WithTimeout(context.Background(), 100*time.Second)
	defer bc()
	p, err := openclawtest.Boot(bctx, spec, a.Token, openclaw.WorkspaceFiles(openclaw.Content{Name: "x"}))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	t.Log("ready", time.Since(t0))
	mem := func() {
		out, _ := exec.Command("sh", "-c", fmt.Sprintf("ps -eo pgid,rss | awk '$1==%d{s+=$2} END{print s/1024}'", p.Pgid())).Output()
		t.Logf("MB %s", strings.TrimSpace(string(out)))
	}
	mem()
	if os.Getenv("WARM") != "" {
		t0 = time.Now()
		err := p.WarmUp(t.Context())
		t.Log("warm", time.Since(t0), err)
		mem()
	}
	for _, e := range []openclaw.Entry{"guest", "main", "guest", "main"} {
		t0 = time.Now()
		var first time.Duration
		_, err := p.Turn(t.Context(), openclaw.TurnRequest{Entry: e, SessionKey: openclaw.SessionKey(e, "", "c"), Message: "echo hello you"}, func(string) error {
			if first == 0 {
				first = time.Since(t0)
			}
			return nil
		})
		t.Log(e, "first delta", first, "all", time.Since(t0), err)
	}
	mem()
	if os.Getenv("SLACK") != "" {
		time.Sleep(5 * time.Second)
		t.Log(p.Channels(t.Context()))
		t.Log(p.Ready(t.Context()))
		t.Log(p.Log())
	}
}
