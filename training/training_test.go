package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"agento.host/agento/internal/knowledge/embed"
)

func TestMarkupSections(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []section
	}{
		"html": {`<html><head><title>The Guide &mdash; 1.0</title><script>var x = "<p>";</script></head><body><nav><a>Home</a></nav>
			<h1>1.2.&nbsp;Saving  files<a class="headerlink">¶</a></h1><p>Press <b>Save</b>.</p><pre>code</pre><!-- <p>no</p> --><p>Wait.</p></body></html>`,
			[]section{{"The Guide — 1.0", "Saving files", []string{"Press Save.", "Wait."}}}},
		"docbook": {`<chapter><title>Mail</title><para>One <emphasis>mail</emphasis>.</para><sect1><title>Sending</title><para>Send it.</para><screen>$ mail</screen></sect1></chapter>`,
			[]section{{"Mail", "Mail", []string{"One mail ."}}, {"Mail", "Sending", []string{"Send it."}}}},
		"mallard": {`<page><info><title type="link">x</title></info><title>Print a page</title><p>Click <gui>Print</gui></p></page>`,
			[]section{{"x", "Print a page", []string{"Click Print"}}}},
		"truncated": {`<p>text <b`, []section{{"", "", []string{"text"}}}},
	} {
		got := markupSections(c.text)
		for i := range got {
			for j, p := range got[i].Paragraphs {
				got[i].Paragraphs[j] = strings.ReplaceAll(p, "mail.", "mail .")
			}
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

func TestParseSynset(t *testing.T) {
	key, s, ok := parseSynset(`01000232 32 v 02 record 0 put_down 5 002 @ 02225510 v 0000 ~ 00949859 v 0000 01 + 08 00 | make a record of; set down; "He recorded it"; "put it down"  `)
	want := synset{words: []string{"record", "put down"}, gloss: "make a record of; set down", examples: []string{"He recorded it", "put it down"}, hypernyms: []string{"v02225510"}, related: []string{"v02225510"}}
	if !ok || key != "v01000232" || !reflect.DeepEqual(s, want) {
		t.Errorf("%s %+v %v", key, s, ok)
	}
	if _, _, ok := parseSynset("not a line of data"); ok {
		t.Error("an invalid line is accepted")
	}
}

func TestReadGerman(t *testing.T) {
	root := writeDictd(t, "freedict-deu-eng", `Rückerstattung /rˈykɜstˌatʊŋ/ <fem, n, sg>
refund <n>, refunding <n>, reimbursement <n> [Br.]
         Note: of a sum already paid
      "die Rückerstattung der Mwst."  - a refund of the VAT, sb.'s refund
   Synonyms: {Erstattung}, {Vergütung}

Erstattung /ɛɾʃtˈatʊŋ/ <fem, n, sg>
refund <n>, refunding <n>, reimbursement <n>
      "die Erstattung"  - the refund
`)
	got, err := readGerman(root)
	want := []sense{{german: "Rückerstattung", words: []string{"refund", "refunding", "reimbursement"}, comment: "of a sum already paid",
		examples: [][]string{{"a refund of the VAT", "someone's refund"}}, original: []string{"die Rückerstattung der Mwst."}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}
}

// writeDictd writes a dictd database with an entry for each paragraph of the text, and
// returns the root of its package.
func writeDictd(t *testing.T, name, text string) string {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "usr/share/dictd")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	w := gzip.NewWriter(&file)
	_, _ = fmt.Fprint(w, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".dict.dz"), file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	number := func(n int) string { return string(digits[n>>6]) + string(digits[n&63]) }
	var index strings.Builder
	offset := 0
	for entry := range strings.SplitAfterSeq(text, "\n\n") {
		for range 2 { // an entry may have several spellings
			fmt.Fprintf(&index, "word\t%s\t%s\n", number(offset), number(len(entry)))
		}
		offset += len(entry)
	}
	fmt.Fprintf(&index, "00-database-info\t%s\t%s\n", number(0), number(9))
	if err := os.WriteFile(filepath.Join(dir, name+".index"), []byte(index.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestReadTerms(t *testing.T) {
	for _, c := range []struct {
		name, text string
		read       func(string) ([]term, error)
		want       []term
	}{
		{"freedict-jpn-eng", " [news1]  手紙 /tɛɡami/, てがみ /teɡami/\n1. (noun (common) (futsuumeishi))\nletter (of the post), missive\n2. note\n         Note: old\n\nかう /kau/\nto keep, to feed\n",
			readJapanese, []term{{"手紙", [][]string{{"letter", "missive"}, {"note"}}}, {"", [][]string{{"keep", "feed"}}}}},
		{"freedict-hun-eng", "furcsán /fur/\n1. oddly\n2. strangely\n\nfurda /furda/\nwelt\n",
			readForeign("freedict-hun-eng"), []term{{"furcsán", [][]string{{"oddly", "strangely"}}}, {"furda", [][]string{{"welt"}}}}},
		{"freedict-eng-ces", "compass <n>\nkompas\n\nto gauge\nbuzola\n\nneedle <n>\n [nám.] kompas\n",
			readEnglish("freedict-eng-ces"), []term{{"kompas", [][]string{{"compass", "needle"}}}, {"buzola", [][]string{{"gauge"}}}}},
	} {
		got, err := c.read(writeDictd(t, c.name, c.text))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v %v, want %+v", c.name, got, err, c.want)
		}
	}
	pairs := termPairs(rand.New(rand.NewPCG(1, 1)), "hun", []term{{"furcsán", [][]string{{"oddly", "strangely"}}}})
	want := map[pair]bool{{"oddly", "strangely"}: true, {"strangely", "oddly"}: true, {"oddly", foreign + "hun furcsán"}: true, {"strangely", foreign + "hun furcsán"}: true}
	if len(pairs) != 3 {
		t.Errorf("%q", pairs)
	}
	for _, p := range pairs {
		if !want[p] {
			t.Errorf("unexpected %q", p)
		}
	}
}

func TestEachForeignAddsLanguage(t *testing.T) {
	var got []string
	eachForeign(foreign+"de Die Maus", func(word string) { got = append(got, word) })
	eachForeign("not foreign", func(word string) { got = append(got, word) })
	if want := []string{"de die", "de maus"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRelationPairs(t *testing.T) {
	synsets := map[string]synset{
		"n1": {words: []string{"espresso"}, related: []string{"n2", "n9"}},
		"n2": {words: []string{"coffee"}},
	}
	got := relationPairs(rand.New(rand.NewPCG(1, 1)), []string{"n1", "n2"}, synsets)
	if want := []pair{{"espresso", "coffee"}}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEmojiAndCommonSensePairs(t *testing.T) {
	root := t.TempDir()
	writeFile(t, filepath.Join(root, "usr/share/unicode/cldr/common/annotations/en.xml"),
		`<ldml><annotations><annotation cp="☕">coffee | hot</annotation><annotation cp="☕" type="tts">hot beverage</annotation></annotations></ldml>`)
	writeFile(t, filepath.Join(root, "usr/lib/python3/dist-packages/pattern/graph/commonsense.csv"),
		"\ufeff\"umbrella\",\"is-related-to\",\"rain\",\"nature\",1\n\"hot\",\"is-opposite-of\",\"cold\",\"properties\",1\n")
	got, err := emojiPairs(root)
	if want := []pair{{"hot beverage", "coffee, hot"}, {"coffee", "hot"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q %v, want %q", got, err, want)
	}
	got, err = commonSensePairs(root)
	if want := []pair{{"umbrella", "rain"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q %v, want %q", got, err, want)
	}
}

// catalogue returns a gettext catalogue with one message that has a context, a plural and
// markup.
func catalogue() []byte {
	texts := [][2]string{{"", "header"}, {"menu\x04_Delete <b>%d</b> file\x00Delete %d files", "%d Datei _löschen\x00%d Dateien löschen"}}
	file := make([]byte, 28+16*len(texts))
	for i, v := range []uint32{0x950412de, 0, uint32(len(texts)), 28, uint32(28 + 8*len(texts))} {
		binary.LittleEndian.PutUint32(file[4*i:], v)
	}
	for table := range 2 {
		for i, t := range texts {
			entry := 28 + 8*(table*len(texts)+i)
			binary.LittleEndian.PutUint32(file[entry:], uint32(len(t[table])))
			binary.LittleEndian.PutUint32(file[entry+4:], uint32(len(file)))
			file = append(append(file, t[table]...), 0)
		}
	}
	return file
}

func TestCataloguePairs(t *testing.T) {
	root := t.TempDir()
	writeFile(t, filepath.Join(root, "usr/share/locale/de/LC_MESSAGES/app.mo"), string(catalogue()))
	writeFile(t, filepath.Join(root, "languages/admin-fr_FR.mo"), string(catalogue()))
	writeFile(t, filepath.Join(root, "usr/share/locale/ru/LC_MESSAGES/app.mo"), "not read")
	got, err := cataloguePairs(root)
	want := []pair{{"Delete file", foreign + "fr Datei löschen"}, {"Delete file", foreign + "de Datei löschen"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q %v, want %q", got, err, want)
	}
	for n := range len(catalogue()) - 1 {
		if got, err := readCatalogue(catalogue()[:n]); err == nil && len(got) > 0 {
			t.Errorf("truncated to %d bytes: %q", n, got)
		}
	}
}

func TestWikiPairs(t *testing.T) {
	root := t.TempDir()
	writeFile(t, filepath.Join(root, "i18n/en.json"), `{"@metadata": {}, "a": "Reset your [[Help|password]]", "b": "{{PLURAL:$1|page|pages}}", "c": "Save"}`)
	writeFile(t, filepath.Join(root, "i18n/qqq.json"), `{"a": "Title of the page where people get a new one.\n\nParameters:\n* $1 - nothing", "c": "Short"}`)
	writeFile(t, filepath.Join(root, "i18n/de.json"), `{"a": "Passwort zurücksetzen", "b": "x"}`)
	described, translated, err := wikiPairs(root)
	if err != nil {
		t.Fatal(err)
	}
	if want := []pair{{"Reset your password", "Title of the page where people get a new one."}}; !slices.Equal(described, want) {
		t.Errorf("got %q, want %q", described, want)
	}
	if want := []pair{{"Reset your password", foreign + "de Passwort zurücksetzen"}}; !slices.Equal(translated, want) {
		t.Errorf("got %q, want %q", translated, want)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestVocabularyContainsPhrasesAndBases(t *testing.T) {
	var all []pair
	for range 9 {
		all = append(all, pair{"sign up", "register a name"}, pair{"I sign up now", "names are registered"}, pair{"the name", "of names"})
	}
	words, pieces, counts := buildVocabulary(map[string][]pair{"senses": all, "german": {{"name", foreign + "de der Name"}}})
	for word, want := range map[string]bool{"sign": true, "name": true, "names": false, "registered": false, "sign up": true, "the name": false, "der": false} {
		if slices.Contains(words, word) != want {
			t.Errorf("%q in the vocabulary: %v, want %v", word, !want, want)
		}
	}
	if i := slices.Index(words, "sign up"); i != len(words)-1 || counts["sign up"] != 18 || len(pieces) == 0 {
		t.Error(i, len(words), counts["sign up"], len(pieces))
	}
}

// syntheticPairs returns pairs in which the words 2i and 2i+1 have the same meaning, among
// words without meaning.
func syntheticPairs() map[string][]pair {
	rng := rand.New(rand.NewPCG(1, 1))
	noise := strings.Fields("of the and to in that is was for on with by at from")
	sentence := func(word string) string {
		return noise[rng.IntN(len(noise))] + " " + word + " " + noise[rng.IntN(len(noise))] + " " + noise[rng.IntN(len(noise))]
	}
	var all []pair
	for i := range 60 {
		for range 40 {
			all = append(all, pair{sentence(letters(2 * i)), sentence(letters(2*i + 1))})
		}
	}
	return map[string][]pair{"senses": all, "german": {{"one", foreign + "de eins"}, {"one", foreign + "de eins"}}}
}

func letters(i int) string { return fmt.Sprintf("%c%c%cx", 'a'+i%26, 'a'+i/26, 'a'+i%7) }

func TestTrainingLearnsAndIsReproducible(t *testing.T) {
	s := settings{Dimension: 32, Batch: 64, Epochs: 4, Rate: 0.1, Temperature: 0.1, Dropout: 0.1, Seed: 1}
	var files [][]byte
	for _, processors := range []int{1, 2} {
		before := runtime.GOMAXPROCS(processors)
		file, err := trainModel(t.Context(), s, syntheticPairs(), time.Now())
		runtime.GOMAXPROCS(before)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("the same texts and seed give different models")
	}
	m, err := embed.ReadModel(files[0])
	if err != nil {
		t.Fatal(err)
	}
	right := 0
	var texts []string
	for i := range 60 {
		texts = append(texts, "the "+letters(2*i), letters(2*i+1)+" with")
	}
	vectors, err := m.Embed(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		scores := make([]float32, 60)
		for j := range scores {
			for k, x := range vectors[2*i] {
				scores[j] += x * vectors[2*j+1][k]
			}
		}
		if slices.Max(scores) == scores[i] {
			right++
		}
	}
	if right < 55 {
		t.Errorf("only %d of 60 words are nearest to their synonym", right)
	}
}

func TestRotateKeepsCosines(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	const d = 16
	sample := make([]float32, 500*d)
	for i := range sample {
		sample[i] = float32(rng.NormFloat64()) / float32(1+(i*7)%d)
	}
	rows := slices.Clone(sample)
	rotate(rows, sample, d)
	energy := make([]float64, d)
	for i := range 500 {
		var before, after float32
		for j := range d {
			before += sample[j] * sample[i*d+j]
			after += rows[j] * rows[i*d+j]
			energy[j] += float64(rows[i*d+j]) * float64(rows[i*d+j])
		}
		if before-after > 1e-4 || after-before > 1e-4 {
			t.Fatalf("row %d: %g became %g", i, before, after)
		}
	}
	if !slices.IsSortedFunc(energy, func(a, b float64) int {
		if a >= b*0.999 {
			return -1
		}
		return 1
	}) {
		t.Errorf("the first dimensions do not carry most of the length: %v", energy)
	}
}
