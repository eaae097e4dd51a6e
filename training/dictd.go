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

// term is a foreign headword of a bilingual dictionary with the English translations
// of each of its senses.
type term struct {
	foreign string
	senses  [][]string
}

var (
	dictdPronunciation = regexp.MustCompile(`\s*/[^/]*/`)
	dictdSense         = regexp.MustCompile(`^\s*[0-9]+\.\s+`)
	dictdAnnotation    = regexp.MustCompile(`\[[^\]]*\]|<[^>]*>|\([^()]*\)|\{[^}]*\}`)
)

// eachDictdEntry calls f for every entry of a dictd database, in the order of the file,
// with the headword's line and the other lines.
func eachDictdEntry(root, name string, f func(head string, lines []string)) error {
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
		head, rest, ok := strings.Cut(string(text[from:from+spans[from]]), "\n")
		if ok {
			f(head, strings.Split(rest, "\n"))
		}
	}
	return nil
}

// dictdNumber parses a number in the index of a dictd database: base 64, the most
// significant digit first (dictfmt(1)).
func dictdNumber(s string) int {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	n := 0
	for _, c := range []byte(s) {
		n = n<<6 | max(0, strings.IndexByte(digits, c))
	}
	return n
}

// headword returns the first spelling in the first line of an entry, without
// pronunciation and annotations.
func headword(line string) string {
	first, _, _ := strings.Cut(dictdAnnotation.ReplaceAllString(dictdPronunciation.ReplaceAllString(line, " "), " "), ", ")
	return clean(first)
}

// translations splits a line into translations of at most six words each.
func translations(line string) []string {
	line = dictdSense.ReplaceAllString(line, "")
	for range 2 { // annotations may be nested
		line = dictdAnnotation.ReplaceAllString(line, " ")
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

// readJapanese reads the Japanese-English dictionary. Each line of an entry is one
// sense, except notes and references.
func readJapanese(root string) ([]term, error) {
	var all []term
	err := eachDictdEntry(root, "freedict-jpn-eng", func(head string, lines []string) {
		t := term{foreign: kanji(head)}
		for _, line := range lines {
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

// kanji returns the ideographs of the first spelling of a Japanese headword that has
// any. They show the parts of the word.
func kanji(head string) string {
	for spelling := range strings.SplitSeq(dictdAnnotation.ReplaceAllString(dictdPronunciation.ReplaceAllString(head, " "), " "), ", ") {
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

// readForeign returns a reader of a dictionary from another language to English. Most
// lines of an entry are near-synonyms, so an entry is one sense.
func readForeign(name string) func(root string) ([]term, error) {
	return func(root string) ([]term, error) {
		var all []term
		err := eachDictdEntry(root, name, func(head string, lines []string) {
			var words []string
			for _, line := range lines {
				words = append(words, translations(line)...)
			}
			if len(words) > 0 {
				all = append(all, term{headword(head), [][]string{words}})
			}
		})
		return all, err
	}
}

// readEnglish returns a reader of a dictionary from English, which it inverts: the
// English words with the same translation are one sense.
func readEnglish(name string) func(root string) ([]term, error) {
	return func(root string) ([]term, error) {
		english := make(map[string][]string)
		var order []string
		err := eachDictdEntry(root, name, func(head string, lines []string) {
			word := strings.TrimPrefix(headword(head), "to ")
			for _, line := range lines {
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

// termPairs pairs the translations of a sense with each other and with the foreign
// word.
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
