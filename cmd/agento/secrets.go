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
	Set    secretSet    `cmd:"" help:"Set a secret of the installation, read from standard input. A running server uses it from its next call on."`
	List   secretList   `cmd:"" help:"List the secrets of the installation and when they were set, without their values."`
	Delete secretDelete `cmd:"" help:"Delete a secret of the installation."`
}

// withInstallationSecrets calls do with the secrets of the installation. A server may
// be running.
func (f vaultFlags) withInstallationSecrets(ctx context.Context, do func(*vault.Installation) error) (err error) {
	db, err := f.database(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	secrets, err := f.vault()
	if err != nil {
		return err
	}
	return readable(do(vault.NewInstallation(db, secrets, event.NewLog(db))))
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
	return c.withInstallationSecrets(ctx, func(secrets *vault.Installation) error {
		if err := secrets.Set(ctx, identity.ByOperator(vault.InstallationAccount), provider.SecretName(c.Name), value); err != nil {
			return err
		}
		return t.print(map[string]any{"name": c.Name, "set": true}, "set "+c.Name)
	})
}

// readSecret reads a value and removes the line ending.
func readSecret(in *os.File) (vault.Secret, error) {
	if isatty.IsTerminal(in.Fd()) {
		return vault.Secret{}, errors.New("give the secret on standard input, where it is not visible: agento secrets set NAME < FILE")
	}
	text, err := io.ReadAll(io.LimitReader(in, vault.MaxInstallationSecret+3)) // one byte too many, so that a value that is too long is detected
	if err != nil {
		return vault.Secret{}, fmt.Errorf("read the secret: %w", err)
	}
	return vault.NewSecret(strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")), nil
}

// hideSecretArgument replaces the parse error for an argument after the name of a
// secret: the error repeats the argument, which is probably the secret's value.
func hideSecretArgument(err error) error {
	var parseError *kong.ParseError
	if !errors.As(err, &parseError) || !strings.HasPrefix(parseError.Error(), "unexpected argument") {
		return err
	}
	if c := parseError.Context.Selected(); c == nil || c.Path() != "secrets set" {
		return err
	}
	return errors.New("give the secret on standard input: agento secrets set NAME < FILE. Other users can see the arguments of a command, and shells store them")
}

type secretList struct{ vaultFlags }

// Run lists the secrets.
func (c secretList) Run(ctx context.Context, t *terminal) error {
	return c.withInstallationSecrets(ctx, func(secrets *vault.Installation) error {
		all, err := secrets.List(ctx)
		if err != nil {
			return err
		}
		rows := make([]map[string]any, len(all))
		for i, s := range all {
			rows[i] = map[string]any{"name": s.Name, "setAt": formatTime(s.SetAt), "use": s.Use}
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
	return c.withInstallationSecrets(ctx, func(secrets *vault.Installation) error {
		if err := secrets.Delete(ctx, identity.ByOperator(vault.InstallationAccount), provider.SecretName(c.Name)); err != nil {
			return err
		}
		return t.print(map[string]any{"name": c.Name, "deleted": true}, "deleted "+c.Name)
	})
}
