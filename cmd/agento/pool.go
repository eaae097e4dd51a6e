package main

import (
	"cmp"
	"context"
	"path/filepath"

	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/dashboard"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/pool"
	"agento.host/agento/internal/pool/engines"
	"agento.host/agento/internal/runtime/docker"
	"agento.host/agento/internal/runtime/image"
	"agento.host/agento/internal/runtime/multi"
)

// serversDir is the directory of the data directory with the records of agents on pool servers.
const serversDir = "servers"

// openPool puts the container engines of the pool servers beside the driver of this machine.
func (f serveFlags) openPool(r *resources, records *agent.Store, servers *pool.Service) (*pool.Links, *engines.Servers) {
	links := pool.NewLinks(servers)
	all := engines.New(engines.Settings{
		DB: r.db, Store: records, Pool: servers, Links: links, Log: r.log,
		Docker: docker.Settings{
			Installation: r.db.Installation(), Dir: filepath.Join(f.Data, serversDir), Image: f.image(), Runtime: f.Docker.ContainerRuntime,
			Command: image.Runtime().Command(f.Lean), Log: r.log,
		},
	})
	r.driver = multi.New(multi.Settings{Local: r.driver, Servers: all, Log: r.log})
	return links, all
}

// agentsOn returns how many agents have their homes on a server.
func agentsOn(db *database.DB) func(ctx context.Context, server string) (int, error) {
	records := agent.NewStore(db, nil)
	return func(ctx context.Context, server string) (int, error) { return records.CountOn(ctx, db, server) }
}

// shownServers returns what operators see of the servers.
func shownServers(servers *pool.Service, links *pool.Links) func(context.Context) ([]dashboard.InstalledServer, error) {
	return func(ctx context.Context) ([]dashboard.InstalledServer, error) {
		all, err := servers.List(ctx)
		if err != nil {
			return nil, err
		}
		rows := make([]dashboard.InstalledServer, len(all))
		for i, s := range all {
			n := dashboard.InstalledServer{
				Name: s.Name, Login: s.SSH(), Regions: pool.Serves(s, all), State: string(s.State), Up: s.IsLocal(), Problem: s.Problem,
				ReachedAt: s.ReachedAt, MaxAgents: s.Agents, MemoryBytes: s.Memory, DiskFree: s.DiskFree,
			}
			if n.Agents, err = servers.AgentsOn(ctx, s.Name); err != nil {
				return nil, err
			}
			if status, ok := links.Status(s.Name); ok {
				n.Up, n.RoundTrip = status.Up(), status.RoundTrip
				if reason := cmp.Or(status.LastError, status.EngineError); !n.Up && reason != nil {
					n.Problem = reason.Error()
				}
			}
			rows[i] = n
		}
		return rows, nil
	}
}
