package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/admin"
)

type plansCommand struct {
	List  plansList  `cmd:"" help:"List the plans that accounts can have, and those that they have although they are in no plans file."`
	Check plansCheck `cmd:"" help:"Check a plans file before a server uses it."`
}

type plansList struct{ dataFlags }

// Run lists the plans.
func (c plansList) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, reading, nil, func(api *admin.Client) error {
		plans, err := api.Plans(ctx)
		if err != nil {
			return err
		}
		rows := make([]map[string]any, len(plans.All))
		for i, p := range plans.All {
			rows[i] = planRow(t, p)
		}
		if err := t.table(rows, "id", "name", "source", "agents", "skills", "storage", "used"); err != nil || t.json {
			return err
		}
		for _, p := range plans.All {
			if p.Default {
				if _, err := fmt.Fprintf(t.out, "\nThe default is %s.\n", p.ID); err != nil {
					return err
				}
			}
		}
		if plans.Problem == "" {
			return nil
		}
		_, err = fmt.Fprintln(t.err, plans.Problem)
		return err
	})
}

type plansCheck struct {
	dataFlags
	File string `arg:"" help:"Plans file." type:"path"`
}

// Run reads the file, and says which accounts of the data directory, if there is one, have a plan
// that is not in it.
func (c plansCheck) Run(ctx context.Context, t *terminal) error {
	plans, err := access.LoadPlans(c.File)
	if err != nil {
		return err
	}
	missing, err := c.missing(ctx, plans)
	if err != nil {
		return err
	}
	if t.json {
		ids := []string{}
		for _, p := range plans.List() {
			ids = append(ids, p.ID)
		}
		return t.printJSON(map[string]any{"valid": true, "plans": ids, "default": plans.Default().ID, "accountsWithoutPlan": missing})
	}
	text := fmt.Sprintf("%s is valid: %s, and %s is the default.", c.File, count(plans.InFile(), "plan", "plans"), plans.Default().ID)
	for _, a := range missing {
		text += fmt.Sprintf("\nThe account %s (%v) has the plan %s, which is not in the file: it keeps the limits that it has, until agento accounts set-plan gives it another.", a["id"], a["name"], a["plan"])
	}
	return t.print(nil, text)
}

// missing returns the accounts whose plan the file lacks.
func (c plansCheck) missing(ctx context.Context, plans *access.Plans) ([]map[string]any, error) {
	missing := []map[string]any{}
	if _, err := os.Stat(c.databasePath()); errors.Is(err, fs.ErrNotExist) {
		return missing, nil
	}
	c.Plans = "" // the file is not in use yet
	err := c.withAdmin(ctx, reading, nil, func(api *admin.Client) error {
		all, err := api.Accounts(ctx)
		for _, a := range all {
			if _, ok := plans.Get(a.Plan); !ok && a.State != string(access.AccountDeleted) {
				missing = append(missing, map[string]any{"id": a.ID, "name": a.Name, "plan": a.Plan})
			}
		}
		return err
	})
	return missing, err
}

func planRow(t *terminal, p admin.Plan) map[string]any {
	row := map[string]any{
		"id": p.ID, "name": p.Name, "source": p.Source, "default": p.Default, "maxAgents": p.Limits.MaxAgents, "maxSkills": p.Limits.MaxSkillsPerAgent,
		"storageBytes": p.Limits.StorageBytes, "features": enabled(p.Features), "accounts": p.Accounts,
	}
	if t.json {
		return row
	}
	row["agents"], row["skills"] = formatLimit(int64(p.Limits.MaxAgents)), formatLimit(int64(p.Limits.MaxSkillsPerAgent))
	row["storage"], row["used"] = formatStorage(p.Limits.StorageBytes), fmt.Sprintf("by %d", p.Accounts)
	return row
}

// missingPlan reports whether a plan of this source is in no plans file any more.
func missingPlan(source string) bool {
	return access.KnownPlan{Source: access.PlanSource(source)}.Missing()
}

// formatLimit formats a limit of a plan or of a key.
func formatLimit(n int64) string {
	if n == access.Unlimited || n == access.UnlimitedBytes {
		return "unlimited"
	}
	return strconv.FormatInt(n, 10)
}

// formatStorage formats the bytes that an account may store.
func formatStorage(n int64) string {
	if n == access.UnlimitedBytes {
		return "unlimited"
	}
	return formatBytes(n)
}

// enabled returns the names of the features that are on.
func enabled(features map[string]bool) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(features)), func(f string) bool { return !features[f] })
}

// plans reports the accounts whose plan is in no plans file.
func (c doctorCommand) plans(ctx context.Context) []finding {
	if _, err := os.Stat(c.databasePath()); err != nil {
		return nil
	}
	f := finding{Part: "plans", OK: true}
	err := c.withAdmin(ctx, reading, nil, func(api *admin.Client) error {
		plans, err := api.Plans(ctx)
		if f.State = count(len(plans.All), "plan", "plans") + "; every account has one of them"; plans.Problem != "" {
			f.OK, f.State = false, plans.Problem
			f.Fix = "add the plan to the plans file, or agento accounts set-plan ACCOUNT PLAN; without a server, give agento doctor the server's --plans"
		}
		return err
	})
	if err != nil {
		return nil // the finding about the database has the error
	}
	return []finding{f}
}
