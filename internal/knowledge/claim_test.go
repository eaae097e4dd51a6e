package knowledge

import (
	"fmt"
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// sameClaim reports whether two texts differ only in form.
func sameClaim(a, b string) bool { return normalizedClaim(a) == normalizedClaim(b) }

func TestNormalizedClaim(t *testing.T) {
	for _, c := range duplicatePairs(t) {
		if got := sameClaim(c.A, c.B); got != (c.Kind == "format") {
			t.Errorf("%s: sameClaim is %v for %q and %q: %q, %q", c.Kind, got, c.A, c.B, normalizedClaim(c.A), normalizedClaim(c.B))
		}
	}
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"", "", true},
		{"é", "e\u0301", true},
		{"ＡＢＣ社の１０階", "ABC社の10階", true},
		{"ｶﾞﾗｽのﾊﾞｽ｡", "ガラスのバス。", true},
		{"“Yes”, ‘no’ and „maybe“", `"Yes", 'no' and "maybe"`, true},
		{"Don’t wait…", "Don't wait...", true},
		{"Choose Settings – then Billing", "Choose Settings - then Billing", true},
		{"Open 9 – 17", "Open 9 — 17", true},
		{"  one \n two ", "one two", true},
		{"one\r\ntwo\u00a0three", "one two three", true},
		{"It is open.", "It is open", true},
		{"営業しています。", "営業しています", true},
		{"यह खुला है।", "यह खुला है", true},
		{"यह खुला है ।", "यह खुला है.", true},
		{"یہ کھلا ہے۔", "یہ کھلا ہے", true},
		{"Welcome 😀.", "Welcome 😀", true},
		{"It costs 5 €.", "It costs 5 €", true},
		{"- Basic\n* Pro\n+ Team\n• Firm\n## More", "Basic\nPro\nTeam\nFirm\nMore", true},
		{"Plans:\n- Basic\n- Pro", "Plans: Basic Pro", true},
		{"<p>Backups run <b>every night</b>.</p>", "Backups run every night.", true},
		{"one<br>two<BR/>three", "one two three", true},
		{"<ul><li>one</li><li>two</li></ul>", "one two", true},
		{"Привет, мир", "привет, мир", true},
		{"That's open", "that's open", true},
		{"Élan is a word", "élan is a word", true},
		{"We are open today. Come in.", "We are open today. come in.", true},

		{"x = 5", "x != 5", false},
		{"x < 5", "x > 5", false},
		{"50%", "50", false},
		{"50", "-50", false},
		{"- 5 °C", "5 °C", false},
		{"+ 5 °C", "5 °C", false},
		{"- 5 °C", "+ 5 °C", false},
		{"> 18", "18", false},
		{"> Text", "Text", false},
		{"At\n- 5 °C", "At - 5 °C", false},
		{"Now — 5 °C", "Now - 5 °C", false},
		{"a-b", "a–b", false},
		{"−5", "-5", false},
		{"5′", "5″", false},
		{"5'", `5"`, false},
		{"1 000", "1000", false},
		{"10\n20", "10 20", false},
		{"1,000", "1000", false},
		{"10²", "102", false},
		{"10<sup>2</sup>", "102", false},
		{"1<br>2", "12", false},
		{"Close the <b> tag", "Close the <i> tag", false},
		{"Use <br> here", "Use <hr> here", false},
		{`Read <a href="/one">this</a>.`, `Read <a href="/two">this</a>.`, false},
		{"The plant has 5 mW", "The plant has 5 MW", false},
		{"MW is short", "mW is short", false},
		{"Mg is short", "mg is short", false},
		{"Mg-rich food", "mg-rich food", false},
		{"about 2.5 tabl. Mg", "about 2.5 tabl. mg", false},
		{"The SHOP is open", "The shop is open", false},
		{"See https://a.example/x", "See https://b.example/x", false},
		{"✅ supported", "❌ supported", false},
		{"max_size", "max_site", false},
		{"10:30", "10.30", false},
		{"1/2 cup", "1.2 cup", false},
		{"Run ls .", "Run ls", false},
		{"rm *.", "rm *", false},
		{"cd ..", "cd .", false},
		{"It is open?", "It is open", false},
		{"Done!", "Done.", false},
		{"Wait..", "Wait.", false},
		{"3 to 5 days", "3-5 days", false},
		{"1. Restart\n2. Wait", "1) Restart 2) Wait", false},
		{"Please restart the agent", "Restart agent", false},
		{"five", "5", false},
		{"𝟓 days", "5 days", false},
		{"A pays B", "B pays A", false},
		{"user@a.example", "user a.example", false},
		{"東京は晴れ", "東京は雨", false},
		{"東京 都", "東京都", false},
		{"schon", "schön", false},
		{"años", "anos", false},
		{"ﬁ", "fi", false},
		{"ß", "ss", false},
		{"kg\u200d", "kg", false},
	} {
		if got := sameClaim(c.a, c.b); got != c.same || sameClaim(c.b, c.a) != c.same {
			t.Errorf("sameClaim(%q, %q) is %v: %q, %q", c.a, c.b, got, normalizedClaim(c.a), normalizedClaim(c.b))
		}
	}
}

func FuzzNormalizedClaim(f *testing.F) {
	f.Add("Refunds within 14 days", "<p>C++ -5%")
	f.Add("</b><b> – “x”…", "- ｶﾞ。")
	f.Fuzz(func(t *testing.T, a, b string) {
		if !sameClaim(a, a) || sameClaim(a, b) != sameClaim(b, a) {
			t.Errorf("%q and %q", a, b)
		}
	})
}

// assigned returns all assigned characters, without the NUL that no text can have.
func assigned() []rune {
	var all []rune
	for r := rune(1); r <= unicode.MaxRune; r++ {
		if unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z, unicode.Cc, unicode.Cf) {
			all = append(all, r)
		}
	}
	return all
}

// listedAs returns what each character between two blanks counts as by variants.txt.
func listedAs(t *testing.T) map[rune]string {
	t.Helper()
	list, err := parseVariants(variantList)
	if err != nil {
		t.Fatal(err)
	}
	listed := map[rune]string{}
	for _, v := range list {
		if v.kind == "stop" {
			continue // only at the end
		}
		if listed[v.from] != "" {
			t.Errorf("%U is listed twice", v.from)
		}
		if listed[v.from] = v.to; v.kind == "blank" {
			listed[v.from] = " "
		}
	}
	listed[' '] = " "
	return listed
}

func TestVariantsAreComplete(t *testing.T) {
	list, err := parseVariants(variantList)
	if err != nil {
		t.Fatal(err)
	}
	blanks := map[rune]bool{' ': true}
	for _, v := range list {
		if v.kind == "blank" {
			blanks[v.from] = true
		}
		if v.kind == "width" && norm.NFKC.String(string(v.from)) != v.to {
			t.Errorf("%U stands for %q", v.from, v.to)
		}
	}
	for _, r := range assigned() {
		if unicode.IsSpace(r) != blanks[r] {
			t.Errorf("%U is white space: %v; in the list: %v", r, unicode.IsSpace(r), blanks[r])
		}
	}
	for _, line := range []string{"quote U+201C U+0022", "quote U+201C # why", "quote 201C U+0022 # why", "quote U+XY U+0022 # why", "quote U+0041..U+ U+0022 # why", "quote U+0041 x # why"} {
		if _, err := parseVariants(line); err == nil {
			t.Errorf("%q is taken", line)
		}
	}
}

func TestSkipReason(t *testing.T) {
	for _, c := range []struct{ a, b, reason string }{
		{"Open.", "Open.", "identical text"},
		{"Shops are open.", "shops are  open", "differs only in white space; the full stop at the end; the case of a sentence's first letter"},
		{"<b>ＡＢ</b>", "AB", "differs only in full-width or half-width forms; plain tags"},
		{"- “é” – so…", "- \"e\u0301\" - so...", "differs only in Unicode composition; typographic quotes, apostrophes or ellipses; dashes between blanks"},
		{"- One", "One", "differs only in list markers"},
	} {
		if got := skipReason(c.a, c.b); got != c.reason {
			t.Errorf("%q and %q: %q, want %q", c.a, c.b, got, c.reason)
		}
	}
}

// TestFactsOfOtherSystems are pairs that users met, and others of their kinds: each text is
// stored.
func TestFactsOfOtherSystems(t *testing.T) {
	pad := "昨日の夕方、駅前の店で友人と会い、来週の予定と費用について長い時間話し合いました。そのあと買い物を済ませ、バスに乗らず歩いて帰り、夜は家で静かに本を読みました。"
	env := newTestEnv(t)
	for i, texts := range [][]string{
		{"The plot measures 40 m².", "The plot measures 40 m³.", "The plot measures 40 m2.", "The plot measures 40 m."},
		{"Budget of Phase Ⅰ is 5000 EUR.", "Budget of Phase Ⅱ is 5000 EUR.", "Budget of Phase I is 5000 EUR."},
		{"Take ½ tablet in the morning.", "Take ¼ tablet in the morning.", "Take tablet in the morning."},
		{"Step ① is done by sales.", "Step ② is done by sales.", "Step 1 is done by sales."},
		{"The sensor measures CO₂.", "The sensor measures CO₃.", "The sensor measures CO."},
		{pad + "駅からハスの池へ行きます。", pad + "駅からバスの池へ行きます。", pad + "駅からパスの池へ行きます。"},
		{pad + "かきは台所にあります。", pad + "かぎは台所にあります。"},
		{"टोकरी में फूल रखे हैं।", "टोकरी में फल रखे हैं।"},
		{"आज मेल आया।", "आज मैल आया।"},
		{"वह कुल पाँच है।", "वह कल पाँच है।"},
		{"วันนี้ร้านขายข้าว", "วันนี้ร้านขายขาว"},
		{"ไม้อยู่ที่นี่", "ไม่อยู่ที่นี่"},
		{"Tôi mua một cái bàn mới.", "Tôi mua một cái bạn mới.", "Tôi mua một cái ban mới."},
		{"كَتَبَ الطالب الدرس.", "كُتِبَ الطالب الدرس."},
		{"הסֵפֶר כאן.", "הסַפָּר כאן."},
		{"Es ist schon spät.", "Es ist schön spät."},
		{"Tiene 30 años.", "Tiene 30 anos."},
		{"Ο νόμος ισχύει.", "Ο νομός ισχύει."},
		{"Все готово.", "Всё готово."},
		{"눈이 밝다.", "눈이 맑다."},
		{"Write to anna-maria@example.com.", "Write to anna.maria@example.com.", "Write to anna_maria@example.com."},
		{"The guide is at example.com/setup/linux.", "The guide is at example.com/setup-linux."},
		{"The shop is at my-shop.example.com.", "The shop is at my.shop.example.com."},
		{"Run the tool with --dry-run.", "Run the tool with dry run.", "Run the tool with -dry-run."},
		{"The release is 2.0.0-rc1.", "The release is 2.0.0 rc1.", "The release is 2.0.0+rc1."},
		{"The scale is 1 : 3.", "The scale is 1 . 3.", "The scale is 1 / 3."},
		{"The plant delivers 5 mW of power.", "The plant delivers 5 MW of power."},
	} {
		done := env.ingest(t, IngestRequest{Target: agent("ann"), Chunks: chunks(fmt.Sprint(i), texts...)})
		if done.Stored != len(texts) {
			t.Errorf("%d of %q are stored", done.Stored, texts)
		}
	}
}

// TestOnlyTextsThatDifferInFormAreMerged ingests both texts of every pair of the
// evaluation set and prints how many were merged.
func TestOnlyTextsThatDifferInFormAreMerged(t *testing.T) {
	env := newTestEnv(t)
	merged, all := map[string]int{}, map[string]int{}
	for _, c := range duplicatePairs(t) {
		done := env.ingest(t, IngestRequest{Target: agent("ann"), DryRun: true, Chunks: chunks("a", c.A, c.B)})
		all[c.Kind]++
		if done.Stored == 1 {
			merged[c.Kind]++
		}
		if (done.Stored == 1) != (c.Kind == "format") {
			t.Errorf("%s: %d stored of %q and %q", c.Kind, done.Stored, c.A, c.B)
		}
	}
	for _, kind := range []string{"format", "style", "fact", "paraphrase", "unrelated"} {
		t.Logf("%-11s %2d of %2d merged", kind, merged[kind], all[kind])
	}
}
