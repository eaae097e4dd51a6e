package main

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"agento.host/agento/internal/admin"
	"agento.host/agento/internal/api"
)

// TestCommandsWithoutAKeyUseTheSocket: the server on this machine, for the account that
// is named.
func TestCommandsWithoutAKeyUseTheSocket(t *testing.T) {
	t.Setenv("AGENTO_API_KEY", "")
	dir := t.TempDir()
	t.Setenv("AGENTO_DATA", dir)
	if got := command(t, "", "agents", "list"); got.code != exitFailed || !strings.Contains(got.err, "agento serve") {
		t.Errorf("no server: %+v", got)
	}
	if got := command(t, "", "agents", "list", "--data", filepath.Join(dir, "none")); got.code != exitNotFound || !strings.Contains(got.err, "AGENTO_API_KEY") {
		t.Errorf("no data directory: %+v", got)
	}
	l, err := admin.Listen(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: admin.New(admin.Settings{API: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"data":[{"id":"`+ada+`","name":"for `+r.Header.Get(api.AccountHeader)+`","status":"stopped"}]}`)
	})})}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-ended
	}()
	if got := command(t, "", "agents", "list", "--account", "acme"); got.code != 0 || !strings.Contains(got.out, "for acme") {
		t.Errorf("%+v", got)
	}
	if got := command(t, "", "agents", "list", "--account", "acme", "--api-key", "ak_live_x"); got.code != exitUsage {
		t.Errorf("a key and an account: %+v", got)
	}
}
