package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"agento.host/agento/internal/admin"
	"agento.host/agento/internal/runtime/home"
	"agento.host/agento/internal/runtime/process"
)

// quarantinedHome is the home, with its logs, of an agent that the database did not know.
type quarantinedHome struct {
	process.Quarantined
	bytes    int64
	complete bool // bytes is all of it
}

// listQuarantine lists the homes in quarantine of a data directory, oldest first.
func listQuarantine(ctx context.Context, data string) ([]quarantinedHome, error) {
	found, err := process.ListQuarantine(filepath.Join(data, agentsDir))
	all := make([]quarantinedHome, len(found))
	for i, q := range found {
		all[i].Quarantined = q
		all[i].bytes, all[i].complete = home.Size(ctx, q.Path)
	}
	return all, err
}

// quarantinedHomes collects the homes in quarantine of a data directory.
func quarantinedHomes(data string) admin.Collector {
	const kind = "home in quarantine"
	return admin.Collector{
		Kind: kind,
		List: func(ctx context.Context) ([]admin.Garbage, error) {
			found, err := listQuarantine(ctx, data)
			all := make([]admin.Garbage, len(found))
			for i, q := range found {
				all[i] = admin.Garbage{Kind: kind, Name: filepath.Base(q.Path), Bytes: q.bytes, Since: q.Since}
			}
			return all, err
		},
		Remove: func(ctx context.Context, name string) error {
			found, err := listQuarantine(ctx, data)
			for _, q := range found {
				if filepath.Base(q.Path) == name {
					return home.Purge(ctx, q.Path)
				}
			}
			return err
		},
	}
}

func (q quarantinedHome) size() string {
	if !q.complete {
		return "over " + formatMiB(q.bytes)
	}
	return formatMiB(q.bytes)
}

func formatMiB(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// quarantine reports the homes in quarantine.
func (c doctorCommand) quarantine(ctx context.Context) []finding {
	found, err := listQuarantine(ctx, c.Data)
	if err != nil {
		return []finding{{Part: "quarantine", State: err.Error()}}
	}
	var out []finding
	for _, q := range found {
		out = append(out, finding{
			Part: "quarantine", OK: true,
			State: fmt.Sprintf("files of agent %s, which the database did not know, since %s, %s", q.ID, formatTime(q.Since), q.size()),
			Fix: fmt.Sprintf("to get them back, stop the server, restore the database that knows the agent, and move %s to %s; agento gc deletes them",
				q.Path, filepath.Join(c.Data, agentsDir, string(q.ID))),
		})
	}
	return out
}

// unknownName is the file in which the server keeps for doctor what it has found about
// agents that the database does not know.
const unknownName = "unknown-agents.txt"

// noteUnknown returns a function that replaces the text of that file, or deletes the
// file if the text is empty.
func noteUnknown(data string) func(text string) error {
	path := filepath.Join(data, unknownName)
	return func(text string) error {
		if text == "" {
			if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		}
		return replaceFile(path, []byte(text+"\n"))
	}
}

// unknown reports what the server has found about agents that the database does not know.
func (c doctorCommand) unknown() []finding {
	text, err := os.ReadFile(filepath.Join(c.Data, unknownName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return []finding{{Part: "agents", State: err.Error()}}
	}
	return []finding{{
		Part: "agents", State: strings.TrimSpace(string(text)),
		Fix: "start the server with the database that knows the agents, or move their directories in " + filepath.Join(c.Data, agentsDir) + " away",
	}}
}

// replaceFile writes a file with mode 0600. The old one stays if that fails, as on a full
// disk.
func replaceFile(path string, data []byte) error {
	temp := path + ".new"
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
