package main

import (
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"strings"
)

// pair is two texts with a similar meaning, or a question and its answer.
type pair struct{ a, b string }

// maxTextWords is the maximum number of words of a text; the rest is ignored.
const maxTextWords = 90

// bilingual are the bilingual dictionaries, except the German one, and their readers.
var bilingual = []struct {
	name, language string
	read           func(root string) ([]term, error)
}{
	{"freedict-jpn-eng", "ja", readJapanese},
	{"freedict-hun-eng", "hu", readForeign("freedict-hun-eng")},
	{"freedict-nld-eng", "nl", readForeign("freedict-nld-eng")},
	{"freedict-fra-eng", "fr", readForeign("freedict-fra-eng")},
	{"freedict-spa-eng", "es", readForeign("freedict-spa-eng")},
	{"freedict-por-eng", "pt", readForeign("freedict-por-eng")},
	{"freedict-eng-ces", "cs", readEnglish("freedict-eng-ces")},
	{"freedict-eng-pol", "pl", readEnglish("freedict-eng-pol")},
	{"freedict-eng-por", "pt", readEnglish("freedict-eng-por")},
	{"freedict-eng-nld", "nl", readEnglish("freedict-eng-nld")},
	{"freedict-eng-fra", "fr", readEnglish("freedict-eng-fra")},
	{"freedict-eng-spa", "es", readEnglish("freedict-eng-spa")},
	{"freedict-eng-swe", "sv", readEnglish("freedict-eng-swe")},
}

// makePairs reads all sources. The same texts and seed give the same pairs.
func makePairs(texts string, seed uint64) (map[string][]pair, error) {
	rng := rand.New(rand.NewPCG(seed, 1))
	out := make(map[string][]pair)
	root := func(name string) string { return filepath.Join(texts, "root", name) }

	keys, synsets, err := readWordNet(root("wordnet-base"))
	if err != nil {
		return nil, err
	}
	out["wordnet"] = wordNetPairs(rng, keys, synsets)
	out["relations"] = relationPairs(rng, keys, synsets)
	for _, d := range [][2]string{{"dict-gcide", "gcide"}, {"dict-foldoc", "foldoc"}, {"dict-jargon", "jargon"}} {
		entries, err := readDict(root(d[0]), d[1])
		if err != nil {
			return nil, err
		}
		out[d[1]] = dictPairs(entries)
	}
	senses, err := readGerman(root("dict-freedict-deu-eng"))
	if err != nil {
		return nil, err
	}
	out["senses"] = sensePairs(rng, senses)
	out["german"] = germanPairs(rng, senses)
	for _, d := range bilingual {
		terms, err := d.read(root("dict-" + d.name))
		if err != nil {
			return nil, err
		}
		out["terms/"+d.name] = termPairs(rng, d.language, terms)
	}
	if out["pictograms"], err = emojiPairs(root("unicode-cldr-core")); err != nil {
		return nil, err
	}
	if out["commonsense"], err = commonSensePairs(root("python3-pattern")); err != nil {
		return nil, err
	}
	if out["described"], out["translated/mediawiki"], err = wikiPairs(root("mediawiki")); err != nil {
		return nil, err
	}
	for _, c := range catalogues {
		if out["translated/"+c], err = cataloguePairs(root(c)); err != nil {
			return nil, err
		}
	}
	descriptions, err := readDescriptions(filepath.Join(texts, "descriptions"))
	if err != nil {
		return nil, err
	}
	out["packages"] = packagePairs(rng, descriptions)
	for _, m := range manuals {
		sections, err := readManual(root(m))
		if err != nil {
			return nil, err
		}
		out["headings/"+m], out["neighbours/"+m] = sectionPairs(rng, sections)
	}
	return out, nil
}

func wordNetPairs(rng *rand.Rand, keys []string, synsets map[string]synset) []pair {
	var all []pair
	for _, key := range keys {
		s := synsets[key]
		all = append(all, pair{strings.Join(s.words[:min(3, len(s.words))], ", "), s.gloss})
		for i := 1; i < len(s.words); i++ {
			all = append(all, pair{s.words[rng.IntN(i)], s.words[i]})
		}
		for _, e := range s.examples {
			all = append(all, pair{e, s.words[0] + ": " + s.gloss})
			if other := swapWord(rng, e, s.words); other != "" {
				all = append(all, pair{e, other})
			}
		}
		for _, key := range s.hypernyms {
			if hypernym, ok := synsets[key]; ok && rng.IntN(2) == 0 {
				all = append(all, pair{s.gloss, hypernym.words[0] + ": " + hypernym.gloss})
			}
		}
	}
	return all
}

// swapWord replaces a word of an example sentence by a synonym, or returns "".
func swapWord(rng *rand.Rand, sentence string, words []string) string {
	for _, w := range words {
		if len(words) > 1 && strings.Contains(" "+sentence+" ", " "+w+" ") {
			if other := words[rng.IntN(len(words))]; other != w {
				return strings.TrimSpace(strings.Replace(" "+sentence+" ", " "+w+" ", " "+other+" ", 1))
			}
		}
	}
	return ""
}

func dictPairs(entries []entry) []pair {
	var all []pair
	for _, e := range entries {
		for _, text := range e.paragraphs[:min(4, len(e.paragraphs))] {
			all = append(all, pair{e.word, shorten(text)})
		}
		for i := 0; i+1 < min(4, len(e.paragraphs)); i++ {
			all = append(all, pair{shorten(e.paragraphs[i]), shorten(e.paragraphs[i+1])})
		}
	}
	return all
}

func sensePairs(rng *rand.Rand, senses []sense) []pair {
	var all []pair
	for _, s := range senses {
		for i := 1; i < min(5, len(s.words)); i++ {
			all = append(all, pair{s.words[rng.IntN(i)], s.words[i]})
		}
		if s.comment != "" {
			all = append(all, pair{s.words[rng.IntN(len(s.words))], s.comment})
		}
		for i, variants := range s.examples {
			if i < 6 && len(variants) > 0 {
				all = append(all, pair{s.words[rng.IntN(len(s.words))], variants[rng.IntN(len(variants))]})
			}
			for j := 1; j < len(variants); j++ {
				if len(strings.Fields(variants[j])) > 2 && len(strings.Fields(variants[j-1])) > 2 {
					all = append(all, pair{variants[j-1], variants[j]})
				}
			}
		}
	}
	return all
}

// foreign is the prefix of a text in another language. Its words have rows only during
// the training: a German word connects the English words that translate it. The model
// file does not contain these rows.
const foreign = "\x01"

func germanPairs(rng *rand.Rand, senses []sense) []pair {
	var all []pair
	for _, s := range senses {
		all = append(all, pair{s.words[rng.IntN(len(s.words))], foreign + "de " + s.german})
		for i, variants := range s.examples {
			if len(variants) > 0 {
				all = append(all, pair{variants[rng.IntN(len(variants))], foreign + "de " + s.original[i]})
			}
		}
	}
	return all
}

func packagePairs(rng *rand.Rand, descriptions []description) []pair {
	var all []pair
	for _, d := range descriptions {
		if len(d.long) == 0 {
			continue
		}
		all = append(all, pair{d.short, shorten(d.long[0])})
		if rng.IntN(3) == 0 {
			all = append(all, pair{d.name, d.short + ". " + shorten(d.long[0])})
		}
		all = append(all, neighbours(rng, d.long)...)
	}
	return all
}

var siteTitle = regexp.MustCompile(`\s+(?:—|–|\||-)\s+.*$`)

func sectionPairs(rng *rand.Rand, sections []section) (headings, near []pair) {
	for _, s := range sections {
		page := siteTitle.ReplaceAllString(s.Page, "")
		heading := s.Heading
		body := shorten(strings.Join(s.Paragraphs, " "))
		headings = append(headings, pair{heading, body})
		if page != heading && page != "" {
			headings = append(headings, pair{page + ": " + heading, body})
		}
		if len(s.Paragraphs) > 1 {
			headings = append(headings, pair{heading, shorten(s.Paragraphs[1+rng.IntN(len(s.Paragraphs)-1)])})
		}
		near = append(near, neighbours(rng, s.Paragraphs)...)
	}
	return headings, near
}

var sentenceEnd = regexp.MustCompile(`[.!?]["')]?\s+`)

// neighbours pairs each paragraph with the next one, and one sentence of each long
// paragraph with the rest of the paragraph.
func neighbours(rng *rand.Rand, paragraphs []string) []pair {
	var all []pair
	for i, p := range paragraphs {
		if i > 0 {
			all = append(all, pair{shorten(paragraphs[i-1]), shorten(p)})
		}
		cuts := sentenceEnd.FindAllStringIndex(p, -1)
		if len(cuts) < 2 {
			continue
		}
		n := rng.IntN(len(cuts))
		from, to := 0, cuts[n][1]
		if n > 0 {
			from = cuts[n-1][1]
		}
		if sentence := p[from:to]; len(strings.Fields(sentence)) >= 5 {
			all = append(all, pair{sentence, shorten(p[:from] + p[to:])})
		}
	}
	return all
}

// shorten returns the first maxTextWords words of a text.
func shorten(text string) string {
	n := 0
	for i, r := range text {
		if r == ' ' {
			if n++; n == maxTextWords {
				return text[:i]
			}
		}
	}
	return text
}
