package dashboard

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
)

// knowledgeRoutes are the pages of knowledge: the list of all knowledge bases, and the pages
// of one, which an agent and a swarm have alike.
func (s *Server) knowledgeRoutes() []route {
	all := []route{page("GET /knowledge", has(access.KnowledgeRead), s.knowledgeBases)}
	for _, owner := range []string{"/agents/{id}", "/swarms/{id}"} {
		all = append(all,
			page("GET "+owner+"/knowledge", has(access.KnowledgeRead), s.knowledge),
			page("POST "+owner+"/knowledge/files", has(access.KnowledgeWrite), s.checkFiles),
			page("POST "+owner+"/knowledge/text", has(access.KnowledgeWrite), s.checkText),
			page("GET "+owner+"/knowledge/check/{files}", has(access.KnowledgeWrite), s.showChecked),
			page("POST "+owner+"/knowledge/check/{files}", has(access.KnowledgeWrite), s.addChecked),
			page("GET "+owner+"/knowledge/entries/{entry}", has(access.KnowledgeRead), s.knowledgeEntry),
			page("POST "+owner+"/knowledge/entries/{entry}", has(access.KnowledgeWrite), s.editEntry),
			page("POST "+owner+"/knowledge/entries/{entry}/delete", has(access.KnowledgeWrite), s.deleteEntry),
			page("POST "+owner+"/knowledge/delete", has(access.KnowledgeWrite), s.deleteSource),
			page("POST "+owner+"/knowledge/undo", has(access.KnowledgeWrite), s.undoDeletion),
		)
	}
	return all
}

// entriesPerPage and shownText keep the page below 100 KB.
const (
	entriesPerPage = 25
	shownText      = 600 // characters of an entry in a list
	sourcesShown   = 100
)

// owner is the agent or the swarm whose knowledge base a page is about.
type owner struct {
	Target client.KnowledgeTarget
	Base   string // the path of the owner, below /app
	Name   string
	Swarm  *client.SwarmDetails // whose page it is
	Agent  *client.Agent        // whose page it is
}

// Live returns the topics of the knowledge base.
func (o owner) Live() string {
	if o.Agent == nil {
		return "swarm/" + o.Target.SwarmID
	}
	topics := "agent/" + o.Agent.ID
	if o.Agent.Swarm != nil {
		topics += " swarm/" + o.Agent.Swarm.ID
	}
	return topics
}

// API returns the parameter of the API that names the owner.
func (o owner) API() string {
	if o.Agent != nil {
		return "agentId=" + o.Agent.ID
	}
	return "swarmId=" + o.Target.SwarmID
}

func (v *visit) owner() (owner, error) {
	id := v.Arg("id")
	if strings.Contains(v.row.pattern, " /swarms/") {
		w, err := v.API.Swarm(v.Context(), id)
		return owner{Target: client.KnowledgeTarget{SwarmID: w.ID}, Base: path("/swarms/%s", w.ID), Name: w.Name, Swarm: &w}, err
	}
	a, err := v.API.Agent(v.Context(), id)
	return owner{Target: client.KnowledgeTarget{AgentID: a.ID}, Base: path("/agents/%s", a.ID), Name: a.Name, Agent: &a}, err
}

// renderOwned shows a page of the knowledge of an agent or a swarm.
func (v *visit) renderOwned(name string, o owner, refused bool, title string, data any) error {
	switch {
	case o.Agent != nil && refused:
		return v.RenderAgentRefused(name, *o.Agent, title, data)
	case o.Agent != nil:
		return v.RenderAgent(name, *o.Agent, title, data)
	case refused:
		return v.RenderRefused(name, title+" · "+o.Name, data)
	}
	return v.Render(name, title+" · "+o.Name, data)
}

// shownEntry is an entry as a list shows it.
type shownEntry struct {
	client.KnowledgeEntry
	Short string
	IsCut bool
	Found *client.KnowledgeFound // by a search
}

func showEntry(e client.KnowledgeEntry, found *client.KnowledgeFound) shownEntry {
	short, isCut := cutText(e.Text, shownText)
	return shownEntry{e, short, isCut, found}
}

// Why says which search found the entry.
func (e shownEntry) Why() string {
	switch e.Found.Reason {
	case "text":
		return "by its words"
	case "vector":
		return "by its meaning"
	}
	return "by words and meaning"
}

// Similar is the similarity of an entry that was found by its meaning.
func (e shownEntry) Similar() string {
	if e.Found.Similarity == nil {
		return ""
	}
	return fmt.Sprintf("similarity %.2f", *e.Found.Similarity)
}

// cutText returns at most n characters of a text.
func cutText(text string, n int) (short string, isCut bool) {
	if utf8.RuneCountInString(text) <= n {
		return text, false
	}
	return string([]rune(text)[:n]) + "…", true
}

// knowledgePage is the data of the page of a knowledge base.
type knowledgePage struct {
	Owner   owner
	Entries []shownEntry
	Sources []client.KnowledgeSource
	More    bool // sources than are shown
	Size    client.KnowledgeBase
	Search  string
	Source  string
	Next    string
	Undo    *deletedTexts // what was just deleted
	UndoID  string
	Form    *form // of a pasted text
}

func (s *Server) knowledge(v *visit) error { return s.showKnowledge(v, newForm()) }

func (s *Server) showKnowledge(v *visit, f *form) error {
	o, err := v.owner()
	if err != nil {
		return err
	}
	p := knowledgePage{Owner: o, Search: v.Query("q"), Source: v.Query("source"), Form: f, UndoID: v.Query("undo")}
	if deleted, ok := onShelf[deletedTexts](&s.shelf, v, p.UndoID); ok {
		p.Undo = &deleted
	}
	if p.Search != "" {
		found, err := v.API.SearchKnowledge(v.Context(), o.Target, p.Search, entriesPerPage)
		if err != nil {
			return err
		}
		for i := range found {
			p.Entries = append(p.Entries, showEntry(found[i].KnowledgeEntry, &found[i]))
		}
	} else {
		list, err := v.API.Knowledge(v.Context(), o.Target, client.KnowledgeQuery{Source: p.Source, Limit: entriesPerPage, Offset: v.Query("after")})
		if err != nil {
			return err
		}
		for _, e := range list.Data {
			p.Entries = append(p.Entries, showEntry(e, nil))
		}
		p.Next = valueOf(list.Pagination.NextOffset)
	}
	sources, err := v.API.KnowledgeSources(v.Context(), o.Target, client.KnowledgeQuery{Limit: sourcesShown})
	if err != nil {
		return err
	}
	p.Sources, p.More = sources.Data, sources.Pagination.HasMore
	if p.Size, err = s.sizeOf(v, o); err != nil {
		return err
	}
	return v.renderOwned("knowledge", o, !f.Valid(), "Knowledge", p)
}

// sizeOf returns how much the knowledge base of an owner has.
func (s *Server) sizeOf(v *visit, o owner) (client.KnowledgeBase, error) {
	all, err := v.API.KnowledgeBases(v.Context())
	swarm, agent := o.Target.SwarmID, o.Target.AgentID
	if o.Agent != nil && o.Agent.Swarm != nil {
		swarm = o.Agent.Swarm.ID
	}
	for _, b := range all {
		if swarm != "" && valueOf(b.SwarmID) == swarm || swarm == "" && valueOf(b.AgentID) == agent {
			return b, err
		}
	}
	return client.KnowledgeBase{}, err
}

func valueOf(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// baseRow is a row of the list of knowledge bases.
type baseRow struct {
	Name, Path string
	Kind       string
	Entries    int
	Bytes      int64
	Note       string
}

// knowledgeBases shows all knowledge bases of the account, and who has none.
func (s *Server) knowledgeBases(v *visit) error {
	bases, err := v.API.KnowledgeBases(v.Context())
	if err != nil {
		return err
	}
	swarms, err := v.API.ListSwarms(v.Context())
	if err != nil && !isForbidden(err) {
		return err
	}
	agents, err := v.API.ListAgents(v.Context(), client.AgentQuery{})
	if err != nil && !isForbidden(err) {
		return err
	}
	p := v.page(agentsPerPage)
	rows := baseRows(bases, swarms, agents.Data)
	if search := strings.ToLower(v.Query("search")); search != "" {
		rows = slices.DeleteFunc(rows, func(r baseRow) bool { return !strings.Contains(strings.ToLower(r.Name), search) })
	}
	p.Total = len(rows)
	rows = rows[min(p.Offset(), len(rows)):p.To()]
	return v.Render("knowledgebases", "Knowledge", struct {
		Rows  []baseRow
		Pages pager
	}{rows, p})
}

// baseRows returns swarms, then agents, those with the most entries first.
func baseRows(bases []client.KnowledgeBase, swarms []client.Swarm, agents []client.AgentSummary) []baseRow {
	sizes := map[string]client.KnowledgeBase{}
	for _, b := range bases {
		sizes[cmp.Or(valueOf(b.AgentID), valueOf(b.SwarmID))] = b
	}
	var rows []baseRow
	for _, w := range swarms {
		b := sizes[w.ID]
		rows = append(rows, baseRow{Name: w.Name, Path: path("/swarms/%s/knowledge", w.ID), Kind: "swarm", Entries: b.Entries, Bytes: b.Bytes, Note: fmt.Sprintf("shared by %s", count(w.AgentCount, "agent", "agents"))})
	}
	for _, a := range agents {
		b := sizes[a.ID]
		r := baseRow{Name: a.Name, Path: path("/agents/%s/knowledge", a.ID), Kind: "agent", Entries: b.Entries, Bytes: b.Bytes}
		if a.Swarm != nil {
			r.Note = "also searches and adds to the knowledge of the swarm " + a.Swarm.Name
		}
		rows = append(rows, r)
	}
	slices.SortStableFunc(rows, func(x, y baseRow) int { return cmp.Compare(y.Entries, x.Entries) })
	return rows
}

// count returns a number with what it counts.
func count(n any, one, many string) string {
	if fmt.Sprint(n) == "1" {
		return "1 " + one
	}
	return number(n) + " " + many
}

func isForbidden(err error) bool {
	var answered *client.Error
	return errors.As(err, &answered) && answered.Status == http.StatusForbidden
}

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

// entryPage is the data of the page of an entry.
type entryPage struct {
	Owner owner
	Entry client.KnowledgeDetails
	Form  *form
}

func (s *Server) knowledgeEntry(v *visit) error { return s.showEntry(v, nil) }

func (s *Server) showEntry(v *visit, f *form) error {
	o, err := v.owner()
	if err != nil {
		return err
	}
	e, err := v.API.KnowledgeEntry(v.Context(), o.Target, v.Arg("entry"))
	if err != nil {
		return err
	}
	refused := f != nil
	if !refused {
		f = newForm("text", e.Text, "source", e.Source, "was", e.UpdatedAt.UTC().Format(timeStamp))
	}
	return v.renderOwned("knowledgeentry", o, refused, "Entry", entryPage{o, e, f})
}

// timeStamp is the form of a time that a form carries.
const timeStamp = "2006-01-02T15:04:05.000Z"

func (s *Server) editEntry(v *visit) error {
	o, err := v.owner()
	if err != nil {
		return err
	}
	f := v.Form()
	now, err := v.API.KnowledgeEntry(v.Context(), o.Target, v.Arg("entry"))
	if err != nil {
		return err
	}
	if was := f.Value("was"); was != "" && was != now.UpdatedAt.UTC().Format(timeStamp) {
		f.Error = "Somebody else has changed this entry meanwhile. Its text now is below the form; what you typed is in the form. Save again to replace it."
		f.values.Set("was", now.UpdatedAt.UTC().Format(timeStamp))
		return s.showEntry(v, f)
	}
	// A browser sends line ends as CR LF.
	text, source := strings.ReplaceAll(f.Raw("text"), "\r\n", "\n"), f.Value("source")
	change := client.KnowledgeChange{}
	if text != now.Text {
		change.Text = &text
	}
	if source != now.Source {
		change.Source = &source
	}
	if change == (client.KnowledgeChange{}) {
		return v.Redirect(o.Base+path("/knowledge/entries/%s", now.ID), good("Nothing was changed."))
	}
	if _, err := v.API.EditKnowledge(v.Context(), o.Target, now.ID, change); err != nil {
		if f.Refused(err) {
			return s.showEntry(v, f)
		}
		return err
	}
	return v.Redirect(o.Base+path("/knowledge/entries/%s", now.ID), good("Saved. The agent finds the new text from now on."))
}

// deletedTexts are entries that were deleted, from which they can be made again.
type deletedTexts struct {
	Chunks []client.KnowledgeChunk
	What   string
}

const (
	maxUndo      = 2000    // entries that are kept for an undo
	maxUndoBytes = 4 << 20 // of them
)

func (s *Server) deleteEntry(v *visit) error {
	o, err := v.owner()
	if err != nil {
		return err
	}
	e, err := v.API.KnowledgeEntry(v.Context(), o.Target, v.Arg("entry"))
	if err != nil {
		return err
	}
	deleted := deletedTexts{What: "The entry was deleted."}
	for _, source := range e.Sources {
		deleted.Chunks = append(deleted.Chunks, client.KnowledgeChunk{Text: e.Text, Source: source.Source, Metadata: source.Metadata})
	}
	return s.deleteKnowledge(v, o, deleted, client.KnowledgeDeletion{ID: e.ID})
}

func (s *Server) deleteSource(v *visit) error {
	o, err := v.owner()
	if err != nil {
		return err
	}
	source := v.Form().Raw("source")
	deleted, err := v.collect(o, source)
	if err != nil {
		return err
	}
	deleted.What = fmt.Sprintf("The entries of %s were deleted.", source)
	return s.deleteKnowledge(v, o, deleted, client.KnowledgeDeletion{Source: source})
}

// collect returns the texts of a source, or none if they are too many to keep.
func (v *visit) collect(o owner, source string) (deletedTexts, error) {
	var d deletedTexts
	size := 0
	for e, err := range v.API.AllKnowledge(v.Context(), o.Target, client.KnowledgeQuery{Source: source}) {
		if err != nil {
			return d, err
		}
		if size += len(e.Text); len(d.Chunks) == maxUndo || size > maxUndoBytes {
			return deletedTexts{}, nil
		}
		d.Chunks = append(d.Chunks, client.KnowledgeChunk{Text: e.Text, Source: e.Source, Metadata: e.Metadata})
	}
	return d, nil
}

func (s *Server) deleteKnowledge(v *visit, o owner, deleted deletedTexts, what client.KnowledgeDeletion) error {
	done, err := v.API.DeleteKnowledge(v.Context(), o.Target, what)
	if err != nil {
		return err
	}
	to := o.Base + "/knowledge"
	size := 0
	for _, c := range deleted.Chunks {
		size += len(c.Text)
	}
	if len(deleted.Chunks) > 0 {
		if name := s.shelf.put(v, deleted, size); name != "" {
			return v.Redirect(to+"?undo="+name, silent())
		}
	}
	return v.Redirect(to, good(fmt.Sprintf("Deleted %s.", count(done.Count, "entry", "entries"))))
}

func (s *Server) undoDeletion(v *visit) error {
	o, err := v.owner()
	if err != nil {
		return err
	}
	name := v.Form().Value("undo")
	deleted, ok := onShelf[deletedTexts](&s.shelf, v, name)
	if !ok {
		return fault.New(fault.NotFound, "What was deleted is not kept any more: that is so for %d minutes.", int(shelfTime.Minutes()))
	}
	for batch := range slices.Chunk(deleted.Chunks, 100) {
		_, err := v.API.IngestKnowledge(v.Context(), client.KnowledgeIngest{AgentID: o.Target.AgentID, SwarmID: o.Target.SwarmID, Chunks: batch}, client.IngestOptions{})
		if err != nil {
			return err
		}
	}
	s.shelf.offShelf(name)
	return v.Redirect(o.Base+"/knowledge", good(fmt.Sprintf("Back again: %s.", count(len(deleted.Chunks), "entry", "entries"))))
}

// metadataText returns metadata as people read it.
func metadataText(m map[string]any) string {
	text, err := json.Marshal(m)
	if err != nil || len(m) == 0 {
		return ""
	}
	return string(text)
}
