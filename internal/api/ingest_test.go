package api_test

import (
	"fmt"
	"testing"

	"agento.host/agento/client"
)

// BenchmarkIngest sends 100 chunks of 500 characters over HTTP into a knowledge
// base of 10,000 entries: embedded with the built-in model, deduplicated, stored.
func BenchmarkIngest(b *testing.B) {
	env := newEnv(b, options{})
	owner := env.newAccount("acme", "")
	agent := owner.newAgent("A")
	c := owner.client()
	sent := 0
	ingest := func() {
		in := client.KnowledgeIngest{AgentID: agent}
		for range 100 {
			sent++
			text := fmt.Sprintf("Order %d of customer %d was sent on day %d with carrier %d. ", sent, sent*7919, sent%365, sent%13)
			for i := 0; len(text) < 500; i++ {
				text += fmt.Sprintf("Item %d-%d, weight %d, shelf %d. ", sent, i, sent*31%997, sent*17%881)
			}
			in.Chunks = append(in.Chunks, client.KnowledgeChunk{Text: text[:500], Source: "orders.csv"})
		}
		done, err := c.IngestKnowledge(b.Context(), in, client.IngestOptions{})
		if err != nil || done.Stored != 100 {
			b.Fatalf("%+v, %v", done, err)
		}
	}
	for range 100 {
		ingest()
	}
	for b.Loop() {
		ingest()
	}
	b.ReportMetric(100*float64(b.N)/b.Elapsed().Seconds(), "chunks/s")
}
