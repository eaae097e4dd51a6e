package api

import (
	"context"
	"path"
	"strings"

	"agento.host/agento/client"
	"agento.host/agento/internal/access"
	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/knowledge"
	"agento.host/agento/internal/textfile"
)

// maxKnowledgeFile is the size of the largest file that is read, in bytes.
const maxKnowledgeFile = 16 << 20

// ReadFile returns the pieces of a file that an account has sent, each of at most limit
// characters. Faults: Invalid, which says what is wrong with the file.
type ReadFile func(ctx context.Context, account string, content []byte, format textfile.Format, limit int) ([]textfile.Piece, error)

type knowledgeFileInput struct {
	KnowledgeTarget
	FileName      string `query:"filename" required:"true" bounds:"1..1000" doc:"Name of the file, whose extension says its format: txt, md, html, pdf, docx, csv, tsv, json, jsonl."`
	Format        string `query:"format" absent:"take it from the name" enum:"text,markdown,html,pdf,docx,csv,json" doc:"Format of the file."`
	Source        string `query:"source" absent:"use the name of the file" bounds:"1..1000" doc:"Source of the entries."`
	ReplaceSource bool   `query:"replaceSource" doc:"Make the file the whole content of its source: other entries of it are deleted, or left to their other sources."`
	DryRun        bool   `query:"dryRun" doc:"Change nothing, and return the chunks with what would become of each."`
	RawBody       []byte `contentType:"application/octet-stream"`
}

// format returns the format of the file. Faults: Invalid.
func (in *knowledgeFileInput) format() (textfile.Format, error) {
	if in.Format != "" {
		return textfile.Format(in.Format), nil
	}
	if f := textfile.FormatOf(in.FileName); f != "" {
		return f, nil
	}
	if path.Ext(in.FileName) == ".doc" {
		return "", fault.Fields{"filename": "is an older Word document: save it as .docx first"}.Err()
	}
	return "", fault.Fields{"filename": "has no known extension: name the format, one of " + strings.Join(textfile.Formats(), ", ")}.Err()
}

func (s *Server) ingestFile(ctx context.Context, who access.Principal, in *knowledgeFileInput) (*reply[client.KnowledgeFile], error) {
	format, err := in.format()
	if err != nil {
		return nil, err
	}
	request := knowledge.IngestRequest{Target: in.target(), ReplaceSource: in.ReplaceSource, Explain: true, DryRun: in.DryRun}
	if _, _, err := s.knowledge.Sources(ctx, who.AccountID, knowledge.SourceRequest{Target: request.Target, Limit: 1}); err != nil {
		return nil, err // before the work of reading
	}
	pieces, err := s.readFile(ctx, string(who.AccountID), in.RawBody, format, knowledge.MaxText)
	if err != nil {
		return nil, err
	}
	source := in.FileName
	if in.Source != "" {
		source = in.Source
	}
	for _, p := range pieces {
		request.Chunks = append(request.Chunks, knowledge.Chunk{Text: p.Text, Source: source, Metadata: p.Metadata})
	}
	done, err := s.knowledge.IngestFile(ctx, who.Actor(), request)
	if err != nil {
		return nil, err
	}
	out := client.KnowledgeFile{FileName: in.FileName, Source: source, Format: string(format), Stored: done.Stored, Skipped: done.Skipped, Total: done.Stored + done.Skipped, DryRun: in.DryRun, Chunks: []client.KnowledgeFileChunk{}}
	if in.ReplaceSource {
		out.Deleted = &done.Deleted
	}
	for i, o := range outcomesJSON(done.Outcomes) {
		chunk := client.KnowledgeFileChunk{KnowledgeOutcome: o}
		if in.DryRun {
			chunk.Text, chunk.Metadata = &request.Chunks[i].Text, request.Chunks[i].Metadata
			chunk.MatchedText, chunk.MatchedSource = orNull(done.Outcomes[i].MatchedText), orNull(done.Outcomes[i].MatchedSource)
		}
		out.Chunks = append(out.Chunks, chunk)
	}
	return one(out), nil
}

// readHere reads a file in this process.
func readHere(ctx context.Context, _ string, content []byte, format textfile.Format, limit int) ([]textfile.Piece, error) {
	pieces, err := textfile.Read(ctx, content, format, limit)
	if err != nil {
		return nil, fault.New(fault.Invalid, "The file cannot be used: %s.", err)
	}
	return pieces, nil
}
