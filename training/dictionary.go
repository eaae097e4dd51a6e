package main

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// synset is a meaning in WordNet, with the words that have it and its definition.
type synset struct {
	words     []string
	gloss     string
	examples  []string
	hypernyms []string // keys of hypernyms
	related   []string // keys of meanings of the same subject, including hypernyms
}

// readWordNet reads the data files. A key is the part of speech and the offset.
func readWordNet(root string) (keys []string, all map[string]synset, err error) {
	all = make(map[string]synset)
	for _, part := range []string{"noun", "verb", "adj", "adv"} {
		err := eachLine(filepath.Join(root, "usr/share/wordnet/data."+part), func(line string) {
			if strings.HasPrefix(line, "  ") {
				return
			}
			if key, s, ok := parseSynset(line); ok {
				keys = append(keys, key)
				all[key] = s
			}
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return keys, all, nil
}

// parseSynset parses a line of a data file (wndb(5)).
func parseSynset(line string) (string, synset, bool) {
	fields, gloss, ok := strings.Cut(line, " | ")
	f := strings.Fields(fields)
	if !ok || len(f) < 5 {
		return "", synset{}, false
	}
	n, err := strconv.ParseInt(f[3], 16, 32)
	if err != nil || len(f) < 5+2*int(n) {
		return "", synset{}, false
	}
	var s synset
	for i := range int(n) {
		word, _, _ := strings.Cut(f[4+2*i], "(")
		s.words = append(s.words, strings.ReplaceAll(word, "_", " "))
	}
	pointers := f[5+2*int(n):]
	for i := 0; i+3 < len(pointers); i += 4 {
		if pointers[i] == "@" {
			s.hypernyms = append(s.hypernyms, pointers[i+2]+pointers[i+1])
		}
		if relations[pointers[i]] {
			s.related = append(s.related, pointers[i+2]+pointers[i+1])
		}
	}
	definition, rest, _ := strings.Cut(gloss, `; "`)
	s.gloss = strings.TrimSpace(definition)
	for _, e := range strings.Split(rest, `"`) {
		if e = strings.Trim(e, " ;"); len(e) > 8 {
			s.examples = append(s.examples, e)
		}
	}
	kind := f[2]
	if kind == "s" {
		kind = "a"
	}
	return kind + f[0], s, true
}

// entry is a headword of a dictionary and its text.
type entry struct {
	word       string
	paragraphs []string
}

var (
	dictAnnotation = regexp.MustCompile(`\[[^\]]*\]|\\[^\\]*\\|--[A-Z][A-Za-z. ]+|[{}]`)
	dictStart      = regexp.MustCompile(`^\s*(?:[0-9]+\.|\([a-z]\))\s*`)
)

// readDict reads a dictd file whose headwords are not indented.
func readDict(root, name string) ([]entry, error) {
	var all []entry
	var paragraph strings.Builder
	flush := func() {
		text := clean(dictAnnotation.ReplaceAllString(paragraph.String(), " "))
		text = dictStart.ReplaceAllString(text, "")
		paragraph.Reset()
		if len(all) > 0 && len(text) > 15 {
			last := &all[len(all)-1]
			last.paragraphs = append(last.paragraphs, text)
		}
	}
	err := eachLine(filepath.Join(root, "usr/share/dictd", name+".dict.dz"), func(line string) {
		switch {
		case strings.TrimSpace(line) == "":
			flush()
		case line[0] != ' ' && line[0] != '\t':
			flush()
			word, _, _ := strings.Cut(line, ` \`) // pronunciation and part of speech follow
			all = append(all, entry{word: clean(word)})
		default:
			paragraph.WriteString(line)
			paragraph.WriteByte(' ')
		}
	})
	flush()
	return all, err
}

// sense is one meaning in the German-English dictionary: the English words and phrases
// for it, a comment, and English example phrases, each with its variants.
type sense struct {
	german   string
	words    []string
	comment  string
	examples [][]string
	original []string // the German text of each example
}

var (
	bilingualAnnotation = regexp.MustCompile(`<[^>]*>|\[[^\]]*\]|/[^/ ]*[ˈˌəɪʊɑɔ][^/]*/|[A-Z]?[a-z]*\.,\s*$`)
	bilingualAlso       = regexp.MustCompile(`\((?:also|auch)\)`)
)

// readGerman reads the German-English dictionary. It skips a sense whose English words
// another sense already has, as for a German synonym.
func readGerman(root string) ([]sense, error) {
	var all []sense
	known := make(map[string]bool)
	var current *sense
	afterHead, head := false, ""
	err := eachLine(filepath.Join(root, "usr/share/dictd/freedict-deu-eng.dict.dz"), func(line string) {
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || strings.HasPrefix(trimmed, "see:") || strings.HasPrefix(trimmed, "Synonym"):
			afterHead = false
		case strings.HasPrefix(line, "         Note: "):
			if current != nil && current.comment == "" {
				current.comment = strings.TrimPrefix(trimmed, "Note: ")
			}
		case strings.HasPrefix(line, "      \""):
			if german, english, ok := strings.Cut(trimmed, `"  - `); ok && current != nil {
				current.examples = append(current.examples, variants(english))
				current.original = append(current.original, german[1:])
			}
		case afterHead:
			afterHead = false
			words := variants(line)
			key := strings.Join(words, "|")
			current = nil
			if len(words) > 0 && !known[key] {
				known[key] = true
				all = append(all, sense{german: head, words: words})
				current = &all[len(all)-1]
			}
		default:
			head, _, afterHead = strings.Cut(line, " /")
			current = nil
		}
	})
	return all, err
}

// variants splits "refund <n>, refunding <n>" into refund and refunding.
func variants(s string) []string {
	s = bilingualAnnotation.ReplaceAllString(bilingualAlso.ReplaceAllString(s, ""), "")
	s = strings.NewReplacer("sb.'s", "someone's", "sb.", "someone", "sth.", "something", "one's", "your").Replace(s)
	var all []string
	for _, v := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ';' }) {
		if v = clean(v); len(v) > 1 {
			all = append(all, v)
		}
	}
	return all
}

func eachLine(path string, f func(line string)) error {
	file, err := os.Open(filepath.Clean(path))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	var r io.Reader = file
	if strings.HasSuffix(path, ".dz") {
		if r, err = gzip.NewReader(file); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 1<<20), 1<<24)
	for lines.Scan() {
		f(lines.Text())
	}
	return lines.Err()
}

// description is the description of a Debian package.
type description struct {
	name, short string
	long        []string // paragraphs
}

// readDescriptions reads the descriptions that fetch saved.
func readDescriptions(path string) ([]description, error) {
	var all []description
	known := make(map[string]bool)
	var name string
	var current *description
	err := eachLine(path, func(line string) {
		switch {
		case strings.HasPrefix(line, "Package: "):
			name, current = line[9:], nil
		case strings.HasPrefix(line, "Description-en: "):
			all = append(all, description{name: name, short: line[16:]})
			current = &all[len(all)-1]
			current.long = append(current.long, "")
		case current != nil && line == " .":
			current.long = append(current.long, "")
		case current != nil && strings.HasPrefix(line, " "):
			last := &current.long[len(current.long)-1]
			*last = strings.TrimSpace(*last + " " + strings.TrimSpace(line))
		}
	})
	for i := range all {
		kept := all[i].long[:0]
		for _, p := range all[i].long {
			if !known[p] && isProse(p) { // keep texts such as "This package contains the headers" once
				kept = append(kept, p)
			}
			known[p] = true
		}
		all[i].long = kept
	}
	return all, err
}
