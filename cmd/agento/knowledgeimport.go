package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/knowledge"
	"agento.host/agento/internal/textfile"
)

type knowledgeImport struct {
	knowledgeOwner
	Paths   []string `arg:"" name:"path" help:"Files and folders: Markdown, HTML and Word documents by heading, PDF by page, CSV and JSON by row, other texts by paragraph. - is standard input, which needs --source."`
	Source  string   `help:"Source of the entries. Default: the path of the file."`
	Format  string   `help:"Format of the files. Default: by their names." enum:",text,markdown,html,pdf,docx,csv,json" default:""`
	Replace bool     `help:"Replace what the knowledge base has of the same sources."`
	DryRun  bool     `help:"Change nothing, and say what would be stored."`
}

const (
	// maxFile is the size of the largest file that is imported, in bytes.
	maxFile = 64 << 20
	// rateLimitPause is how long an import waits after a request that was one too many
	// for its key, if the server does not say.
	rateLimitPause = 5 * time.Second
)

// importFile is a file to import.
type importFile struct {
	path   string // empty: standard input
	source string
	format textfile.Format
}

// imported is what became of a file.
type imported struct {
	Source  string `json:"source"`
	Stored  int    `json:"stored"`
	Skipped int    `json:"skipped"`
	Deleted int    `json:"deleted"`
	Error   string `json:"error,omitempty"`
}

// importResult is what became of all files.
type importResult struct {
	Stored  int        `json:"stored"`
	Skipped int        `json:"skipped"`
	Deleted int        `json:"deleted"`
	Failed  int        `json:"failed"`
	DryRun  bool       `json:"dryRun"`
	Files   []imported `json:"files"`
}

// Run imports files, one after the other. A file that fails does not end the others. What
// was stored can be imported again: duplicates are skipped.
func (c knowledgeImport) Run(ctx context.Context, t *terminal) error {
	files, err := c.files(t)
	if err != nil {
		return err
	}
	api, target, err := c.target(ctx)
	if err != nil {
		return err
	}
	result := importResult{DryRun: c.DryRun, Files: []imported{}}
	for i, f := range files {
		done, err := c.importFile(ctx, t, api, target, f)
		if ctx.Err() != nil {
			t.progress("Interrupted after %d of %d files. Run the command again: what was stored is skipped.", i, len(files))
			return ctx.Err()
		}
		if err != nil {
			problem := reportOf(err)
			if problem.exit == exitRefused {
				return err // the next file would be refused, too
			}
			done.Error = problem.Message
			result.Failed++
		}
		result.add(done)
		t.progress("%s", done.words(i+1, len(files)))
	}
	if err := t.print(result, result.words()); err != nil {
		return err
	}
	if result.Failed > 0 {
		return fmt.Errorf("%d of %d files were not imported", result.Failed, len(files))
	}
	return nil
}

func (r *importResult) add(f imported) {
	r.Files = append(r.Files, f)
	r.Stored, r.Skipped, r.Deleted = r.Stored+f.Stored, r.Skipped+f.Skipped, r.Deleted+f.Deleted
}

func (r *importResult) words() string {
	text := fmt.Sprintf("stored %d, skipped %d", r.Stored, r.Skipped)
	if r.Deleted > 0 {
		text += fmt.Sprintf(", deleted %d", r.Deleted)
	}
	if r.DryRun {
		text += " (dry run: nothing was changed)"
	}
	return text
}

func (f imported) words(n, of int) string {
	text := fmt.Sprintf("%d/%d %s: ", n, of, escapeLine(f.Source))
	if f.Error != "" {
		return text + "NOT IMPORTED: " + f.Error
	}
	text += fmt.Sprintf("stored %d, skipped %d", f.Stored, f.Skipped)
	if f.Deleted > 0 {
		text += fmt.Sprintf(", deleted %d", f.Deleted)
	}
	return text
}

// files returns the files that the paths name. A folder is searched for files of known
// formats; hidden files and links are left out.
func (c knowledgeImport) files(t *terminal) ([]importFile, error) {
	var files []importFile
	for _, given := range c.Paths {
		if given == "-" {
			if c.Source == "" {
				return nil, usageError("name the source of standard input with --source")
			}
			files = append(files, importFile{source: c.Source, format: textfile.Format(c.Format)})
			continue
		}
		info, err := os.Stat(given)
		if err != nil {
			return nil, fileError(given, err)
		}
		if !info.IsDir() {
			files = append(files, importFile{path: given, source: c.sourceOf(given, filepath.Base(given)), format: c.formatOf(given)})
			continue
		}
		found, err := c.folder(t, given)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		return nil, notFoundError("there is no file of a known format (%s)", strings.Join(textfile.Formats(), ", "))
	}
	return files, c.checkSources(files)
}

// checkSources refuses two files with one source where they would replace each other.
func (c knowledgeImport) checkSources(files []importFile) error {
	paths := map[string]string{}
	for _, f := range files {
		if other, twice := paths[f.source]; twice && c.Replace {
			return usageError("%s and %s have the same source %q and would replace each other: import them in two commands with --source, or without --replace", other, f.path, f.source)
		}
		paths[f.source] = f.path
	}
	return nil
}

func (c knowledgeImport) folder(t *terminal, dir string) ([]importFile, error) {
	var files []importFile
	skipped := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch hidden := path != dir && strings.HasPrefix(d.Name(), "."); {
		case err != nil:
			return fmt.Errorf("read %s: %w", path, err)
		case hidden && d.IsDir():
			return filepath.SkipDir
		case hidden || !d.Type().IsRegular():
			return nil
		}
		format := c.formatOf(path)
		if format == "" {
			skipped++
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files = append(files, importFile{path: path, source: c.sourceOf(path, filepath.Join(filepath.Base(dir), rel)), format: format})
		return nil
	})
	if skipped > 0 {
		t.progress("%d files in %s have no known format and are left out.", skipped, dir)
	}
	slices.SortFunc(files, func(a, b importFile) int { return strings.Compare(a.path, b.path) })
	return files, err
}

// sourceOf returns the source of a file: its path, or within if the path would tell where
// the file is on this machine.
func (c knowledgeImport) sourceOf(given, within string) string {
	if c.Source != "" {
		return c.Source
	}
	clean := filepath.ToSlash(filepath.Clean(given))
	if path.IsAbs(clean) || strings.HasPrefix(clean, "../") {
		return strings.TrimPrefix(filepath.ToSlash(filepath.Clean(within)), "../")
	}
	return clean
}

func (c knowledgeImport) formatOf(name string) textfile.Format {
	if c.Format != "" {
		return textfile.Format(c.Format)
	}
	return textfile.FormatOf(name)
}

func (c knowledgeImport) importFile(ctx context.Context, t *terminal, api *client.Client, target client.KnowledgeTarget, f importFile) (imported, error) {
	done := imported{Source: f.source}
	content, err := readImport(t, f)
	if err != nil {
		return done, err
	}
	format := f.format
	if format == "" {
		format = textfile.Text
	}
	pieces, err := textfile.Read(ctx, content, format, knowledge.MaxText)
	if errors.Is(err, textfile.ErrNoText) && c.Replace {
		return c.empty(ctx, api, target, f, done)
	}
	if err != nil {
		return done, err
	}
	for batch := range slices.Chunk(pieces, knowledge.MaxChunks) {
		in := client.KnowledgeIngest{AgentID: target.AgentID, SwarmID: target.SwarmID, ReplaceSource: c.Replace && done.Stored+done.Skipped == 0}
		for _, p := range batch {
			in.Chunks = append(in.Chunks, client.KnowledgeChunk{Text: p.Text, Source: c.pieceSource(f, p), Metadata: p.Metadata})
		}
		r, err := ingest(ctx, t, api, in, client.IngestOptions{DryRun: c.DryRun})
		if err != nil {
			return done, err
		}
		done.Stored, done.Skipped = done.Stored+r.Stored, done.Skipped+r.Skipped
		if r.Deleted != nil {
			done.Deleted += *r.Deleted
		}
	}
	return done, nil
}

// pieceSource returns the source of an entry. An export has a source for each; with
// --replace all entries of a file have one, because only sources of its first request are
// replaced.
func (c knowledgeImport) pieceSource(f importFile, p textfile.Piece) string {
	if p.Source != "" && c.Source == "" && !c.Replace {
		return p.Source
	}
	return f.source
}

// empty deletes the entries of a file that has no text any more.
func (c knowledgeImport) empty(ctx context.Context, api *client.Client, target client.KnowledgeTarget, f importFile, done imported) (imported, error) {
	if c.DryRun {
		return done, nil
	}
	d, err := api.DeleteKnowledge(ctx, target, client.KnowledgeDeletion{Source: f.source})
	if client.IsCode(err, string(fault.NotFound)) {
		return done, nil
	}
	done.Deleted = d.Count
	return done, err
}

func readImport(t *terminal, f importFile) ([]byte, error) {
	if f.path == "" {
		text, err := (&inputs{in: t.in}).file("-")
		return []byte(text), err
	}
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, fileError(f.path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, usageError("%s is not a file", f.path)
	}
	if info.Size() > maxFile {
		return nil, usageError("the file has more than %d MiB", maxFile>>20)
	}
	content, err := os.ReadFile(f.path)
	if err != nil {
		return nil, fileError(f.path, err)
	}
	return content, nil
}

// ingest stores entries. It waits where the key may make no more requests at the moment.
func ingest(ctx context.Context, t *terminal, api *client.Client, in client.KnowledgeIngest, o client.IngestOptions) (client.KnowledgeIngested, error) {
	for {
		done, err := api.IngestKnowledge(ctx, in, o)
		if !client.IsCode(err, string(fault.RateLimited)) {
			return done, err
		}
		pause := rateLimitPause
		if answered := (*client.Error)(nil); errors.As(err, &answered) && answered.RetryAfter > 0 {
			pause = answered.RetryAfter
		}
		t.progress("The server takes the next request in %s.", formatDuration(pause))
		select {
		case <-ctx.Done():
			return done, ctx.Err()
		case <-time.After(pause):
		}
	}
}
