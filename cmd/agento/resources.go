package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"agento.host/agento/internal/accesslog"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/agentstatus"
	"agento.host/agento/internal/api"
	"agento.host/agento/internal/backup"
	"agento.host/agento/internal/chat"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/event"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/metrics"
	"agento.host/agento/internal/modelproxy"
	"agento.host/agento/internal/reconciler"
	"agento.host/agento/internal/restore"
	"agento.host/agento/internal/runtime"
	"agento.host/agento/internal/trace"
	"agento.host/agento/internal/vault"
)

// resources are what a server holds open. Close releases them in reverse order.
type resources struct {
	log     *slog.Logger
	db      *database.DB
	secrets *vault.Vault
	driver  runtime.Driver
	public  net.Listener              // the API
	admin   net.Listener              // the operator's commands
	reports *agentstatus.RedisReports // nil: no Redis

	metrics         *metrics.Metrics       // nil: nobody reads them
	metricsListener net.Listener           // nil if metrics is
	requests        *accesslog.Log         // nil: off
	activated       bool                   // this start has ended that the installation is quiet
	reconciler      *reconciler.Reconciler // nil until the services are built
	traces          string                 // the endpoint that traces are exported to; empty: nowhere

	closers []func() error
}

// Close releases everything that was opened.
func (r *resources) Close() error {
	var err error
	for i := len(r.closers) - 1; i >= 0; i-- {
		if e := r.closers[i](); !errors.Is(e, net.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// openResources opens the data directory, the driver and the listeners.
// It closes what it has opened if it fails.
func openResources(ctx context.Context, f serveFlags, dev devSettings, t *terminal) (_ *resources, err error) {
	r := &resources{log: logger(t, f.LogLevel)}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if f.MetricsListen != "" {
		r.metrics = metrics.New(metrics.Settings{Version: version, State: r.state})
	}
	if f.AccessLog != "off" && f.AccessLog != "" {
		if r.requests, err = accesslog.New(t.out, f.AccessLog); err != nil {
			return nil, err
		}
		r.closers = append(r.closers, r.requests.Close)
	}
	if err := r.exportTraces(ctx); err != nil {
		return nil, err
	}
	logSlow := logSlowTransaction(r.log)
	data, err := f.openAndMigrate(ctx, r.log, f.keySource(), func(kind string, held time.Duration) {
		logSlow(kind, held)
		r.metrics.Transaction(kind, held)
	})
	if err != nil {
		return nil, err
	}
	r.db = data.db
	r.closers = append(r.closers, data.Close)
	if r.secrets, err = vault.Open(ctx, r.db, *f.keySource()); err != nil {
		return nil, err
	}
	if !f.Seal {
		r.secrets.LeaveTextsPlain()
	}
	if f.Activate {
		if r.activated, err = restore.Activate(ctx, r.db, event.NewLog(r.db)); err != nil {
			return nil, err
		}
	}
	if err := f.decideIsolation(ctx, r.db, dev); err != nil {
		return nil, err
	}
	command, readOnly, err := f.command(ctx, t)
	if err != nil {
		return nil, err
	}
	agents := f.driverDir()
	r.driver, err = f.open(runtime.Settings{
		Installation: r.db.Installation(), Dir: agents, Command: command, ReadOnly: readOnly, Log: r.log,
		Development: dev.unsandboxed, LogKey: r.logKey, Suspend: f.Sleep == sleepAuto,
	})
	if err != nil {
		return nil, err
	}
	if err := f.checkSleep(r.driver, r.log); err != nil {
		return nil, err
	}
	if r.public, err = (&net.ListenConfig{}).Listen(ctx, "tcp", f.Listen); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", f.Listen, err)
	}
	r.closers = append(r.closers, r.public.Close)
	if f.MetricsListen != "" {
		if r.metricsListener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", f.MetricsListen); err != nil {
			return nil, fmt.Errorf("--metrics-listen: %w", err)
		}
		r.closers = append(r.closers, r.metricsListener.Close)
	}
	if f.Redis != "" {
		if r.reports, err = agentstatus.OpenRedisReports(f.Redis); err != nil {
			return nil, fmt.Errorf("--redis: %w", err)
		}
		r.closers = append(r.closers, r.reports.Close)
	}
	return r, nil
}

// exportTraces exports traces if the environment asks for it.
func (r *resources) exportTraces(ctx context.Context) (err error) {
	endpoint, stop, err := trace.Start(ctx, version, r.log)
	if err != nil {
		return err
	}
	r.traces = endpoint
	r.closers = append(r.closers, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), traceTimeout)
		defer cancel()
		if err := stop(ctx); err != nil {
			r.log.WarnContext(ctx, "the last traces were not exported", "error", err)
		}
		return nil
	})
	return nil
}

// traceTimeout is how long a server that stops waits for the collector of traces.
const traceTimeout = 5 * time.Second

// state returns what the metrics show of the agents.
func (r *resources) state(ctx context.Context) (metrics.State, error) {
	agents, err := agent.Count(ctx, r.db)
	s := metrics.State{Agents: map[string]int{}, States: agents.ByState}
	for status, n := range agents.ByStatus {
		s.Agents[string(status)] = n
	}
	if r.reconciler != nil {
		s.WaitingForMemory, s.WaitingForBoot = r.reconciler.Waiting()
	}
	if err != nil {
		return s, err
	}
	use, err := checkpointUse(r.driver)(ctx)
	if err != nil {
		return s, err
	}
	s.CheckpointCounts = map[string]int{"fresh": use.Fresh.Count, "compressed": use.Compressed.Count, "disk": use.OnDisk.Count}
	s.CheckpointBytes = map[string]int64{"fresh": use.Fresh.Bytes, "compressed": use.Compressed.Bytes, "disk": use.OnDisk.Bytes}
	_, good, err := backup.Last(ctx, r.db)
	s.LastBackup = good.Ended
	return s, err
}

// completed counts a request of the API, and writes its line.
func (r *resources) completed(c api.Completed) {
	method := c.Request.Method
	r.metrics.Request(method, c.Route, c.Status, c.Duration)
	if r.requests != nil {
		r.requests.Write(accesslog.Line{
			Method: method, Route: c.Route, Status: c.Status, Duration: c.Duration, Account: string(c.Account), Key: cmp.Or(string(c.Key), string(c.User)), Request: c.ID,
		})
	}
}

// turnEnded counts a turn.
func (r *resources) turnEnded(e chat.Ending) {
	r.metrics.Turn(string(e.State), e.StopReason, e.FirstText, e.Took)
}

// modelCall counts a call of a model provider.
func (r *resources) modelCall(x modelproxy.Exchange) {
	c := x.Usage
	r.metrics.ModelCall(string(x.Provider), x.Status, x.FirstByte, metrics.Tokens{Input: c.Input, Output: c.Output, CacheRead: c.CacheRead, CacheWrite: c.CacheWrite})
}

// logKey returns the key that seals the older part of an agent's log.
func (r *resources) logKey(ctx context.Context, id identity.AgentID) (vault.TextKey, error) {
	a, err := agent.NewStore(r.db, event.NewLog(r.db)).FindByID(ctx, r.db, id)
	if errors.Is(err, sql.ErrNoRows) {
		return vault.TextKey{}, nil
	}
	if err != nil {
		return vault.TextKey{}, err
	}
	return r.secrets.TextKey(ctx, r.db, a.AccountID, vault.OfAgent(id))
}

// sharedReports returns the reports in Redis, or a nil interface without Redis.
func (r *resources) sharedReports() agentstatus.Reports {
	if r.reports == nil {
		return nil
	}
	return r.reports
}
