package dashboard

import (
	"strings"

	"agento.host/agento/client"
)

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
