package dashboard

import (
	"fmt"
	"slices"

	"agento.host/agento/client"
	"agento.host/agento/internal/fault"
)

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
