package knowledge

import (
	"context"
	"slices"

	"agento.host/agento/internal/fault"
	"agento.host/agento/internal/identity"
)

// What a file may have that is ingested at once.
const (
	MaxFileChunks = 2000
	MaxFileText   = 4 << 20 // bytes
)

// IngestFile ingests the chunks of one file, which may be more than those of a request. A
// file that fails half-way has stored some, which the next ingest skips.
// Faults: those of Ingest.
func (s *Service) IngestFile(ctx context.Context, actor identity.Actor, in IngestRequest) (IngestResult, error) {
	size := 0
	for _, c := range in.Chunks {
		size += len(c.Text)
	}
	if len(in.Chunks) > MaxFileChunks || size > MaxFileText {
		return IngestResult{}, fault.New(fault.Invalid, "The file has %d pieces with %d KiB of text; at most %d pieces and %d KiB can be ingested at once. Divide it, or import it with agento knowledge import.", len(in.Chunks), size>>10, MaxFileChunks, MaxFileText>>10)
	}
	var all IngestResult
	earlier := map[string]int{} // the chunks that a dry run would have stored, by what they say
	for batch := range slices.Chunk(in.Chunks, MaxChunks) {
		request := in
		request.Chunks = batch
		request.ReplaceSource = in.ReplaceSource && len(all.Outcomes) == 0
		done, err := s.Ingest(ctx, actor, request)
		if err != nil {
			return all, err
		}
		first := len(all.Outcomes)
		for i, o := range done.Outcomes {
			if o.MatchedIndex >= 0 {
				o.MatchedIndex += first
			}
			if in.DryRun && o.Stored {
				o = recall(in.Chunks, earlier, first+i)
			}
			all.Outcomes = append(all.Outcomes, o)
			if o.Stored {
				all.Stored++
			} else {
				all.Skipped++
			}
		}
		all.Deleted += done.Deleted
	}
	return all, nil
}

// recall returns the outcome of a chunk that a dry run would store: it duplicates one of an
// earlier batch, which the dry run has not stored either. Chunks of one batch were compared.
func recall(chunks []Chunk, earlier map[string]int, i int) Outcome {
	claim := normalizedClaim(chunks[i].Text)
	if j, ok := earlier[claim]; ok {
		return Outcome{MatchedIndex: j, MatchedText: chunks[j].Text, MatchedSource: chunks[j].Source, Similarity: 1, Reason: skipReason(chunks[i].Text, chunks[j].Text)}
	}
	earlier[claim] = i
	return Outcome{Stored: true, MatchedIndex: -1}
}
