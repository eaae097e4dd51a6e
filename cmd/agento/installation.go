package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"agento.host/agento/internal/access"
	"agento.host/agento/internal/attention"
	"agento.host/agento/internal/backup"
	"agento.host/agento/internal/dashboard"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/runtime/process"
)

// installationSources are what the operator's pages of the dashboard show. Nothing of it asks a
// gateway, or reads what is in an account.
type installationSources struct {
	db          *database.DB
	accounts    *access.Service
	top         topSources
	waiting     func() (forMemory, forBoot int)
	quarantine  func(context.Context) ([]dashboard.Quarantined, error)
	backupEvery time.Duration
	servers     func(context.Context) ([]dashboard.InstalledServer, error)
}

// read returns what the pages show.
func (s installationSources) read(ctx context.Context) (in dashboard.Installation, err error) {
	in.BackupEvery = s.backupEvery
	in.WaitForMemory, in.WaitForBoot = s.waiting()
	agents, awake, err := s.readGateways(ctx, &in)
	if err != nil {
		return in, err
	}
	if err := s.readAccounts(ctx, &in, agents, awake); err != nil {
		return in, err
	}
	if in.Quarantine, err = s.quarantine(ctx); err != nil {
		return in, err
	}
	if in.Servers, err = s.servers(ctx); err != nil {
		return in, err
	}
	newest, good, err := backup.Last(ctx, s.db)
	in.LastBackup, in.GoodBackup = shownBackup(newest), shownBackup(good)
	return in, err
}

// readGateways reads the gateways, and returns how many agents each account has, and how many of
// them are awake. The names of agents are the account's, and are left out.
func (s installationSources) readGateways(ctx context.Context, in *dashboard.Installation) (agents, awake map[string]int, err error) {
	top, err := s.top.top(ctx)
	if err != nil {
		return nil, nil, err
	}
	in.MemoryBudget, in.MemoryBytes, in.CheckpointBytes, in.CPUPercent, in.Cores = top.MemoryBudget, top.MemoryBytes, top.CheckpointBytes, top.CPUPercent, top.Cores
	agents, awake = map[string]int{}, map[string]int{}
	for _, a := range top.Agents {
		agents[a.Account]++
		if a.State == "awake" {
			awake[a.Account]++
		}
		in.Gateways = append(in.Gateways, dashboard.InstalledGateway{
			Agent: a.ID, Account: a.Account, AccountName: a.AccountName, State: a.State, MemoryBytes: a.MemoryBytes, CheckpointBytes: a.CheckpointBytes,
			CPUPercent: a.CPUPercent, LastUsedAt: a.LastUsedAt, Wakes: a.Wakes, WakeTook: time.Duration(a.WakeMillis) * time.Millisecond,
		})
	}
	return agents, awake, nil
}

func (s installationSources) readAccounts(ctx context.Context, in *dashboard.Installation, agents, awake map[string]int) error {
	accounts, err := s.accounts.Accounts(ctx)
	if err != nil {
		return err
	}
	stored, err := s.accounts.StoredBytesOfAll(ctx)
	if err != nil {
		return err
	}
	for _, a := range accounts {
		id := string(a.ID)
		in.Accounts = append(in.Accounts, dashboard.InstalledAccount{
			ID: id, Name: a.Name, Plan: a.PlanID, State: string(a.State()), CreatedAt: a.CreatedAt, Agents: agents[id], Awake: awake[id], StorageBytes: stored[a.ID],
		})
	}
	slices.SortFunc(in.Accounts, func(a, b dashboard.InstalledAccount) int {
		return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	})
	plans, err := s.accounts.Plans(ctx)
	if err != nil {
		return err
	}
	for _, p := range plans {
		row := dashboard.InstalledPlan{
			ID: p.ID, Name: p.Name, Source: string(p.Source), Default: p.ID == s.accounts.DefaultPlan(), MaxAgents: p.Limits.MaxAgents, StorageBytes: p.Limits.StorageBytes, Accounts: p.Accounts,
		}
		for name, has := range p.Features {
			if !has {
				row.Lacks = append(row.Lacks, name)
			}
		}
		slices.Sort(row.Lacks)
		in.Plans = append(in.Plans, row)
	}
	in.PlanProblem, err = s.accounts.PlanProblem(ctx)
	return err
}

func shownBackup(r backup.Result) dashboard.Backup {
	if r.ID == "" {
		return dashboard.Backup{}
	}
	return dashboard.Backup{ID: r.ID, Destination: r.Destination, State: r.State, Problem: r.Problem, Began: r.Began, Ended: r.Ended, Bytes: r.Bytes, StoredBytes: r.Stored}
}

// quarantinedIn returns a function that lists the homes in quarantine of a data directory,
// without their sizes: those take long to find.
func quarantinedIn(data string) func(context.Context) ([]dashboard.Quarantined, error) {
	return func(context.Context) ([]dashboard.Quarantined, error) {
		found, err := process.ListQuarantine(filepath.Join(data, agentsDir))
		all := make([]dashboard.Quarantined, len(found))
		for i, q := range found {
			all[i] = dashboard.Quarantined{Name: filepath.Base(q.Path), Since: q.Since}
		}
		return all, err
	}
}

// operatorNeeds returns a function that lists what waits for operators.
func operatorNeeds(waiting *attention.Service) func(context.Context) ([]dashboard.OperatorNeed, error) {
	return func(ctx context.Context) ([]dashboard.OperatorNeed, error) {
		found, err := waiting.Operator(ctx)
		all := make([]dashboard.OperatorNeed, len(found))
		for i, item := range found {
			all[i] = dashboard.OperatorNeed{ID: item.ID, Kind: string(item.Kind), Urgent: item.Severity == attention.Error, Sentence: item.Sentence, Since: item.Since}
		}
		return all, err
	}
}
