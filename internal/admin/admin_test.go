package admin_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/admin"
	"agento.host/agento/internal/database/databasetest"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/user"
	"agento.host/agento/internal/vault"
)

// newHandler returns the API of a new installation.
func newHandler(t *testing.T) http.Handler {
	t.Helper()
	db := databasetest.New(t)
	key, err := vault.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	events := event.NewLog(db)
	garbage := map[string]bool{"old": true, "older": true}
	accounts := access.New(access.Settings{DB: db, Events: events})
	return admin.New(admin.Settings{
		Accounts:   accounts,
		People:     user.New(user.Settings{DB: db, Events: events, Access: accounts, Vault: key, PublicURL: "https://agents.example.com"}),
		Secrets:    vault.NewInstallation(db, key, events),
		AgentUsage: func(context.Context, identity.AccountID) (agents, running int, err error) { return 3, 2, nil },
		Examine: func(context.Context) ([]admin.Examined, error) {
			return []admin.Examined{{Agent: "ada", Check: "user", State: "1", OK: true}}, nil
		},
		Checkpoints: func(context.Context) (admin.Checkpoints, error) {
			return admin.Checkpoints{OnDisk: admin.CheckpointForm{Count: 2, Bytes: 7}, Budget: 9, Plain: true}, nil
		},
		Describe: func(context.Context) (admin.Installation, error) { return admin.Installation{ID: "inst_test"}, nil },
		Collectors: []admin.Collector{{
			Kind: "copy",
			List: func(context.Context) (all []admin.Garbage, _ error) {
				for _, name := range []string{"old", "older"} {
					if garbage[name] {
						all = append(all, admin.Garbage{Kind: "copy", Name: name, Bytes: 5})
					}
				}
				return all, nil
			},
			Remove: func(_ context.Context, name string) error { delete(garbage, name); return nil },
		}},
		Reembed: func(_ context.Context, in admin.Reembed, progress func(admin.Reembedded)) (admin.Reembedded, error) {
			done := admin.Reembedded{Embedder: in.Model, Done: 1, Total: 2}
			progress(done)
			if in.Model == "broken" {
				return done, errors.New("the model is broken")
			}
			done.Done = 2
			return done, nil
		},
	})
}

// serve serves the API on the socket of a directory and returns a client.
func serve(t *testing.T, dir string, h http.Handler) *admin.Client {
	t.Helper()
	l, err := admin.Listen(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "admin.sock")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is left: %v", err)
		}
	})
	c, err := admin.Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSocketAndLocalGiveTheSameResults makes the same calls on both.
func TestSocketAndLocalGiveTheSameResults(t *testing.T) {
	local, remote := calls(t, admin.Local(newHandler(t))), calls(t, serve(t, t.TempDir(), newHandler(t)))
	if !reflect.DeepEqual(local, remote) {
		t.Errorf("local\n%s\nthrough the socket\n%s", strings.Join(local, "\n"), strings.Join(remote, "\n"))
	}
}

// calls calls every method and returns the results, without ids and times.
func calls(t *testing.T, c *admin.Client) (results []string) {
	t.Helper()
	ctx := t.Context()
	add := func(what string, result any, err error) {
		var f *fault.Fault
		results = append(results, fmt.Sprintf("%s: %+v, %v, fault %v", what, result, err, errors.As(err, &f)))
	}
	a, err := c.CreateAccount(ctx, "../My Company?", "")
	add("create account", a.Name+a.Plan, err)
	_, err = c.CreateAccount(ctx, "../My Company?", "")
	add("create it again", nil, err)
	all, err := c.Accounts(ctx)
	add("accounts", len(all) == 1 && all[0] == a, err)
	d, err := c.Account(ctx, a.ID)
	add("account", fmt.Sprint(d.Name, d.State, d.PlanSource, d.Agents, d.Running, d.Keys, d.Limits), err)
	d, err = c.ChangeAccount(ctx, a.Name, admin.AccountChange{Name: "Ours"})
	add("rename", d.Name, err)
	d, err = c.ChangeAccount(ctx, a.ID, admin.AccountChange{Name: a.Name})
	add("rename back", d.Name, err)
	for _, plan := range []string{"plan_none", "plan_self_hosted"} {
		d, err = c.ChangeAccount(ctx, a.ID, admin.AccountChange{Plan: plan})
		add("set plan", d.Plan, err)
	}
	d, err = c.ChangeAccount(ctx, a.ID, admin.AccountChange{State: "disabled"})
	add("disable", d.State, err)
	d, err = c.ChangeAccount(ctx, a.ID, admin.AccountChange{State: "active"})
	add("enable", d.State, err)
	_, err = c.ChangeAccount(ctx, a.ID, admin.AccountChange{State: "gone"})
	add("another state", nil, err)
	withoutToken := func(l admin.Link) string {
		base, token, _ := strings.Cut(l.URL, "token=")
		return fmt.Sprint(l.For, l.Account, l.Role, base, len(token), time.Until(l.ExpiresAt).Round(time.Minute))
	}
	link, err := c.FirstLink(ctx, "")
	add("first link", withoutToken(link), err)
	link, err = c.InviteUser(ctx, a.ID, admin.NewUser{Email: "Ada@example.com", Role: "owner"})
	add("invite", withoutToken(link), err)
	waiting, err := c.Invitations(ctx, a.Name)
	add("invitations", fmt.Sprint(len(waiting), waiting[0].Email, waiting[0].CreatedBy), err)
	add("revoke", nil, c.RevokeInvitation(ctx, a.ID, waiting[0].ID))
	link, err = c.AddOperator(ctx, admin.NewUser{Email: "op@example.com", Name: "Op"})
	add("operator", withoutToken(link), err)
	_, err = c.AddOperator(ctx, admin.NewUser{Email: "op"})
	add("no operator", nil, err)
	link, err = c.ResetUser(ctx, "op@example.com", true)
	add("reset", withoutToken(link), err)
	people, err := c.Users(ctx)
	add("users", fmt.Sprint(len(people), people[0].Email, people[0].Name, people[0].Operator, people[0].Accounts), err)
	_, err = c.SetRole(ctx, a.ID, people[0].ID, "admin")
	add("set a role of nobody", err != nil, nil)
	_, err = c.RemoveUser(ctx, people[0].ID, a.ID)
	add("remove nobody", err != nil, nil)
	gone, err := c.RemoveUser(ctx, "op@example.com", "")
	add("remove", gone.Email, err)
	use, err := c.Checkpoints(ctx)
	add("checkpoints", use, err)
	plans, err := c.Plans(ctx)
	add("plans", fmt.Sprint(plans.All, plans.Problem), err)
	k, err := c.CreateKey(ctx, a.Name, admin.NewKey{Label: "x", Scopes: []string{"chat"}, RateLimit: 7})
	add("create key", fmt.Sprint(k.Label, k.Scopes, k.RateLimit, strings.HasPrefix(k.Secret, "ak_live_")), err)
	_, err = c.CreateKey(ctx, a.Name, admin.NewKey{Scopes: []string{"all", "admin"}, RateLimit: 1})
	add("create key with a wrong scope", nil, err)
	keys, err := c.Keys(ctx, a.ID)
	add("keys", fmt.Sprint(len(keys), keys[0].ID == k.ID, keys[0].Secret, keys[0].RevokedAt.IsZero()), err)
	label, rate := "y", access.Unlimited
	edited, err := c.EditKey(ctx, a.Name, k.ID, admin.KeyChanges{Label: &label, RateLimit: &rate, Scopes: []string{"logs"}, ExpiresAt: &time.Time{}})
	add("edit key", fmt.Sprint(edited.Label, edited.RateLimit, edited.Scopes, edited.ExpiresAt.IsZero()), err)
	rotated, err := c.RotateKey(ctx, a.Name, k.ID, time.Hour)
	add("rotate key", fmt.Sprint(rotated.ID == k.ID, rotated.Secret != k.Secret, strings.HasPrefix(rotated.Secret, "ak_live_"), rotated.PreviousUntil.IsZero()), err)
	_, err = c.RotateKey(ctx, a.Name, k.ID, -time.Hour)
	add("rotate key with a wrong grace", nil, err)
	_, err = c.Keys(ctx, "nobody")
	add("keys of nobody", nil, err)
	add("revoke key", nil, c.RevokeKey(ctx, a.Name, k.ID))
	keys, err = c.Keys(ctx, a.ID)
	add("keys", keys[0].RevokedAt.IsZero(), err)
	add("set secret", nil, c.SetSecret(ctx, string(vault.EmbedderAPIKey), vault.NewSecret("a-key")))
	add("set long secret", nil, c.SetSecret(ctx, string(vault.EmbedderAPIKey), vault.NewSecret(strings.Repeat("a", vault.MaxInstallationSecret+1))))
	add("set unknown secret", nil, c.SetSecret(ctx, "a/b", vault.NewSecret("a-key")))
	secrets, err := c.Secrets(ctx)
	add("secrets", fmt.Sprint(len(secrets), secrets[0].Name, secrets[0].SetAt.IsZero()), err)
	add("delete secret", nil, c.DeleteSecret(ctx, string(vault.EmbedderAPIKey)))
	_, err = c.DeleteAccount(ctx, a.ID, "another")
	add("delete account with a wrong name", nil, err)
	d, err = c.DeleteAccount(ctx, a.ID, a.Name)
	add("delete account", d.Name, err)
	_, err = c.Account(ctx, a.Name)
	add("deleted account", nil, err)
	garbage, err := c.Garbage(ctx)
	add("garbage", garbage, err)
	add("remove", nil, c.RemoveGarbage(ctx, garbage[0]))
	add("remove unknown", nil, c.RemoveGarbage(ctx, admin.Garbage{Kind: "x", Name: "y"}))
	garbage, err = c.Garbage(ctx)
	add("garbage", garbage, err)
	for _, model := range []string{"good", "broken"} {
		var progress []admin.Reembedded
		done, err := c.Reembed(ctx, admin.Reembed{Model: model}, func(p admin.Reembedded) { progress = append(progress, p) })
		add("reembed", fmt.Sprint(done, progress), err)
	}
	return results
}

func TestTheSocketReplacesAStaleOneAndIsPrivate(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"admin.sock", "admin.sock.new"} { // a server was killed
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := admin.Dial(t.Context(), dir); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a socket without a server: %v", err)
	}
	c := serve(t, dir, newHandler(t))
	if _, err := c.Accounts(t.Context()); err != nil {
		t.Error(err)
	}
	info, err := os.Lstat(filepath.Join(dir, "admin.sock"))
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "admin.sock.new")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := admin.Dial(t.Context(), t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no socket: %v", err)
	}
}

func TestTheSocketWorksInADirectoryWithALongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c := serve(t, dir, newHandler(t))
	for range 2 {
		if _, err := c.Accounts(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestMain calls a server as another user, for the test below.
func TestMain(m *testing.M) {
	dir := os.Getenv("TEST_DIAL")
	if dir == "" {
		os.Exit(m.Run())
	}
	c, err := admin.Dial(context.Background(), dir)
	if err == nil {
		_, err = c.Accounts(context.Background())
	}
	if err != nil {
		os.Exit(3)
	}
	os.Exit(0)
}

// TestOtherUsersAreRefused: also if the modes of the files let them connect.
func TestOtherUsersAreRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can run a process as another user")
	}
	dir, err := os.MkdirTemp("", "agento-admin-") // its parents are open to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program := filepath.Join(dir, "test")
	text, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, text, 0o755); err != nil {
		t.Fatal(err)
	}
	serve(t, dir, newHandler(t))
	for _, path := range []string{dir, filepath.Join(dir, "admin.sock")} {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for uid, want := range map[uint32]int{0: 0, 65534: 3} {
		cmd := exec.CommandContext(t.Context(), program)
		cmd.Env = append(os.Environ(), "TEST_DIAL="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		_ = cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != want {
			t.Errorf("user %d: exit code %d, not %d", uid, code, want)
		}
	}
}

// A quiet installation removes nothing, and says what to do.
func TestQuietInstallationKeepsGarbage(t *testing.T) {
	quiet := admin.Installation{ID: "inst_new", RestoredFrom: "inst_old", QuietSince: time.Now()}
	c := admin.Local(admin.New(admin.Settings{
		Describe: func(context.Context) (admin.Installation, error) { return quiet, nil },
		Activate: func(context.Context) error { quiet.QuietSince = time.Time{}; return nil },
		Collectors: []admin.Collector{{
			Kind: "copy", Remove: func(context.Context, string) error {
				if !quiet.QuietSince.IsZero() {
					t.Error("it was removed")
				}
				return nil
			},
		}},
	}))
	if err := c.RemoveGarbage(t.Context(), admin.Garbage{Kind: "copy"}); !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "agento activate") {
		t.Error(err)
	}
	if before, err := c.Activate(t.Context()); err != nil || before.QuietSince.IsZero() {
		t.Errorf("%+v, %v", before, err)
	}
	if i, err := c.Installation(t.Context()); err != nil || !i.QuietSince.IsZero() || i.RestoredFrom != "inst_old" {
		t.Errorf("%+v, %v", i, err)
	}
	if err := c.RemoveGarbage(t.Context(), admin.Garbage{Kind: "copy"}); err != nil {
		t.Error(err)
	}
}
