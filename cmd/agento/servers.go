package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"agento.host/agento/internal/admin"
)

type serversCommand struct {
	Add       serverAdd       `cmd:"" help:"Add a server that runs agents, by SSH, and print the line for its authorized_keys."`
	List      serverList      `cmd:"" help:"List the servers of the pool."`
	Show      serverShow      `cmd:"" help:"Show a server with its keys and what is known of it."`
	Check     serverCheck     `cmd:"" help:"Show what a server lacks, with the commands that repair it. Exit code 1 if something is missing."`
	Cordon    serverCordon    `cmd:"" help:"Keep further agents from a server. Those that it has stay."`
	Uncordon  serverUncordon  `cmd:"" help:"Let agents come to a cordoned server again."`
	RotateKey serverRotateKey `cmd:"" help:"Make another key for a server. The former is kept until the new one has worked."`
	Remove    serverRemove    `cmd:"" help:"Remove a server without agents, and destroy its key."`
}

// serverArg names a pool server.
type serverArg struct {
	vaultFlags
	Name string `arg:"" help:"Name of the server."`
}

// identityFlag is the operator's own key.
type identityFlag struct {
	Identity string `help:"File of the private key to log in with. Default: agento makes one." placeholder:"FILE" type:"path" env:"-"`
}

// maxIdentity is the longest private key that is read, in bytes.
const maxIdentity = 64 << 10

func (f identityFlag) read() (string, error) {
	if f.Identity == "" {
		return "", nil
	}
	file, err := os.Open(f.Identity)
	if errors.Is(err, fs.ErrNotExist) {
		return "", notFoundError("--identity: there is no file %s", f.Identity)
	}
	if err != nil {
		return "", fmt.Errorf("--identity: %w", err)
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxIdentity))
	return string(text), err
}

// hostKeyFlag confirms host keys without a question.
type hostKeyFlag struct {
	HostKey []string `help:"Fingerprint of the server's host key, as ssh-keygen -l shows it on the server. Several are separated by commas. Only these kinds of keys are accepted then." placeholder:"SHA256:…" env:"-"`
}

// confirm returns the host keys that the server shows and that are confirmed: by the flag, or
// on the terminal.
func (f hostKeyFlag) confirm(ctx context.Context, t *terminal, api *admin.Client, login string) ([]string, error) {
	if len(f.HostKey) == 0 && (!isTerminal(t.in) || t.json) {
		return nil, refusedError("the server's host key must be confirmed: run the command on a terminal, or give --host-key SHA256:…, which this shows on the server itself: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub. Nothing was sent to the server")
	}
	shown, err := api.HostKeys(ctx, login)
	if err != nil {
		return nil, err
	}
	var keys, lines []string
	for _, k := range shown {
		lines = append(lines, "  "+k.Fingerprint+"  "+k.Kind)
		if len(f.HostKey) == 0 || slices.Contains(f.HostKey, k.Fingerprint) {
			keys = append(keys, k.Key)
		}
	}
	if len(f.HostKey) > 0 {
		if len(keys) != len(f.HostKey) {
			return nil, refusedError("the server does not have the host key that --host-key names. It shows:\n%s\nIf the fingerprint is from the server itself, somebody stands between. Nothing was sent to it", strings.Join(lines, "\n"))
		}
		return keys, nil
	}
	t.progress("%s shows these host keys:\n%s", login, strings.Join(lines, "\n"))
	if !confirm(t, "Does the server itself show the same (for k in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $k; done)? [y/N] ") {
		return nil, refusedError("nothing was changed: answer y, or give --host-key")
	}
	return keys, nil
}

// size is an amount of memory: "64GiB", "512MiB", or a number of MiB.
type size int64

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *size) UnmarshalText(text []byte) error {
	number, unit := strings.TrimRight(string(text), "GMTiBgmtb"), ""
	unit = strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(string(text)[len(number):], "B"), "i"))
	shift, ok := map[string]uint{"": 20, "m": 20, "g": 30, "t": 40}[unit]
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || !ok || n < 0 || n > 1<<53>>shift {
		return errors.New("give memory as 64GiB, 512MiB, or a number of MiB")
	}
	*s = size(n << shift)
	return nil
}

type serverAdd struct {
	serverArg
	identityFlag
	hostKeyFlag
	SSH    string   `help:"How to log in: user@host or user@host:port. The user must be allowed to use the container engine." required:"" name:"ssh" placeholder:"USER@HOST" env:"-"`
	Region []string `help:"Regions that it serves, separated by commas." required:"" env:"-"`
	Memory size     `help:"Memory that agents may use there, such as 64GiB. Default: no limit." default:"0" env:"-"`
	Agents int      `help:"How many agents it may have. Default: no limit." default:"0" env:"-"`
	Socket string   `help:"Socket of its container engine. Default: Docker's." placeholder:"PATH" env:"-"`
}

// Run adds the server, prints the line of its key, and tries to connect.
func (c serverAdd) Run(ctx context.Context, t *terminal) error {
	identity, err := c.read()
	if err != nil {
		return err
	}
	return c.withAdmin(ctx, writing, c.keySource(), func(api *admin.Client) error {
		keys, err := c.confirm(ctx, t, api, c.SSH)
		if err != nil {
			return err
		}
		s, err := api.AddServer(ctx, admin.NewServer{
			Name: c.Name, SSH: c.SSH, Socket: c.Socket, Regions: c.Region, Memory: int64(c.Memory), Agents: c.Agents, HostKeys: keys, Identity: identity,
		})
		if err != nil {
			return err
		}
		t.progress("Put this line into authorized_keys of %s:", s.SSH)
		if err := t.print(serverRow(s), s.PublicKey); err != nil {
			return err
		}
		found, err := api.CheckServer(ctx, c.Name)
		if err != nil {
			return err
		}
		for _, f := range found {
			if f.What == "login" && !f.OK {
				t.progress("It is added, and refuses the key so far. Then check what it lacks: agento servers check %s", c.Name)
				return nil
			}
		}
		if lacking(found) > 0 {
			t.progress("It is added, and lacks something: agento servers check %s", c.Name)
		}
		return nil
	})
}

type serverList struct{ dataFlags }

// Run lists the servers.
func (c serverList) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, reading, nil, func(api *admin.Client) error {
		all, err := api.Servers(ctx)
		if err != nil {
			return err
		}
		rows := make([]map[string]any, len(all))
		for i, s := range all {
			rows[i] = serverRow(s)
			if !t.json {
				rows[i]["regions"], rows[i]["memory"], rows[i]["agents"] = strings.Join(s.Regions, ","), limitText(s.Memory, formatBytes), limitText(int64(s.Agents), func(n int64) string { return strconv.FormatInt(n, 10) })
				rows[i]["connection"] = describeLink(s)
			}
		}
		return t.table(rows, "name", "ssh", "regions", "memory", "agents", "state", "connection")
	})
}

func limitText(n int64, format func(int64) string) any {
	if n == 0 {
		return nil
	}
	return format(n)
}

// describeLink says in few words whether a server can be used.
func describeLink(s admin.Server) string {
	switch {
	case s.Problem != "":
		return "stopped: " + s.Problem
	case s.SSH == "":
		return "this machine"
	case s.Link == nil && s.ReachedAt.IsZero():
		return "never reached"
	case s.Link == nil:
		return "reached " + moment{s.ReachedAt}.ago()
	case s.Link.Up:
		return fmt.Sprintf("up, %.1f ms", float64(s.Link.RoundTripMicros)/1000)
	case s.Link.Connected:
		return "connected, engine: " + s.Link.Error
	}
	return "down: " + s.Link.Error
}

type serverShow struct {
	dataFlags
	Name string `arg:"" help:"Name of the server."`
}

// Run shows the server.
func (c serverShow) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, reading, nil, func(api *admin.Client) error {
		s, err := api.Server(ctx, c.Name)
		if err != nil {
			return err
		}
		fields := []field{
			{"name", s.Name}, {"ssh", s.SSH}, {"socket", s.Socket}, {"regions", strings.Join(s.Regions, ", ")}, {"state", s.State}, {"connection", describeLink(s)},
			{"memory", limitText(s.Memory, formatBytes)}, {"agents", limitText(int64(s.Agents), func(n int64) string { return strconv.FormatInt(n, 10) })},
			{"host keys", strings.Join(s.HostKeys, "\n           ")}, {"key", s.PublicKey}, {"new key", s.NewKey},
		}
		if s.DiskFree >= 0 {
			fields = append(fields, field{"disk free", formatBytes(s.DiskFree)})
		}
		for name, at := range map[string]moment{"created": {s.CreatedAt}, "reached": {s.ReachedAt}} {
			if !at.IsZero() {
				fields = append(fields, field{name, at})
			}
		}
		return t.describe(serverRow(s), fields...)
	})
}

type serverCheck struct {
	serverArg
	hostKeyFlag
}

// Run shows what the server lacks. With --host-key, it first confirms the server's new host key.
func (c serverCheck) Run(ctx context.Context, t *terminal) error {
	return c.withAdmin(ctx, writing, c.keySource(), func(api *admin.Client) error {
		if len(c.HostKey) > 0 {
			s, err := api.Server(ctx, c.Name)
			if err != nil {
				return err
			}
			keys, err := c.confirm(ctx, t, api, s.SSH)
			if err != nil {
				return err
			}
			if _, err := api.ConfirmHostKeys(ctx, c.Name, keys); err != nil {
				return err
			}
		}
		found, err := api.CheckServer(ctx, c.Name)
		if err != nil {
			return err
		}
		if t.json {
			err = t.printJSON(found)
		} else {
			_, err = io.WriteString(t.out, escapeText(describeFindings(found)))
		}
		if n := lacking(found); err == nil && n > 0 {
			return &failure{exitFailed, fmt.Sprintf("the server %s lacks %s", c.Name, count(n, "thing", "things"))}
		}
		return err
	})
}

func lacking(found []admin.ServerFinding) (n int) {
	for _, f := range found {
		if !f.OK && !f.Warning {
			n++
		}
	}
	return n
}

func describeFindings(found []admin.ServerFinding) string {
	var text strings.Builder
	for _, f := range found {
		mark := "ok  "
		switch {
		case !f.OK && f.Warning:
			mark = "note"
		case !f.OK:
			mark = "FIX "
		}
		fmt.Fprintf(&text, "%s  %s  %s\n", mark, f.What+strings.Repeat(" ", max(0, 11-len(f.What))), f.State)
		for _, r := range f.Repair {
			fmt.Fprintf(&text, "                     %s\n", r)
		}
	}
	return text.String()
}

type serverCordon struct{ serverArg }

// Run cordons the server.
func (c serverCordon) Run(ctx context.Context, t *terminal) error {
	return c.change(ctx, t, true, "cordoned "+c.Name+": it gets no more agents, and keeps those that it has")
}

type serverUncordon struct{ serverArg }

// Run ends that the server is cordoned.
func (c serverUncordon) Run(ctx context.Context, t *terminal) error {
	return c.change(ctx, t, false, "uncordoned "+c.Name)
}

func (c serverArg) change(ctx context.Context, t *terminal, on bool, done string) error {
	return c.withAdmin(ctx, writing, nil, func(api *admin.Client) error {
		s, err := api.CordonServer(ctx, c.Name, on)
		if err != nil {
			return err
		}
		return t.print(serverRow(s), done)
	})
}

type serverRotateKey struct {
	serverArg
	identityFlag
}

// Run makes another key and prints its line.
func (c serverRotateKey) Run(ctx context.Context, t *terminal) error {
	identity, err := c.read()
	if err != nil {
		return err
	}
	return c.withAdmin(ctx, writing, c.keySource(), func(api *admin.Client) error {
		s, err := api.RotateServerKey(ctx, c.Name, identity)
		if err != nil {
			return err
		}
		t.progress("Add this line to authorized_keys of %s. The former key is used until this one has worked: agento servers check %s tries it. Then remove the former line.", s.SSH, s.Name)
		return t.print(serverRow(s), s.NewKey)
	})
}

type serverRemove struct {
	serverArg
	confirmation
}

// Run removes the server.
func (c serverRemove) Run(ctx context.Context, t *terminal) error {
	if err := c.ask(t, fmt.Sprintf("Remove the server %s and destroy its key?", c.Name)); err != nil {
		return err
	}
	return c.withAdmin(ctx, writing, nil, func(api *admin.Client) error {
		s, err := api.RemoveServer(ctx, c.Name)
		if err != nil {
			return err
		}
		return t.print(map[string]any{"name": s.Name, "removed": true}, "removed "+s.Name+": take its line out of authorized_keys of "+s.SSH)
	})
}

func serverRow(s admin.Server) map[string]any {
	row := map[string]any{
		"name": s.Name, "ssh": s.SSH, "socket": s.Socket, "regions": s.Regions, "memory": s.Memory, "agents": s.Agents, "state": s.State, "hostKeys": s.HostKeys,
		"publicKey": s.PublicKey, "problem": s.Problem, "diskFree": s.DiskFree, "createdAt": formatTime(s.CreatedAt), "reachedAt": formatTime(s.ReachedAt), "link": s.Link,
	}
	if s.NewKey != "" {
		row["newKey"] = s.NewKey
	}
	return row
}
