package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"agento.host/agento/internal/admin"
	"agento.host/agento/internal/agent"
	"agento.host/agento/internal/backup"
	"agento.host/agento/internal/database"
	"agento.host/agento/internal/gateway"
	"agento.host/agento/internal/identity"
	"agento.host/agento/internal/repository"
	"agento.host/agento/internal/runtime/process"
	"agento.host/agento/internal/vault"
)

type backupCommand struct {
	Make   backupMake   `cmd:"" default:"withargs" help:"Make a backup, while the server works or without one."`
	List   backupList   `cmd:"" help:"List the backups of a place."`
	Verify backupVerify `cmd:"" help:"Unpack a backup into a temporary directory, and open and check everything in it."`
}

// protectionFlags say how backups are protected.
type protectionFlags struct {
	PassphraseFile string `help:"File whose first line is the passphrase of the repository. Keep it: without it nothing can be restored." type:"path" placeholder:"FILE"`
	Recipient      string `help:"Public key of age. Each backup is one whole file then, which only the private key opens." placeholder:"AGE-KEY"`
	Plain          bool   `help:"Do not protect the backup: whoever can read it knows everything that agents know."`
}

func (f protectionFlags) destination(url string) (backup.Destination, error) {
	d := backup.Destination{URL: url, Recipient: f.Recipient, Plain: f.Plain}
	if f.PassphraseFile != "" {
		var err error
		if d.Passphrase, err = readPassphrase(f.PassphraseFile); err != nil {
			return d, err
		}
	}
	if err := d.Check(); err != nil {
		return d, usageError("%s", err)
	}
	return d, nil
}

// readPassphrase returns the first line of a file.
func readPassphrase(file string) (vault.Secret, error) {
	text, err := os.ReadFile(filepath.Clean(file))
	if errors.Is(err, fs.ErrNotExist) {
		return vault.Secret{}, notFoundError("%s", err)
	}
	if err != nil {
		return vault.Secret{}, err
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	if line = bytes.TrimRight(line, "\r"); len(line) < repository.MinPassphrase {
		return vault.Secret{}, usageError("the first line of %s is the passphrase and has fewer than %d characters: make one with: openssl rand -base64 24", file, repository.MinPassphrase)
	}
	return vault.NewSecret(string(line)), nil
}

// accessFlags open backups.
type accessFlags struct {
	PassphraseFile string `help:"File whose first line is the passphrase of the repository." type:"path" placeholder:"FILE" xor:"access"`
	Identity       string `help:"File with the private key of age, for backups that were made with --recipient." type:"path" placeholder:"FILE" xor:"access"`
}

func (f accessFlags) access() (a backup.Access, err error) {
	if f.PassphraseFile != "" {
		a.Passphrase, err = readPassphrase(f.PassphraseFile)
	}
	if f.Identity != "" {
		var text []byte
		text, err = os.ReadFile(filepath.Clean(f.Identity))
		a.Identity = vault.NewSecret(string(text))
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = notFoundError("%s", err)
	}
	return a, err
}

// open opens a place with backups.
func (f accessFlags) open(ctx context.Context, source string) (*backup.Store, error) {
	a, err := f.access()
	if err != nil {
		return nil, err
	}
	s, err := backup.Open(ctx, source, a)
	return s, backupError(err)
}

// backupError returns an error with the exit code that it has.
func backupError(err error) error {
	switch {
	case errors.Is(err, repository.ErrNoRepository), errors.Is(err, backup.ErrNone), errors.Is(err, fs.ErrNotExist):
		return notFoundError("%s", err)
	case errors.Is(err, repository.ErrPassphrase), errors.Is(err, repository.ErrPlain), errors.Is(err, repository.ErrProtected):
		return refusedError("%s", err)
	}
	return err
}

// localPlace returns a destination that means the same to a server with another working
// directory.
func localPlace(place string) (string, error) {
	if dir, local := repository.LocalPath(place); local {
		return filepath.Abs(dir)
	}
	return place, nil
}

type backupMake struct {
	vaultFlags
	protectionFlags
	To      string `arg:"" name:"destination" help:"Where the backup goes: a directory, or s3://BUCKET, gs://BUCKET, azblob://CONTAINER."`
	Keep    string `help:"Afterwards delete backups there that these rules do not keep: all, or such as last=3,daily=7,weekly=4,monthly=12." default:"all"`
	Catalog string `help:"Directory of the operator's own skills, if no server runs; a server has its own --catalog." type:"path"`
}

// Run makes a backup, in the server if one runs.
func (c backupMake) Run(ctx context.Context, t *terminal) error {
	d, err := c.destination(c.To)
	if err != nil {
		return err
	}
	if _, err := backup.ParseKeep(c.Keep); err != nil {
		return usageError("%s", err)
	}
	to, err := localPlace(d.URL)
	if err != nil {
		return err
	}
	in := admin.Backup{To: to, Passphrase: d.Passphrase.Reveal(), Recipient: d.Recipient, Plain: d.Plain, Keep: c.Keep, Catalog: c.Catalog}
	return c.withAdmin(ctx, writing, c.keySource(), func(api *admin.Client) error {
		done, err := api.Backup(ctx, in, func(p admin.BackupProgress) {
			if p.Agent == "" {
				t.progress("copying the database")
				return
			}
			t.progress("%d of %d  agent %s  %s", p.Done, p.Total, p.Agent, formatBytes(p.Bytes))
		})
		if err != nil {
			return err
		}
		if err := c.show(t, done); err != nil {
			return err
		}
		if done.State == backup.Incomplete {
			return fmt.Errorf("the backup is incomplete. %s", done.Problem)
		}
		return nil
	})
}

func (c backupMake) show(t *terminal, b admin.BackedUp) error {
	if b.Removed == nil {
		b.Removed = []string{}
	}
	return t.describe(b,
		field{"backup", b.ID}, field{"to", b.To}, field{"state", b.State}, field{"problem", b.Problem},
		field{"agents", b.Agents}, field{"holds", formatBytes(b.Bytes)}, field{"stored", formatBytes(b.StoredBytes)},
		field{"took", b.Ended.Sub(b.Began).Round(10 * time.Millisecond).String()},
		field{"longest hold of a gateway", (time.Duration(b.HeldMillis) * time.Millisecond).String()},
		field{"removed", len(b.Removed)})
}

type backupList struct {
	accessFlags
	Source string `arg:"" help:"Where the backups are."`
}

// Run lists backups, newest first.
func (c backupList) Run(ctx context.Context, t *terminal) error {
	s, err := c.open(ctx, c.Source)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	all, err := s.List(ctx)
	if err != nil {
		return backupError(err)
	}
	rows := make([]map[string]any, len(all))
	for i, m := range all {
		rows[i] = map[string]any{"id": m.ID, "began": formatTime(m.Began)}
		if m.Format == 0 { // a file that was not decrypted
			continue
		}
		rows[i]["state"], rows[i]["agents"], rows[i]["holds"], rows[i]["stored"] = m.State(), len(m.Agents), formatBytes(m.Bytes), formatBytes(m.Stored)
		rows[i]["version"], rows[i]["schema"], rows[i]["installation"], rows[i]["problem"] = m.Version, m.Schema, m.Installation, m.Problem()
		rows[i]["masterKey"] = map[string]any{"fingerprint": m.MasterKey.Fingerprint, "included": m.MasterKey.Included}
	}
	return t.table(rows, "id", "state", "agents", "holds", "stored", "version")
}

type backupVerify struct {
	accessFlags
	Source  string `arg:"" help:"Where the backup is."`
	Backup  string `arg:"" optional:"" help:"Id of the backup. Default: the newest."`
	Scratch string `help:"Directory for the unpacked backup, which needs as much room as the backup holds. Default: that for temporary files." type:"path"`
}

// Run verifies a backup.
func (c backupVerify) Run(ctx context.Context, t *terminal) error {
	s, err := c.open(ctx, c.Source)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	v, err := backup.Verify(ctx, s, c.Backup, c.Scratch)
	if err != nil {
		return backupError(err)
	}
	for _, note := range v.Notes {
		t.progress("%s", note)
	}
	m := v.Manifest
	key := "not in the backup: restore asks for the key " + m.MasterKey.Fingerprint
	if m.MasterKey.Included {
		key = "in the backup: " + m.MasterKey.Fingerprint
	}
	out := map[string]any{
		"id": m.ID, "state": m.State(), "problem": m.Problem(), "agents": len(m.Agents), "files": v.Files, "databases": v.Databases, "notes": append([]string{}, v.Notes...),
		"version": m.Version, "schema": m.Schema, "installation": m.Installation, "masterKey": map[string]any{"fingerprint": m.MasterKey.Fingerprint, "included": m.MasterKey.Included},
	}
	err = t.describe(out,
		field{"backup", m.ID}, field{"state", m.State()}, field{"problem", m.Problem()}, field{"agents", len(m.Agents)}, field{"files", v.Files},
		field{"databases in homes", v.Databases}, field{"master key", key}, field{"made by", "agento " + m.Version}, field{"schema", m.Schema})
	if err == nil && m.State() == backup.Incomplete {
		err = fmt.Errorf("the backup is whole, but agents are missing in it. %s", m.Problem())
	}
	return err
}

// backupFlags are those of regular backups.
type backupFlags struct {
	BackupEvery          time.Duration `help:"Make a backup regularly, such as every 24h. 0: never." default:"0"`
	BackupTo             string        `help:"Where regular backups go: a directory or a URL, as for agento backup." placeholder:"DESTINATION"`
	BackupPassphraseFile string        `help:"File whose first line is the passphrase of regular backups." type:"path" placeholder:"FILE"`
	BackupRecipient      string        `help:"Public key of age that regular backups are made for." placeholder:"AGE-KEY"`
	BackupPlain          bool          `help:"Do not protect regular backups."`
	BackupKeep           string        `help:"Which regular backups are kept: all, or rules." default:"last=3,daily=7,weekly=4,monthly=12"`
}

// leastBackupPeriod is how often backups can be made at most.
const leastBackupPeriod = time.Minute

func (f backupFlags) schedule() (s backup.Schedule, err error) {
	if f.BackupEvery == 0 {
		if f.BackupTo != "" {
			return s, usageError("--backup-to needs --backup-every, such as 24h")
		}
		return s, nil
	}
	if f.BackupEvery < leastBackupPeriod {
		return s, usageError("--backup-every is at least %s", leastBackupPeriod)
	}
	s.Every = f.BackupEvery
	if s.Keep, err = backup.ParseKeep(f.BackupKeep); err != nil {
		return s, usageError("--backup-keep: %s", err)
	}
	if s.To, err = (protectionFlags{f.BackupPassphraseFile, f.BackupRecipient, f.BackupPlain}).destination(f.BackupTo); err != nil {
		return s, fmt.Errorf("--backup-every: %w (the flags of serve begin with --backup-)", err)
	}
	s.To.URL, err = localPlace(s.To.URL)
	return s, err
}

// backups returns the service of a server's backups.
func (f serveFlags) backups(r *resources, gateways *gateway.Manager) (*backup.Service, error) {
	schedule, err := f.schedule()
	if err != nil {
		return nil, err
	}
	return backup.NewService(backup.Source{
		DB: r.db, Data: f.Data, Catalog: f.Catalog, Version: version, Log: r.log, Agents: agent.IDs, Elsewhere: homeElsewhere(f.Data),
		Hold: func(ctx context.Context, id identity.AgentID) (func() (time.Duration, error), error) {
			release, err := gateways.Hold(ctx, id)
			if errors.Is(err, gateway.ErrBusy) {
				err = backup.ErrBusy
			}
			return release, err
		},
	}, schedule), nil
}

// homeElsewhere returns what says where the home of an agent is that is not in the data directory: the
// drivers of containers keep a record of each agent there.
func homeElsewhere(data string) func(context.Context, identity.AgentID) (string, error) {
	return func(_ context.Context, id identity.AgentID) (string, error) {
		if _, err := os.Lstat(filepath.Join(data, containersDir, string(id))); err == nil {
			return "in a volume of the container engine", nil
		}
		found, err := filepath.Glob(filepath.Join(data, serversDir, "*", string(id)))
		if len(found) > 0 {
			return "on a pool server", err
		}
		return "", err
	}
}

// backupHere returns what makes a backup without a server. A gateway that runs nevertheless
// cannot be held then.
func (d dataFlags) backupHere(db *database.DB) func(context.Context, admin.Backup, func(admin.BackupProgress)) (admin.BackedUp, error) {
	return func(ctx context.Context, in admin.Backup, progress func(admin.BackupProgress)) (admin.BackedUp, error) {
		running, err := process.Gateways(filepath.Join(d.Data, agentsDir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return admin.BackedUp{}, err
		}
		s := backup.NewService(backup.Source{
			DB: db, Data: d.Data, Catalog: in.Catalog, Version: version, Log: slog.New(slog.DiscardHandler), Agents: agent.IDs, Elsewhere: homeElsewhere(d.Data),
			Hold: func(_ context.Context, id identity.AgentID) (func() (time.Duration, error), error) {
				if slices.ContainsFunc(running, func(g process.Gateway) bool { return string(g.ID) == string(id) && g.Own }) {
					return nil, errors.New("it runs, and there is no server that could hold it")
				}
				return func() (time.Duration, error) { return 0, nil }, nil
			},
		}, backup.Schedule{})
		return makeBackup(s)(ctx, in, progress)
	}
}

// makeBackup returns what makes a backup for the operator.
func makeBackup(s *backup.Service) func(context.Context, admin.Backup, func(admin.BackupProgress)) (admin.BackedUp, error) {
	return func(ctx context.Context, in admin.Backup, progress func(admin.BackupProgress)) (admin.BackedUp, error) {
		keep, err := backup.ParseKeep(in.Keep)
		if err != nil {
			return admin.BackedUp{}, err
		}
		to := backup.Destination{URL: in.To, Passphrase: vault.NewSecret(in.Passphrase), Recipient: in.Recipient, Plain: in.Plain}
		r, err := s.Make(ctx, to, keep, func(p backup.Progress) {
			progress(admin.BackupProgress{Agent: string(p.Agent), Done: p.Done, Total: p.Total, Bytes: p.Bytes})
		})
		return admin.BackedUp{
			ID: r.ID, To: r.Destination, Began: r.Began, Ended: r.Ended, State: r.State, Problem: r.Problem, Agents: r.Agents,
			Bytes: r.Bytes, StoredBytes: r.Stored, HeldMillis: r.Held.Milliseconds(), Removed: r.Removed,
		}, err
	}
}

// oldBackup is the age of the last good backup that doctor warns of, if the server makes none
// regularly that it would tell of itself.
const oldBackup = 7 * 24 * time.Hour

// lastBackup returns what doctor says of the last backup.
func (c doctorCommand) lastBackup(ctx context.Context) finding {
	f := finding{Part: "last backup", OK: true}
	var newest, good backup.Result
	err := database.View(c.databasePath(), func(q database.Reader) (err error) {
		newest, good, err = backup.Last(ctx, q)
		return err
	})
	advice := "make one: agento backup DESTINATION --passphrase-file FILE; or regularly: agento serve --backup-every 24h --backup-to DESTINATION --backup-passphrase-file FILE"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.State = "none (there is nothing to back up)"
	case err != nil:
		f.OK, f.State = false, err.Error()
	case good.ID == "" && newest.ID == "":
		f.Warning, f.State, f.Fix = true, "none", advice
	case newest.ID != good.ID:
		f.OK, f.State = false, fmt.Sprintf("%s is %s: %s", newest.ID, newest.State, newest.Problem)
		f.Fix = "repair that, then make one: agento backup " + newest.Destination
	default:
		age := time.Since(good.Ended)
		f.State = fmt.Sprintf("%s in %s, %s old, %s", good.ID, good.Destination, age.Round(time.Minute), good.State)
		if good.Problem != "" {
			f.State += ". " + good.Problem
		}
		if age > oldBackup {
			f.Warning, f.Fix = true, advice
		}
	}
	return f
}
