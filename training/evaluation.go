package main

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// sectionsPerManual is the maximum number of sections of a held-out manual in the
// evaluation set.
const sectionsPerManual = 300

// isQuestion reports whether a heading can serve as a question: it has three words or
// more and is not a version, a date or the signature of a function.
func isQuestion(heading string) bool {
	return strings.Count(heading, " ") >= 2 && !strings.ContainsAny(heading, "()=<>") && (heading[0] < '0' || heading[0] > '9')
}

// writeManuals writes the evaluation set of the held-out manuals, which no training
// uses: a heading is the question, and the text below it the answer.
func writeManuals(texts, path string) error {
	rng := rand.New(rand.NewPCG(11, 11))
	f, err := os.Create(filepath.Clean(path))
	if err != nil {
		return err
	}
	out := json.NewEncoder(f)
	out.SetEscapeHTML(false)
	for _, name := range heldOut {
		sections, err := readManual(filepath.Join(texts, "root", name))
		if err != nil {
			return err
		}
		counts := make(map[string]int)
		for _, s := range sections {
			counts[strings.ToLower(s.Heading)]++
		}
		var good []section
		for _, s := range sections {
			if counts[strings.ToLower(s.Heading)] == 1 && isQuestion(s.Heading) && len(strings.Join(s.Paragraphs, " ")) > 200 {
				good = append(good, s)
			}
		}
		rng.Shuffle(len(good), func(i, j int) { good[i], good[j] = good[j], good[i] })
		for _, s := range good[:min(sectionsPerManual, len(good))] {
			text := strings.Join(s.Paragraphs, "\n")
			if len(text) > 900 {
				text = strings.ToValidUTF8(text[:900], "")
			}
			line := map[string]string{"manual": name, "query": s.Heading, "text": text}
			if err := out.Encode(line); err != nil {
				return err
			}
		}
	}
	return f.Close()
}
