package dashboard

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
)

// Files are checked first: a dry run says what each would add. They wait on the shelf until the
// person adds them.

const (
	maxFiles     = 50
	maxFileBytes = 16 << 20 // as in the API
	maxFilesSize = 32 << 20
)

// sentFile is a file that a person has sent.
type sentFile struct {
	Name    string
	Content []byte
	Source  string
	Replace bool
}

// sentFiles returns the files of a form, with the paths that a folder gives them.
func (v *visit) sentFiles() (files []sentFile, fields url.Values, err error) {
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxFilesSize+maxForm)
	reader, err := v.r.MultipartReader()
	if err != nil {
		return nil, nil, fault.New(fault.Invalid, "Choose a file first.").Because(err)
	}
	fields = url.Values{}
	for {
		part, err := reader.NextPart()
		if errors.Is(err, io.EOF) {
			return files, fields, nil
		}
		if err != nil {
			return nil, nil, unreadable(err)
		}
		content, err := io.ReadAll(part)
		if err != nil {
			return nil, nil, unreadable(err)
		}
		switch name := pathOf(part); {
		case part.FileName() == "" && part.FormName() != "files":
			fields.Add(part.FormName(), string(content))
		case name == "": // no file was chosen
		case len(files) == maxFiles*5:
			return nil, nil, fault.New(fault.TooLarge, "These are too many files at once: send at most %d.", maxFiles*5)
		default:
			files = append(files, sentFile{Name: name, Content: content})
		}
	}
}

func unreadable(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return fault.New(fault.TooLarge, "The files have more than %d MB together. Send fewer at once.", maxFilesSize>>20)
	}
	return fault.New(fault.Invalid, "The files could not be read: the connection may have ended.").Because(err)
}

// pathOf returns the name of a file with the path that its folder gives it.
func pathOf(part *multipart.Part) string {
	_, params, err := mime.ParseMediaType(part.Header.Get("Content-Disposition"))
	if err != nil {
		return ""
	}
	return strings.TrimLeft(strings.ReplaceAll(params["filename"], "\\", "/"), "/")
}

func (s *Server) checkFiles(v *visit) error {
	o, err := v.owner()
	if err != nil {
		return err
	}
	files, fields, err := v.sentFiles()
	if err == nil && len(files) == 0 {
		err = fault.New(fault.Invalid, "Choose a file first.")
	}
	if err == nil && len(files) > maxFiles {
		err = fault.New(fault.TooLarge, "Send at most %d files at once.", maxFiles)
	}
	if f := newForm(); err != nil && f.Refused(err) {
		return s.showKnowledge(v, f)
	}
	if err != nil {
		return err
	}
	for i := range files {
		files[i].Replace = fields.Get("replace") != ""
	}
	return s.shelve(v, o, files)
}

// checkText takes a text that was pasted as a file of Markdown, so that it is cut at its headings.
func (s *Server) checkText(v *visit) error {
	o, err := v.owner()
	if err != nil {
		return err
	}
	f := v.Form()
	if f.Value("source") == "" {
		f.Wrong("source", "Say where the text is from, such as a name.")
	}
	if f.Value("text") == "" {
		f.Wrong("text", "Paste a text.")
	}
	if !f.Valid() {
		return s.showKnowledge(v, f)
	}
	return s.shelve(v, o, []sentFile{{Name: "text.md", Source: f.Value("source"), Content: []byte(f.Raw("text")), Replace: f.Checked("replace")}})
}

func (s *Server) shelve(v *visit, o owner, files []sentFile) error {
	size := 0
	for _, f := range files {
		size += len(f.Content)
	}
	name := s.shelf.put(v, files, size)
	if name == "" {
		return fault.New(fault.Unavailable, "Too many files wait to be added at the moment. Try again in a few minutes.")
	}
	return v.Redirect(o.Base+path("/knowledge/check/%s", name), silent())
}

// checkedFile is a file with what its ingest does, or would do.
type checkedFile struct {
	Name     string
	Source   string
	Problem  string
	Result   client.KnowledgeFile
	Known    []checkedChunk // duplicates
	New      []checkedChunk // the first ones
	MoreNew  int
	MoreDups int
}

type checkedChunk struct {
	client.KnowledgeFileChunk
	Short, MatchedShort string
}

// chunksShown is how many new chunks and duplicates of a file are shown.
const chunksShown = 20

func checked(f sentFile, result client.KnowledgeFile) checkedFile {
	c := checkedFile{Name: f.Name, Source: result.Source, Result: result}
	for _, chunk := range result.Chunks {
		shown := checkedChunk{KnowledgeFileChunk: chunk}
		shown.Short, _ = cutText(valueOf(chunk.Text), shownText)
		shown.MatchedShort, _ = cutText(valueOf(chunk.MatchedText), shownText)
		switch {
		case chunk.Status == "skipped" && len(c.Known) < chunksShown:
			c.Known = append(c.Known, shown)
		case chunk.Status == "skipped":
			c.MoreDups++
		case len(c.New) < chunksShown:
			c.New = append(c.New, shown)
		default:
			c.MoreNew++
		}
	}
	return c
}

// ingest ingests a file. A refusal is its Problem.
func (v *visit) ingest(o owner, f sentFile, dryRun bool) (checkedFile, error) {
	result, err := v.API.IngestFile(v.Context(), o.Target, f.Content, client.FileIngest{FileName: f.Name, Source: f.Source, ReplaceSource: f.Replace, DryRun: dryRun})
	if message, details, ok := refusal(err); ok {
		for _, d := range details {
			message = d
		}
		return checkedFile{Name: f.Name, Source: cmp.Or(f.Source, f.Name), Problem: message}, nil
	}
	return checked(f, result), err
}

// checkPage is the data of the page of files that were checked.
type checkPage struct {
	Owner                 owner
	Files                 []checkedFile
	ID                    string
	Stored, Skipped, Lost int
	Replace               bool
}

func (s *Server) filesOnShelf(v *visit) ([]sentFile, error) {
	files, ok := onShelf[[]sentFile](&s.shelf, v, v.Arg("files"))
	if !ok {
		return nil, fault.New(fault.NotFound, "These files are not kept any more: choose them again. They are kept for %d minutes.", int(shelfTime.Minutes()))
	}
	return files, nil
}

func (s *Server) showChecked(v *visit) error {
	o, err := v.owner()
	if err != nil {
		return err
	}
	files, err := s.filesOnShelf(v)
	if err != nil {
		return err
	}
	p := checkPage{Owner: o, ID: v.Arg("files")}
	for _, f := range files {
		c, err := v.ingest(o, f, true)
		if err != nil {
			return err
		}
		p.Files = append(p.Files, c)
		p.Stored, p.Skipped, p.Replace = p.Stored+c.Result.Stored, p.Skipped+c.Result.Skipped, f.Replace
		if c.Result.Deleted != nil {
			p.Lost += *c.Result.Deleted
		}
	}
	return v.renderOwned("knowledgecheck", o, false, "Check before adding", p)
}

func (s *Server) addChecked(v *visit) error {
	o, err := v.owner()
	if err != nil {
		return err
	}
	files, err := s.filesOnShelf(v)
	if err != nil {
		return err
	}
	stored, skipped := 0, 0
	var problems []string
	for _, f := range files {
		c, err := v.ingest(o, f, false)
		if err != nil {
			return err
		}
		stored, skipped = stored+c.Result.Stored, skipped+c.Result.Skipped
		if c.Problem != "" {
			problems = append(problems, f.Name+": "+c.Problem)
		}
	}
	s.shelf.offShelf(v.Arg("files"))
	text := fmt.Sprintf("Added %s; %s there already.", count(stored, "entry", "entries"), count(skipped, "was", "were"))
	n := good(text)
	if len(problems) > 0 {
		n = warn(text + " Not added: " + strings.Join(problems, " "))
	}
	return v.Redirect(o.Base+"/knowledge", n)
}
