package transformer

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// tokenizer cuts texts into word pieces as BERT does.
type tokenizer struct {
	vocabulary map[string]int
	unknown    int
	prefix     string // of pieces within a word
	longWord   int    // in characters; longer ones are unknown

	clean, ideographs, accents, lowercase bool // of the normaliser; accents are taken off

	added         []addedToken // longest first
	before, after []int        // special tokens around the text
	longest       int          // tokens, special ones included
}

// tokenizerFile is the part of a tokenizer.json that is understood.
type tokenizerFile struct {
	AddedTokens []addedToken `json:"added_tokens"`
	Normalizer  *struct {
		Type      string `json:"type"`
		Clean     bool   `json:"clean_text"`
		Chinese   bool   `json:"handle_chinese_chars"`
		Accents   *bool  `json:"strip_accents"`
		Lowercase bool   `json:"lowercase"`
	} `json:"normalizer"`
	PreTokenizer *struct {
		Type string `json:"type"`
	} `json:"pre_tokenizer"`
	PostProcessor *postProcessor `json:"post_processor"`
	Model         struct {
		Type     string          `json:"type"`
		Unknown  string          `json:"unk_token"`
		Prefix   string          `json:"continuing_subword_prefix"`
		LongWord int             `json:"max_input_chars_per_word"`
		Vocab    json.RawMessage `json:"vocab"` // another kind of model has another kind of vocab
	} `json:"model"`
}

type addedToken struct {
	ID      int    `json:"id"`
	Content string `json:"content"`
}

type postProcessor struct {
	Type   string `json:"type"`
	Single []struct {
		Special *struct {
			ID string `json:"id"`
		} `json:"SpecialToken"`
		Sequence *struct{} `json:"Sequence"`
	} `json:"single"`
	Specials map[string]struct {
		IDs []int `json:"ids"`
	} `json:"special_tokens"`
	CLS namedID `json:"cls"`
	SEP namedID `json:"sep"`
}

// namedID is written as ["[CLS]", 101].
type namedID struct{ id int }

// UnmarshalJSON implements json.Unmarshaler.
func (n *namedID) UnmarshalJSON(data []byte) error {
	var name string
	return json.Unmarshal(data, &[]any{&name, &n.id})
}

func readTokenizer(data []byte) (*tokenizer, error) {
	var f tokenizerFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	if f.Model.Type != "WordPiece" {
		return nil, fmt.Errorf("a tokenizer of the kind %q is not supported, WordPiece (the BERT family) alone is. Serve this model with text-embeddings-inference, Ollama or the like and use --embedder=openai", f.Model.Type)
	}
	if f.Normalizer == nil || f.Normalizer.Type != "BertNormalizer" {
		return nil, errors.New("its normalizer is not supported, a BertNormalizer alone is")
	}
	if f.PreTokenizer == nil || f.PreTokenizer.Type != "BertPreTokenizer" {
		return nil, errors.New("its pre_tokenizer is not supported, a BertPreTokenizer alone is")
	}
	t := &tokenizer{
		prefix: f.Model.Prefix, longWord: cmp.Or(f.Model.LongWord, 100), added: f.AddedTokens,
		clean: f.Normalizer.Clean, ideographs: f.Normalizer.Chinese, lowercase: f.Normalizer.Lowercase, accents: f.Normalizer.Lowercase,
	}
	if f.Normalizer.Accents != nil {
		t.accents = *f.Normalizer.Accents
	}
	if err := json.Unmarshal(f.Model.Vocab, &t.vocabulary); err != nil {
		return nil, fmt.Errorf("its vocab: %w", err)
	}
	unknown, ok := t.vocabulary[f.Model.Unknown]
	if !ok {
		return nil, fmt.Errorf("its vocab lacks the token for unknown words, %q", f.Model.Unknown)
	}
	t.unknown = unknown
	t.added = slices.DeleteFunc(t.added, func(a addedToken) bool { return a.Content == "" })
	slices.SortStableFunc(t.added, func(a, b addedToken) int { return cmp.Compare(len(b.Content), len(a.Content)) })
	return t, t.surround(f.PostProcessor)
}

// surround learns the special tokens that go around a text.
func (t *tokenizer) surround(p *postProcessor) error {
	if p == nil {
		return nil
	}
	switch p.Type {
	case "BertProcessing", "RobertaProcessing":
		t.before, t.after = []int{p.CLS.id}, []int{p.SEP.id}
		return nil
	case "TemplateProcessing":
	default:
		return fmt.Errorf("its post_processor %q is not supported, TemplateProcessing and BertProcessing are", p.Type)
	}
	side := &t.before
	for _, part := range p.Single {
		if part.Special == nil {
			side = &t.after
			continue
		}
		special, ok := p.Specials[part.Special.ID]
		if !ok {
			return fmt.Errorf("its post_processor lacks the special token %q", part.Special.ID)
		}
		*side = append(*side, special.IDs...)
	}
	return nil
}

// limit sets how many tokens a text may have; what is beyond is cut off.
func (t *tokenizer) limit(longest int) error {
	if t.longest = longest; longest <= len(t.before)+len(t.after) {
		return fmt.Errorf("%d tokens a text leave no room beside the special tokens", longest)
	}
	return nil
}

// encoded is a text in tokens.
type encoded struct {
	ids   []int // special tokens included
	known bool  // the vocabulary has some of the text
	at    int   // place among the texts
}

func (t *tokenizer) encode(text string) encoded {
	ids := slices.Clone(t.before)
	for text != "" {
		head, token, rest := t.cut(strings.ToValidUTF8(text, "\uFFFD"))
		for _, word := range split(t.normalise(head)) {
			ids = t.appendPieces(ids, word)
		}
		if token != nil {
			ids = append(ids, token.ID)
		}
		text = rest
	}
	ids = ids[:min(len(ids), t.longest-len(t.after))]
	known := slices.ContainsFunc(ids[len(t.before):], func(id int) bool { return id != t.unknown })
	return encoded{ids: append(ids, t.after...), known: known}
}

// cut finds the first added token that is spelt out in the text.
func (t *tokenizer) cut(text string) (head string, token *addedToken, rest string) {
	first := len(text)
	for i, a := range t.added {
		if at := strings.Index(text[:min(len(text), first+len(a.Content)-1)], a.Content); at >= 0 && at < first {
			first, token = at, &t.added[i]
		}
	}
	if token == nil {
		return text, nil, ""
	}
	return text[:first], token, text[first+len(token.Content):]
}

func (t *tokenizer) normalise(text string) string {
	if t.clean {
		text = strings.Map(cleaned, text)
	}
	if t.ideographs {
		text = spaced(text)
	}
	if t.accents {
		text = strings.Map(func(r rune) rune {
			if unicode.Is(unicode.Mn, r) {
				return -1
			}
			return r
		}, norm.NFD.String(text))
	}
	if t.lowercase {
		text = strings.ToLower(text)
	}
	return text
}

func cleaned(r rune) rune {
	switch {
	case unicode.IsSpace(r):
		return ' '
	case r == utf8.RuneError || unicode.Is(unicode.C, r):
		return -1
	}
	return r
}

// spaced makes a word of each ideograph.
func spaced(text string) string {
	if !strings.ContainsFunc(text, ideograph) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if ideograph(r) {
			b.WriteString(" " + string(r) + " ")
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// ideograph says whether BERT takes r for a Chinese character.
func ideograph(r rune) bool {
	return r >= 0x4E00 && r <= 0x9FFF || r >= 0x3400 && r <= 0x4DBF || r >= 0x20000 && r <= 0x2A6DF ||
		r >= 0x2A700 && r <= 0x2B73F || r >= 0x2B740 && r <= 0x2B81F || r >= 0x2B920 && r <= 0x2CEAF ||
		r >= 0xF900 && r <= 0xFAFF || r >= 0x2F800 && r <= 0x2FA1F
}

// split cuts at spaces, and before and after each mark of punctuation.
func split(text string) []string {
	var words []string
	start := 0
	for i, r := range text {
		space, mark := unicode.IsSpace(r), punctuation(r)
		if !space && !mark {
			continue
		}
		if i > start {
			words = append(words, text[start:i])
		}
		start = i + utf8.RuneLen(r)
		if mark {
			words = append(words, text[i:start])
		}
	}
	if start < len(text) {
		words = append(words, text[start:])
	}
	return words
}

func punctuation(r rune) bool {
	return r < utf8.RuneSelf && r > ' ' && (unicode.IsPunct(r) || unicode.IsSymbol(r)) || unicode.IsPunct(r)
}

// appendPieces adds the longest pieces from the left, or one unknown for a word that
// they do not make up.
func (t *tokenizer) appendPieces(ids []int, word string) []int {
	start := len(ids)
	if utf8.RuneCountInString(word) > t.longWord {
		return append(ids, t.unknown)
	}
	for from := 0; from < len(word); {
		to := len(word)
		for ; to > from; to-- {
			piece := word[from:to]
			if from > 0 {
				piece = t.prefix + piece
			}
			if id, ok := t.vocabulary[piece]; ok {
				ids = append(ids, id)
				break
			}
		}
		if to == from {
			return append(ids[:start], t.unknown)
		}
		from = to
	}
	return ids
}
