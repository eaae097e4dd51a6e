package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/admin"
)

type accountsCommand struct {
	Create  accountCreate  `cmd:"" help:"Create an account and print its id."`
	List    accountList    `cmd:"" help:"List the accounts."`
	Show    accountShow    `cmd:"" help:"Show an account with its plan and what it has."`
	Rename  accountRename  `cmd:"" help:"Give an account another name."`
	SetPlan accountSetPlan `cmd:"" help:"Give an account another plan."`
	Disable accountDisable `cmd:"" help:"Refuse the keys of an account and stop its agents. Nothing is deleted."`
	Enable  accountEnable  `cmd:"" help:"Accept the keys of a disabled account again and start the agents that ran."`
	Delete  accountDelete  `cmd:"" help:"Delete an account with everything that it has."`
}

type accountCreate struct {
	dataFlags
	Name string  `arg:"" help:"Name of the account."`
	Plan *string `help:"Plan of the account. Default: the first plan of the plans file."`
}

// Run creates the account.
func (c accountCreate) Run(ctx context.Context, t *terminal) error {
	plan := ""
	if c.Plan != nil {
		if plan = *c.Plan; plan == "" {
			return errors.New("--plan must not be empty: leave it out, or give a value")
		}
	}
	return c.withAdmin(ctx, writing, nil, func(api *admin.Client) error {
		a, err := api.CreateAccount(ctx, c.Name, plan)
		if err != nil {
			return err
		}
		return t.print(accountRow(a), a.ID)
	})
}

type accountList struct{ dataFlags }

// Run lists the accounts.
func (c accountList) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, reading, nil, func(api *admin.Client) error {
		all, err := api.Accounts(ctx)
		if err != nil {
			return err
		}
		rows := make([]map[string]any, len(all))
		for i, a := range all {
			if rows[i] = accountRow(a); !t.json && missingPlan(a.PlanSource) {
				rows[i]["plan"] = a.Plan + " (no file)"
			}
		}
		return t.table(rows, "id", "name", "plan", "state", "createdAt")
	})
}

// accountArg names an account.
type accountArg struct {
	dataFlags
	Account string `arg:"" help:"Id or name of the account."`
}

type accountShow struct{ accountArg }

// Run shows the account.
func (c accountShow) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, reading, nil, func(api *admin.Client) error {
		d, err := api.Account(ctx, c.Account)
		if err != nil {
			return err
		}
		return t.print(accountDetails(d), describeAccount(d))
	})
}

type accountRename struct {
	accountArg
	Name string `arg:"" help:"New name."`
}

// Run renames the account.
func (c accountRename) Run(ctx context.Context, t *terminal) error {
	return c.change(ctx, t, admin.AccountChange{Name: c.Name}, func(d admin.AccountDetails) string { return "renamed " + d.ID })
}

type accountSetPlan struct {
	accountArg
	Plan string `arg:"" help:"Id of the plan."`
}

// Run gives the account another plan.
func (c accountSetPlan) Run(ctx context.Context, t *terminal) error {
	return c.change(ctx, t, admin.AccountChange{Plan: c.Plan}, func(d admin.AccountDetails) string {
		text := fmt.Sprintf("%s has the plan %s", d.ID, d.Plan)
		if d.Agents > d.Limits.MaxAgents {
			text += fmt.Sprintf(". It has %s and may have %d: it keeps them, and can create none.", count(d.Agents, "agent", "agents"), d.Limits.MaxAgents)
		}
		return text
	})
}

type accountDisable struct{ accountArg }

// Run disables the account.
func (c accountDisable) Run(ctx context.Context, t *terminal) error {
	return c.change(ctx, t, admin.AccountChange{State: string(access.AccountDisabled)}, func(d admin.AccountDetails) string {
		return fmt.Sprintf("disabled %s: its keys are refused, and its agents stop. Nothing is deleted; agento accounts enable %s undoes it.", d.ID, d.ID)
	})
}

type accountEnable struct{ accountArg }

// Run enables the account.
func (c accountEnable) Run(ctx context.Context, t *terminal) error {
	return c.change(ctx, t, admin.AccountChange{State: string(access.AccountActive)}, func(d admin.AccountDetails) string {
		return fmt.Sprintf("enabled %s: its keys are accepted, and the agents that ran when it was disabled start.", d.ID)
	})
}

func (c accountArg) change(ctx context.Context, t *terminal, in admin.AccountChange, done func(admin.AccountDetails) string) error {
	return c.withAdmin(ctx, writing, nil, func(api *admin.Client) error {
		d, err := api.ChangeAccount(ctx, c.Account, in)
		if err != nil {
			return err
		}
		return t.print(accountDetails(d), done(d))
	})
}

type accountDelete struct {
	accountArg
	Name string `help:"The account's name, to confirm. Without it, the command asks for it." env:"-"`
}

// Run deletes the account after its name was given once more.
func (c accountDelete) Run(ctx context.Context, t *terminal) error {
	if c.Name == "" {
		if err := c.withAdmin(ctx, reading, nil, func(api *admin.Client) (err error) {
			d, err := api.Account(ctx, c.Account)
			if err == nil {
				c.Name, err = askForName(t, d)
			}
			return err
		}); err != nil {
			return err
		}
	}
	return c.withAdmin(ctx, writing, nil, func(api *admin.Client) error {
		d, err := api.DeleteAccount(ctx, c.Account, c.Name)
		if err != nil {
			return err
		}
		return t.print(map[string]any{"id": d.ID, "deleted": true},
			fmt.Sprintf("deleted %s: its keys are refused, and the server removes its agents and everything else, now or when it starts next.", d.ID))
	})
}

// askForName asks on the terminal for the name of the account that is to be deleted.
func askForName(t *terminal, d admin.AccountDetails) (string, error) {
	_, err := fmt.Fprintf(t.err, "This deletes the account %s with %s, their files, conversations, secrets and knowledge, and %s. It cannot be undone.\nType the name of the account, %s, to delete it: ",
		d.ID, count(d.Agents, "agent", "agents"), count(d.Keys, "API key", "API keys"), escapeText(d.Name))
	if err != nil {
		return "", err
	}
	line, err := bufio.NewReader(t.in).ReadString('\n')
	if err != nil {
		_, _ = fmt.Fprintln(t.err) // the terminal has shown no end of line
	}
	if line = strings.TrimSpace(line); line == "" {
		return "", refusedError("nothing was deleted: type the name of the account, or give it with --name")
	}
	return line, nil
}

func accountRow(a admin.Account) map[string]any {
	return map[string]any{
		"id": a.ID, "name": a.Name, "plan": a.Plan, "planSource": a.PlanSource, "state": a.State,
		"createdAt": formatTime(a.CreatedAt), "disabledAt": formatTime(a.DisabledAt),
	}
}

func accountDetails(d admin.AccountDetails) map[string]any {
	row := accountRow(d.Account)
	row["limits"], row["features"] = d.Limits, d.Features
	row["usage"] = map[string]any{"agents": d.Agents, "runningAgents": d.Running, "storageBytes": d.StorageBytes, "keys": d.Keys}
	return row
}

func describeAccount(d admin.AccountDetails) string {
	plan := d.Plan
	if missingPlan(d.PlanSource) {
		plan += " (in no plans file)"
	}
	lines := []string{
		"id        " + d.ID,
		"name      " + escapeText(d.Name),
		"state     " + d.State,
		"plan      " + plan,
		fmt.Sprintf("agents    %d of %s, %d of them should run", d.Agents, formatLimit(int64(d.Limits.MaxAgents)), d.Running),
		fmt.Sprintf("skills    up to %s for each agent", formatLimit(int64(d.Limits.MaxSkillsPerAgent))),
		fmt.Sprintf("storage   %s of %s", formatBytes(d.StorageBytes), formatStorage(d.Limits.StorageBytes)),
		fmt.Sprintf("keys      %d", d.Keys),
		"features  " + strings.Join(enabled(d.Features), " "),
		fmt.Sprintf("created   %s (%s)", moment{d.CreatedAt}, moment{d.CreatedAt}.ago()),
	}
	if !d.DisabledAt.IsZero() {
		lines = append(lines, fmt.Sprintf("disabled  %s (%s)", moment{d.DisabledAt}, moment{d.DisabledAt}.ago()))
	}
	return strings.Join(lines, "\n")
}

// formatTime returns the time for a table or JSON, or nil for the zero time.
func formatTime(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return moment{t}
}
