package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/mattn/go-isatty"

	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/provider"
	"agento.host/agento/internal/vault"
)

type secretsCommand struct {
	Set    secretSet    `cmd:"" help:"Set a secret of the installation, read from standard input; a running server uses it from its next call on."`
	List   secretList   `cmd:"" help:"List the secrets that the installation knows, and when they were set; never their values."`
	Delete secretDelete `cmd:"" help:"Delete a secret of the installation."`
}

// openInstallation gives do the installation's secrets, also while a server runs.
func (f vaultFlags) openInstallation(ctx context.Context, do func(*vault.Installation) error) (err error) {
	db, err := f.database(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	secrets, err := f.vault()
	if err != nil {
		return err
	}
	return forTerminal(do(vault.NewInstallation(db, secrets, event.NewLog(db))))
}

type secretSet struct {
	vaultFlags
	Name string `arg:"" help:"Name of the secret, as list shows it."`
}

// Run sets the secret.
func (c secretSet) Run(ctx context.Context, t *terminal) error {
	value, err := readSecret(os.Stdin)
	if err != nil {
		return err
	}
	return c.openInstallation(ctx, func(secrets *vault.Installation) error {
		if err := secrets.Set(ctx, identity.ByOperator(""), provider.SecretName(c.Name), value); err != nil {
			return err
		}
		return t.print(map[string]any{"name": c.Name, "set": true}, "set "+c.Name)
	})
}

// readSecret reads a value and drops the end of its line.
func readSecret(in *os.File) (vault.Secret, error) {
	if isatty.IsTerminal(in.Fd()) {
		return vault.Secret{}, errors.New("give the secret on standard input, where it is not seen, as in agento secrets set NAME < FILE")
	}
	text, err := io.ReadAll(io.LimitReader(in, vault.MaxInstallationSecret+3)) // what is too long by a byte shows
	if err != nil {
		return vault.Secret{}, fmt.Errorf("read the secret: %w", err)
	}
	return vault.NewSecret(strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")), nil
}

// discreet replaces the refusal of an argument after the name of a secret, which
// would repeat what is most likely its value.
func discreet(err error) error {
	var wrong *kong.ParseError
	if !errors.As(err, &wrong) || !strings.HasPrefix(wrong.Error(), "unexpected argument") {
		return err
	}
	if c := wrong.Context.Selected(); c == nil || c.Path() != "secrets set" {
		return err
	}
	return errors.New("give the secret on standard input, as in agento secrets set NAME < FILE: others can see a command's arguments, and shells keep them")
}

type secretList struct{ vaultFlags }

// Run lists the secrets.
func (c secretList) Run(ctx context.Context, t *terminal) error {
	return c.openInstallation(ctx, func(secrets *vault.Installation) error {
		all, err := secrets.List(ctx)
		if err != nil {
			return err
		}
		rows := make([]map[string]any, len(all))
		for i, s := range all {
			rows[i] = map[string]any{"name": s.Name, "setAt": stamp(s.SetAt), "use": s.Use}
		}
		return t.table(rows, "name", "setAt", "use")
	})
}

type secretDelete struct {
	vaultFlags
	Name string `arg:"" help:"Name of the secret."`
}

// Run deletes the secret.
func (c secretDelete) Run(ctx context.Context, t *terminal) error {
	return c.openInstallation(ctx, func(secrets *vault.Installation) error {
		if err := secrets.Delete(ctx, identity.ByOperator(""), provider.SecretName(c.Name)); err != nil {
			return err
		}
		return t.print(map[string]any{"name": c.Name, "deleted": true}, "deleted "+c.Name)
	})
}
