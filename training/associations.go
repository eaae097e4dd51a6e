package main

import (
	"encoding/csv"
	"encoding/xml"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// relations are the pointers of WordNet that connect words of one subject
// (wninput(5)): hypernyms, parts, members, derived forms, similar
// adjectives, topics, entailments, causes, attributes.
var relations = map[string]bool{
	"@": true, "@i": true, "%p": true, "%m": true, "%s": true, "+": true, "&": true, "^": true, ";c": true, "*": true, ">": true, "=": true, `\`: true,
}

// relationPairs pairs the first words of related meanings.
func relationPairs(rng *rand.Rand, keys []string, synsets map[string]synset) []pair {
	var all []pair
	word := func(s synset) string { return s.words[rng.IntN(min(2, len(s.words)))] }
	for _, key := range keys {
		s := synsets[key]
		for _, other := range s.related {
			if t, ok := synsets[other]; ok {
				all = append(all, pair{word(s), word(t)})
			}
		}
	}
	return all
}

// emojiPairs reads the name and the search keywords of each emoji in CLDR.
func emojiPairs(root string) ([]pair, error) {
	var file struct {
		Annotations struct {
			Annotation []struct {
				Emoji string `xml:"cp,attr"`
				Kind  string `xml:"type,attr"`
				Text  string `xml:",chardata"`
			} `xml:"annotation"`
		} `xml:"annotations"`
	}
	data, err := os.ReadFile(filepath.Join(filepath.Clean(root), "usr/share/unicode/cldr/common/annotations/en.xml"))
	if err != nil {
		return nil, err
	}
	if err := xml.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	keywords := make(map[string][]string)
	var all []pair
	for _, a := range file.Annotations.Annotation {
		if a.Kind == "tts" {
			words := keywords[a.Emoji]
			all = append(all, pair{a.Text, strings.Join(words, ", ")})
			for i := 1; i < len(words); i++ {
				all = append(all, pair{words[i-1], words[i]})
			}
			continue
		}
		for w := range strings.SplitSeq(a.Text, "|") {
			keywords[a.Emoji] = append(keywords[a.Emoji], strings.TrimSpace(w))
		}
	}
	return all, nil
}

// commonSensePairs reads the concepts that volunteers related for the Pattern library.
func commonSensePairs(root string) ([]pair, error) {
	file, err := os.Open(filepath.Join(filepath.Clean(root), "usr/lib/python3/dist-packages/pattern/graph/commonsense.csv"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	lines := csv.NewReader(file)
	lines.FieldsPerRecord = -1
	lines.LazyQuotes = true
	var all []pair
	for {
		f, err := lines.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if len(f) > 2 && f[1] != "is-opposite-of" {
			all = append(all, pair{strings.Trim(f[0], "\ufeff\""), f[2]})
		}
	}
}
