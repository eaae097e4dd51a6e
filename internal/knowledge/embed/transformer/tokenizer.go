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

// tokenizer splits texts into word pieces, as BERT does.
type tokenizer struct {
	vocabulary    map[string]int
	unknown       int    // id of the token for unknown words
	prefix        string // of pieces that do not start a word
	maxWordLength int    // in characters; longer words are unknown

	// The steps of the normaliser.
	cleanText, spaceIdeographs, stripAccents, lowercase bool

	added         []addedToken // the longest first
	before, after []int        // special tokens around a text
	maxTokens     int          // of a text, including special tokens
}

// tokenizerFile is the supported part of a tokenizer.json.
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
		Type          string          `json:"type"`
		Unknown       string          `json:"unk_token"`
		Prefix        string          `json:"continuing_subword_prefix"`
		MaxWordLength int             `json:"max_input_chars_per_word"`
		Vocab         json.RawMessage `json:"vocab"` // its type depends on the type of model
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

// namedID is the id of a token, in JSON ["[CLS]", 101].
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
		return nil, fmt.Errorf("a tokenizer of type %q is not supported; only WordPiece (the BERT family) is. Serve this model with text-embeddings-inference, Ollama or the like, and use --embedder=openai", f.Model.Type)
	}
	if f.Normalizer == nil || f.Normalizer.Type != "BertNormalizer" {
		return nil, errors.New("its normalizer is not supported; only BertNormalizer is")
	}
	if f.PreTokenizer == nil || f.PreTokenizer.Type != "BertPreTokenizer" {
		return nil, errors.New("its pre_tokenizer is not supported; only BertPreTokenizer is")
	}
	t := &tokenizer{
		prefix: f.Model.Prefix, maxWordLength: cmp.Or(f.Model.MaxWordLength, 100), added: f.AddedTokens,
		cleanText: f.Normalizer.Clean, spaceIdeographs: f.Normalizer.Chinese, lowercase: f.Normalizer.Lowercase, stripAccents: f.Normalizer.Lowercase,
	}
	if f.Normalizer.Accents != nil {
		t.stripAccents = *f.Normalizer.Accents
	}
	if err := json.Unmarshal(f.Model.Vocab, &t.vocabulary); err != nil {
		return nil, fmt.Errorf("its vocab: %w", err)
	}
	unknown, ok := t.vocabulary[f.Model.Unknown]
	if !ok {
		return nil, fmt.Errorf("its vocab has no token for unknown words, %q", f.Model.Unknown)
	}
	t.unknown = unknown
	t.added = slices.DeleteFunc(t.added, func(a addedToken) bool { return a.Content == "" })
	slices.SortStableFunc(t.added, func(a, b addedToken) int { return cmp.Compare(len(b.Content), len(a.Content)) })
	return t, t.readSpecialTokens(f.PostProcessor)
}

// readSpecialTokens reads which special tokens go before and after a text.
func (t *tokenizer) readSpecialTokens(p *postProcessor) error {
	if p == nil {
		return nil
	}
	switch p.Type {
	case "BertProcessing", "RobertaProcessing":
		t.before, t.after = []int{p.CLS.id}, []int{p.SEP.id}
		return nil
	case "TemplateProcessing":
	default:
		return fmt.Errorf("its post_processor %q is not supported; only TemplateProcessing and BertProcessing are", p.Type)
	}
	side := &t.before
	for _, part := range p.Single {
		if part.Special == nil {
			side = &t.after
			continue
		}
		special, ok := p.Specials[part.Special.ID]
		if !ok {
			return fmt.Errorf("its post_processor does not define the special token %q", part.Special.ID)
		}
		*side = append(*side, special.IDs...)
	}
	return nil
}

// setMaxTokens sets the maximum number of tokens of a text; the rest of a longer text
// is ignored.
func (t *tokenizer) setMaxTokens(n int) error {
	if t.maxTokens = n; n <= len(t.before)+len(t.after) {
		return fmt.Errorf("a maximum of %d tokens per text leaves no space beside the special tokens", n)
	}
	return nil
}

// encoded is a text as token ids.
type encoded struct {
	ids   []int // including special tokens
	known bool  // the vocabulary has a part of the text
	index int   // of the text among those to embed
}

func (t *tokenizer) encode(text string) encoded {
	ids := slices.Clone(t.before)
	for text != "" {
		head, token, rest := t.cutAddedToken(strings.ToValidUTF8(text, "\uFFFD"))
		for _, word := range splitWords(t.normalise(head)) {
			ids = t.appendPieces(ids, word)
		}
		if token != nil {
			ids = append(ids, token.ID)
		}
		text = rest
	}
	ids = ids[:min(len(ids), t.maxTokens-len(t.after))]
	known := slices.ContainsFunc(ids[len(t.before):], func(id int) bool { return id != t.unknown })
	return encoded{ids: append(ids, t.after...), known: known}
}

// cutAddedToken splits a text around the first added token that occurs in it.
func (t *tokenizer) cutAddedToken(text string) (head string, token *addedToken, rest string) {
	first := len(text)
	for i, a := range t.added {
		if n := strings.Index(text[:min(len(text), first+len(a.Content)-1)], a.Content); n >= 0 && n < first {
			first, token = n, &t.added[i]
		}
	}
	if token == nil {
		return text, nil, ""
	}
	return text[:first], token, text[first+len(token.Content):]
}

func (t *tokenizer) normalise(text string) string {
	if t.cleanText {
		text = strings.Map(cleanRune, text)
	}
	if t.spaceIdeographs {
		text = spaceIdeographs(text)
	}
	if t.stripAccents {
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

// cleanRune replaces white space by a space and removes control characters.
func cleanRune(r rune) rune {
	switch {
	case unicode.IsSpace(r):
		return ' '
	case r == utf8.RuneError || unicode.Is(unicode.C, r):
		return -1
	}
	return r
}

// spaceIdeographs puts spaces around each ideograph, so that each is a word.
func spaceIdeographs(text string) string {
	if !strings.ContainsFunc(text, isIdeograph) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if isIdeograph(r) {
			b.WriteString(" " + string(r) + " ")
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// isIdeograph reports whether BERT treats r as a Chinese character.
func isIdeograph(r rune) bool {
	return r >= 0x4E00 && r <= 0x9FFF || r >= 0x3400 && r <= 0x4DBF || r >= 0x20000 && r <= 0x2A6DF ||
		r >= 0x2A700 && r <= 0x2B73F || r >= 0x2B740 && r <= 0x2B81F || r >= 0x2B920 && r <= 0x2CEAF ||
		r >= 0xF900 && r <= 0xFAFF || r >= 0x2F800 && r <= 0x2FA1F
}

// splitWords splits at spaces, and before and after each punctuation character.
func splitWords(text string) []string {
	var words []string
	start := 0
	for i, r := range text {
		space, punctuation := unicode.IsSpace(r), isPunctuation(r)
		if !space && !punctuation {
			continue
		}
		if i > start {
			words = append(words, text[start:i])
		}
		start = i + utf8.RuneLen(r)
		if punctuation {
			words = append(words, text[i:start])
		}
	}
	if start < len(text) {
		words = append(words, text[start:])
	}
	return words
}

func isPunctuation(r rune) bool {
	return r < utf8.RuneSelf && r > ' ' && (unicode.IsPunct(r) || unicode.IsSymbol(r)) || unicode.IsPunct(r)
}

// appendPieces appends the ids of a word's pieces, the longest first, from the left.
// A word that the pieces cannot cover becomes one unknown token.
func (t *tokenizer) appendPieces(ids []int, word string) []int {
	start := len(ids)
	if utf8.RuneCountInString(word) > t.maxWordLength {
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
