// Package quality measures the search of agento with the built-in model, on texts that
// no training used. It has tests only.
package quality

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// question is a question about one of the texts of a set.
type question struct {
	text   string
	answer int // index of the text
}

// set is a collection of texts with questions about them.
type set struct {
	name      string
	texts     []string
	questions []question
}

// supportSets returns the texts of a help desk, written by hand, with two sets of
// questions: as people ask, and in words that differ from those of the answer.
func supportSets(t *testing.T) (plain, paraphrased set) {
	plain.name, paraphrased.name = "plain questions", "paraphrased questions"
	for _, line := range readLines[struct {
		Text, Plain string
		Questions   []string
	}](t, "support.jsonl") {
		for _, q := range line.Questions {
			paraphrased.questions = append(paraphrased.questions, question{q, len(plain.texts)})
		}
		plain.questions = append(plain.questions, question{line.Plain, len(plain.texts)})
		plain.texts = append(plain.texts, line.Text)
	}
	paraphrased.texts = plain.texts
	return plain, paraphrased
}

// heldOutSet returns texts for the customers of twelve companies and offices, with
// questions in the customers' words. Its author knew neither the model nor the other
// sets, and no setting of the training was chosen by it.
func heldOutSet(t *testing.T) set {
	s := set{name: "held out"}
	for _, line := range readLines[struct {
		Text      string
		Questions []string
	}](t, "heldout.jsonl") {
		for _, q := range line.Questions {
			s.questions = append(s.questions, question{q, len(s.texts)})
		}
		s.texts = append(s.texts, line.Text)
	}
	return s
}

// manualSets returns one set for each manual with which the built-in model was not
// trained. The questions are the headings of the sections.
func manualSets(t *testing.T) []set {
	var all []set
	for _, line := range readLines[struct{ Manual, Query, Text string }](t, "manuals.jsonl") {
		i := slices.IndexFunc(all, func(s set) bool { return s.name == line.Manual })
		if i < 0 {
			i = len(all)
			all = append(all, set{name: line.Manual})
		}
		all[i].questions = append(all[i].questions, question{line.Query, len(all[i].texts)})
		all[i].texts = append(all[i].texts, line.Text)
	}
	return all
}

// readLines decodes a file of testdata with one JSON value per line.
func readLines[T any](t *testing.T, name string) []T {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var all []T
	for line := range bytes.Lines(data) {
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("read %s: %v", name, err)
		}
		all = append(all, v)
	}
	return all
}
