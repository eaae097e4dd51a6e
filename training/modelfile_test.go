package main

import (
	"testing"

	"agento.host/agento/internal/knowledge/embed"
)

func TestEncodedModelCanBeRead(t *testing.T) {
	rows := make([]float32, 6*4)
	for i := range rows {
		rows[i] = float32(i%5) - 2
	}
	file, err := encodeModel(embed.Header{Name: "tiny", Dimension: 4}, []string{"one", "sun"}, []string{"x"}, 3, rows)
	if err != nil {
		t.Fatal(err)
	}
	m, err := embed.ReadModel(file)
	if err != nil || m.Name() != "tiny" || m.Dimension() != 4 {
		t.Fatal(m, err)
	}
	for n := range len(file) {
		if _, err := embed.ReadModel(file[:n]); err == nil {
			t.Fatalf("a file truncated to %d bytes is accepted", n)
		}
	}
	if _, err := encodeModel(embed.Header{Dimension: 4}, []string{"one"}, []string{"x"}, 3, rows); err == nil {
		t.Error("too many rows are accepted")
	}
}
