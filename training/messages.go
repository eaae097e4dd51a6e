package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// messageLanguages are the languages whose translations of program messages are used,
// as the paths of catalogues name them.
var messageLanguages = []string{"de", "fr", "es", "nl", "it"}

// catalogues are the packages whose gettext catalogues are read.
var catalogues = []string{"claws-mail-i18n", "evolution-common", "gajim", "gnucash-common", "homebank-data", "kmymoney-common", "wordpress-l10n"}

var cataloguePath = regexp.MustCompile(`(?:/|-)([a-z]{2})(?:_[A-Z]{2})?(?:/LC_MESSAGES/[^/]+)?\.mo$`)

// cataloguePairs pairs the messages of a package's programs with their translations.
func cataloguePairs(root string) ([]pair, error) {
	var all []pair
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		m := cataloguePath.FindStringSubmatch(path)
		if err != nil || d.IsDir() || m == nil || !slices.Contains(messageLanguages, m[1]) {
			return err
		}
		data, err := os.ReadFile(filepath.Clean(path))
		if err != nil {
			return err
		}
		messages, err := readCatalogue(data)
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		for _, p := range messages {
			if len(p.a) > 3 && len(p.b) > 3 {
				all = append(all, pair{shorten(p.a), foreign + m[1] + " " + shorten(p.b)})
			}
		}
		return nil
	})
	return all, err
}

// readCatalogue parses a compiled gettext catalogue (the GNU gettext manual, The Format
// of GNU MO Files). It returns the messages and their translations, only the singular
// forms, without context.
func readCatalogue(data []byte) ([]pair, error) {
	if len(data) < 20 || binary.LittleEndian.Uint32(data) != 0x950412de {
		return nil, errors.New("not a little-endian message catalogue")
	}
	word := func(offset int) (int, bool) {
		if offset < 0 || offset+4 > len(data) {
			return 0, false
		}
		return int(binary.LittleEndian.Uint32(data[offset:])), true
	}
	text := func(table, i int) (string, bool) {
		length, ok1 := word(table + 8*i)
		from, ok2 := word(table + 8*i + 4)
		if !ok1 || !ok2 || from+length > len(data) {
			return "", false
		}
		singular, _, _ := bytes.Cut(data[from:from+length], []byte{0})
		if _, after, ok := bytes.Cut(singular, []byte{4}); ok {
			singular = after
		}
		return plainMessage(string(singular)), true
	}
	n, _ := word(8)
	from, _ := word(12)
	to, _ := word(16)
	var all []pair
	for i := range n {
		a, ok1 := text(from, i)
		b, ok2 := text(to, i)
		if !ok1 || !ok2 {
			return nil, errors.New("the message catalogue is truncated")
		}
		if a != "" && b != "" {
			all = append(all, pair{a, b})
		}
	}
	return all, nil
}

var messageMarkup = regexp.MustCompile(`<[^>]*>|%(?:\([a-z_]+\))?[0-9]*\$?[-+0-9.]*[a-zA-Z]|%[0-9]|\{[^{}]*\}|\\n`)

// plainMessage removes markup, placeholders and accelerators.
func plainMessage(s string) string {
	return clean(strings.NewReplacer("_", "", "&", "").Replace(messageMarkup.ReplaceAllString(s, " ")))
}

var (
	wikiMarkup     = regexp.MustCompile(`\{\{[^{}]*\}\}|<[^>]*>|\[\[[^\]|]*\||\[https?://\S+|\[\[|\]\]|'''?|\$[0-9]|&[a-z]+;`)
	wikiParameters = regexp.MustCompile(`(?s)\n?(?:Parameters?:|See also|\{\{[Ii]dentical|\* \$).*$`)
)

// wikiPairs pairs the messages of MediaWiki with their descriptions for translators,
// and with their translations.
func wikiPairs(root string) (described, translated []pair, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "qqq.json" {
			return err
		}
		folder := filepath.Dir(path)
		english, err := readMessages(filepath.Join(folder, "en.json"))
		if err != nil {
			return err
		}
		descriptions, err := readMessages(path)
		if err != nil {
			return err
		}
		for _, m := range english {
			description := clean(wikiMarkup.ReplaceAllString(wikiParameters.ReplaceAllString(descriptions.text(m.a), ""), " "))
			if text := wikiText(m.b); len(description) > 20 && len(text) > 3 {
				described = append(described, pair{shorten(text), shorten(description)})
			}
		}
		for _, language := range messageLanguages {
			other, err := readMessages(filepath.Join(folder, language+".json"))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			for _, m := range english {
				a, b := wikiText(m.b), wikiText(other.text(m.a))
				if a != "" && b != "" {
					translated = append(translated, pair{shorten(a), foreign + language + " " + shorten(b)})
				}
			}
		}
		return nil
	})
	return described, translated, err
}

// wikiText returns a message without markup, or "" if it contains a template.
func wikiText(s string) string {
	if strings.Contains(s, "{{") {
		return ""
	}
	return clean(wikiMarkup.ReplaceAllString(s, " "))
}

// messages are keys and their texts, sorted by key.
type messages []pair

func (m messages) text(key string) string {
	if i, ok := slices.BinarySearchFunc(m, key, func(p pair, key string) int { return strings.Compare(p.a, key) }); ok {
		return m[i].b
	}
	return ""
}

func readMessages(path string) (messages, error) {
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	var raw map[string]any
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	var all messages
	for key, v := range raw {
		if text, ok := v.(string); ok && !strings.HasPrefix(key, "@") {
			all = append(all, pair{key, text})
		}
	}
	slices.SortFunc(all, func(x, y pair) int { return strings.Compare(x.a, y.a) })
	return all, nil
}
