package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"agento.host/agento/client"
	"agento.host/agento/internal/agentarchive"
)

// withoutFlag names the parts to leave out of an archive.
type withoutFlag struct {
	Without []string `help:"Parts to leave out: skills, knowledge or sessions." placeholder:"PART,…"`
}

// check returns the error of a part that there is not, before anything is sent.
func (f withoutFlag) check() error {
	if _, err := agentarchive.AllParts().Without(f.Without...); err != nil {
		return usageError("--without must name skills, knowledge or sessions, separated by commas")
	}
	return nil
}

type agentsExport struct {
	agentArg
	withoutFlag
	Output string `short:"o" help:"File to write; - is standard output. Default: agent-ID.tar.gz." placeholder:"FILE"`
}

// Run exports an agent. It prints the name of the file alone on standard output.
func (c agentsExport) Run(ctx context.Context, t *terminal) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.Output == "-" && isTerminal(t.out) {
		return usageError("an archive is no text for a terminal: give --output FILE")
	}
	api, id, err := c.agent(ctx)
	if err != nil {
		return err
	}
	query := client.ArchiveQuery{Without: c.Without}
	if c.Output == "-" {
		return api.ExportAgent(ctx, id, query, t.out)
	}
	path := c.Output
	if path == "" {
		path = "agent-" + id + ".tar.gz"
	}
	written, err := exportTo(ctx, api, id, query, path)
	if err != nil {
		return err
	}
	if !written.Importable {
		t.progress("The archive has %s, more than an import takes (%s): export the agent with --without for one that can be imported.", formatBytes(written.Bytes), formatBytes(agentarchive.MaxBytes))
	} else {
		t.progress("exported  %s. It holds no secrets, and whoever has the file can read the rest.", describeContents(written.Contents))
	}
	return t.print(written, path)
}

// writtenArchive is an archive that a command has written.
type writtenArchive struct {
	File       string `json:"file"`
	Bytes      int64  `json:"bytes"`
	Importable bool   `json:"importable"` // it is small enough
	agentarchive.Contents
}

// exportTo writes an archive to a new file, which is there only if it is whole.
func exportTo(ctx context.Context, api *client.Client, id string, query client.ArchiveQuery, path string) (written writtenArchive, err error) {
	if _, err := os.Lstat(path); err == nil {
		return written, refusedError("%s exists already: give another file with --output", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".agento-export-*") // nobody else may read it
	if err != nil {
		return written, fmt.Errorf("write the archive: %w", err)
	}
	defer func() {
		if removed := os.Remove(f.Name()); removed != nil && !errors.Is(removed, fs.ErrNotExist) {
			err = errors.Join(err, removed)
		}
	}()
	err = api.ExportAgent(ctx, id, query, f)
	if err = errors.Join(err, f.Sync()); err == nil {
		written, err = examineArchive(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return written, err
	}
	written.File = path
	if err := os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) { // a rename would replace it
		return written, refusedError("%s exists already: give another file with --output", path)
	} else if err != nil {
		return written, os.Rename(f.Name(), path) // a file system without links
	}
	return written, nil
}

// examineArchive reads what was written, so that a damaged file is noticed when it can be
// written again.
func examineArchive(f *os.File) (a writtenArchive, err error) {
	info, err := f.Stat()
	if err != nil {
		return a, err
	}
	a.Bytes = info.Size()
	if a.Bytes > agentarchive.MaxBytes {
		return a, nil
	}
	data := make([]byte, a.Bytes)
	if _, err := f.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		return a, err
	}
	a.Importable = true
	a.Contents, err = agentarchive.Read(data, agentarchive.Handler{})
	return a, err
}

func describeContents(c agentarchive.Contents) string {
	text := fmt.Sprintf("versions of documents: %d, skills: %d, texts of knowledge: %d, sessions: %d, messages: %d", c.Documents, c.Skills, c.Knowledge, c.Sessions, c.Messages)
	if c.Damaged > 0 {
		text += fmt.Sprintf("; damaged and left out: %d", c.Damaged)
	}
	return text
}

type agentsImport struct {
	remote
	withoutFlag
	confirmation
	Archive string   `arg:"" help:"File that agento agents export has written; - is standard input."`
	Name    string   `help:"Name of the new agent. Default: the one in the archive."`
	Secret  []string `help:"Secret to set afterwards, as for create: an archive holds none." sep:"none" placeholder:"KEY=-|@FILE|env:NAME"`
	Start   bool     `help:"Start the agent afterwards, and wait until it runs."`
}

// Run imports an agent. It prints the id alone on standard output.
func (c agentsImport) Run(ctx context.Context, t *terminal) error {
	if err := c.check(); err != nil {
		return err
	}
	api, err := c.client(ctx)
	if err != nil {
		return err
	}
	input := &inputs{in: t.in}
	secrets, err := input.secrets(c.Secret)
	if err != nil {
		return err
	}
	archive, err := c.read(t, input)
	if err != nil {
		return err
	}
	if len(secrets) > 0 {
		if err := c.checkBaseURL(t, archive); err != nil {
			return err
		}
	}
	a, err := api.ImportAgent(ctx, archive, client.ArchiveQuery{Without: c.Without, Name: c.Name})
	if err != nil {
		return err
	}
	t.progress("imported  %s; %s.", a.ID, describeContents(contentsOf(a.Imported)))
	if a.BaseURL != nil {
		t.progress("Its model calls go to %s, with the key that you set.", *a.BaseURL)
	}
	if len(secrets) > 0 {
		if _, err := api.SetSecrets(ctx, a.ID, client.SecretsRequest{Secrets: secrets}); err != nil {
			return fmt.Errorf("the agent %s was imported, but its secrets are not set: %w", a.ID, err)
		}
		a.NeedsKey = false
	} else {
		t.progress("It is stopped and has no key for its model: agento agents secrets set %s, then agento agents start %s.%s", a.ID, a.ID, formerSecrets(a.Secrets))
	}
	if c.Start {
		started, err := api.StartAgent(ctx, a.ID)
		if err != nil {
			return fmt.Errorf("the agent %s was imported and does not run: %w", a.ID, err)
		}
		a.Status = started.Status
	}
	return t.print(a, a.ID)
}

// checkBaseURL asks whether to set secrets for an agent whose archive names the address that
// its key is sent to.
func (c agentsImport) checkBaseURL(t *terminal, archive []byte) error {
	var baseURL any
	_, err := agentarchive.Read(archive, agentarchive.Handler{Manifest: func(m agentarchive.Manifest) error {
		baseURL = m.Agent.Config["baseUrl"]
		return nil
	}})
	if err != nil || baseURL == nil { // the server says what is wrong
		return nil //nolint:nilerr // see above
	}
	return c.ask(t, fmt.Sprintf("The archive makes the agent send its model calls to %v, and the key with them. Set the secrets?", baseURL))
}

func formerSecrets(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return " The exported agent had " + strings.Join(names, ", ") + "."
}

func contentsOf(c client.ArchiveContents) agentarchive.Contents {
	return agentarchive.Contents{Documents: c.Documents, Skills: c.Skills, Knowledge: c.Knowledge, Sessions: c.Sessions, Messages: c.Messages}
}

// read returns the archive.
func (c agentsImport) read(t *terminal, input *inputs) ([]byte, error) {
	in := io.Reader(t.in)
	if c.Archive == "-" {
		if input.read {
			return nil, usageError("- is given twice, and standard input can be read once: put the secret into a file")
		}
	} else {
		f, err := os.Open(c.Archive)
		if err != nil {
			return nil, fileError(c.Archive, err)
		}
		defer func() { _ = f.Close() }() // nothing was written
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, agentarchive.MaxBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", c.Archive, err)
	case len(data) > agentarchive.MaxBytes:
		return nil, usageError("%s has more than %s: export the agent with --without", c.Archive, formatBytes(agentarchive.MaxBytes))
	case !bytes.HasPrefix(data, []byte("\x1f\x8b")):
		return nil, usageError("%s is no archive: give a file that agento agents export has written", c.Archive)
	}
	return data, nil
}
