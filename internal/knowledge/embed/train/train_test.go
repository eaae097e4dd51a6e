package main

import (
	"bytes"
	"compress/gzip"
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
		"cut": {`<p>text <b`, []section{{"", "", []string{"text"}}}},
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
	want := synset{words: []string{"record", "put down"}, gloss: "make a record of; set down", examples: []string{"He recorded it", "put it down"}, above: []string{"v02225510"}}
	if !ok || key != "v01000232" || !reflect.DeepEqual(s, want) {
		t.Errorf("%s %+v %v", key, s, ok)
	}
	if _, _, ok := parseSynset("not a line of data"); ok {
		t.Error("nonsense is read")
	}
}

func TestReadBilingual(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "usr/share/dictd")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	w := gzip.NewWriter(&file)
	_, _ = fmt.Fprint(w, `Rückerstattung /rˈykɜstˌatʊŋ/ <fem, n, sg>
refund <n>, refunding <n>, reimbursement <n> [Br.]
         Note: of a sum already paid
      "die Rückerstattung der Mwst."  - a refund of the VAT, sb.'s refund
   Synonyms: {Erstattung}, {Vergütung}

Erstattung /ɛɾʃtˈatʊŋ/ <fem, n, sg>
refund <n>, refunding <n>, reimbursement <n>
      "die Erstattung"  - the refund
`)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "freedict-deu-eng.dict.dz"), file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readBilingual(root)
	want := []sense{{german: "Rückerstattung", words: []string{"refund", "refunding", "reimbursement"}, note: "of a sum already paid",
		examples: [][]string{{"a refund of the VAT", "someone's refund"}}, original: []string{"die Rückerstattung der Mwst."}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v %v", got, err)
	}
}

// made pairs say that words 2i and 2i+1 mean the same, among words that mean nothing.
func made() map[string][]pair {
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
	return map[string][]pair{"senses": all, "german": {{"one", foreign + "eins"}, {"one", foreign + "eins"}}}
}

func letters(i int) string { return fmt.Sprintf("%c%c%cx", 'a'+i%26, 'a'+i/26, 'a'+i%7) }

func TestTrainingLearnsAndRepeats(t *testing.T) {
	s := settings{Dimension: 32, Batch: 64, Epochs: 4, Rate: 0.1, Temperature: 0.1, Dropout: 0.1, Seed: 1}
	var files [][]byte
	for _, processors := range []int{1, 2} {
		before := runtime.GOMAXPROCS(processors)
		file, err := train(t.Context(), s, made(), time.Now())
		runtime.GOMAXPROCS(before)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("the same texts and seed give two models")
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
		t.Errorf("only %d of 60 words find their like", right)
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
		t.Errorf("the first numbers do not say the most: %v", energy)
	}
}
