package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/devmodel"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/runtime/process"
	"agento.host/agento/internal/vault"
)

// demoKey is the provider key of the scripted model. It is not a secret.
const demoKey = "sk-ant-dev"

type devCommand struct{ serveFlags }

// Run serves with a temporary account and a scripted model. Without --data it removes
// everything at the end, including gateways. Where agents cannot be isolated by bubblewrap,
// it runs them without a sandbox as an ordinary user. If it is root, it becomes one first.
func (c devCommand) Run(ctx context.Context, t *terminal) (err error) {
	missing := c.checkIsolation()
	switch isolation := (*runtime.IsolationError)(nil); {
	case missing == nil:
	case !errors.As(missing, &isolation), c.Process.Sandbox == process.GVisor, c.Runtime == runtimeDocker: // who asks for more gets no less
		return missing
	case os.Getuid() == 0:
		return becomeOrdinaryUser()
	default:
		if _, err := fmt.Fprintf(t.err, "Agents run WITHOUT A SANDBOX and can read and change what the user with id %d can: %v\n", os.Getuid(), missing); err != nil {
			return err
		}
	}
	temporary := c.Data == defaultData()
	if temporary {
		c.Data += "-dev"
	}
	c.AllowPrivateEndpoints = true
	model, err := devmodel.Start(devmodel.Settings{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	s, err := newServer(ctx, c.serveFlags, devSettings{
		key: vault.NewSecret(demoKey), url: model.URL(), addr: model.Addr(), unsandboxed: missing != nil,
	}, t)
	if err != nil {
		return err
	}
	account, key, err := s.createDevKey(ctx)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	end := "Ctrl-C stops everything and removes it."
	if !temporary {
		end = "Ctrl-C stops the server. Agents keep running, and the next start with this --data takes them over."
	}
	err = s.run(ctx, func() error {
		owner, err := s.firstLink(ctx, account) // now, because it lasts a quarter of an hour
		return errors.Join(err, s.printQuiet(ctx, c.serveFlags, t), printWelcome(t, s.public.Addr().String(), key, owner, end))
	})
	if !temporary {
		return err
	}
	return errors.Join(err, s.removeAgents(context.WithoutCancel(ctx)), os.RemoveAll(c.Data))
}

// createDevKey creates a key of the account named dev, and the account if it is missing.
func (s *server) createDevKey(ctx context.Context) (identity.AccountID, vault.Secret, error) {
	account, err := s.accounts.Account(ctx, "dev")
	if fault.Is(err, fault.NotFound) {
		account, err = s.accounts.CreateAccount(ctx, identity.ByOperator(""), "dev", "")
	}
	if err != nil {
		return "", vault.Secret{}, err
	}
	_, key, err := s.accounts.CreateKey(ctx, identity.ByOperator(account.ID), access.NewKey{Label: "dev", Scopes: access.AllScopes(), RateLimit: access.DefaultRateLimit})
	return account.ID, key, err
}

// removeAgents removes every gateway and home of the data directory.
func (s *server) removeAgents(ctx context.Context) error {
	found, err := s.driver.List(ctx)
	for _, f := range found {
		err = errors.Join(err, s.driver.Remove(ctx, f.Place, f.ID))
	}
	return err
}

func printWelcome(t *terminal, address string, key, owner vault.Secret, end string) error {
	dashboard := ""
	if !owner.Empty() {
		dashboard = "\nThe dashboard: open this link within 15 minutes and become the owner of the account, once:\n\n  " + owner.Reveal() + "\n"
	}
	_, err := fmt.Fprintf(t.out, `
agento runs at http://%[1]s with API key %[2]s

  export AGENTO_URL=http://%[1]s AGENTO_API_KEY=%[2]s
%[5]s
Create an agent (10 to 30 s: a real OpenClaw gateway boots), keep its id, and chat:

  AGENT=$(curl -s $AGENTO_URL/v1/agents -H "X-Api-Key: $AGENTO_API_KEY" -H 'Content-Type: application/json' -d '{"name":"My Assistant","secrets":{"anthropicApiKey":"%[3]s"}}' | sed 's/.*"id":"\([^"]*\)".*/\1/')
  curl -N $AGENTO_URL/v1/agents/$AGENT/chat/messages -H "X-Api-Key: $AGENTO_API_KEY" -H 'Content-Type: application/json' -d '{"message":"Hello! What can you do?"}'
  curl -s $AGENTO_URL/v1/agents/$AGENT -H "X-Api-Key: $AGENTO_API_KEY"

The key %[3]s talks to the scripted model inside agento. Put a real provider key
in its place and the agent talks to the real model. The API is described at http://%[1]s/docs.
%[4]s

`, address, key.Reveal(), demoKey, end, dashboard)
	return err
}
