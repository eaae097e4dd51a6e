package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/mattn/go-isatty"

	"agento.host/agento/internal/admin"
	"agento.host/agento/internal/vault"
)

// installationCommand has what belongs to the installation and to no account.
type installationCommand struct {
	Secrets secretsCommand `cmd:"" help:"Set, list and delete secrets of the installation, such as the key of an embedding service."`
}

type secretsCommand struct {
	Set    secretSet    `cmd:"" help:"Set a secret of the installation, read from standard input. A running server uses it from its next call on."`
	List   secretList   `cmd:"" help:"List the secrets of the installation and when they were set, without their values."`
	Delete secretDelete `cmd:"" help:"Delete a secret of the installation."`
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
	return c.withAdmin(ctx, writing, c.keySource(), func(api *admin.Client) error {
		if err := api.SetSecret(ctx, c.Name, value); err != nil {
			return err
		}
		return t.print(map[string]any{"name": c.Name, "set": true}, "set "+c.Name)
	})
}

// readSecret reads a value and removes the line ending.
func readSecret(in *os.File) (vault.Secret, error) {
	if isatty.IsTerminal(in.Fd()) {
		return vault.Secret{}, usageError("give the secret on standard input, where it is not visible: agento installation secrets set NAME < FILE")
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
	if c := parseError.Context.Selected(); c == nil || c.Path() != "installation secrets set" {
		return err
	}
	return usageError("give the secret on standard input: agento installation secrets set NAME < FILE. Other users can see the arguments of a command, and shells store them")
}

type secretList struct{ vaultFlags }

// Run lists the secrets.
func (c secretList) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, reading, c.keySource(), func(api *admin.Client) error {
		all, err := api.Secrets(ctx)
		if err != nil {
			return err
		}
		rows := make([]map[string]any, len(all))
		for i, s := range all {
			rows[i] = map[string]any{"name": s.Name, "setAt": formatTime(s.SetAt), "readable": !s.Unreadable, "use": s.Use}
		}
		return t.table(rows, "name", "setAt", "readable", "use")
	})
}

type secretDelete struct {
	vaultFlags
	confirmation
	Name string `arg:"" help:"Name of the secret."`
}

// Run deletes the secret.
func (c secretDelete) Run(ctx context.Context, t *terminal) error {
	if err := c.ask(t, "Delete "+c.Name+" of the installation?"); err != nil {
		return err
	}
	return c.withAdmin(ctx, writing, c.keySource(), func(api *admin.Client) error {
		if err := api.DeleteSecret(ctx, c.Name); err != nil {
			return err
		}
		return t.print(map[string]any{"name": c.Name, "deleted": true}, "deleted "+c.Name)
	})
}
