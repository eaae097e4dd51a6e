package main

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// sectionsEach is how many sections of each unseen manual are evaluated on.
const sectionsEach = 300

// asks says whether a heading can be asked: three words or more, no version, date or
// signature of a function.
func asks(heading string) bool {
	return strings.Count(heading, " ") >= 2 && !strings.ContainsAny(heading, "()=<>") && (heading[0] < '0' || heading[0] > '9')
}

// writeManuals makes the evaluation set of manuals that no training run sees:
// a heading asks, and the text below it answers.
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
		uses := make(map[string]int)
		for _, s := range sections {
			uses[strings.ToLower(s.Heading)]++
		}
		var good []section
		for _, s := range sections {
			if uses[strings.ToLower(s.Heading)] == 1 && asks(s.Heading) && len(strings.Join(s.Paragraphs, " ")) > 200 {
				good = append(good, s)
			}
		}
		rng.Shuffle(len(good), func(i, j int) { good[i], good[j] = good[j], good[i] })
		for _, s := range good[:min(sectionsEach, len(good))] {
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
