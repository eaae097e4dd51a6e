package main

import (
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// term is what a dictionary of two languages says of one foreign headword: the
// English translations of each of its senses.
type term struct {
	foreign string
	senses  [][]string
}

var (
	dictdSound = regexp.MustCompile(`\s*/[^/]*/`)
	dictdSense = regexp.MustCompile(`^\s*[0-9]+\.\s+`)
	dictdMark  = regexp.MustCompile(`\[[^\]]*\]|<[^>]*>|\([^()]*\)|\{[^}]*\}`)
)

// dictdEntries calls f with the headword's line and the other lines of every entry
// of a dictd database, in the order of the file.
func dictdEntries(root, name string, f func(head string, body []string)) error {
	base := filepath.Join(root, "usr/share/dictd", name)
	file, err := os.Open(filepath.Clean(base + ".dict.dz"))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	r, err := gzip.NewReader(file)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	spans := make(map[int]int)
	err = eachLine(base+".index", func(line string) {
		fields := strings.Split(line, "\t")
		if len(fields) < 3 || strings.HasPrefix(fields[0], "00-database") || strings.HasPrefix(fields[0], "00database") {
			return
		}
		from, length := dictdNumber(fields[1]), dictdNumber(fields[2])
		if length > 0 && from+length <= len(text) {
			spans[from] = length
		}
	})
	if err != nil {
		return err
	}
	starts := make([]int, 0, len(spans))
	for from := range spans {
		starts = append(starts, from)
	}
	slices.Sort(starts)
	for _, from := range starts {
		head, body, ok := strings.Cut(string(text[from:from+spans[from]]), "\n")
		if ok {
			f(head, strings.Split(body, "\n"))
		}
	}
	return nil
}

// dictdNumber reads a number as the index of a dictd database writes it: in base
// 64, the most significant digit first (dictfmt(1)).
func dictdNumber(s string) int {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	n := 0
	for _, c := range []byte(s) {
		n = n<<6 | max(0, strings.IndexByte(digits, c))
	}
	return n
}

// headword is the first spelling at the head of an entry, without its sound and marks.
func headword(line string) string {
	first, _, _ := strings.Cut(dictdMark.ReplaceAllString(dictdSound.ReplaceAllString(line, " "), " "), ", ")
	return clean(first)
}

// translations cuts a line into its translations, of at most six words each.
func translations(line string) []string {
	line = dictdSense.ReplaceAllString(line, "")
	for range 2 { // marks stand within marks
		line = dictdMark.ReplaceAllString(line, " ")
	}
	var all []string
	for _, t := range strings.FieldsFunc(line, func(r rune) bool { return r == ',' || r == ';' }) {
		t = strings.TrimPrefix(clean(t), "to ")
		if n := len(strings.Fields(t)); len(t) > 1 && n >= 1 && n <= 6 && !slices.Contains(all, t) {
			all = append(all, t)
		}
	}
	return all
}

// readJapanese reads the Japanese-English dictionary, in which each line of an entry
// that is no mark is one sense.
func readJapanese(root string) ([]term, error) {
	var all []term
	err := dictdEntries(root, "freedict-jpn-eng", func(head string, body []string) {
		t := term{foreign: kanji(head)}
		for _, line := range body {
			trimmed := strings.TrimSpace(line)
			if strings.HasPrefix(trimmed, "Note:") || strings.HasPrefix(trimmed, "see:") || strings.HasPrefix(trimmed, "Synonym") || strings.Contains(trimmed, "\"") {
				continue
			}
			if words := translations(line); len(words) > 0 {
				t.senses = append(t.senses, words)
			}
		}
		if len(t.senses) > 0 {
			all = append(all, t)
		}
	})
	return all, err
}

// kanji returns the first spelling of a Japanese headword that has ideographs, which
// say what the word is made of.
func kanji(head string) string {
	for spelling := range strings.SplitSeq(dictdMark.ReplaceAllString(dictdSound.ReplaceAllString(head, " "), " "), ", ") {
		ideographs := strings.Map(func(r rune) rune {
			if unicode.Is(unicode.Han, r) {
				return r
			}
			return -1
		}, spelling)
		if ideographs != "" {
			return ideographs
		}
	}
	return ""
}

// readForeign reads a dictionary from another language to English. The lines of an
// entry are mostly near-synonyms: it counts as one sense.
func readForeign(name string) func(root string) ([]term, error) {
	return func(root string) ([]term, error) {
		var all []term
		err := dictdEntries(root, name, func(head string, body []string) {
			var words []string
			for _, line := range body {
				words = append(words, translations(line)...)
			}
			if len(words) > 0 {
				all = append(all, term{headword(head), [][]string{words}})
			}
		})
		return all, err
	}
}

// readEnglish reads a dictionary from English the other way round: the English words
// that have one translation in common are a sense.
func readEnglish(name string) func(root string) ([]term, error) {
	return func(root string) ([]term, error) {
		english := make(map[string][]string)
		var order []string
		err := dictdEntries(root, name, func(head string, body []string) {
			word := strings.TrimPrefix(headword(head), "to ")
			for _, line := range body {
				for _, other := range translations(line) {
					if english[other] == nil {
						order = append(order, other)
					}
					if !slices.Contains(english[other], word) {
						english[other] = append(english[other], word)
					}
				}
			}
		})
		all := make([]term, 0, len(order))
		for _, other := range order {
			all = append(all, term{other, [][]string{english[other]}})
		}
		return all, err
	}
}

// termPairs ties the translations of a sense to one another, and to the foreign word
// where that has a row of its own.
func termPairs(rng *rand.Rand, language string, terms []term) []pair {
	var all []pair
	for _, t := range terms {
		for _, words := range t.senses {
			rng.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
			for i := 1; i < min(5, len(words)); i++ {
				all = append(all, pair{words[i-1], words[i]})
			}
			if t.foreign != "" {
				for _, w := range words[:min(2, len(words))] {
					all = append(all, pair{w, foreign + language + " " + t.foreign})
				}
			}
		}
	}
	return all
}
